"""Means over a reference grid, contrasts of them, slopes, and other linear functions, of fits and of posteriors."""
