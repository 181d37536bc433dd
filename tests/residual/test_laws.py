"""The laws of residual structures: whitening, determinants, slopes, simulation, rows; for every member alike."""

from __future__ import annotations

import numpy as np
import pytest

from bayeslmm.bayes.statements import Symbol, printed
from bayeslmm.residual import Residual, log_dets
from bayeslmm.storage.conforming import conforms

from .members import MEMBERS, Member, N

ROWS = [None, slice(2, 9), slice(None, None, 2), np.array([7, 1, 4, 10])]
COLUMNS = np.random.default_rng(3).normal(size=(N, 3))
# Some dozen operations on numbers whose sizes differ by the square root of the largest ratio of variances.
EXACT = 1e-13

everyone = pytest.mark.parametrize("member", MEMBERS, ids=str)
chosen_rows = pytest.mark.parametrize("rows", ROWS, ids=["all", "range", "every second", "list"])


def _places(rows) -> np.ndarray:
    return np.arange(N) if rows is None else np.arange(N)[rows]


def _block(member: Member, lam: np.ndarray, rows) -> np.ndarray:
    at = _places(rows)
    return member.dense(lam)[np.ix_(at, at)]


@everyone
def test_it_has_what_the_contract_says(member: Member) -> None:
    assert conforms(member.residual, Residual)
    assert member.residual.n == N
    assert member.points.shape[1] == len(member.residual.names)
    assert member.residual.identity == all(np.array_equal(member.dense(lam), np.eye(N)) for lam in member.points) or (
        member.name == "weights of 1"
    )


@everyone
@chosen_rows
def test_inner_products_of_whitened_columns_are_those_of_the_inverse(member: Member, rows) -> None:
    own = COLUMNS[_places(rows)]
    for lam in member.points:
        R = _block(member, lam, rows)
        white = member.residual.whiten(lam, own, rows)
        expected = own.T @ np.linalg.solve(R, own)
        size = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
        np.testing.assert_array_less(np.abs(white.T @ white - expected), EXACT * size)


@everyone
@chosen_rows
def test_log_determinants(member: Member, rows) -> None:
    for lam in member.points:
        sign, log_det = np.linalg.slogdet(_block(member, lam, rows))
        assert sign == 1
        np.testing.assert_allclose(member.residual.log_det(lam, rows), log_det, rtol=EXACT, atol=EXACT)


@everyone
def test_log_determinants_by_group_add_up(member: Member) -> None:
    codes = np.array([2, 0, 1])[np.repeat([0, 1, 2], [5, 4, 3])]
    sums = log_dets(member.residual, member.points, codes)
    for lam, found in zip(member.points, sums, strict=True):
        R = member.dense(lam)
        expected = [np.linalg.slogdet(R[np.ix_(codes == g, codes == g)])[1] for g in range(3)]
        np.testing.assert_allclose(found, expected, rtol=EXACT, atol=EXACT)
        np.testing.assert_allclose(found.sum(), member.residual.log_det(lam), rtol=EXACT, atol=EXACT)


@everyone
@chosen_rows
def test_colored_columns_have_the_covariance_exactly(member: Member, rows) -> None:
    size = _places(rows).size
    for lam in member.points:
        C, R = member.residual.color(lam, np.eye(size), rows), _block(member, lam, rows)
        scale = np.sqrt(np.outer(np.diag(R), np.diag(R)))
        np.testing.assert_array_less(np.abs(C @ C.T - R), EXACT * scale)
        back = member.residual.color(lam, member.residual.whiten(lam, COLUMNS[:size], rows), rows)
        np.testing.assert_allclose(back, COLUMNS[:size], rtol=EXACT, atol=EXACT)


@everyone
@chosen_rows
def test_matrices_and_variances_are_those_of_the_covariance(member: Member, rows) -> None:
    residual = member.residual
    for lam in member.points:
        R = _block(member, lam, rows)
        np.testing.assert_allclose(residual.covariance(lam, rows).toarray(), R, rtol=EXACT)
        np.testing.assert_allclose(residual.variance(lam, rows), np.diag(R), rtol=EXACT)
        white = residual.whiten(lam, np.eye(len(R)), rows)
        np.testing.assert_allclose(residual.whitening(lam, rows).toarray(), white, rtol=EXACT, atol=EXACT)


@everyone
@chosen_rows
def test_slopes_are_what_differences_say(member: Member, rows) -> None:
    own, residual, k = COLUMNS[_places(rows)], member.residual, len(member.residual.names)
    for lam in member.points:
        slopes, log_slopes = residual.whiten_slopes(lam, own, rows), residual.log_det_slopes(lam, rows)
        assert slopes.shape == (k, *own.shape)
        assert log_slopes.shape == (k,)
        for j in range(k):
            step = 1e-5 * np.eye(k)[j]
            # Of fourth order, so that truncation is below rounding.
            weights = [(1, 8 / 12), (-1, -8 / 12), (2, -1 / 12), (-2, 1 / 12)]
            white = sum(w * residual.whiten(lam + m * step, own, rows) for m, w in weights) / 1e-5
            log_det = sum(w * residual.log_det(lam + m * step, rows) for m, w in weights) / 1e-5
            np.testing.assert_allclose(slopes[j], white, rtol=1e-8, atol=1e-9)
            np.testing.assert_allclose(log_slopes[j], log_det, rtol=1e-8, atol=1e-8)


@everyone
def test_points_are_answered_together(member: Member) -> None:
    residual, points = member.residual, member.points
    calls = [
        lambda lam: residual.whiten(lam, COLUMNS),
        lambda lam: residual.color(lam, COLUMNS, slice(0, N)),
        lambda lam: residual.whiten_slopes(lam, COLUMNS),
        residual.log_det,
        residual.log_det_slopes,
        residual.variance,
    ]
    for call in calls:
        together = call(points.reshape(1, *points.shape))
        apart = np.stack([call(lam) for lam in points])[None]
        assert together.shape == apart.shape
        np.testing.assert_allclose(together, apart, rtol=EXACT, atol=EXACT)


@everyone
def test_every_point_may_have_columns_of_its_own(member: Member) -> None:
    points = member.points
    columns = np.random.default_rng(4).normal(size=(len(points), N, 2))
    for method in (member.residual.whiten, member.residual.color):
        apart = np.stack([method(lam, own) for lam, own in zip(points, columns, strict=True)])
        np.testing.assert_allclose(method(points, columns), apart, rtol=EXACT, atol=EXACT)
        shared = np.stack([method(points[0], own) for own in columns])
        np.testing.assert_allclose(method(points[0], columns), shared, rtol=EXACT, atol=EXACT)


@everyone
@chosen_rows
def test_the_structure_of_some_rows_is_that_part_of_the_whole(member: Member, rows) -> None:
    rows = slice(None) if rows is None else rows
    part, own = member.residual.part(rows), COLUMNS[_places(rows)]
    assert part.n == len(own)
    assert (part.names, part.keyword) == (member.residual.names, member.residual.keyword)
    for lam in member.points:
        np.testing.assert_array_equal(part.whiten(lam, own), member.residual.whiten(lam, own, rows))
        np.testing.assert_array_equal(part.log_det(lam), member.residual.log_det(lam, rows))
    for name, values in member.residual.data().items():
        np.testing.assert_array_equal(part.data()[name], values[rows])


@everyone
def test_clusters_are_independent(member: Member) -> None:
    clusters = np.arange(N) if member.residual.clusters is None else member.residual.clusters
    for lam in member.points:
        assert (member.dense(lam)[clusters[:, None] != clusters] == 0).all()


@everyone
def test_the_scale_is_the_standard_deviation_in_numbers_and_as_source(member: Member) -> None:
    residual = member.residual
    for lam in member.points:
        expected = 2.5 * np.sqrt(np.diag(member.dense(lam)))
        found = residual.scale(2.5, list(lam), residual.data(), np)
        np.testing.assert_allclose(np.broadcast_to(found, N), expected, rtol=EXACT)
        names = dict(zip(residual.names, lam, strict=True)) | residual.data() | {"sigma": 2.5, "np": np}
        symbols = {name: Symbol(name) for name in residual.data()}
        text = printed(residual.scale(Symbol("sigma"), [Symbol(n) for n in residual.names], symbols, Symbol("np")))
        np.testing.assert_array_equal(eval(text, names), found)


@everyone
def test_the_scale_is_a_tensor_of_pymc(member: Member) -> None:
    pm = pytest.importorskip("pymc")
    pt = pytest.importorskip("pytensor.tensor")
    residual, lam = member.residual, member.points[-1]
    data = {name: pt.as_tensor(values) for name, values in residual.data().items()}
    scale = residual.scale(pt.as_tensor(2.5), [pt.as_tensor(value) for value in lam], data, pm.math)
    expected = 2.5 * np.sqrt(np.diag(member.dense(lam)))
    np.testing.assert_allclose(np.broadcast_to(scale.eval(), N), expected, rtol=EXACT)


@everyone
def test_contents_of_another_number_of_rows_are_refused(member: Member) -> None:
    member.residual.check(N)
    with pytest.raises(ValueError, match=r"rows|shape"):
        member.residual.check(N + 1)


@everyone
def test_equal_contents_are_equal(member: Member) -> None:
    whole = member.residual.part(np.arange(N))
    assert whole == member.residual
    assert member.residual.part(slice(0, N - 1)) != member.residual
    others = [other.residual for other in MEMBERS if other is not member]
    assert all(member.residual != other for other in others)
