"""Shorter ways for small sizes, against the general ones and against definitions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.design.covariance import canonical
from bayeslmm.design.data import surely_usable
from bayeslmm.design.rank import independent_columns
from bayeslmm.likelihood import columns as changes
from bayeslmm.likelihood import within
from bayeslmm.likelihood.columns import Known, orthogonalise
from bayeslmm.likelihood.reduction import cross_products
from bayeslmm.likelihood.small import add_identity
from bayeslmm.numerics import direct


@pytest.mark.parametrize("c", [1, 2, 3])
def test_columns_split_together_and_one_by_one_are_the_same(c: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(c)
    codes = rng.permutation(np.repeat(np.arange(7), rng.integers(1, 9, 7)))
    Z = rng.normal(size=(codes.size, c))
    Q, _ = within.grouped_qr(Z, codes, 7)
    W = rng.normal(size=(codes.size, 4))
    together = within.split_columns(Q, W, codes, 7)
    monkeypatch.setattr(within, "_TOGETHER", 0)
    alone = within.split_columns(Q, W, codes, 7)
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one, other)
    # Within every level least squares say the same.
    for level in range(7):
        own = codes == level
        rest = W[own] - Z[own] @ np.linalg.lstsq(Z[own], W[own], rcond=None)[0]
        np.testing.assert_allclose(together[0][own], rest, atol=1e-12)


def test_no_columns_are_split_into_none() -> None:
    codes = np.array([0, 0, 1, 1])
    Q, _ = within.grouped_qr(np.ones((4, 1)), codes, 2)
    rest, between = within.split_columns(Q, np.empty((4, 0)), codes, 2)
    assert rest.shape == (4, 0)
    assert between.shape == (2, 1, 0)


@pytest.mark.parametrize("c", [1, 2, 3, 5])
def test_the_triangular_root_of_one_matrix_is_that_of_many(c: int) -> None:
    T = np.random.default_rng(c).normal(size=(4, c, c))
    # Of less than full rank, and nothing.
    T[1, :, 0], T[2] = 0.0, 0.0
    for one, many in zip(T, canonical(T), strict=True):
        alone = canonical(one)
        np.testing.assert_allclose(alone, many, atol=1e-14)
        np.testing.assert_allclose(alone @ alone.T, one @ one.T, atol=1e-14)
        assert (alone == np.tril(alone)).all()
        assert (alone.diagonal() >= 0).all()
        assert canonical(one[None]).shape == (1, c, c)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("first", [1.0, 3.0])
def test_columns_known_are_not_scaled_again(weighted: bool, first: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    X = np.column_stack([np.full(20, first), rng.normal(5.0, 1.0, size=(20, 2))])
    weights = rng.uniform(0.5, 2.0, 20) if weighted else None
    known: Known = {}
    rotated = orthogonalise(X, weights, known=known)
    as_they_are = orthogonalise(X, weights, rotate=False)
    monkeypatch.setattr(changes, "_scaled", lambda columns, weights: pytest.fail("scaled once more"))
    again = orthogonalise(X, weights, rotate=False, known=known)
    np.testing.assert_array_equal(again.columns, as_they_are.columns)
    np.testing.assert_array_equal(again.transform, as_they_are.transform)
    for basis in (rotated, again):
        np.testing.assert_allclose(basis.columns, X @ basis.transform, atol=1e-12)
    W = np.diag(np.ones(20) if weights is None else weights)
    np.testing.assert_allclose(rotated.columns.T @ W @ rotated.columns / 20, np.eye(3), atol=1e-12)


def test_fixed_and_random_columns_of_one_text_are_one_array() -> None:
    design = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).design
    assert design.terms[0].Z is design.X
    fixed = cross_products(design).fixed
    np.testing.assert_allclose(fixed.columns, design.X @ fixed.transform, atol=1e-12)


@pytest.mark.parametrize("gap", [1e-2, 1e-5, 1e-6, 1e-9])
def test_columns_seen_about_zero_or_about_means_are_told_apart_alike(gap: float) -> None:
    rng = np.random.default_rng(1)
    x, other = rng.normal(size=(2, 50))
    near = np.column_stack([x, x + gap * other])
    # Beside a constant it is the spread that counts, however far from zero.
    far = np.column_stack([np.ones(50), 1e4 + x, 1e4 + x + gap * other])
    assert independent_columns(near).tolist() == ([0, 1] if gap > 1e-7 else [0])
    assert independent_columns(far).tolist() == ([0, 1, 2] if gap > 1e-7 else [0, 1])


def test_definite_is_said_at_the_smallest_eigenvalue() -> None:
    for r in (0.0, 0.5, 0.999):
        for least in (1.0 - r - 1e-9, 1.0 - r + 1e-9):
            assert direct.is_definite(np.array([[1.0 - least, r], [r, 1.0 - least]])) == (least < 1.0 - r)


def test_the_identity_is_added_to_the_first_entries_of_a_stack_that_need_not_be_square() -> None:
    a = np.arange(24.0).reshape(2, 3, 4)
    expected = a + np.eye(3, 4) * (np.arange(4) < 2)
    assert add_identity(a.copy(), 2).tolist() == expected.tolist()
    square = np.zeros((2, 3, 3))
    assert add_identity(square) is square
    assert square.tolist() == [np.eye(3).tolist()] * 2


@pytest.mark.parametrize(
    ("values", "usable"),
    [
        ([1, 2, 3], True),
        ([1.0, 2.0, np.nan], False),
        ([1.0, np.inf, -np.inf], False),
        # Finite, but one look does not show it.
        ([1e200, 1.0, 1.0], False),
        (np.array([1.0, 2.0, 3.0], dtype=np.longdouble), False),
        ([True, False, True], False),
        ([1j, 2.0, 3.0], False),
        (["a", "b", "c"], False),
        (pd.Categorical(["a", "b", "a"]), True),
        (pd.Categorical(["a", None, "a"]), False),
        (pd.Categorical.from_codes([0, 1, 0], pd.Index(["a", 2.5], dtype=object)), False),
        (pd.array([1, 2, 3], dtype="Int64"), False),
        (pd.date_range("2024", periods=3), False),
    ],
    ids=repr,
)
def test_what_one_look_at_a_column_shows(values: object, usable: bool) -> None:
    assert surely_usable(pd.Series(values)) == usable


def test_crossed_intercepts_are_scaled_as_blocks_of_any_size_are() -> None:
    data = bl.load_dataset("Penicillin")
    model = bl.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", data)
    factors = [np.array([[[0.7]], [[1.3]]]), np.array([[[2.1]], [[0.0]]])]
    found = model.cross_products.sums.evaluate(factors)
    y, n = data["diameter"].to_numpy(), len(data)
    Z = [pd.get_dummies(data[name]).to_numpy(dtype=float) for name in ("plate", "sample")]
    for k in range(2):
        V = np.eye(n) + sum((z * float(T[k, 0, 0]) ** 2) @ z.T for z, T in zip(Z, factors, strict=True))
        one = np.ones(n)
        inverse = np.linalg.inv(V)
        left = y - (one @ inverse @ y) / (one @ inverse @ one)
        assert found.log_det[k] == pytest.approx(np.linalg.slogdet(V)[1], rel=1e-12)
        assert found.log_det_fixed[k] == pytest.approx(np.log(one @ inverse @ one), rel=1e-11)
        assert found.r2[k] == pytest.approx(left @ inverse @ left, rel=1e-10)
