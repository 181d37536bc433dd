"""Residuals whose standard deviations are known row by row, as the standard errors of studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from bayeslmm.equality import by_value
from bayeslmm.residual.residual import Chosen
from bayeslmm.residual.variance import IndependentRows, of_rows
from bayeslmm.types import FloatArray, IntArray


@by_value
@dataclass(frozen=True, eq=False)
class KnownVariances(IndependentRows):
    """The residual variance of row i is ``(sigma sd[i])^2``, with sigma known, too: 1 unless someone says otherwise.

    Attributes
    ----------
    sd : FloatArray, shape (n,)
        All positive, units of y.

    Examples
    --------
    >>> from bayeslmm.residual import NO_PARAMETERS
    >>> KnownVariances(np.array([1.0, 2.0])).variance(NO_PARAMETERS).tolist()
    [1.0, 4.0]
    """

    sd: FloatArray

    keyword: ClassVar[str] = "residual_sd"
    names: ClassVar[tuple[str, ...]] = ()
    identity: ClassVar[bool] = False
    text: ClassVar[str] = "diag(residual_sd^2)"

    @property
    def n(self) -> int:
        return int(self.sd.shape[0])

    @cached_property
    def weights(self) -> FloatArray:
        """Precisions (n,): what variances are divided by."""
        return np.asarray(1.0 / self.sd**2)

    @cached_property
    def _root(self) -> FloatArray:
        return np.asarray(1.0 / self.sd)

    def precision(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        return of_rows(lam, self.weights, rows)

    def root(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        return of_rows(lam, self._root, rows)

    def variance(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        return of_rows(lam, self.sd**2, rows)

    def part(self, rows: slice | IntArray) -> Self:
        return type(self)(self.sd[rows])

    def data(self) -> dict[str, FloatArray]:
        return {"known_sd": self.sd}

    def scale(self, sigma: Any, lam: Sequence[Any], data: Mapping[str, Any], math: Any) -> Any:
        return sigma * data["known_sd"]

    def latex(self, sigma: str) -> str:
        return "s_{i}^2" if sigma == r"\sigma" or sigma == "1" else f"({sigma} \\, s_{{i}})^2"

    def check(self, n: int) -> None:
        if self.sd.shape != (n,):
            raise ValueError(f"residual_sd has shape {self.sd.shape}, not ({n},)")
        if not np.isfinite(self.sd).all():
            raise ValueError("residual_sd has values that are no finite numbers, which no design has")
        if not (self.sd > 0).all():
            raise ValueError("some residual_sd is not positive")
