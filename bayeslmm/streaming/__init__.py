"""Models of data that are larger than memory: passes over chunks of rows, sums that merge, a design without rows."""
