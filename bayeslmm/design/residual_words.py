"""Names of residual structures, here and in other packages."""

from __future__ import annotations

import re

from bayeslmm.errors import DesignError

VARIANCES = ("by", "power", "exp", "const_power")
# Correlations by distance, whose positions are places.
PLACES = ("exp", "gaussian", "matern")
# Covariances by visit that R's mmrm has by the same names.
MMRM = ("us", "toep", "toeph", "ar1", "ar1h", "ad", "adh", "cs", "csh")
# Correlation of rows, and whether every visit also has a standard deviation of its own.
CORRELATIONS = {
    "ar1": ("ar1", False),
    "car1": ("car1", False),
    "cs": ("cs", False),
    "toep": ("toep", False),
    "ad": ("ad", False),
    "arma": ("arma", False),
    "exp": ("exp", False),
    "gaussian": ("gaussian", False),
    "matern": ("matern", False),
    "us": ("us", True),
    "ar1h": ("ar1", True),
    "csh": ("cs", True),
    "toeph": ("toep", True),
    "adh": ("ad", True),
}
# What other packages call them.
_ELSEWHERE = {
    "varIdent": "by(g)",
    "varPower": "power(x)",
    "varExp": "exp(x)",
    "varConstPower": "const_power(x)",
    "varFixed": "weights=, which takes 1 over the variance: weights='1 / x'",
    "corAR1": "ar1(time | g)",
    "corCAR1": "car1(time | g)",
    "corCompSymm": "cs(g)",
    "corSymm": "us(visit | g), which has a variance for every visit, too",
    "corARMA": "arma(time | g), of order (1, 1)",
    "corExp": "exp(x | g)",
    "corGaus": "gaussian(x | g)",
    "un": "us(visit | g)",
    "UN": "us(visit | g)",
    "ou": "car1(time | g)",
    "sp_exp": "exp(x + y | g)",
    "homcs": "cs(g)",
    "diag": "by(g)",
    "mat": "matern(x + y | g)",
    "gau": "gaussian(x + y | g)",
    "varComb": "a sum, by(sex) + power(x)",
    "arh1": "ar1h(visit | g)",
    "ante1": "adh(visit | g)",
    "ar": "ar1(time | g)",
}


def word_here(word: str, text: str = "") -> str:
    """What a name of another package is called here, with the columns of a call of it in `text`; empty if unknown."""
    return _translated(word, text) or _ELSEWHERE.get(word, "")


def refuse_variance_words(what: str, text: str) -> None:
    """Refuse nlme's classes of variances where precision weights belong, with what they are called here.

    Raises
    ------
    DesignError
    """
    word = text.partition("(")[0].strip()
    if not word.startswith("var") or word not in _ELSEWHERE:
        return
    here = word_here(word, text)
    raise DesignError(
        f"{what}={text!r} is a variance structure of nlme. {what}= takes known numbers; variances with parameters are "
        f"part of residual=: {here}."
    )


def _translated(word: str, text: str) -> str:
    """A call of nlme with its formula, as it is written here; empty if that is not clear."""
    match = re.search(re.escape(word) + r"\s*\([^~]*~\s*([^|,)]*?)\s*(?:\|\s*([^,)]+?)\s*)?[,)]", text)
    name = _ELSEWHERE.get(word, "").partition("(")[0]
    if match is None or name not in (*VARIANCES, *CORRELATIONS):
        return ""
    left, group = match[1], match[2] or ""
    if name == "by":
        return f"residual='by({group})'" if group else ""
    if name in VARIANCES and word.startswith("var"):
        return f"residual='{name}({left})'" if left not in ("", "fitted(.", ".") else ""
    if not group:
        return ""
    left = left if left != "1" else "the column of times"
    return f"residual='{name}({group})'" if name == "cs" else f"residual='{name}({left} | {group})'"
