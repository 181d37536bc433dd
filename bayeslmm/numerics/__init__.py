"""Small numerical methods that know nothing of mixed models."""
