"""Studies of the package that call it from outside: in the repository, not in the wheel."""
