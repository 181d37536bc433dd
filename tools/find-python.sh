#!/bin/sh
# Prints a Python that bayeslmm can use (3.12 or newer), or says in one sentence that there is none.
good() {
    "$1" -c 'import sys, venv; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1
}
for candidate in python3 python3.14 python3.13 python3.12 python \
    "$HOME"/.pyenv/versions/3.1[2-9]*/bin/python3; do
    if good "$candidate"; then
        echo "$candidate"
        exit 0
    fi
done
found=$(python3 --version 2>/dev/null || echo "no python3")
echo "bayeslmm needs Python 3.12 or newer with venv, but only found $found; install one (https://www.python.org/downloads, or 'pyenv install 3.13') and run make again." >&2
exit 1
