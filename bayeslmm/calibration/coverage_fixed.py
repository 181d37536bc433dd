"""Intervals of the fixed effects of many responses of one design, by the package's own machinery."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtrit

from bayeslmm.calibration.coverage_cells import Cell
from bayeslmm.calibration.coverage_marginals import Ends
from bayeslmm.inference.kenward_roger import kenward_roger_many
from bayeslmm.inference.satterthwaite import satterthwaite_many
from bayeslmm.likelihood import CrossProducts, cross_products
from bayeslmm.model import Model
from bayeslmm.reml.many import Optima
from bayeslmm.types import FloatArray


@lru_cache(maxsize=4)
def design(cell: Cell) -> CrossProducts:
    """Cross-products of the design of a cell; its response stands for none."""
    n, codes = int(cell.sizes.sum()), np.repeat(np.arange(cell.groups), cell.sizes)
    columns = {"y": np.arange(n) % 7 + codes % 3, "g": pd.Categorical(codes)}
    if cell.slopes:
        columns["x"] = np.tile(np.arange(cell.size, dtype=float), cell.groups)
    return cross_products(Model(cell.formula, pd.DataFrame(columns)).design)


def fixed_ends(cp: CrossProducts, Y: FloatArray, optima: Optima, level: float) -> dict[str, dict[str, Ends]]:
    """Plug-in z, Satterthwaite and Kenward-Roger intervals of every coefficient.

    Parameters
    ----------
    cp : CrossProducts
    Y : FloatArray, shape (n, K)
    optima : Optima
        REML estimates of the K responses.
    level : float

    Returns
    -------
    dict
        By method and coefficient; nan where a method has no degrees of freedom.
    """
    L = np.eye(cp.p)
    p = 0.5 * (1.0 + level)
    adjusted = kenward_roger_many(cp, optima.terms)
    sigma = optima.sigma[:, None]
    plain = sigma * np.sqrt(np.diagonal(adjusted.plain, axis1=1, axis2=2))
    halves = {
        "z": float(ndtri(p)) * plain,
        "satterthwaite": stdtrit(satterthwaite_many(cp, optima, Y, L), p) * plain,
        "kenward_roger": stdtrit(adjusted.df(L), p) * sigma * adjusted.std_error(L),
    }
    return {method: _named(optima.beta, half) for method, half in halves.items()}


def _named(beta: FloatArray, half: FloatArray) -> dict[str, Ends]:
    names = ["Intercept", "x"][: beta.shape[1]]
    return {name: (beta[:, j] - half[:, j], beta[:, j] + half[:, j]) for j, name in enumerate(names)}
