"""Makes the calls of a list in a process of its own, with a limit of memory, and prints how each ended.

    python worker.py FIRST < calls

Each line of the input is ``call <tab> value``, by their numbers; each line of the output ``start`` or the outcome.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import resource
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

MEMORY = 6 * 2**30


def _module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def outcome(call: Any, value: Any) -> tuple[str, str]:
    """The kind of the outcome (result, own, raw, warning) and what was raised."""
    from bayeslmm.errors import BayesLMMError, BayesLMMWarning

    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        try:
            call.run(value())
        except BayesLMMError as error:
            return ("own", f"{type(error).__name__}: {error}") if str(error) else ("raw", "an error without words")
        except FileNotFoundError as error:
            if call.name == "load":
                return "own", f"FileNotFoundError: {error}"
            return "raw", _place(error)
        except BaseException as error:
            return "raw", _place(error)
        finally:
            if "matplotlib.pyplot" in sys.modules:
                sys.modules["matplotlib.pyplot"].close("all")
    foreign = [w for w in caught if not issubclass(w.category, BayesLMMWarning | DeprecationWarning | FutureWarning)]
    if foreign:
        return "warning", f"{foreign[0].category.__name__}: {foreign[0].message} ({foreign[0].filename})"
    return "result", ""


def _place(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/bayeslmm/" in f.filename]
    place = f"{frames[-1].filename.split('/bayeslmm/')[-1]}:{frames[-1].lineno}" if frames else "?"
    try:
        text = str(error)
    except Exception:
        text = "?"
    return f"{place} {type(error).__name__}: {text[:200]}"


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.chdir(os.environ["ARGUMENTS_FOLDER"])
    calls, odd = _module("calls"), _module("odd_values").ODD
    every, names = calls.calls(), list(odd)
    for call in every:
        calls.function_of(call.name)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        call, value = map(int, line.split())
        began = time.perf_counter()
        kind, text = outcome(every[call], odd[names[value]])
        answers.write(json.dumps([call, value, kind, text, time.perf_counter() - began]) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
