"""Models with residual structures and known errors whose calls were run in R: what these printed is stored beside.

``python tests/exporting/residual_exports.py folder`` writes the file again, where R with nlme and metafor is installed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import bayeslmm as bl

sys.path.insert(0, str(Path(__file__).parent))
import exported

MEASURED = Path(__file__).with_name("measured_residuals.json")
_GROWTH = "distance ~ age * Sex"
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "variances": ("Orthodont", _GROWTH, {"residual": "by(Sex)"}),
    "variances beside effects": ("Orthodont", f"{_GROWTH} + (1 | Subject)", {"residual": "by(Sex)"}),
    "power": ("Orthodont", _GROWTH, {"residual": "power(age)"}),
    "exponential": ("Orthodont", f"{_GROWTH} + (1 | Subject)", {"residual": "exp(age)"}),
    "power and weights": ("sleepstudy", "Reaction ~ Days", {"residual": "exp(Days)", "weights": "Days + 1"}),
    "autoregression": ("sleepstudy", "Reaction ~ Days", {"residual": "ar1(Days | Subject)"}),
    "autoregression beside effects": (
        "sleepstudy",
        "Reaction ~ Days + (1 | Subject)",
        {"residual": "ar1(Days | Subject)"},
    ),
    "continuous": ("Orthodont", _GROWTH, {"residual": "by(Sex) + car1(age | Subject)"}),
    "compound": ("Orthodont", _GROWTH, {"residual": "cs(Subject)"}),
    "unstructured": ("Orthodont", _GROWTH, {"residual": "us(age | Subject)"}),
    "compound by visit": ("Orthodont", _GROWTH, {"residual": "csh(age | Subject)"}),
    "autoregression by visit": ("Orthodont", _GROWTH, {"residual": "ar1h(age | Subject)"}),
    "distance": ("Orthodont", _GROWTH, {"residual": "exp(age | Subject)"}),
    "gaussian": ("Orthodont", "distance ~ age", {"residual": "gaussian(age | Subject)"}),
    "moving average": ("sleepstudy", "Reaction ~ Days", {"residual": "arma(Days | Subject)"}),
    "known": ("bcg", "yi ~ ablat + (1 | trial)", {"residual_sd": "sei"}),
    "known levels": ("konstantopoulos2011", "yi ~ 1 + (1 | district/school)", {"residual_sd": "sei"}),
}


def model(case: str) -> bl.Model:
    """The model of a case."""
    name, formula, options = CASES[case]
    return bl.Model(formula, bl.load_dataset(name), **options)


def reml(case: str, target: str) -> bool:
    """Whether REML is compared: metafor's log likelihood has another constant, nlme's with known errors is another."""
    return target == "nlme" and "residual_sd" not in CASES[case][2]


def main(folder: Path) -> None:
    """Run every call and write what was printed."""
    exported.R_PACKAGES = ("nlme", "metafor")
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for case, (name, _, _) in CASES.items():
        bl.load_dataset(name).to_csv(folder / "data.csv", index=False)
        for target in exported.R_PACKAGES:
            try:
                script = str(model(case).to(target, reml=reml(case, target)))
            except bl.ArgumentError as error:
                print(case, target, error, file=sys.stderr)
                continue
            printed = exported._run(script, target, folder, "")
            if printed is not None:
                found.setdefault(case, {})[target] = {"call": script, "printed": printed}
            print(case, target, printed, model(case).fit(reml=reml(case, target)).criterion, flush=True)
    MEASURED.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
