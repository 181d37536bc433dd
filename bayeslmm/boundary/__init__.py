"""What a variance of zero means: tests, and the report."""
