"""Matrices, mixed-model equations, error contrasts and shrinkage against dense linear algebra written out by hand."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import special_ortho_group

import bayeslmm as bl
from bayeslmm.errors import DesignError, FitError

FORMULAS = {
    "intercepts": "y ~ x + (1 | g)",
    "slopes": "y ~ x + z + (x | g)",
    "diagonal": "y ~ x + (x || g)",
    "crossed": "y ~ x + (1 | g) + (1 | h)",
    "small factor first": "y ~ x + (1 | h) + (x | g)",
    "nested": "y ~ 1 + (1 | g/k)",
    "two terms of a factor": "y ~ x + (1 | g) + (0 + x | g)",
    "cell means": "y ~ 0 + f + (1 | g)",
    "no fixed effects": "y ~ 0 + (x | g) + (1 | h)",
    "offset": "y ~ z + offset(3 * x) + (x | g)",
    "no variance": "noise ~ x + (1 | k)",
    "correlation of one": "along ~ x + (x | h)",
}
SINGULAR = {"no variance", "correlation of one"}
CASES = [(name, weighted) for name in FORMULAS for weighted in (False, True)]
# Relative to the size of what is compared; the dense reference inverts V (condition number below 1e3).
DENSE = 1e-9
# The equations and the likelihood end at the same optimum, computed in different ways.
AGREES = 1e-9


def frame(n: int = 54) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    data = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "z": rng.normal(size=n),
            "f": rng.choice(list("abc"), n),
            # unbalanced, with a level that has a single row
            "g": np.r_[[0], rng.integers(1, 9, n - 1)],
            "h": rng.integers(0, 5, n),
            "k": rng.integers(0, 3, n),
            "precision": rng.uniform(0.3, 3.0, n),
        }
    )
    slope = rng.normal(size=(9, 2)) * [2.0, 1.5]
    data["y"] = 5 + data["x"] + slope[data["g"], 0] + slope[data["g"], 1] * data["x"] + rng.normal(size=n)
    data["y"] += rng.normal(size=5)[data["h"]]
    noise = rng.normal(size=n)
    data["noise"] = noise - pd.Series(noise).groupby(data["k"]).transform("mean")
    # noise without a line of its own in any group, on lines that all meet in one point
    for _, rows in data.groupby("h"):
        line = np.polynomial.Polynomial.fit(rows["x"], noise[rows.index], 1)
        noise[rows.index] -= line(rows["x"].to_numpy())
    data["along"] = 1 + np.arange(-2.0, 3.0)[data["h"]] * (1 + 2 * data["x"]) + noise
    return data


@pytest.fixture(scope="module")
def models() -> dict[tuple[str, bool], bl.Model]:
    data = frame()
    return {
        (name, weighted): bl.Model(FORMULAS[name], data, weights="precision" if weighted else None)
        for name, weighted in CASES
    }


@dataclasses.dataclass
class Dense:
    """The model from the formula's own arrays, column by column."""

    y: np.ndarray
    X: np.ndarray
    Z: np.ndarray
    Lambda: np.ndarray
    names: list[tuple[str, str, str]]
    W: np.ndarray
    sigma: float

    @property
    def G(self) -> np.ndarray:
        return self.sigma**2 * self.Lambda @ self.Lambda.T

    @property
    def V(self) -> np.ndarray:
        return self.Z @ self.G @ self.Z.T + self.sigma**2 * np.diag(1 / self.W)


def dense(design: bl.Design, theta: np.ndarray, sigma: float) -> Dense:
    columns, names, tiles, at = [], [], [], 0
    for term in design.terms:
        grouping = design.groupings[term.group]
        T = np.zeros((len(term.effects), len(term.effects)))
        for row, col in zip(term.structure.rows, term.structure.cols, strict=True):
            T[row, col] = theta[at]
            at += 1
        for j, level in enumerate(grouping.levels):
            tiles.append(T)
            for effect, column in zip(term.effects, term.Z.T, strict=True):
                columns.append(np.where(grouping.codes == j, column, 0.0))
                names.append((term.group, level, effect))
    Lambda = np.zeros((len(columns), len(columns)))
    at = 0
    for T in tiles:
        Lambda[at : at + len(T), at : at + len(T)] = T
        at += len(T)
    y = design.y if design.offset is None else design.y - design.offset
    W = np.ones(design.n) if design.weights is None else design.weights
    return Dense(y, design.X, np.column_stack(columns), Lambda, names, W, sigma)


@pytest.mark.parametrize("case", CASES)
def test_matrices(models: dict[tuple[str, bool], bl.Model], case: tuple[str, bool]) -> None:
    model = models[case]
    theta = np.random.default_rng(1).normal(size=model.design.n_theta)
    ref = dense(model.design, theta, 0.7)
    m = model.matrices(theta, 0.7)
    assert sparse.issparse(m.Z)
    assert m.Z.format == "csc"
    np.testing.assert_array_equal(m.Z.toarray(), ref.Z)
    np.testing.assert_array_equal(m.Lambda.toarray(), ref.Lambda)
    np.testing.assert_array_equal(m.y, ref.y)
    np.testing.assert_allclose(m.G.toarray(), ref.G, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(m.R.toarray(), 0.49 * np.diag(1 / ref.W), rtol=1e-14)
    np.testing.assert_allclose(m.V, ref.V, rtol=1e-12, atol=1e-13)
    distinct = [
        e if name[0] != "g" or case[0] != "two terms of a factor" else None
        for name, e in zip(ref.names, m.effects, strict=True)
    ]
    assert [e for e in distinct if e] == [n for n, e in zip(ref.names, distinct, strict=True) if e]
    assert len(set(m.effects)) == m.q


def test_matrices_of_a_model_are_those_of_its_reml_fit() -> None:
    model = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
    fit = model.fit()
    ref = dense(model.design, fit.theta, fit.sigma)
    np.testing.assert_allclose(model.matrices().V, ref.V, rtol=1e-12)
    full = bl.Model("Reaction ~ Days + (1 | Subject)", bl.load_dataset("sleepstudy")).fit(reml=False)
    np.testing.assert_allclose(full.matrices().sigma, 30.8954338786952, rtol=1e-7)  # lme4, ML
    np.testing.assert_allclose(model.matrices(theta=[1.0, 0.0, 1.0]).sigma, fit.sigma)


def test_frames_carry_the_names() -> None:
    data = bl.load_dataset("sleepstudy").sample(frac=1.0, random_state=1)
    m = bl.Model("Reaction ~ Days + (Days | Subject)", data).matrices()
    Z, X, G = m.to_frame("Z"), m.to_frame("X"), m.to_frame("G")
    for row in data.index[:20]:
        subject, days = data.loc[row, "Subject"], data.loc[row, "Days"]
        assert X.loc[row].tolist() == [1.0, days]
        assert Z.loc[row, ("Subject", subject, "Intercept")] == 1.0
        assert Z.loc[row, ("Subject", subject, "Days")] == days
        assert Z.loc[row].drop(index=subject, level="level").abs().sum() == 0.0
    # lme4 at tight tolerance
    assert G.loc[("Subject", "308", "Intercept"), ("Subject", "308", "Intercept")] == pytest.approx(
        612.089938565499, rel=1e-7
    )
    assert G.loc[("Subject", "335", "Days"), ("Subject", "335", "Days")] == pytest.approx(35.0716605285544, rel=1e-7)
    assert G.loc[("Subject", "335", "Days"), ("Subject", "308", "Days")] == 0.0
    assert list(m.to_frame("V").columns) == list(data.index)
    with pytest.raises(DesignError, match="Lambda"):
        m.to_frame("W")
    assert "180 x 36, sparse" in repr(m)


def test_large_dense_arrays_are_refused_with_their_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    m = model.matrices()
    monkeypatch.setattr("bayeslmm.teaching.size.LIMIT", 100)
    with pytest.raises(DesignError, match=r"30 \* 30 \* 8 bytes"):
        _ = m.V
    with pytest.raises(DesignError, match=r"30 \* 6 \* 8 bytes"):
        m.to_frame("Z")
    with pytest.raises(DesignError, match=r"30 \* 29 \* 8 bytes"):
        bl.error_contrasts(model)
    assert m.covariance(force=True).shape == m.to_frame("V", force=True).shape == (30, 30)
    assert bl.error_contrasts(model, force=True).K.shape == (30, 29)


@pytest.mark.parametrize(
    ("theta", "sigma", "found"), [([1.0, 2.0], 1.0, "2.0"), ([np.nan], 1.0, "nan"), ([1.0], 0.0, "0.0")]
)
def test_matrices_refuse(theta: list[float], sigma: float, found: str) -> None:
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    with pytest.raises(DesignError, match=found):
        model.matrices(theta, sigma)


@pytest.mark.parametrize("case", CASES)
def test_mixed_model_equations(models: dict[tuple[str, bool], bl.Model], case: tuple[str, bool]) -> None:
    model = models[case]
    for fit in (model.fit(), model.fit(reml=False)):
        ref = dense(model.design, fit.theta, fit.sigma)
        mme = fit.mme()
        Vi = np.linalg.inv(ref.V)
        A = np.linalg.inv(ref.X.T @ Vi @ ref.X)
        beta = A @ ref.X.T @ Vi @ ref.y
        gain = ref.G @ ref.Z.T
        b = gain @ Vi @ (ref.y - ref.X @ beta)
        P = Vi - Vi @ ref.X @ A @ ref.X.T @ Vi
        error = ref.G - gain @ P @ gain.T
        cross = -A @ ref.X.T @ Vi @ gain.T
        np.testing.assert_allclose(mme.beta, beta, rtol=DENSE, atol=DENSE)
        np.testing.assert_allclose(mme.b, b, rtol=DENSE, atol=DENSE)
        np.testing.assert_allclose(mme.covariance, np.block([[A, cross], [cross.T, error]]), atol=DENSE)
        np.testing.assert_allclose(mme.C @ mme.unknowns, mme.rhs, atol=1e-8 * np.abs(mme.rhs).max())
        assert mme.check() < AGREES
        assert fit.is_singular == (case[0] in SINGULAR)
        assert (mme.form == "u") == (case[0] in SINGULAR)
        if case[0] not in SINGULAR:
            other = fit.mme("u")
            np.testing.assert_allclose(other.solution, mme.solution, rtol=DENSE, atol=DENSE)
            np.testing.assert_allclose(other.covariance, mme.covariance, atol=DENSE)
            R = ref.sigma**2 * np.diag(1 / ref.W)
            joint = np.hstack([ref.X, ref.Z])
            C = joint.T @ np.linalg.inv(R) @ joint
            C[ref.X.shape[1] :, ref.X.shape[1] :] += np.linalg.inv(ref.G)
            np.testing.assert_allclose(mme.C.toarray(), C, rtol=1e-8, atol=1e-8)


def test_singular_equations_say_so() -> None:
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()
    with pytest.raises(FitError, match="singular"):
        fit.mme("b")
    mme = fit.mme()
    assert "G is singular" in repr(mme)
    regular = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    assert "singular" not in repr(regular.mme("u"))
    y = bl.load_dataset("Dyestuff2")["Yield"]
    # with no variance between batches all is the ordinary mean and its standard error
    np.testing.assert_allclose(mme.solution, [y.mean(), *[0.0] * 6], rtol=1e-12)
    np.testing.assert_allclose(mme.std_error, [y.std() / np.sqrt(30), *[0.0] * 6], rtol=1e-9)
    with pytest.raises(DesignError, match="auto"):
        fit.mme("c")  # type: ignore[arg-type]


def test_equations_give_the_numbers_of_the_lecture_notes() -> None:
    path = Path(__file__).parents[1] / "reference" / "seed_expectations.json.gz"
    with gzip.open(path) as handle:
        printed = {e["quantity"]: e for e in json.load(handle) if e["note"] == "chapter 7"}
    table = bl.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", bl.load_dataset("Penicillin")).fit().mme().table()
    # the notes carry lme4's default stopping rule: the last printed digit can be off
    effects = [q.split()[2:] for q in printed if q.startswith("Penicillin ranef")]
    assert len(effects) == 30
    for group, level in effects:
        entry = printed[f"Penicillin ranef {group} {level}"]
        assert table.loc[(group, level, "Intercept"), "estimate"] == pytest.approx(entry["printed"], abs=2e-8)
    assert table.loc[("fixed", "", "Intercept"), "estimate"] == pytest.approx(22.97222, abs=1e-5)


def test_frames_of_the_equations() -> None:
    mme = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit().mme()
    C = mme.to_frame()
    assert C.shape == (7, 8)
    # n / sigma^2, n_i / sigma^2, n_i / sigma^2 + 1 / sd^2 and the sum of y / sigma^2, from the mean squares
    sigma2, sd2 = 2451.25, 1764.05
    row = ("Batch", "B", "Intercept")
    np.testing.assert_allclose(C.loc[row, ("fixed", "", "Intercept")], 5 / sigma2, rtol=1e-9)
    np.testing.assert_allclose(C.loc[row, row], 5 / sigma2 + 1 / sd2, rtol=1e-8)
    np.testing.assert_allclose(C.iloc[0, -1], 30 * 1527.5 / sigma2, rtol=1e-9)
    # the error of the mean is known: (sd^2 + sigma^2 / 5) / 6
    np.testing.assert_allclose(mme.to_frame("covariance").iloc[0, 0], (sd2 + sigma2 / 5) / 6, rtol=1e-8)
    with pytest.raises(DesignError, match="covariance"):
        mme.to_frame("D")


@pytest.mark.parametrize("case", CASES)
def test_error_contrasts(models: dict[tuple[str, bool], bl.Model], case: tuple[str, bool]) -> None:
    model = models[case]
    contrasts = bl.error_contrasts(model)
    K, design = contrasts.K, model.design
    W = np.ones(design.n) if design.weights is None else design.weights
    assert K.shape == (design.n, design.n - design.p)
    np.testing.assert_allclose(K.T @ design.X, 0.0, atol=1e-12)
    np.testing.assert_allclose((K / W[:, None]).T @ K, np.eye(K.shape[1]), atol=1e-12)
    fit = model.fit()
    value = contrasts.criterion(fit.theta, fit.sigma)
    assert value + contrasts.constant == pytest.approx(fit.criterion, abs=1e-9)
    if not case[1] and design.p:
        assert contrasts.constant == pytest.approx(np.linalg.slogdet(design.X.T @ design.X)[1], abs=1e-11)
    rng = np.random.default_rng(4)
    rotation = special_ortho_group.rvs(K.shape[1], random_state=rng)
    rotated = dataclasses.replace(contrasts, K=K @ rotation)
    skewed = dataclasses.replace(contrasts, K=K @ rotation * rng.uniform(0.2, 5.0, K.shape[1]))
    for theta, sigma in ((fit.theta, fit.sigma), (rng.normal(size=design.n_theta), 0.6), (0 * fit.theta, 2.0)):
        ref = dense(design, theta, sigma)
        information = ref.X.T @ np.linalg.solve(ref.V, ref.X)
        residual = ref.y - ref.X @ np.linalg.solve(information, ref.X.T @ np.linalg.solve(ref.V, ref.y))
        d_R = (
            (design.n - design.p) * np.log(2 * np.pi)
            + np.linalg.slogdet(ref.V)[1]
            + np.linalg.slogdet(information)[1]
            + residual @ np.linalg.solve(ref.V, residual)
        )
        value = contrasts.criterion(theta, sigma)
        assert value + contrasts.constant == pytest.approx(d_R, abs=1e-9)
        assert rotated.criterion(theta, sigma) == pytest.approx(value, abs=1e-9)
        assert skewed.criterion(theta, sigma) + skewed.constant == pytest.approx(d_R, abs=1e-9)


def test_contrasts_do_not_see_beta() -> None:
    data = frame()
    data["shifted"] = data["y"] + 7.0 - 3.0 * data["x"]
    one = bl.error_contrasts(bl.Model("y ~ x + (1 | g)", data))
    other = bl.error_contrasts(bl.Model("shifted ~ x + (1 | g)", data))
    np.testing.assert_allclose(one.values, other.values, atol=1e-12)
    with pytest.raises(DesignError, match="positive"):
        one.criterion([1.0], -1.0)


@pytest.mark.parametrize("case", CASES)
def test_shrinkage(models: dict[tuple[str, bool], bl.Model], case: tuple[str, bool]) -> None:
    model = models[case]
    fit = model.fit()
    table = fit.shrinkage()
    design = model.design
    ref = dense(design, fit.theta, fit.sigma)
    beta = fit.fixef().to_numpy()
    b = ref.G @ ref.Z.T @ np.linalg.solve(ref.V, ref.y - ref.X @ beta)
    assert len(table) == ref.Z.shape[1]
    np.testing.assert_allclose(table["blup"], b, rtol=1e-8, atol=1e-9)
    at = 0
    for term in design.terms:
        grouping = design.groupings[term.group]
        c = len(term.effects)
        for level in range(grouping.n_levels):
            part = slice(at, at + c)
            rows = grouping.codes == level
            Zi, Ri = term.Z[rows], ref.sigma**2 * np.diag(1 / ref.W[rows])
            Sigma = ref.G[part, part]
            # the regression of the level's effects on its own data: no inverse of Sigma or of Z'Z
            onto = Sigma @ Zi.T @ np.linalg.inv(Zi @ Sigma @ Zi.T + Ri)
            W = onto @ Zi
            got = table.iloc[part]
            assert got["level"].unique().tolist() == [grouping.levels[level]]
            assert (got["n"] == rows.sum()).all()
            np.testing.assert_allclose(got["weight"], np.diagonal(W), rtol=1e-7, atol=1e-9)
            eigenvalues = np.sort(np.linalg.eigvals(W).real)
            np.testing.assert_allclose(got[["weight_min", "weight_max"]].iloc[0], eigenvalues[[0, -1]], atol=1e-8)
            others = np.delete(np.arange(len(b)), np.arange(at, at + c))
            partial = (ref.y - ref.X @ beta - ref.Z[:, others] @ b[others])[rows]
            np.testing.assert_allclose(onto @ partial, got["blup"], rtol=1e-8, atol=1e-9)
            if np.linalg.matrix_rank(Zi) == c:
                root = np.sqrt(ref.W[rows])
                raw = np.linalg.lstsq(Zi * root[:, None], partial * root)[0]
                np.testing.assert_allclose(got["raw"], raw, rtol=1e-8, atol=1e-9)
                np.testing.assert_allclose(W @ got["raw"], got["blup"], rtol=1e-7, atol=1e-9)
            else:
                assert got["raw"].isna().all()
            at += c


def test_shrinkage_of_a_balanced_layout_is_one_minus_one_over_F() -> None:
    data = bl.load_dataset("Dyestuff")
    means = data.groupby("Batch", observed=True)["Yield"].mean()
    between = 5 * means.var()
    within = ((data["Yield"] - means[data["Batch"]].to_numpy()) ** 2).sum() / 24
    table = bl.Model("Yield ~ 1 + (1 | Batch)", data).fit().shrinkage().set_index("level")
    np.testing.assert_allclose(table["weight"], 1 - within / between, rtol=1e-8)
    np.testing.assert_allclose(table["raw"], means - means.mean(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(table["blup"], (1 - within / between) * (means - means.mean()), rtol=1e-8, atol=1e-9)


def test_no_variance_draws_everything_to_the_mean() -> None:
    table = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit().shrinkage()
    assert (table[["blup", "weight", "weight_min", "weight_max"]] == 0.0).to_numpy().all()
    assert (table["raw"] != 0.0).all()
