"""Intervals of many responses of one cell by the package's own methods."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd

from bayeslmm.calibration.atlas_cells import Cell
from bayeslmm.calibration.interval_ends import Ends, coefficient_ends, pivot_many
from bayeslmm.inference.profile import profile_ends_many
from bayeslmm.inference.profile_coordinates import ProfileTarget
from bayeslmm.inference.spectral import spectrum
from bayeslmm.likelihood import SummedDesign, cross_products
from bayeslmm.model import Model
from bayeslmm.reml.many import Optima
from bayeslmm.results.labels import Parameter, parameters
from bayeslmm.types import FloatArray


@lru_cache(maxsize=4)
def design(cell: Cell) -> SummedDesign:
    """Cross-products of the design of a cell; its response stands for none."""
    n, codes = int(cell.sizes.sum()), np.repeat(np.arange(cell.groups), cell.sizes)
    columns = {"y": np.arange(n) % 7 + codes % 3, "g": pd.Categorical(codes)}
    if cell.slopes:
        columns["x"] = np.tile(np.arange(cell.size, dtype=float), cell.groups)
    return cross_products(Model(cell.formula, pd.DataFrame(columns)).design)


def fixed_ends(cp: SummedDesign, Y: FloatArray, optima: Optima, level: float) -> dict[tuple[str, str], Ends]:
    """Plug-in z, Satterthwaite and Kenward-Roger intervals by coefficient and method.

    Parameters
    ----------
    cp : SummedDesign
    Y : FloatArray, shape (n, K)
    optima : Optima
        REML estimates of the K responses.
    level : float
    """
    found = {
        "z": coefficient_ends("z", cp, Y, optima, level),
        "satterthwaite": coefficient_ends("satterthwaite", cp, Y, optima, level),
        "kenward_roger": coefficient_ends("kenward-roger", cp, Y, optima, level),
    }
    names = ("Intercept", "x")[: cp.p]
    return {
        (name, method): (low[:, j], high[:, j]) for method, (low, high) in found.items() for j, name in enumerate(names)
    }


def sd_ends(cp: SummedDesign, Y: FloatArray, reml: Optima, ml: Optima, level: float) -> dict[tuple[str, str], Ends]:
    """Profiles of both criteria, and the pivot of the ratio to sigma, by sd and method.

    Parameters
    ----------
    cp : SummedDesign
    Y : FloatArray, shape (n, K)
    reml, ml : Optima
        Estimates of the K responses.
    level : float
    """
    found: dict[tuple[str, str], Ends] = {}
    for p in parameters(cp.design):
        if p.kind == "sd":
            name, target = _name(p), ProfileTarget("sd", p.position, p.effects)
            found[name, "reml_profile"] = profile_ends_many(cp, Y, reml, target, level, True)
            found[name, "ml_profile"] = profile_ends_many(cp, Y, ml, target, level, False)
            low, high = pivot_many(spectrum(cp, p.position, p.effects, Y), level)
            found[name, "pivot"] = np.sqrt(low), np.sqrt(high)
    return found


def _name(p: Parameter) -> str:
    return f"sd[{p.label.partition('[')[2]}"
