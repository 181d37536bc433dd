"""What is said of a fit and of draws: functions of `Fit` and of `Draws`, and their labels."""
