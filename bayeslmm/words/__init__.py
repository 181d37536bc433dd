"""Results in plain words: what estimates and intervals say, for a reader who is not a statistician."""
