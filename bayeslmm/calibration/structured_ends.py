"""Fits of many responses of a model whose residuals have parameters, one after the other, and their intervals."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from bayeslmm.calibration.coverage_kinds import Kinds
from bayeslmm.design.design import Design
from bayeslmm.errors import BayesLMMError, BayesLMMWarning
from bayeslmm.faces import REMLResult, fit_result
from bayeslmm.reml.many import Optima, join_optima
from bayeslmm.reml.residual_many import no_estimates
from bayeslmm.reml.residual_optimum import optimum_of
from bayeslmm.types import FloatArray

type Ends = tuple[FloatArray, FloatArray]


@dataclass(frozen=True)
class StructuredFits:
    """Fits of K responses.

    Attributes
    ----------
    design : Design
    fits : tuple of REMLResult or None
        None for a response that has no estimates.
    """

    design: Design
    fits: tuple[REMLResult | None, ...]

    @property
    def optima(self) -> Optima:
        """Their estimates."""
        return join_optima([no_estimates(self.design) if fit is None else Optima.of(fit.optimum) for fit in self.fits])

    def intervals(self, kinds: Kinds, level: float) -> dict[tuple[str, str], Ends]:
        """Intervals by label and kind, those of posteriors left out; nan where a response has none."""
        found: dict[tuple[str, str], Ends] = {}
        for kind in ("wald", "profile", "satterthwaite", "kenward-roger"):
            fixed = [p.label for p in kinds.of_kind(kind) if p.kind == "fixed" and kind != "profile"]
            others = [p.label for p in kinds.of_kind(kind) if p.label not in fixed]
            for names, ends_of in ((fixed, _of_coefficients), (others, _of_profiles)):
                if names:
                    ends = self._each(names, partial(ends_of, names=names, kind=kind, level=level))
                    found |= {(label, kind): (ends[:, i, 0], ends[:, i, 1]) for i, label in enumerate(names)}
        return found

    def _each(self, names: Sequence[str], ends: Callable[[REMLResult], FloatArray]) -> FloatArray:
        """Ends (K, names, 2) of every fit."""
        out = np.full((len(self.fits), len(names), 2), np.nan)
        for k, fit in enumerate(self.fits):
            if fit is not None:
                try:
                    out[k] = ends(fit)
                except (BayesLMMError, np.linalg.LinAlgError):
                    continue
        return out

    def numbers(self, function: Callable[[REMLResult], float]) -> FloatArray:
        """A number of every fit, (K,); nan where there is none."""
        return self._each(("",), lambda fit: np.full((1, 2), function(fit)))[:, 0, 0]


def _of_profiles(fit: REMLResult, names: Sequence[str], kind: str, level: float) -> FloatArray:
    """Ends (names, 2) as `confint` has them."""
    return fit.confint(level, kind, names).loc[list(names)].to_numpy(dtype=float)  # type: ignore[arg-type]


def _of_coefficients(fit: REMLResult, names: Sequence[str], kind: str, level: float) -> FloatArray:
    """Ends (names, 2) of fixed effects by degrees of freedom."""
    table = fit.coefficients("z" if kind == "wald" else kind, level)  # type: ignore[arg-type]
    return table.loc[list(names), ["conf_low", "conf_high"]].to_numpy(dtype=float)


def structured_fits(design: Design, Y: FloatArray, reml: bool) -> StructuredFits:
    """Fit every column of Y (n, K)."""
    fits: list[REMLResult | None] = []
    with warnings.catch_warnings():
        # What a single fit warns of is counted by its status.
        warnings.simplefilter("ignore", BayesLMMWarning)
        for y in Y.T:
            own = replace(design, y=np.ascontiguousarray(y))
            try:
                optimum = optimum_of(own, reml)
            except (BayesLMMError, np.linalg.LinAlgError):
                fits.append(None)
            else:
                fits.append(fit_result(own, optimum.cp, optimum))
    return StructuredFits(design, tuple(fits))
