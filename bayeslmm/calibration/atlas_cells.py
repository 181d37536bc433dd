"""Cells of the coverage atlas: a design, true variances, and how responses are drawn."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Literal, get_args

import numpy as np

from bayeslmm.arguments import MOST_REFITS, choice, shown
from bayeslmm.arguments import instance as check_instance
from bayeslmm.arguments import real as check_real
from bayeslmm.arguments import whole as check_whole
from bayeslmm.errors import ArgumentError, FitError
from bayeslmm.types import FloatArray, IntArray

type DesignName = Literal["balanced", "unbalanced", "x || g", "x | g"]

DESIGNS: tuple[str, ...] = get_args(DesignName.__value__)
SLOPES = ("x || g", "x | g")
GROUPS, SIZES, ICCS = (3, 5, 6, 10, 30), (2, 5, 20), (0.0, 0.01, 0.05, 0.1, 0.3)
UNBALANCED_GROUPS = (5, 10)
SLOPE_GROUPS, SLOPE_SIZE, SLOPE_SDS, RHOS = (6, 18, 30), 10, (0.0, 0.1, 0.5), (0.0, 0.9)


@dataclass(frozen=True)
class Cell:
    """One design with true variances; the variance of an observation (at x = 0) is 1 and the fixed effects are 0.

    Attributes
    ----------
    design : {"balanced", "unbalanced", "x || g", "x | g"}
        The first two are ``y ~ 1 + (1 | g)``; group sizes of an unbalanced design are proportional to 1, 2, ..., J,
        rounded, with the same mean. The others are ``y ~ x + (x || g)`` and ``y ~ x + (x | g)`` with
        x = 0, 1, ..., n - 1 in every group.
    groups : int
        J.
    size : int
        n, mean number of observations in a group.
    icc : float
        Variance between groups (of intercepts) over the total at x = 0.
    slope_sd : float
        Sd of the slopes over the sd of the intercepts.
    rho : float
        Correlation of intercepts and slopes, only where there are slopes and ``(x | g)``.

    Raises
    ------
    FitError
        A value out of range, or of no meaning in this design.

    Examples
    --------
    >>> Cell("unbalanced", groups=5, size=2, icc=0.1).sizes
    array([1, 1, 2, 3, 3])
    """

    design: DesignName = "balanced"
    groups: int = 6
    size: int = 5
    icc: float = 0.0
    slope_sd: float = 0.0
    rho: float = 0.0

    def __post_init__(self) -> None:
        _check_numbers(self)
        if not isinstance(self.design, str):
            choice("design", self.design, DESIGNS, FitError)
        checks = {
            f"design={self.design!r} is not one of {', '.join(map(repr, DESIGNS))}": self.design in DESIGNS,
            f"groups={self.groups!r}: an interval for a variance between groups takes at least 3": self.groups >= 3,
            f"size={self.size!r}: a group needs {3 if self.slopes else 2} observations on average": self.size
            >= (3 if self.slopes else 2),
            f"icc={self.icc!r} is not in [0, 1)": 0.0 <= self.icc < 1.0,
            f"slope_sd={self.slope_sd!r} is negative or without slopes": self.slope_sd == 0.0
            or (self.slopes and self.slope_sd > 0.0),
            f"rho={self.rho!r} is not in [-1, 1], or there is no correlation in this cell": self.rho == 0.0
            or (self.design == "x | g" and self.slope_sd > 0.0 and abs(self.rho) <= 1.0),
        }
        wrong = [text for text, right in checks.items() if not right]
        if wrong:
            raise FitError(f"This is not a cell of a coverage study: {'; '.join(wrong)}.")

    @property
    def slopes(self) -> bool:
        """Whether groups have slopes."""
        return self.design in SLOPES

    @property
    def formula(self) -> str:
        """The model that is fitted."""
        return f"y ~ x + ({self.design})" if self.slopes else "y ~ 1 + (1 | g)"

    @property
    def sigma(self) -> float:
        """True residual sd."""
        return float(np.sqrt(1.0 - self.icc))

    @property
    def sd(self) -> float:
        """True sd between groups (of intercepts)."""
        return float(np.sqrt(self.icc))

    @property
    def sizes(self) -> IntArray:
        """Observations of every group, shape (J,)."""
        if self.design != "unbalanced":
            return np.full(self.groups, self.size, dtype=np.int64)
        wanted = self.size * np.arange(1, self.groups + 1) * 2.0 / (self.groups + 1)
        return np.maximum(np.floor(wanted + 0.5).astype(np.int64), 1)

    @property
    def key(self) -> int:
        """A number that identifies the cell; seeds are made from it, so that they do not depend on the other cells."""
        return zlib.crc32(repr(self).encode())

    def covariance_root(self) -> FloatArray:
        """Factor T (2, 2) of the true covariance of intercepts and slopes, ``T T'``."""
        first, second = self.sd, self.slope_sd * self.sd
        return np.array([[first, 0.0], [self.rho * second, np.sqrt(1.0 - self.rho**2) * second]])

    def rng(self, seed: int, chunk: int) -> np.random.Generator:
        """Random numbers of one chunk of replicates."""
        seed = check_whole("seed", seed, 0, error=FitError)
        chunk = check_whole("chunk", chunk, 0, 2**32 - 1, FitError)
        return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(self.key, chunk)))

    def simulate(self, replicates: int, rng: np.random.Generator) -> FloatArray:
        """Responses (n, K), group after group."""
        check_whole("replicates", replicates, 1, MOST_REFITS, FitError)
        check_instance("rng", rng, np.random.Generator, "a numpy Generator, e.g. cell.rng(1, 0)", FitError)
        codes, n = np.repeat(np.arange(self.groups), self.sizes), int(self.sizes.sum())
        noise = self.sigma * rng.standard_normal((n, replicates))
        if not self.slopes:
            return np.asarray(noise + self.sd * rng.standard_normal((self.groups, replicates))[codes])
        effects = np.tensordot(self.covariance_root(), rng.standard_normal((2, self.groups, replicates)), axes=1)
        x = np.tile(np.arange(self.size, dtype=float), self.groups)[:, None]
        return np.asarray(noise + effects[0][codes] + x * effects[1][codes])


def _check_numbers(cell: Cell) -> None:
    for field in fields(cell)[1:]:
        value, whole = getattr(cell, field.name), field.name in ("groups", "size")
        try:
            plain = check_whole(field.name, value, most=MOST_REFITS) if whole else check_real(field.name, value)
        except ArgumentError:
            kind = "whole number" if whole else "number"
            raise FitError(
                f"This is not a cell of a coverage study: {field.name}={shown(value)} is no {kind} of a usual size."
            ) from None
        if not isinstance(value, int | float):
            object.__setattr__(cell, field.name, plain)


def coverage_grid(designs: Sequence[DesignName] = DESIGNS) -> list[Cell]:  # type: ignore[assignment]
    """Cells of the coverage atlas.

    Parameters
    ----------
    designs : sequence of {"balanced", "unbalanced", "x || g", "x | g"}

    Returns
    -------
    list of Cell
        75 balanced one-way cells (3, 5, 6, 10, 30 groups of 2, 5, 20; intraclass correlation 0, .01, .05, .1, .3), the
        unbalanced copy for 5 and 10 groups (30 cells), and random slopes in 6, 18, 30 groups of 10 with an intraclass
        correlation of .5 at x = 0 (9 cells without and 15 with a correlation).

    Raises
    ------
    FitError
        An unknown design.

    Examples
    --------
    >>> len(coverage_grid()), len(coverage_grid(["balanced"]))
    (129, 75)
    """
    if isinstance(designs, str) or not isinstance(designs, Sequence):
        raise FitError(
            f"designs={shown(designs)} is no list of designs. Write for example coverage_grid(['balanced'])."
        )
    cells: list[Cell] = []
    for design in designs:
        choice("design", design, DESIGNS, FitError)
        if design in SLOPES:
            cells += [
                Cell(design, J, SLOPE_SIZE, 0.5, slope, rho)
                for J, slope, rho in product(SLOPE_GROUPS, SLOPE_SDS, RHOS)
                if rho == 0.0 or (design == "x | g" and slope > 0.0)
            ]
        else:
            groups = GROUPS if design == "balanced" else UNBALANCED_GROUPS
            cells += [Cell(design, J, n, icc) for J, n, icc in product(groups, SIZES, ICCS)]
    return cells
