"""What statsmodels says of sleepstudy, Pastes and Penicillin: writes statsmodels.json, run by a Python that has it."""

import json
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf

HERE = Path(__file__).parent
DATA = HERE.parents[2] / "bayeslmm" / "datasets" / "data"


def main() -> None:
    sleep = pd.read_csv(DATA / "sleepstudy.csv", dtype={"Subject": str})
    fit = smf.mixedlm("Reaction ~ Days", sleep, groups="Subject", re_formula="~Days").fit()
    shown = fit.summary().tables[1]
    sds = np.sqrt(np.diag(fit.cov_re))
    pastes = pd.read_csv(DATA / "Pastes.csv")
    nested = smf.mixedlm(
        "strength ~ 1", pastes, groups="batch", re_formula="1", vc_formula={"cask": "0 + C(sample)"}
    ).fit()
    penicillin = pd.read_csv(DATA / "Penicillin.csv").assign(everything=1)
    parts = {"plate": "0 + C(plate)", "sample": "0 + C(sample)"}
    crossed = smf.mixedlm("diameter ~ 1", penicillin, groups="everything", vc_formula=parts).fit()
    dyes = pd.read_csv(DATA / "Dyestuff2.csv")
    zero = smf.mixedlm("Yield ~ 1", dyes, groups="Batch").fit()
    components = dict(zip(crossed.model.exog_vc.names, crossed.vcomp, strict=True))
    numbers = {
        "log likelihood": fit.llf,
        "variance, Intercept": fit.cov_re.iloc[0, 0],
        "variance, Days": fit.cov_re.iloc[1, 1],
        "covariance": fit.cov_re.iloc[0, 1],
        "correlation": fit.cov_re.iloc[0, 1] / sds.prod(),
        "residual variance": fit.scale,
        "Days": fit.fe_params["Days"],
        "Days, standard error": fit.bse_fe["Days"],
        "Days, low": fit.conf_int().loc["Days", 0],
        "Days, high": fit.conf_int().loc["Days", 1],
        "Days of subject 308": fit.random_effects["308"]["Days"],
        "variance of Days, standard error": float(shown.loc["Days Var", "Std.Err."]),
        "Pastes, variance of batches": nested.cov_re.iloc[0, 0],
        "Pastes, variance of casks": nested.vcomp[0],
        "Penicillin, variance of plates": components["plate"],
        "Penicillin, variance of samples": components["sample"],
        "Dyestuff2, variance of batches": zero.cov_re.iloc[0, 0],
    }
    out = {"package": f"statsmodels {version('statsmodels')}", "numbers": {k: float(v) for k, v in numbers.items()}}
    (HERE / "statsmodels.json").write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    warnings.simplefilter("default")
    main()
