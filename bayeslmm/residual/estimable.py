"""What an optimiser and printouts ask of a residual structure with parameters, beyond what every structure has."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

import numpy as np

from bayeslmm.errors import DesignError
from bayeslmm.residual.residual import Residual
from bayeslmm.types import FloatArray

if TYPE_CHECKING:
    from bayeslmm.residual.laws import Law


@runtime_checkable
class Estimable(Residual, Protocol):
    """A structure whose parameters can be estimated.

    Attributes
    ----------
    expression : str
        As written in the ``residual=`` of a model.
    labels : tuple of str
        Of the parameters in the user's units: correlations, ratios of standard deviations, exponents.
    ranges : tuple of {"real", "positive", "unit", "correlation"}
        Where these are: anywhere, above 0, between 0 and 1, between -1 and 1.
    """

    @property
    def expression(self) -> str: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def ranges(self) -> tuple[str, ...]: ...
    @property
    def laws(self) -> tuple[Law, ...]:
        """Default distributions of lam."""
        ...

    def in_units(self, lam: FloatArray) -> FloatArray:
        """Parameters (..., k) in the user's units, at one point or many."""
        ...

    def natural(self, lam: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Parameters (k,) in the user's units at one point, and their derivatives (k, k) in lam."""
        ...

    def start(self, residuals: FloatArray) -> FloatArray:
        """Moment estimates (k,) of lam from residuals (n,)."""
        ...

    def elsewhere(self, lam: FloatArray) -> list[FloatArray]:
        """Further starts (k,) beside one, where the likelihood may have several maxima."""
        ...

    def inner_slopes(
        self, lam: FloatArray, columns: FloatArray, left: FloatArray, white: FloatArray | None = None
    ) -> FloatArray:
        """Sums (k,) of ``left * whiten_slopes(lam, columns)`` over rows and columns; `white` if whitened already."""
        ...

    def information(self, lam: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Traces (k,) of ``R^-1 dR_j``, and (k, k), or about that, of ``R^-1 dR_j R^-1 dR_k``."""
        ...


def estimable(residual: Residual) -> Estimable:
    """The structure as one whose parameters can be estimated.

    Raises
    ------
    TypeError
        It is none.
    """
    if not _has_all(type(residual)):
        raise TypeError(f"the parameters of {residual.keyword!r} cannot be estimated")
    return cast(Estimable, residual)


@cache
def _has_all(kind: type) -> bool:
    """Whether a class has all that `Estimable` says; asked of the class, which is much faster."""
    return all(hasattr(kind, name) for name in ("labels", "ranges", "natural", "start", "inner_slopes", "information"))


def residual_labels(residual: Residual) -> tuple[str, ...]:
    """Labels of the parameters of a structure; none if it has no parameters that are estimated."""
    return residual.labels if residual.names and isinstance(residual, Estimable) else ()


def natural_parameters(residual: Residual, lam: FloatArray) -> FloatArray:
    """Parameters in the user's units, (..., k), at one point or many."""
    return estimable(residual).in_units(lam) if residual.names else np.empty((*lam.shape[:-1], 0))


def refuse_regression(residual: Residual, what: str) -> None:
    """Refuse what is not there for a model that has neither random effects nor parameters of its residuals.

    Raises
    ------
    DesignError
    """
    if not residual.names and _has_all(type(residual)):
        written = estimable(residual).expression
        raise DesignError(
            f"{what} is not there for a model without random effects (residual={written!r}), which is a regression "
            "that models with correlated or unequal residuals are compared with. There are model.fit() and "
            "model.sample() with their tables, means, intervals and predictions."
        )


def refuse_parameters(residual: Residual, what: str) -> None:
    """Refuse what is there for models with random effects and residuals without parameters only.

    Raises
    ------
    DesignError
    """
    refuse_regression(residual, what)
    if not residual.names:
        return
    written = residual.expression if isinstance(residual, Estimable) else residual.keyword
    raise DesignError(
        f"{what} is not there yet for a model whose residuals have parameters (residual={written!r}): nothing that "
        "took them for known, or left them out, would be right. Without residual= there is."
    )
