"""Scripts for environments that have the other packages; nothing here is a test."""

collect_ignore_glob = ["*.py"]
