"""``python -m bayeslmm``, and what the command ``bayeslmm`` starts."""

from __future__ import annotations

import sys


def main() -> None:
    """Load the command line and run it; an interrupt is one line even while it loads."""
    try:
        from bayeslmm.imports import uninterrupted

        with uninterrupted():
            from bayeslmm import cli
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted: nothing more was computed or written.\n")
        sys.exit(130)
    cli.main()


if __name__ == "__main__":
    main()
