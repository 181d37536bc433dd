"""Models, fits and posteriors in files: one format, checked and made again on reading."""
