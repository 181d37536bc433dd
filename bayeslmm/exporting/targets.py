"""Which packages a model can be written for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bayeslmm.arguments import choice, flag
from bayeslmm.design.design import Design
from bayeslmm.design.known import known_text
from bayeslmm.design.script import Script
from bayeslmm.errors import ArgumentError
from bayeslmm.exporting import barred
from bayeslmm.exporting.bambi import bambi
from bayeslmm.exporting.julia import julia
from bayeslmm.exporting.matlab import matlab
from bayeslmm.exporting.nlme import nlme
from bayeslmm.exporting.parts import ModelParts, check_data_name, model_parts
from bayeslmm.exporting.sas import sas
from bayeslmm.exporting.special import metafor, mmrm
from bayeslmm.exporting.statsmodels import statsmodels
from bayeslmm.residual import KnownVariances

TARGETS: dict[str, Callable[[ModelParts], Script]] = {
    "lme4": barred.lme4,
    "nlme": nlme,
    "brms": barred.brms,
    "rstanarm": barred.rstanarm,
    "bambi": bambi,
    "statsmodels": statsmodels,
    "sas": sas,
    "matlab": matlab,
    "julia": julia,
    "glmmTMB": barred.glmmtmb,
}
# Of residual structures without random effects, and of known standard errors alone.
SPECIAL: dict[str, Callable[[ModelParts], Script]] = {"mmrm": mmrm, "metafor": metafor}
PACKAGES = (*TARGETS, *SPECIAL)
# Packages that can hold standard errors known row by row.
_KNOWN = ("brms", "nlme", "metafor")


def export(design: Design, package: Any, *, reml: Any = True, data: Any = "df") -> Script:
    """The call of a package that fits the model of a design.

    Parameters
    ----------
    design : Design
    package : str
        One of `PACKAGES`.
    reml : bool
    data : str
        Name of the data frame.

    Raises
    ------
    ArgumentError
        An unknown package, or a model that it does not have.
    """
    chosen = choice("package", package, PACKAGES, ArgumentError)
    by_row = isinstance(design.residual, KnownVariances) and design.sigma == 1.0
    if design.sigma is not None and not (chosen in _KNOWN and by_row):
        where = (
            "brms, nlme and metafor have them: model.to('brms')"
            if by_row
            else "bayeslmm has them: model.fit(), model.sample()"
        )
        raise ArgumentError(
            f"{chosen} estimates sigma, and the residual standard deviations of this model are known "
            f"({known_text(design)}); no call of it is the same model. {where}."
        )
    parts = model_parts(design, chosen, flag("reml", reml, ArgumentError), check_data_name(data))
    return (TARGETS | SPECIAL)[chosen](parts)
