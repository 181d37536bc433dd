"""The criterion at any theta: densely from the matrices, by the likelihood of the fits, and in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction
from math import log, pi

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.likelihood.hierarchy import Hierarchy
from bayeslmm.likelihood.levels import Levels
from bayeslmm.teaching import dense_criterion

SMALL = {
    "one intercept": "y ~ x + (1 | g)",
    "slopes": "y ~ x + (x | g)",
    "uncorrelated": "y ~ x + (x || g)",
    "us": "y ~ x + us(0 + f | g)",
    "diag": "y ~ x + diag(0 + f | g)",
    "id": "y ~ x + id(0 + f | g)",
    "cs": "y ~ x + cs(0 + f | g)",
    "ar1": "y ~ x + ar1(0 + f | g)",
    "several terms": "y ~ x * f + (1 | g) + ar1(0 + f | g) + cs(0 + f | h)",
    "crossed with an offset": "y ~ x + offset(z) + (x | g) + (1 | h)",
    "no fixed effects": "y ~ 0 + (1 | g)",
}
LARGE = {
    "crossed": "y ~ x + (1 | g) + (x | h)",
    "nested": "y ~ x + (1 | h/k)",
    "structures": "y ~ x + cs(0 + f | g) + ar1(0 + f | h)",
}


def frame(n: int, levels: int) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    g, h = rng.permutation(np.arange(n) % levels), np.arange(n) % (levels - 3)
    data = pd.DataFrame({"g": g, "h": h, "k": rng.integers(0, 3, n), "x": rng.normal(size=n), "z": rng.normal(size=n)})
    data["f"] = rng.choice(list("abc"), n)
    data["w"] = rng.uniform(0.3, 4.0, n)
    data["c"] = rng.integers(1, 4, n)
    data["y"] = 4 + data["x"] + rng.normal(size=levels)[g] + rng.normal(size=levels)[h] + rng.normal(size=n)
    return data


def built(formula: str, large: bool, **arguments: str) -> bl.Model:
    return bl.Model(formula, frame(270, 130) if large else frame(48, 9), **arguments)


def thetas(model: bl.Model, far_out: float = 1e3) -> list[np.ndarray]:
    """Random points, some with zeros, negative or perfect correlations, all zero, tiny, far out."""
    rng = np.random.default_rng(2)
    points = list[list[np.ndarray]]([[] for _ in range(6)])
    for term in model.design.terms:
        structure, k = term.structure, len(term.structure.rows)
        regular = rng.normal(size=k)
        end = regular.copy()
        end[0] = 0.0 if k == 1 else end[0]
        if structure.shared and k == 2:
            low = -0.5 if structure.keyword == "cs" else -1.0
            regular, end = np.array([0.8, 0.6 * low]), np.array([1.3, 1.0])
        elif k > 1:
            end[-1] = 0.0
        bounded = np.array([name == "cor" for name in structure.theta_names(term.effects)])
        far, tiny = (np.where(bounded, 0.5, size) * regular for size in (far_out, 1e-6))
        for point, part in zip(points, (regular, end, 0.0 * regular, tiny, far, np.abs(regular)), strict=True):
            point.append(part)
    return [np.concatenate(point) for point in points]


def compare(model: bl.Model, reml: bool, theta: np.ndarray) -> None:
    matrices = model.matrices(theta, 1.0)
    for sigma in (None, 0.7):
        dense = dense_criterion(matrices, reml, sigma)
        assert model.criterion_at(theta, sigma, reml=reml) == pytest.approx(dense, rel=1e-10)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", SMALL)
def test_dense_levels(name: str, reml: bool) -> None:
    for arguments in ({}, {"weights": "w"}, {"weights": "w", "frequency": "c"}):
        model = built(SMALL[name], False, **arguments)
        assert isinstance(model.cross_products.sums, Levels)
        for theta in thetas(model, 1e5):
            compare(model, reml, theta)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", LARGE)
def test_dense_hierarchy(name: str, reml: bool) -> None:
    model = built(LARGE[name], True, weights="w")
    assert isinstance(model.cross_products.sums, Hierarchy)
    for theta in thetas(model)[:: 1 if reml else 3]:
        compare(model, reml, theta)


def slope(model: bl.Model, theta: np.ndarray, k: int, sigma: float | None, reml: bool) -> float:
    """A central difference of eighth order."""
    h = 1e-2 * max(1.0, abs(theta[k]))
    steps, weights = np.array([1, 2, 3, 4]), np.array([4 / 5, -1 / 5, 4 / 105, -1 / 280])

    def at(step: float) -> float:
        moved = theta.copy()
        moved[k] += h * step
        return model.criterion_at(moved, sigma, reml=reml)

    return float(sum(w * (at(s) - at(-s)) for s, w in zip(steps, weights, strict=True)) / h)


@pytest.mark.parametrize(("reml", "sigma"), [(True, None), (True, 0.7), (False, None)])
@pytest.mark.parametrize(("name", "large"), [*((name, False) for name in SMALL), *((name, True) for name in LARGE)])
def test_gradient_is_the_slope_of_the_value(name: str, large: bool, reml: bool, sigma: float | None) -> None:
    model = built(LARGE[name] if large else SMALL[name], large, weights="w")
    for theta in thetas(model)[: 1 if large else 3]:
        value, gradient = model.criterion_at(theta, sigma, reml=reml, gradient=True)
        assert value == pytest.approx(model.criterion_at(theta, sigma, reml=reml), rel=1e-13)
        # A perfect correlation has no neighbour on one side.
        inside = [k for k in range(theta.size) if theta[k] != 1.0]
        expected = [slope(model, theta, k, sigma, reml) for k in inside]
        np.testing.assert_allclose(gradient[inside], expected, rtol=1e-7, atol=1e-6)


@pytest.mark.parametrize("keyword", ["cs", "ar1"])
def test_gradient_at_a_perfect_correlation(keyword: str) -> None:
    model, h = built(f"y ~ x + {keyword}(0 + f | g)", False), 1e-3
    _, gradient = model.criterion_at([1.3, 1.0], gradient=True)
    values = [model.criterion_at([1.3, 1.0 - k * h]) for k in range(5)]
    one_sided = np.array([25, -48, 36, -16, 3]) @ values / (12 * h)
    assert gradient[1] == pytest.approx(one_sided, rel=1e-5)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("theta", [[0.25, 0.5], [0.0, 3.0], [1e6, 2.0], [2.0**40, 2.0**35]])
def test_exact_arithmetic_at_any_ratio(theta: list[float], reml: bool) -> None:
    """Crossed effects: determinants and the residual sum of squares as fractions."""
    y = [3, 5, 4, 9, 1, 2, 7, 6, 5, 8, 2, 4]
    g, h = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3], [0, 1, 2, 0, 1, 2, 0, 1, 2, 1, 2, 2]
    model = bl.Model("y ~ 1 + (1 | g) + (1 | h)", pd.DataFrame({"y": y, "g": g, "h": h}).astype({"y": float}))
    squares = [Fraction(t) ** 2 for t in theta]
    V = [
        [Fraction(i == j) + squares[0] * (g[i] == g[j]) + squares[1] * (h[i] == h[j]) for j in range(12)]
        for i in range(12)
    ]
    det, solved = solve(V, [[Fraction(1), Fraction(v)] for v in y])
    information, score = (sum(row[k] for row in solved) for k in range(2))
    r2 = sum(v * row[1] for v, row in zip(y, solved, strict=True)) - score**2 / information
    nu = 11 if reml else 12
    expected = logarithm(det) + nu * (1 + log(2 * pi) + logarithm(r2 / nu)) + reml * logarithm(information)
    assert model.criterion_at(theta, reml=reml) == pytest.approx(expected, rel=1e-12)
    at_two = logarithm(det) + nu * log(2 * pi * 4) + float(r2 / 4) + reml * logarithm(information)
    assert model.criterion_at(theta, 2.0, reml=reml) == pytest.approx(at_two, rel=1e-12)


def solve(V: list[list[Fraction]], right: list[list[Fraction]]) -> tuple[Fraction, list[list[Fraction]]]:
    """Determinant of V and V^-1 times some columns, by Gauss and Jordan."""
    rows, det, n = [[*v, *r] for v, r in zip(V, right, strict=True)], Fraction(1), len(V)
    for i in range(n):
        det *= rows[i][i]
        rows[i] = [a / rows[i][i] for a in rows[i]]
        for j in range(n):
            if j != i and rows[j][i]:
                rows[j] = [a - rows[j][i] * b for a, b in zip(rows[j], rows[i], strict=True)]
    return det, [row[n:] for row in rows]


def logarithm(x: Fraction) -> float:
    """Of a fraction whose parts are beyond floating point."""
    shift = x.numerator.bit_length() - x.denominator.bit_length()
    return log(x / Fraction(2) ** shift) + shift * log(2.0)


def test_gradient_far_out_follows_the_exact_profile() -> None:
    """A balanced one-way layout in closed form, crossed with a factor that has no variance."""
    rng = np.random.default_rng(8)
    Y = rng.normal(size=(6, 5)) + rng.normal(size=(6, 1))
    within, between = float(((Y - Y.mean(1, keepdims=True)) ** 2).sum()), 5 * float(((Y.mean(1) - Y.mean()) ** 2).sum())
    model = bl.Model(
        "y ~ 1 + (1 | g) + (1 | h)", pd.DataFrame({"y": Y.ravel(), "g": np.arange(30) // 5, "h": np.arange(30) % 5})
    )
    for t in (0.3, 1e4, 1e8):
        ratio = 1 + 5 * t**2
        expected = 10 * t * (5 / ratio - 29 / (within + between / ratio) * between / ratio**2)
        _, gradient = model.criterion_at([t, 0.0], gradient=True)
        assert gradient[0] == pytest.approx(expected, rel=1e-9)
        assert gradient[1] == 0.0


def test_the_fit_has_its_own_criterion() -> None:
    model = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
    for reml in (True, False):
        fit = model.fit(reml)
        value, gradient = fit.criterion_at(fit.theta, gradient=True)
        assert value == pytest.approx(fit.criterion, rel=1e-13)
        assert fit.criterion_at(fit.theta, fit.sigma) == pytest.approx(fit.criterion, rel=1e-13)
        assert fit.criterion_at(fit.theta, 1.1 * fit.sigma) > fit.criterion
        np.testing.assert_allclose(gradient, 0.0, atol=1e-5)
        assert model.criterion_at(fit.theta, reml=reml) == value
    penalised = model.fit(penalty="wishart")
    assert penalised.criterion_at(penalised.theta) == pytest.approx(penalised.criterion, rel=1e-13)


def test_a_response_that_is_reproduced() -> None:
    data = pd.DataFrame({"y": np.ldexp(1.0, np.arange(12) % 3), "g": np.arange(12) // 3})
    data["x"] = data["y"]
    model = bl.Model("y ~ 0 + x + (1 | g)", data)
    value, gradient = model.criterion_at([1.0], gradient=True)
    assert value == float("-inf") and np.isnan(gradient).all()
    assert np.isfinite(model.criterion_at([1.0], 0.5))


def test_arguments() -> None:
    model = built(SMALL["several terms"], False)
    fit = built("y ~ x + (x | g)", False).fit()
    with pytest.raises(bl.DesignError, match=r"shape \(1,\).* 5 finite .*\(1 \| g\): Intercept; ar1.*: sd, cor"):
        model.criterion_at([1.0])
    with pytest.raises(bl.DesignError, match=r"3 finite .*Intercept, Intercept\.x, x"):
        fit.criterion_at([1.0, np.nan, 2.0])
    with pytest.raises(bl.DesignError, match=r"at most 1e\+75"):
        fit.criterion_at([1.0, 1e80, 2.0])
    for correlation in (-0.51, 1.01):
        with pytest.raises(bl.DesignError, match=r"theta, cs\(.*The correlation .* is not possible"):
            model.criterion_at([1.0, 1.0, 0.0, 1.0, correlation])
        with pytest.raises(bl.DesignError, match=r"theta, cs\(.*The correlation .* is not possible"):
            model.matrices([1.0, 1.0, 0.0, 1.0, correlation], 1.0)
    for sigma in (0.0, -1.0, np.inf, "1"):
        with pytest.raises(bl.DesignError, match="sigma="):
            fit.criterion_at([1.0, 0.0, 1.0], sigma)
    with pytest.raises(bl.FitError, match="gradient="):
        fit.criterion_at([1.0, 0.0, 1.0], gradient=1)
    with pytest.raises(bl.FitError, match="reml="):
        model.criterion_at([1.0, 1.0, 0.0, 1.0, 0.0], reml="ml")


def test_what_is_too_large_to_be_dense() -> None:
    data = pd.DataFrame({"y": np.random.default_rng(1).normal(size=9000), "g": np.arange(9000) // 3})
    model = bl.Model("y ~ 1 + (1 | g)", data)
    with pytest.raises(bl.DesignError, match="The regression would be a dense array of 12000 x 3002"):
        dense_criterion(model.matrices([0.5], 1.0))
    assert np.isfinite(model.criterion_at([0.5]))
