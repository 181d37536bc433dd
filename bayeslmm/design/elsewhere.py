"""Words of other packages' formulas for what is not there: what to write instead, or which package has it."""

from __future__ import annotations

from collections.abc import Mapping

_SMOOTH = (
    "Penalised smooth terms are not there: ns(x, df=4) and bs(x, df=5) are splines with as many columns as you say; "
    "mgcv and brms choose the smoothness."
)
_SEVERAL = (
    "One response at a time: stack the columns in one, with a column that names them, and give their covariance as "
    "residual='us(name | unit)'; brms takes them as they are."
)
_CORRELATED = "Correlated residuals are an argument: bl.Model(..., residual='ar1(time | g)')."
_FACTOR_ANALYTIC = "Factor-analytic covariances are not there: us() has all covariances; glmmTMB has rr()."
_PROCESS = "A process over time or space is one of the residuals: bl.Model(..., residual='exp(x + y | g)')."
_CENSORED = "Censored and truncated responses are not there; brms has them."

# Called in the fixed part, or in the place of the response.
FUNCTIONS: Mapping[str, str] = (
    dict.fromkeys(("s", "te", "ti", "t2", "lo"), _SMOOTH)
    | dict.fromkeys(("cbind", "mvbind"), _SEVERAL)
    | dict.fromkeys(("ar", "ma", "arma", "cosy", "unstr"), _CORRELATED)
    | {
        "Error": "Strata are random effects: (1 | Block) for Error(Block), (1 | a/b) for Error(a/b).",
        "me": "Errors in predictors are not there; brms has me().",
        "mi": "Rows with missing values are left out; impute beforehand, or take brms, which has mi().",
        "mo": "Monotonic effects are not there; ordered(x) has polynomial trends, brms has mo().",
        "gp": _PROCESS + " brms has gp().",
        "rcs": "ns(x, df=4) is a natural (restricted) cubic spline.",
    }
)

# Before the brackets of a random term.
STRUCTURES: Mapping[str, str] = (
    dict.fromkeys(("rr", "fa"), _FACTOR_ANALYTIC)
    | dict.fromkeys(("ou", "exp", "mat", "gau"), _PROCESS)
    | dict.fromkeys(("propto", "equalto"), "Covariances between levels that are known are not there; glmmTMB has them.")
    | {"homdiag": "It is id() here.", "homcs": "It is cs() here.", "hetar1": "It is ar1h() here."}
    | {"pdDiag": "It is diag() here, or a double bar.", "pdIdent": "It is id() here.", "pdCompSymm": "It is cs() here."}
)

# Right of a bar.
GROUPS: Mapping[str, str] = {
    "mm": "Effects of several memberships at once are not there; brms has mm().",
    "gr": "Write the column itself. Known covariances between levels (pedigrees) and covariances that differ between "
    "groups of levels are not there; brms has gr(cov=) and gr(by=).",
}

# Behind a bar left of ~, as in brms.
RESPONSES: Mapping[str, str] = {
    "se": "Known standard errors are an argument: bl.Model(..., residual_sd='se').",
    "weights": "Weights are an argument: bl.Model(..., weights=) for precisions, frequency= for counts, as brms's are.",
    "cens": _CENSORED,
    "trunc": _CENSORED,
}


def elsewhere(name: str, words: Mapping[str, str]) -> str:
    """What to know of a word that another package has there, with a leading space; nothing of other words.

    Examples
    --------
    >>> elsewhere("rcs", FUNCTIONS)
    ' ns(x, df=4) is a natural (restricted) cubic spline.'
    >>> elsewhere("squeeze", FUNCTIONS)
    ''
    """
    return f" {words[name]}" if name in words else ""
