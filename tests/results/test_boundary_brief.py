"""The brief boundary report: fast, and of the same opinion as the full one and as dense arithmetic."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import bayeslmm as bl
from bayeslmm.boundary import build
from bayeslmm.inference.lower_rank import rise_at_lower_rank

_FINE = "nothing to worry about"


@cache
def _family(kind: str) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    codes = np.repeat(np.arange(14), 8)
    x, z = rng.normal(size=codes.size), rng.normal(size=codes.size)
    frame = pd.DataFrame({"g": [f"g{k}" for k in codes], "x": x, "z": z})
    return frame, codes, 2.0 * rng.normal(size=(14, 3)), rng.normal(size=codes.size)


def _fit(kind: str, size: float) -> bl.results.REMLResult:
    """A fit whose distance from the boundary grows with `size`."""
    frame, codes, u, e = _family(kind)
    x, z = frame["x"].to_numpy(), frame["z"].to_numpy()
    if kind == "intercept":
        y, formula = size * u[codes, 0] + e, "y ~ x + (1 | g)"
    elif kind == "slope":
        y, formula = u[codes, 0] + size * u[codes, 1] * x + e, "y ~ x + (x || g)"
    elif kind == "correlation":
        y, formula = u[codes, 0] + (0.9 * u[codes, 0] + size * u[codes, 1]) * x + e, "y ~ x + (x | g)"
    else:
        third = 0.7 * u[codes, 0] + 0.7 * u[codes, 1] + size * u[codes, 2]
        y, formula = u[codes, 0] + u[codes, 1] * x + third * z + e, "y ~ x + z + (x + z | g)"
    return bl.Model(formula, frame.assign(y=y)).fit()


@pytest.mark.parametrize("size", [0.0, 0.3, 0.6, 2.5])
@pytest.mark.parametrize("kind", ["intercept", "slope", "correlation", "combination"])
def test_verdicts_of_both_sides_agree(kind: str, size: float) -> None:
    fit = _fit(kind, size)
    brief = fit.boundary("none", detail="brief")
    full = fit.boundary("none", detail="full", leave_out=("tests", "zero_rate", "penalised"))
    auto = fit.boundary("none", leave_out=("tests", "zero_rate", "penalised"))
    assert brief.verdict == full.verdict == auto.verdict
    assert bool(auto.omitted) == (_FINE in full.verdict)


@pytest.mark.parametrize("size", [0.3, 0.6, 2.5])
@pytest.mark.parametrize("kind", ["intercept", "slope", "correlation", "combination"])
def test_fine_is_said_only_where_all_intervals_are_closed(kind: str, size: float) -> None:
    # Profile intervals come from another search than the criterion at the edge.
    fit = _fit(kind, size)
    ends = fit.confint()
    sds = [label for label in ends.index if label.startswith("sd_")]
    correlations = [label for label in ends.index if label.startswith("corr_")]
    closed = (ends.loc[sds, "conf_low"] > 0).all() and (ends.loc[correlations].abs() < 1).all(axis=None)
    if _FINE in fit.boundary("none", detail="brief").verdict:
        assert closed and not fit.is_singular


def test_family_has_both_verdicts() -> None:
    for kind in ("intercept", "slope", "correlation", "combination"):
        assert _FINE not in _fit(kind, 0.0).boundary("none", detail="brief").verdict
        assert _FINE in _fit(kind, 2.5).boundary("none", detail="brief").verdict


def _dense_rise(fit: bl.results.REMLResult, rank: int) -> float:
    """Rise of the REML criterion over covariances of a rank, from dense matrices and many starts."""
    term, design = fit.design.terms[0], fit.design
    codes = design.groupings[term.group].codes
    same = codes[:, None] == codes[None, :]
    X, y, Z, c = design.X, design.y, term.Z, term.Z.shape[1]

    def criterion(a: np.ndarray) -> float:
        A = Z @ a.reshape(c, rank)
        V = np.eye(y.size) + same * (A @ A.T)
        chol = np.linalg.cholesky(V)
        Xw, yw = np.linalg.solve(chol, X), np.linalg.solve(chol, y)
        R = np.linalg.qr(Xw, mode="r")
        r2 = float(np.sum((yw - Xw @ np.linalg.lstsq(Xw, yw, rcond=None)[0]) ** 2))
        nu = y.size - X.shape[1]
        logs = 2 * np.log(np.diag(chol)).sum() + 2 * np.log(np.abs(np.diag(R))).sum()
        return float(logs + nu * (1 + np.log(2 * np.pi * r2 / nu)))

    rng = np.random.default_rng(2)
    return min(minimize(criterion, rng.normal(size=c * rank), method="BFGS").fun for _ in range(6)) - fit.criterion


@pytest.mark.parametrize(("kind", "size"), [("correlation", 0.5), ("combination", 0.3)])
def test_rise_at_lower_rank_is_the_lowest_of_all_singular_covariances(kind: str, size: float) -> None:
    fit = _fit(kind, size)
    found = rise_at_lower_rank(fit.cp, fit.optimum, 0)
    assert np.isclose(found, _dense_rise(fit, len(fit.design.terms[0].effects) - 1), atol=1e-5)


def test_a_combination_that_no_sd_or_correlation_shows_is_named() -> None:
    fits = [fit for size in (0.3, 0.45, 0.6) if not (fit := _fit("combination", size)).is_singular]
    low = [fit for fit in fits if rise_at_lower_rank(fit.cp, fit.optimum, 0) < 3.84]
    assert low
    for fit in low:
        report = fit.boundary("none", detail="brief")
        assert _FINE not in report.verdict


def test_a_regular_fit_computes_nothing_that_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("not wanted")

    monkeypatch.setattr(build, "sample_posterior", fail)
    monkeypatch.setattr("bayeslmm.boundary.sections.zero_test", fail)
    monkeypatch.setattr("bayeslmm.boundary.sections.singular_rate", fail)
    report = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit().boundary()
    assert [section.name for section in report.sections] == ["components", "edge"]
    assert report.omitted == ("limits", "tests", "zero_rate", "posterior", "penalised")
    assert "detail='full'" in str(report) and "detail=" in report._repr_html_()
    with pytest.raises(KeyError, match="detail='full'"):
        report["tests"]


def test_sections_can_be_left_out_of_a_full_report() -> None:
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()
    report = fit.boundary(leave_out=["posterior", "tests", "zero_rate"])
    assert [section.name for section in report.sections] == ["components", "edge", "limits", "penalised"]
    whole = fit.boundary("none")
    assert whole["limits"].equals(report["limits"]) and whole.verdict == report.verdict
    brief = fit.boundary(detail="brief")
    assert brief.verdict == whole.verdict and "detail='full'" in str(brief)


@pytest.mark.parametrize("asked", [{"detail": "long"}, {"leave_out": "edge"}, {"leave_out": ["tests", "more"]}])
def test_unknown_details_are_refused(asked: dict[str, object]) -> None:
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()
    with pytest.raises(bl.DesignError, match=next(iter(asked))):
        fit.boundary("none", **asked)  # type: ignore[arg-type]
