"""Responses of any size: minimised near one, estimates and criterion mapped back.

The criterion's second derivatives hold fourth powers of the response, which leave the range of numbers from 1e77 on.
A power of two is taken out first, which changes no digit.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.likelihood import CrossProducts, Factor, SummedDesign, cross_products
from bayeslmm.likelihood.criteria import degrees_of_freedom
from bayeslmm.types import FloatArray, IntArray

# What is left by the fixed effects is not touched between these.
_SMALL, _LARGE = 1e-50, 1e50


def exponent(cp: SummedDesign) -> int:
    """The power of two to be taken out of a response, 0 for sizes that need nothing."""
    if _SMALL < cp.response.spread < _LARGE or cp.rows != "own":
        return 0
    return int(exponents(cp.response.residual[:, None])[0])


def exponents(Y: FloatArray) -> IntArray:
    """The same for every column (n, K), from its largest entry; integers (K,)."""
    size = np.abs(Y).max(axis=0)
    extreme = (size > 0) & ~((size > _SMALL) & (size < _LARGE))
    return np.where(extreme, np.frexp(size)[1], 0).astype(np.int64)


def scaled_down(design: Design, power: int) -> SummedDesign:
    """Cross-products of a design with response and offset divided by a power of two."""
    offset = None if design.offset is None else np.ldexp(design.offset, -power)
    sigma = None if design.sigma is None else float(np.ldexp(design.sigma, -power))
    return cross_products(replace(design, y=np.ldexp(design.y, -power), offset=offset, sigma=sigma))


def scale_shift(cp: CrossProducts, reml: bool, power: int) -> float:
    """By how much the criterion of a response is above that of the response over a power of two."""
    return 2.0 * power * float(np.log(2.0)) * degrees_of_freedom(cp, reml)


def scaled_factor(cp: CrossProducts, factor: Factor, factors: tuple[FloatArray, ...], power: int) -> Factor:
    """An evaluation for a response that was divided by a power of two, for the response itself."""
    return cp.sums.rescaled(factors, factor, power)
