"""Extreme and degenerate input: the right number, or a finding that says what is wrong."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import solve_triangular
from scipy.optimize import minimize

import bayeslmm as bl
from bayeslmm.design import Design

# A search without derivatives on n x n matrices stops within the rounding of its criterion.
DENSE = 1e-9
N = 90


def frame() -> pd.DataFrame:
    """Nine groups, the first with a single row."""
    rng = np.random.default_rng(1)
    g, h, x = np.r_[0, rng.integers(1, 9, N - 1)], rng.integers(0, 5, N), rng.normal(size=N)
    y = 2 + x + rng.normal(size=9)[g] + 0.5 * x * rng.normal(size=9)[g] + 0.5 * rng.normal(size=5)[h]
    f, w = rng.choice(list("abc"), N), rng.uniform(0.3, 3.0, N)
    between = rng.normal(size=9)[g]
    return pd.DataFrame({"y": y + rng.normal(size=N), "x": x, "f": f, "g": g, "h": h, "w": w, "between": between})


def dense(design: Design, reml: bool) -> Callable[[np.ndarray], float]:
    """The profiled criterion from n x n matrices, in theta on columns of unit mean square."""
    w = np.ones(design.n) if design.weights is None else design.weights
    root = np.sqrt(w)[:, None]
    Q, R = np.linalg.qr(design.X * root)
    y = (design.y if design.offset is None else design.y - design.offset) * root[:, 0]
    for _ in range(2):
        y = y - Q @ (Q.T @ y)
    unit = np.sqrt(np.mean(y**2))
    y = y / unit
    nu = design.n - (design.p if reml else 0)
    constant = nu * np.log(unit**2) - np.log(w).sum() + (2 * np.log(np.abs(np.diag(R))).sum() if reml else 0.0)
    terms = []
    for term in design.terms:
        Z, codes = term.Z * root, design.groupings[term.group].codes
        size = np.sqrt((Z**2).mean(axis=0))
        terms.append((Z / np.where(size > 0, size, 1.0), codes[:, None] == codes, term.structure))

    def criterion(theta: np.ndarray) -> float:
        V, at = np.eye(design.n), 0
        for Z, same, structure in terms:
            T = np.zeros((Z.shape[1],) * 2)
            T[structure.rows, structure.cols] = theta[at : at + len(structure.rows)]
            at += len(structure.rows)
            V += (Z @ T @ T.T @ Z.T) * same
        L = np.linalg.cholesky(V)
        half = solve_triangular(L, np.column_stack([Q, y]), lower=True)
        U, S = np.linalg.qr(half[:, :-1])
        r = half[:, -1] - U @ (U.T @ half[:, -1])
        value = 2 * np.log(np.diag(L)).sum() + nu * (1 + np.log(2 * np.pi * (r @ r) / nu)) + constant
        return float(value + (2 * np.log(np.abs(np.diag(S))).sum() if reml else 0.0))

    return criterion


def lowest(design: Design, reml: bool, starts: int = 6) -> float:
    """Minimum over several starts."""
    criterion, k = dense(design, reml), sum(len(term.structure.rows) for term in design.terms)
    rng = np.random.default_rng(0)
    points = [np.full(k, 1e-3), *(rng.normal(size=k) * 10 ** rng.uniform(-1.5, 1.0) for _ in range(starts - 1))]
    return min(float(minimize(criterion, x, method="L-BFGS-B").fun) for x in points)


def check(formula: str, data: pd.DataFrame, weights: str | None = None, reml: bool = True) -> bl.REMLResult:
    """Fit, and compare the criterion with the dense minimum; the accessors must work."""
    model = bl.Model(formula, data, weights=weights)
    fit = model.fit(reml, on_failure="ignore")
    expected = lowest(model.design, reml)
    assert fit.criterion <= expected + DENSE * (N + abs(expected))
    assert fit.criterion >= expected - 1e-6 * (N + abs(expected))
    for values in (fit.fixef(), fit.vcov(), fit.fitted(), *fit.ranef().values(), *fit.ranef_variances().values()):
        assert np.isfinite(np.asarray(values)).all()
    assert str(fit.summary())
    return fit


@pytest.mark.parametrize("c", [1e-8, 1e8])
@pytest.mark.parametrize("column", ["y", "x"])
@pytest.mark.parametrize("formula", ["y ~ x + (x | g) + (1 | h)", "y ~ x + (x || g) + (1 | h)"])
def test_units(formula: str, column: str, c: float) -> None:
    data = frame()
    first, fit = bl.Model(formula, data).fit(), check(formula, data.assign(**{column: c * data[column]}))
    more = (N - 2 if column == "y" else 1) * np.log(c**2)
    assert fit.status is first.status
    assert fit.criterion == pytest.approx(first.criterion + more, abs=1e-9)


@pytest.mark.parametrize(("offset", "known"), [(1e6, 1e-9), (1e9, 1e-5)])
def test_far_from_zero(offset: float, known: float) -> None:
    """y + 1e9 is rounded to 1e-7, which is what the criterion then knows."""
    data = frame()
    first, fit = (bl.Model("y ~ x + (x | g)", d).fit() for d in (data, data.assign(y=data["y"] + offset)))
    assert fit.criterion == pytest.approx(first.criterion, abs=known * N)
    moved = bl.Model("y ~ x + (x | g)", data.assign(x=data["x"] + offset)).fit()
    assert moved.criterion == pytest.approx(first.criterion, abs=known * N)
    there = bl.Model("y ~ x + offset(far) + (x | g)", data.assign(y=data["y"] + offset, far=offset)).fit()
    assert there.criterion == pytest.approx(first.criterion, abs=known * N)


@pytest.mark.parametrize("sd", [0.0, 0.05, 0.3, 3.0])
@pytest.mark.parametrize("reml", [True, False])
def test_one_group_of_ten_thousand(sd: float, reml: bool) -> None:
    """And two hundred of one row: the criterion in closed form from sums within groups."""
    rng = np.random.default_rng(1)
    g = np.r_[np.zeros(10_000, int), np.arange(1, 201)]
    y = sd * rng.normal(size=201)[g] + rng.normal(size=g.size)
    m, s = np.bincount(g), np.bincount(g, y)
    squares = float(y @ y)

    def criterion(theta: float) -> float:
        c = theta**2 / (1 + m * theta**2)
        A, B = (m - c * m**2).sum(), (s - c * m * s).sum()
        nu = y.size - reml
        r2 = squares - (c * s**2).sum() - B**2 / A
        return float(np.log1p(m * theta**2).sum() + reml * np.log(A) + nu * (1 + np.log(2 * np.pi * r2 / nu)))

    fit = bl.Model("y ~ 1 + (1 | g)", pd.DataFrame({"y": y, "g": g})).fit(reml)
    grid = np.r_[0.0, np.geomspace(1e-4, 1e3, 2000)]
    assert fit.criterion == pytest.approx(criterion(fit.theta[0]), rel=1e-12)
    assert fit.criterion <= min(map(criterion, grid)) + 1e-8
    assert min(map(criterion, fit.theta[0] * np.array([0.999, 1.001]))) >= fit.criterion - 1e-8


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("spread", [1.0, 6.0])
def test_one_observation_in_every_group(spread: float, reml: bool) -> None:
    """With weights that differ the two variances can be told apart; without, that is an error."""
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"y": rng.normal(size=40), "x": rng.normal(size=40), "g": np.arange(40)})
    data["w"] = 10 ** rng.uniform(-spread / 2, spread / 2, 40)
    check("y ~ x + (1 | g)", data, "w", reml)
    for weights in (None, np.full(40, 3.0)):
        with pytest.raises(bl.DesignError, match="told apart"):
            bl.Model("y ~ x + (1 | g)", data, weights=weights)


@pytest.mark.parametrize("size", [3, 6, 9])
def test_weights_over_many_powers_of_ten(size: int) -> None:
    data = frame().assign(w=10 ** np.random.default_rng(3).uniform(-size, size, N))
    check("y ~ x + (x | g) + (1 | h)", data, "w")


IDENTIFIED = {
    "all groups but one of one row": ("y ~ x + (1 | g)", lambda d: d.assign(g=np.r_[np.arange(N - 1), 0])),
    "slope constant within groups": ("y ~ x + (x | g)", lambda d: d.assign(x=d["between"])),
    "the same, ||": ("y ~ x + (x || g)", lambda d: d.assign(x=d["between"])),
    "predictor between groups only": ("y ~ x + (1 | g)", lambda d: d.assign(x=d["between"])),
    "factor ||": ("y ~ f + (f || g)", lambda d: d),
    "cells ||": ("y ~ f + (0 + f || g)", lambda d: d),
    "both": ("y ~ f + (1 | g) + (0 + f || g)", lambda d: d),
    "a few zeros and ones": ("y ~ x + (1 | g)", lambda d: d.assign(y=(d["y"] > 2).astype(int))),
    "a single one": ("y ~ x + (1 | g)", lambda d: d.assign(y=np.r_[np.zeros(N - 1), 1.0])),
    "no fixed effects": ("y ~ 0 + (x | g)", lambda d: d),
    "outlier": ("y ~ x + (1 | g)", lambda d: d.assign(y=np.r_[d["y"][:-1], 1e4])),
    "heavy tails": ("y ~ x + (x | g) + (1 | h)", lambda d: d.assign(y=np.tan(1.57 * np.tanh(d["y"])) ** 3)),
    "squares": ("y ~ x + x2 + (x + x2 | h)", lambda d: d.assign(x2=(d["x"] + 3) ** 2)),
}


@pytest.mark.parametrize("name", IDENTIFIED)
@pytest.mark.parametrize("reml", [True, False])
def test_odd_but_identified(name: str, reml: bool) -> None:
    formula, change = IDENTIFIED[name]
    assert check(formula, change(frame()), reml=reml).status.ok


RIDGES = {
    "two names of a factor": ("y ~ x + (1 | g) + (1 | k)", lambda d: d.assign(k=("q" + (8 - d["g"]).astype(str)))),
    "nested in itself": ("y ~ x + (1 | g / k)", lambda d: d.assign(k=d["g"] % 2)),
    "intercept twice": ("y ~ x + (1 | g) + (x | g)", lambda d: d),
    "intercept twice, other name": ("y ~ x + (1 | k) + (x | g)", lambda d: d.assign(k=-d["g"])),
    "slope twice": ("y ~ x + (x | g) + (0 + x2 | g)", lambda d: d.assign(x2=2 * d["x"])),
    "slope twice in a term": ("y ~ x + (x + x2 | g)", lambda d: d.assign(x2=2 * d["x"])),
    "constant slope": ("y ~ x + (k || g)", lambda d: d.assign(k=5.0)),
    "two values between groups": ("y ~ x + (x | g)", lambda d: d.assign(x=d["g"] % 2)),
    "fixed and random": ("y ~ C(g) + (1 | g) + (1 | h)", lambda d: d),
    "both codings": ("y ~ f + (f | g) + (0 + f | g)", lambda d: d),
    "value in one group": (
        "y ~ f + (0 + f | h)",
        lambda d: d.assign(f=np.where((d["f"] == "b") & (d["h"] > 0), "a", d["f"])),
    ),
}


@pytest.mark.parametrize("name", RIDGES)
def test_ridges(name: str) -> None:
    """The criterion is at its minimum, which many parameters share, and the status says so."""
    formula, change = RIDGES[name]
    fit = check(formula, change(frame()))
    assert fit.status is bl.reml.FitStatus.not_identified
    with pytest.warns(bl.ConvergenceWarning, match="not identified"):
        bl.Model(formula, change(frame())).fit()


PERFECT = {
    "straight line": ("y ~ x + (1 | g)", lambda d: d.assign(y=1 + 2 * d["x"])),
    "constant within groups": ("y ~ 1 + (1 | g)", lambda d: d.assign(y=d["between"])),
    "constant within groups, predictor": ("y ~ x + (1 | g)", lambda d: d.assign(y=d["between"])),
    "means are fixed effects": ("y ~ C(g) + (1 | h)", lambda d: d.assign(y=d["between"])),
}


@pytest.mark.parametrize("name", PERFECT)
def test_nothing_left_for_the_residual(name: str) -> None:
    formula, change = PERFECT[name]
    with pytest.warns(bl.ConvergenceWarning, match="reproduces"):
        fit = bl.Model(formula, change(frame())).fit()
    # A residual sum of squares is known to the rounding of that of y: no smaller sigma is told from none, and where
    # the search meets that depends on how the processor rounds.
    assert not fit.status.ok and fit.sigma < np.sqrt(np.finfo(float).eps) * fit.design.y.std()
    with pytest.raises(bl.FitError), warnings.catch_warnings():
        warnings.simplefilter("error")
        bl.Model(formula, change(frame())).fit(on_failure="raise")


@pytest.mark.parametrize("noise", [0.0, 1e-14, 1e-11])
def test_collinear_columns_are_named(noise: float) -> None:
    data = frame()
    error = noise * np.random.default_rng(4).normal(size=N)
    model = bl.Model("y ~ x + x2 + k + (1 | g)", data.assign(x2=3 * data["x"] + error, k=7.0))
    assert set(model.design.aliased) == {"x2", "k"} and "x2, k" in repr(model)
    assert model.fit().criterion == pytest.approx(bl.Model("y ~ x + (1 | g)", data).fit().criterion, rel=1e-12)


def test_few_rows() -> None:
    two = pd.DataFrame({"y": [1.0, 2.0], "g": [0, 1]})
    for data, text in ((two, "told apart"), (two.assign(g=1), "single level"), (two[:1], "not enough")):
        with pytest.raises(bl.DesignError, match=text):
            bl.Model("y ~ 1 + (1 | g)", data)
    three = pd.DataFrame({"y": [1.0, 2.0, 4.0], "g": [0, 1, 1]})
    for reml in (True, False):
        model = bl.Model("y ~ 1 + (1 | g)", three)
        assert model.fit(reml).criterion == pytest.approx(lowest(model.design, reml), abs=1e-8)


def test_a_response_that_does_not_vary() -> None:
    with pytest.raises(bl.DesignError, match="constant"):
        bl.Model("y ~ x + (1 | g)", frame().assign(y=1.0))
    with pytest.raises(bl.DesignError, match="infinite"):
        bl.Model("y ~ x + (1 | g)", frame().assign(y=lambda d: d["y"].replace(d["y"][3], np.inf)))
