"""What bambi says of sleepstudy under its default priors, with Monte Carlo standard errors: writes bambi.json.

Run by a Python that has bambi; a few minutes.
"""

import json
from importlib.metadata import version
from pathlib import Path

import arviz as az
import bambi as bmb
import pandas as pd

HERE = Path(__file__).parent
DATA = HERE.parents[2] / "bayeslmm" / "datasets" / "data" / "sleepstudy.csv"
NAMES = {
    "Intercept": "Intercept",
    "Days": "Days",
    "1|Subject_sigma": "sd_Subject[Intercept]",
    "Days|Subject_sigma": "sd_Subject[Days]",
    "sigma": "sigma",
}


def main() -> None:
    data = pd.read_csv(DATA, dtype={"Subject": str})
    model = bmb.Model("Reaction ~ Days + (Days | Subject)", data)
    found = model.fit(draws=5000, tune=1000, chains=4, cores=2, random_seed=1, idata_kwargs={"log_likelihood": True})
    draws = found["posterior"]
    rows = []
    for theirs, ours in NAMES.items():
        x = draws[theirs]
        row = {"variable": ours, "mean": float(x.mean()), "sd": float(x.std()), "mcse_mean": float(az.mcse(x))}
        row["mcse_sd"] = float(az.mcse(x, method="sd"))
        for p in (0.025, 0.975):
            row[f"q{100 * p:g}"] = float(x.quantile(p))
            row[f"mcse_q{100 * p:g}"] = float(az.mcse(x, method="quantile", prob=p))
        rows.append(row)
    elpd = az.loo(found)
    out = {
        "package": f"bambi {version('bambi')} (PyMC {version('pymc')})",
        "draws": 20000,
        "priors": str(model).splitlines(),
        "rows": rows,
        "loo": {"estimate": float(elpd.elpd), "se": float(elpd.se)},
    }
    (HERE / "bambi.json").write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
