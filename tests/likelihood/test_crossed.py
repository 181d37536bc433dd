"""Crossed factors of which nothing is filled in, against dense algebra on the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.design.build import build_design
from bayeslmm.design.grouping import Grouping
from bayeslmm.likelihood import SummedDesign, cross_products, derivatives, evaluate, kernels, profiled
from bayeslmm.likelihood.conditional import conditional_means, conditional_variances
from bayeslmm.likelihood.crossed import Crossed
from bayeslmm.likelihood.crossed_lanczos import log_det, make_probes
from bayeslmm.likelihood.crossed_operator import Operator
from bayeslmm.likelihood.crossed_packed import exact_log_det
from bayeslmm.likelihood.crossed_roots import inverse_roots
from bayeslmm.likelihood.frame_rows import FrameRows
from bayeslmm.likelihood.reduction import frame_columns, frame_rows
from bayeslmm.likelihood.structure import plan
from bayeslmm.types import FloatArray

FORMULAS = {
    "two factors": "y ~ x + (1 | user) + (1 | film)",
    "slopes, three factors": "y ~ x + (x | user) + (z | film) + (1 | day)",
}
STORES = ("packed", "anchored", "stochastic")


def ratings(seed: int = 1, n: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    data = pd.DataFrame(
        {
            "user": rng.integers(0, 40, n) ** 2 // 40,
            "film": rng.integers(0, 25, n) ** 2 // 25,
            "day": rng.integers(0, 6, n),
            "x": rng.normal(size=n),
            "z": rng.normal(size=n),
            "w": rng.uniform(0.5, 2.0, n),
        }
    )
    # A film with one rating, and a user and a film that no one else knows.
    data.loc[0, "film"] = 100
    data.loc[1:3, ["user", "film"]] = 200
    effects = rng.normal(size=201)[data["user"]] + rng.normal(size=201)[data["film"]] * (1.0 + 0.5 * data["x"])
    data["y"] = effects + rng.normal(size=n)
    return data


def products(name: str, store: str, weights: str | None = None, data: pd.DataFrame | None = None) -> SummedDesign:
    data = ratings() if data is None else data
    return cross_products(build_design(FORMULAS[name], data, store=store, weights=weights))  # type: ignore[arg-type]


def some_factors(cp: SummedDesign, scale: float = 1.0) -> list[FloatArray]:
    out = []
    for block in cp.blocks:
        c, size = block.size, 0.3 + 0.1 * len(block.grouping.name)
        out.append(scale * size * np.linalg.cholesky(np.eye(c) + 0.4 * np.ones((c, c)))[None])
    return out


def dense_parts(cp: SummedDesign, factors: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Weighted Z (all blocks), relative covariance of its effects, and (X, y), row by row."""
    rows = frame_rows(cp.design, cp.frame, frame_columns(cp), cp.response)
    Z, G = [], []
    for block, codes, z, T in zip(cp.blocks, rows.codes, rows.Z, factors, strict=True):
        indicator = np.eye(block.n_levels)[codes]
        Z.append((indicator[:, :, None] * z[:, None]).reshape(len(codes), -1))
        G.append(np.kron(np.eye(block.n_levels), T[0] @ T[0].T))
    whole = np.zeros((sum(map(len, G)),) * 2)
    at = 0
    for g in G:
        whole[at : at + len(g), at : at + len(g)] = g
        at += len(g)
    return np.hstack(Z), whole, rows.Xy


def dense_criterion(cp: SummedDesign, factors: Sequence[FloatArray], reml: bool) -> float:
    Z, G, Xy = dense_parts(cp, factors)
    V = np.eye(len(Xy)) + Z @ G @ Z.T
    left = Xy.T @ np.linalg.solve(V, Xy)
    X = left[:-1, :-1]
    r2 = left[-1, -1] - left[-1, :-1] @ np.linalg.solve(X, left[:-1, -1])
    nu = cp.n - cp.p if reml else cp.n
    value = np.linalg.slogdet(V)[1] - cp.log_weights + nu * (1.0 + np.log(2.0 * np.pi * r2 / nu))
    return float(value + ((np.linalg.slogdet(X)[1] + cp.frame.log_det_fixed) if reml else 0.0))


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", FORMULAS)
def test_packed_criterion_is_that_of_the_rows(name: str, reml: bool, weights: str | None) -> None:
    cp = products(name, "packed", weights)
    factors = some_factors(cp)
    value = profiled(cp, evaluate(cp, factors), reml)[0]
    assert value == pytest.approx(dense_criterion(cp, factors, reml), abs=1e-9)


@pytest.mark.parametrize("numba", [True, False])
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("name", FORMULAS)
def test_gradient_is_that_of_the_value(name: str, store: str, numba: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By differences, the probes being the same: of what is estimated, too."""
    if not numba:
        monkeypatch.setattr(kernels, "_compiled", lambda: None)
    cp = products(name, store)
    if store == "anchored":
        cp = replace(cp, sums=cp.sums.anchored(some_factors(cp, 1.2)))  # type: ignore[attr-defined]
    for reml in (True, False):
        factors = some_factors(cp)
        first = derivatives(cp, factors, evaluate(cp, factors), reml)
        for b, T in enumerate(factors):
            c, h = T.shape[1], 1e-5
            for i, j in zip(*np.tril_indices(c), strict=True):
                change = np.zeros((c, c))
                change[i, j] = change[j, i] = h
                values = []
                for sign in (1.0, -1.0):
                    moved = list(factors)
                    moved[b] = np.linalg.cholesky(T[0] @ T[0].T + sign * change)[None]
                    values.append(float(profiled(cp, evaluate(cp, moved), reml)[0]))
                slope = (values[0] - values[1]) / (2.0 * h)
                assert float((first.blocks[b][0] * change).sum()) / h == pytest.approx(slope, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", FORMULAS)
def test_stated_errors_cover(name: str) -> None:
    """Over seeds, estimates are off by as much as they say: value and gradient, with few probes for large errors."""
    sums = products(name, "stochastic").sums
    assert isinstance(sums, Crossed)
    operator = Operator.at(sums, [T[0] for T in some_factors(products(name, "stochastic"))])
    exact = exact_log_det(operator)[0]
    sizes, slopes = [], []
    for seed in range(60):
        found = log_det(operator, make_probes(operator, probes=6, fixed=2, seed=seed))
        sizes.append((found.value - exact.value) / found.error)
        for own, each, right in zip(found.gradient, found.gradients, exact.gradient, strict=True):
            error = each[:, 0, 0].std(ddof=1) / np.sqrt(len(each))
            slopes.append((own[0, 0] - right[0, 0]) / error)
    # Student's t with 5 degrees of freedom has the variance 5/3.
    for found_sizes in (sizes, slopes):
        assert 0.6 < np.mean(np.square(found_sizes)) / (5.0 / 3.0) < 1.7
        assert abs(np.mean(found_sizes)) < 0.6


def test_error_vanishes_at_the_anchor_and_grows_with_the_square() -> None:
    cp = products("two factors", "anchored")
    factors = some_factors(cp)
    anchored = replace(cp, sums=cp.sums.anchored(factors))  # type: ignore[attr-defined]
    for reml in (True, False):
        value = profiled(anchored, evaluate(anchored, factors), reml)[0]
        assert value == pytest.approx(dense_criterion(cp, factors, reml), abs=1e-9)
    off = []
    for step in (0.02, 0.04):
        moved = [T * (1.0 + step) for T in factors]
        off.append(profiled(anchored, evaluate(anchored, moved), True)[0] - dense_criterion(cp, moved, True))
    assert 3.0 < off[1] / off[0] < 5.0


def test_effects_are_those_of_the_mixed_model_equations() -> None:
    for name in FORMULAS:
        cp = products(name, "packed", "w")
        factors = some_factors(cp)
        factor = evaluate(cp, factors)
        Z, G, Xy = dense_parts(cp, factors)
        X, y = Xy[:, :-1], Xy[:, -1]
        H = np.block([[X.T @ X, X.T @ Z], [Z.T @ X, Z.T @ Z + np.linalg.inv(G)]])
        inverse = np.linalg.inv(H)
        solution = inverse @ np.concatenate([X.T @ y, Z.T @ y])
        means = conditional_means(cp, factors, factor)
        whole = [conditional_variances(cp, factors, factor, fixed_known=known) for known in (False, True)]
        alone = np.linalg.inv(Z.T @ Z + np.linalg.inv(G))
        at = 0
        for b, block in enumerate(cp.blocks):
            own = solution[cp.p + at : cp.p + at + block.q].reshape(block.n_levels, block.size) @ block.basis.T
            assert means.b[b][0] == pytest.approx(own, abs=1e-9)
            for variances, table in ((whole[0][b], inverse[cp.p :, cp.p :]), (whole[1][b], alone)):
                for j in range(block.n_levels):
                    span = slice(at + j * block.size, at + (j + 1) * block.size)
                    tile = block.basis @ table[span, span] @ block.basis.T
                    assert variances[j] == pytest.approx(tile, rel=1e-8, abs=1e-10)
            at += block.q


def test_errors_of_rows_are_those_of_the_mixed_model_equations() -> None:
    cp = products("slopes, three factors", "stochastic")
    factors = some_factors(cp)
    factor = evaluate(cp, factors)
    Z, G, Xy = dense_parts(cp, factors)
    X = Xy[:, :-1]
    H = np.block([[X.T @ X, X.T @ Z], [Z.T @ X, Z.T @ Z + np.linalg.inv(G)]])
    rows = frame_rows(cp.design, cp.frame, frame_columns(cp), cp.response)
    chosen = np.arange(0, 300, 7)
    known = [(z[chosen], codes[chosen]) for z, codes in zip(rows.Z, rows.codes, strict=True)]
    found = cp.sums.row_errors(factors, factor, X[chosen], known)
    columns = np.hstack([X, Z])[chosen]
    assert found == pytest.approx((columns @ np.linalg.inv(H) * columns).sum(1), rel=1e-9)


def test_roots_of_the_inverse() -> None:
    sums = products("slopes, three factors", "stochastic").sums
    assert isinstance(sums, Crossed)
    operator = Operator.at(sums, [T[0] for T in some_factors(products("slopes, three factors", "stochastic"))])
    root = inverse_roots(operator, np.eye(sums.q))
    K = operator.times(np.eye(sums.q))
    assert root @ root.T == pytest.approx(np.linalg.inv(K), abs=1e-8)


@pytest.mark.parametrize("store", STORES)
def test_zero_variances(store: str) -> None:
    """Value and gradient at zero of one block, and of all."""
    cp = products("slopes, three factors", store)
    exact = products("slopes, three factors", "levels")
    for zero in ([1], [0], [0, 1, 2]):
        factors = [0.0 * T if b in zero else T for b, T in enumerate(some_factors(cp))]
        first = derivatives(cp, factors, evaluate(cp, factors))
        order = [[b.grouping.name for b in cp.blocks].index(b.grouping.name) for b in exact.blocks]
        theirs = [factors[i] for i in order]
        other = derivatives(exact, theirs, evaluate(exact, theirs))
        value = profiled(cp, evaluate(cp, factors))[0]
        # What is estimated is off by its standard error; with nothing beside the first factor nothing is.
        loose = 1e-8 if store == "packed" or {1, 2} <= set(zero) else 4.0 * evaluate(cp, factors).crossed.log_det.error
        assert value == pytest.approx(dense_criterion(cp, factors, True), abs=max(loose, 1e-8))
        for i, slopes in zip(order, other.blocks, strict=True):
            size = np.abs(slopes).max()
            assert first.blocks[i] == pytest.approx(slopes, abs=(1e-7 if loose == 1e-8 else 0.05) * size)


def test_sums_merge() -> None:
    for name in FORMULAS:
        cp = products(name, "packed", "w")
        rows = frame_rows(cp.design, cp.frame, frame_columns(cp), cp.response)
        parts = [_part(rows, np.arange(a, 300, 2)) for a in range(2)]
        merged = Crossed.of(cp.frame, parts[0]).merge(Crossed.of(cp.frame, parts[1]))
        factors = some_factors(cp)
        one, two = cp.sums.evaluate(factors), merged.evaluate(factors)
        for field in ("log_det", "log_det_fixed", "r2", "solution"):
            assert getattr(two, field) == pytest.approx(getattr(one, field), rel=1e-9, abs=1e-9)
        assert merged.n == cp.n


def _part(rows: FrameRows, chosen: np.ndarray) -> FrameRows:
    return rows.take(chosen)


def test_fits_agree_and_say_what_was_estimated() -> None:
    data = ratings(2, 900)
    formula = FORMULAS["two factors"]
    fits = {store: bl.Model(formula, data, store=store).fit() for store in ("levels", *STORES)}
    exact = fits["levels"]
    for store in ("packed", "anchored"):
        assert fits[store].criterion == pytest.approx(exact.criterion, abs=1e-7)
        assert fits[store].theta == pytest.approx(exact.theta, rel=1e-5)
        assert fits[store].fixef().to_numpy() == pytest.approx(exact.fixef().to_numpy(), rel=1e-6)
    said = fits["stochastic"].optimum.estimated
    assert said is not None and said.exact_points == 0
    assert abs(fits["stochastic"].criterion - exact.criterion) < 4.0 * said.criterion
    assert fits["packed"].optimum.estimated is None
    assert "random vectors" in fits["stochastic"].optimum.verdict
    again = bl.Model(formula, data, store="stochastic").fit()
    assert again.theta.tolist() == fits["stochastic"].theta.tolist()


def test_what_is_refused_says_what_to_do() -> None:
    fit = bl.Model(FORMULAS["two factors"], ratings(), store="stochastic").fit()
    with pytest.raises(bl.FitError, match="store='anchored'"):
        fit.ranef_variances()


def test_draws_have_the_distribution_of_the_mixed_model_equations() -> None:
    cp = products("slopes, three factors", "stochastic")
    factors, draws, sd = some_factors(cp), 600, 1.3
    Z, G, Xy = dense_parts(cp, factors)
    X, y = Xy[:, :-1], Xy[:, -1]
    inverse = np.linalg.inv(np.block([[X.T @ X, X.T @ Z], [Z.T @ X, Z.T @ Z + np.linalg.inv(G)]]))
    mean = inverse @ np.concatenate([X.T @ y, Z.T @ y])
    many = [np.repeat(T, draws, axis=0) for T in factors]
    beta, b = cp.sums.draw_jointly(many, None, np.full(draws, sd), np.random.default_rng(5))
    drawn = np.concatenate([beta, *(x.reshape(draws, -1) for x in b)], axis=1) - mean
    # Whitened by the true covariance: means of zero, and the sum of squares of each draw a chi-squared number.
    white = drawn @ np.linalg.cholesky(np.linalg.inv(inverse)) / sd
    q = mean.size
    assert np.abs(white.mean(0)).max() * np.sqrt(draws) < 4.5
    squares = (white**2).sum(1)
    assert abs(squares.mean() - q) < 5.0 * np.sqrt(2.0 * q / draws)
    assert 0.75 < squares.var() / (2.0 * q) < 1.3


def test_posterior_states_the_error_of_its_log_determinants() -> None:
    rng, formula, n = np.random.default_rng(3), FORMULAS["two factors"], 6000
    data = pd.DataFrame({"user": rng.integers(0, 400, n), "film": rng.integers(0, 300, n), "x": rng.normal(size=n)})
    data["y"] = rng.normal(size=400)[data["user"]] + rng.normal(size=300)[data["film"]] + rng.normal(size=n)
    posts = {
        store: bl.Model(formula, data, store=store).sample(2000, keep=(), random_seed=1, progressbar=False)
        for store in ("hierarchy", "stochastic")
    }
    found = posts["stochastic"].diagnostics
    assert found.reliable and 0.0 < found.log_det_error < 0.01
    assert "log determinants" in posts["stochastic"].certificate()
    assert posts["hierarchy"].diagnostics.log_det_error is None
    for name in ("sd_user", "sd_film", "sigma", "beta"):
        one, two = (np.asarray(posts[store].data["posterior"][name]) for store in posts)
        spread = one.std(axis=(0, 1))
        assert (np.abs(one.mean(axis=(0, 1)) - two.mean(axis=(0, 1))) < 0.15 * spread).all()


@pytest.mark.parametrize(
    ("films", "store"), [(100, "levels"), (4_900, "hierarchy"), (5_100, "anchored"), (12_500, "stochastic")]
)
def test_store_follows_from_the_counts(films: int, store: str) -> None:
    rng = np.random.default_rng(films)
    n, users = 60_000, 20_000
    codes = [np.arange(n) % users, np.concatenate([np.arange(films), rng.integers(0, films, n - films)])]
    groupings = [
        Grouping(name, code, tuple(map(str, range(J))))
        for name, code, J in zip(("user", "film"), codes, (users, films), strict=True)
    ]
    assert plan(groupings, [users, films]).store == store
