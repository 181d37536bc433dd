"""Effects that are thousands of times the residual: crossed and nested factors against exact arithmetic."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.likelihood import cross_products, evaluate
from bayeslmm.likelihood import parameters as par

DIGITS = 60


def frame(scale: float, nested: bool) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = 36
    data = pd.DataFrame({"x": rng.normal(size=n), "g": rng.integers(0, 8, n), "h": rng.integers(0, 5, n)})
    if nested:
        data["h"] = data["g"] % 3
    noise = rng.normal(size=n)
    data["y"] = data["x"] + scale * (rng.normal(size=8)[data["g"]] + rng.normal(size=5)[data["h"]]) + noise
    return data


def exact(data: pd.DataFrame, theta: np.ndarray) -> tuple[float, float]:
    """Profiled REML criterion and sigma at theta from the dense covariance, in decimal arithmetic."""
    with localcontext() as context:
        context.prec = DIGITS
        groups = [data[name].to_numpy() for name in ("g", "h")]
        squares = [Decimal(float(t)) ** 2 for t in theta]
        n = len(data)
        rows = [
            [
                Decimal(i == j) + sum((s for s, g in zip(squares, groups, strict=True) if g[i] == g[j]), Decimal(0))
                for j in range(n)
            ]
            for i in range(n)
        ]
        right = [[Decimal(1), Decimal(float(x)), Decimal(float(y))] for x, y in zip(data["x"], data["y"], strict=True)]
        L: list[list[Decimal]] = []
        half: list[list[Decimal]] = []
        for i in range(n):
            row: list[Decimal] = []
            for j in range(i):
                row.append((rows[i][j] - sum((a * b for a, b in zip(row, L[j], strict=False)), Decimal(0))) / L[j][j])
            row.append((rows[i][i] - sum((a * a for a in row), Decimal(0))).sqrt())
            L.append(row)
            half.append(
                [(right[i][k] - sum((row[j] * half[j][k] for j in range(i)), Decimal(0))) / row[i] for k in range(3)]
            )
        gram = [[sum((h[a] * h[b] for h in half), Decimal(0)) for b in range(3)] for a in range(3)]
        det = gram[0][0] * gram[1][1] - gram[0][1] ** 2
        b0 = (gram[1][1] * gram[0][2] - gram[0][1] * gram[1][2]) / det
        b1 = (gram[0][0] * gram[1][2] - gram[0][1] * gram[0][2]) / det
        r2 = gram[2][2] - b0 * gram[0][2] - b1 * gram[1][2]
        nu = n - 2
        log_det = 2 * sum((L[i][i].ln() for i in range(n)), Decimal(0)) + det.ln()
        criterion = float(log_det) + nu * (1 + float((2 * Decimal(np.pi) * r2 / nu).ln()))
        return criterion, float((r2 / nu).sqrt())


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(("scale", "digits"), [(1.0, 1e-14), (1e2, 1e-12), (1e3, 1e-10), (1e4, 1e-8)])
def test_criterion_and_sigma(scale: float, digits: float, nested: bool) -> None:
    """The determinant of a matrix of condition theta^2 keeps that many digits fewer; sigma keeps all."""
    data = frame(scale, nested)
    fit = bl.Model("y ~ x + (1 | g) + (1 | h)", data).fit()
    assert fit.status.ok
    criterion, sigma = exact(data, fit.theta)
    assert fit.criterion == pytest.approx(criterion, rel=digits)
    # In a nested factor the rounding of the between part remains.
    assert fit.sigma == pytest.approx(sigma, rel=digits if nested else 1e-11, abs=1e-12)


@pytest.mark.parametrize("scale", [1e3, 1e4])
def test_sigma_away_from_the_optimum(scale: float) -> None:
    """The reference that is taken out of the response is accounted for at every point, singular ones included."""
    data = frame(scale, False)
    cp = cross_products(bl.Model("y ~ x + (1 | g) + (1 | h)", data).design)
    assert cp.sums.reference is not None
    for theta in ([0.0, 0.0], [1.0, 0.0], [0.0, 3.0], [50.0, 0.2], [scale, scale], [2e3, 1e-3]):
        factors = par.block_factors(cp, par.terms_from_theta(cp, np.array(theta)))
        sigma = np.sqrt(evaluate(cp, factors).r2[0] / (cp.n - cp.p))
        assert sigma == pytest.approx(exact(data, np.array(theta))[1], rel=1e-10)


def test_effects_follow_from_the_reference() -> None:
    data = frame(1e3, False)
    fit = bl.Model("y ~ x + (1 | g) + (1 | h)", data).fit()
    # fitted values are the data less noise of sd 1
    assert np.abs(fit.residuals()).max() < 4.0
    effects = fit.ranef()
    again = fit.fixef()["Intercept"] + fit.fixef()["x"] * data["x"].to_numpy()
    for name in ("g", "h"):
        again = again + effects[name]["Intercept"].loc[data[name].astype(str)].to_numpy()
    np.testing.assert_allclose(fit.fitted(), again, rtol=1e-9, atol=1e-7)
