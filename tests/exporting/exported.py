"""Models whose calls for other packages were run there: what these printed is in measured.json.

``python tests/exporting/exported.py folder [python]`` writes the file again, where R (with lme4, nlme, glmmTMB) and, as
the second argument, a Python with statsmodels are installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

import bayeslmm as bl

MEASURED = Path(__file__).with_name("measured.json")
HOSTILE = "x\"; system('echo $HOME') \\ #"
R_PACKAGES = ("lme4", "nlme", "glmmTMB")


@cache
def sleep() -> pd.DataFrame:
    """sleepstudy with columns of odd names and a factor whose levels are not in alphabetical order."""
    frame = bl.load_dataset("sleepstudy")
    frame["Vp Nr."], frame[HOSTILE] = "s" + frame["Subject"].astype(str), frame["Days"]
    words = ["late" if day > 6 else "mid" if day > 3 else "early" for day in frame["Days"]]
    frame["phase"] = pd.Categorical(words, categories=["mid", "early", "late"])
    frame["count"] = 1 + frame["Days"].astype(int) % 3
    frame["gap"] = frame["Days"].where(frame.index != 3)
    return frame


CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "free": ("sleep", "Reaction ~ Days + (Days | Subject)", {}),
    "independent": ("sleep", "Reaction ~ Days + (Days || Subject)", {}),
    "independent factor": ("sleep", "Reaction ~ Days + (phase || Subject)", {}),
    "free factor": ("Machines", "score ~ Machine + (0 + Machine | Worker)", {}),
    "one variance": ("Machines", "score ~ Machine + (1 | Worker) + id(0 + Machine | Worker)", {}),
    "compound": ("Machines", "score ~ Machine + csh(0 + Machine | Worker)", {}),
    "compound alike": ("Machines", "score ~ Machine + cs(0 + Machine | Worker)", {}),
    "series": ("sleep", "Reaction ~ Days + ar1(0 + phase | Subject)", {}),
    "nested": ("Pastes", "strength ~ 1 + (1 | batch/cask)", {}),
    "crossed": ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", {}),
    "order": ("sleep", "Reaction ~ phase * Days + (1 | Subject)", {}),
    "sums": ("Oats", "yield ~ nitro * Variety + (1 | Block/Variety)", {"contrasts": {"Variety": "sum"}}),
    "steps": ("Oats", "yield ~ Variety + (1 | Block)", {"contrasts": {"Variety": "diff"}}),
    "reference": ("Oats", "yield ~ Variety + (1 | Block)", {"contrasts": {"Variety": bl.Treatment("Victory")}}),
    "weights": ("sleep", "Reaction ~ Days + (1 | Subject)", {"weights": "Days + 1"}),
    "offset": ("sleep", "Reaction ~ Days + offset(3 * Days) + (1 | Subject)", {}),
    "calls": ("sleep", "log(Reaction) ~ center(gap) + I(Days^2) + (1 | Subject)", {}),
    "names": ("sleep", f"Reaction ~ `{HOSTILE}` + (`{HOSTILE}` | `Vp Nr.`)", {}),
    "powers": ("sleep", "Reaction ~ (Days + phase)^2 - Days + (1 | Subject)", {}),
    "frequency": ("sleep", "Reaction ~ Days + (1 | Subject)", {"frequency": "count"}),
}


def data(name: str) -> pd.DataFrame:
    """The data frame of a case."""
    return sleep() if name == "sleep" else bl.load_dataset(name)


def model(case: str) -> bl.Model:
    """The model of a case."""
    name, formula, options = CASES[case]
    return bl.Model(formula, data(name), **options)


def _run(script: str, target: str, folder: Path, python: str) -> float | None:
    if target in R_PACKAGES:
        text = script.replace("summary(fit)", "cat('\\n', format(-2 * c(logLik(fit)), digits = 15), '\\n')")
        (folder / "call.R").write_text("df <- read.csv('data.csv', check.names = FALSE)\n" + text)
        command = ["Rscript", "call.R"]
    else:
        text = script.replace("fit.summary()", "float(-2 * fit.llf)")
        (folder / "call.py").write_text("import pandas\ndf = pandas.read_csv('data.csv')\n" + text)
        command = [python, "-W", "ignore", "call.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=None)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    if done.returncode or not lines:
        print(done.stderr[-800:], file=sys.stderr)
        return None
    return float(lines[-1])


def main(folder: Path, python: str) -> None:
    """Run every call and write what was printed."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for case, (name, _, options) in CASES.items():
        frame = data(name)
        frame = frame.assign(frequency=frame["count"]) if "frequency" in options else frame
        frame.to_csv(folder / "data.csv", index=False)
        for target in (*R_PACKAGES, *(["statsmodels"] if python else [])):
            try:
                script = str(model(case).to(target))
            except bl.ArgumentError as error:
                print(case, target, error, file=sys.stderr)
                continue
            printed = _run(script, target, folder, python)
            if printed is not None:
                found.setdefault(case, {})[target] = {"call": script, "printed": printed}
            print(case, target, printed, model(case).fit().criterion, flush=True)
    MEASURED.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
