"""``python -m bayeslmm``."""

from bayeslmm.cli import main

main()
