"""The benchmarks are scripts with optional packages, not test modules."""

collect_ignore_glob = ["*.py"]
