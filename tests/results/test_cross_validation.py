"""Cross-validation by groups: refits of the rest and dense predictive distributions of what was left out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal

import bayeslmm as bl
from bayeslmm.errors import DesignError, FitError


def dense(model: bl.Model, frame: pd.DataFrame, gone: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean, sd and joint log density of some rows given all others, variances estimated without them."""
    rest = np.setdiff1d(np.arange(len(frame)), gone)
    fit = bl.Model(model.formula, frame.iloc[rest]).fit()
    V = np.asarray(model.matrices(theta=fit.theta, sigma=fit.sigma).V)
    X, y = model.design.X, model.design.y
    Vi = np.linalg.inv(V[np.ix_(rest, rest)])
    C = np.linalg.inv(X[rest].T @ Vi @ X[rest])
    beta = C @ X[rest].T @ Vi @ y[rest]
    K = V[np.ix_(gone, rest)] @ Vi
    mean = X[gone] @ beta + K @ (y[rest] - X[rest] @ beta)
    D = X[gone] - K @ X[rest]
    covariance = V[np.ix_(gone, gone)] - K @ V[np.ix_(rest, gone)] + D @ C @ D.T
    return mean, np.sqrt(np.diagonal(covariance)), float(multivariate_normal(mean, covariance).logpdf(y[gone]))


@pytest.mark.parametrize(
    ("formula", "name", "groups"),
    [
        ("Reaction ~ Days + (Days | Subject)", "sleepstudy", "Subject"),
        ("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin", "sample"),
    ],
)
def test_what_is_left_out_is_predicted_from_the_rest(formula: str, name: str, groups: str) -> None:
    frame = bl.load_dataset(name)
    model = bl.Model(formula, frame)
    found = model.fit().cv(groups)
    for level in list(found.folds.index)[:3]:
        gone = np.flatnonzero(frame[groups].astype(str) == level)
        mean, sd, score = dense(model, frame, gone)
        own = found.predictions.iloc[gone]
        np.testing.assert_allclose(own["predicted"], mean, rtol=1e-7)
        np.testing.assert_allclose(own["sd"], sd, rtol=1e-6)
        assert found.folds.loc[level, "log_score"] == pytest.approx(score, rel=1e-7)
        assert set(own["fold"]) == {level}
        assert found.folds.loc[level, "rmse"] == pytest.approx(np.sqrt(np.mean(own["error"] ** 2)))
    assert found.log_score == pytest.approx(found.folds["log_score"].sum())
    assert found.rmse == pytest.approx(np.sqrt(np.mean(found.predictions["error"] ** 2)))
    assert max(map(len, str(found).split("\n"))) <= 80


def test_folds_of_several_groups() -> None:
    frame = bl.load_dataset("sleepstudy")
    model = bl.Model("Reaction ~ Days + (1 | Subject)", frame)
    found = model.cv("Subject", 6, random_seed=3)
    assert len(found.folds) == 6
    assert found.folds["rows"].tolist() == [30] * 6
    # A subject is in one fold only.
    assert (found.predictions.groupby(frame["Subject"].astype(str))["fold"].nunique() == 1).all()
    gone = np.flatnonzero(found.predictions["fold"] == 2)
    mean, _, score = dense(model, frame, gone)
    np.testing.assert_allclose(found.predictions["predicted"].iloc[gone], mean, rtol=1e-7)
    assert found.folds.loc[2, "log_score"] == pytest.approx(score, rel=1e-7)
    again = model.cv("Subject", 6, random_seed=3)
    pd.testing.assert_frame_equal(pd.DataFrame(again.predictions), pd.DataFrame(found.predictions))


def test_with_weights_rows_are_on_their_own_scale() -> None:
    frame = bl.load_dataset("sleepstudy")
    w = np.resize([0.5, 1.0, 2.0, 1.5], 180)
    fit = bl.Model("Reaction ~ Days + (1 | Subject)", frame, weights=w).fit()
    found = fit.cv("Subject")
    gone, rest = np.arange(10), np.arange(10, 180)
    without = bl.Model("Reaction ~ Days + (1 | Subject)", frame.iloc[rest], weights=w[rest]).fit()
    x = np.column_stack([np.ones(10), frame["Days"][:10]])
    between = without.estimates()["sd_Subject[Intercept]"] ** 2
    covariance = between + np.diag(without.sigma**2 / w[:10]) + x @ without.vcov().to_numpy() @ x.T
    mean = x @ without.fixef().to_numpy()
    np.testing.assert_allclose(found.predictions["predicted"].iloc[gone], mean, rtol=1e-7)
    np.testing.assert_allclose(found.predictions["sd"].iloc[gone], np.sqrt(np.diagonal(covariance)), rtol=1e-6)
    score = multivariate_normal(mean, covariance).logpdf(frame["Reaction"][:10])
    assert found.folds["log_score"].iloc[0] == pytest.approx(score, rel=1e-7)


def test_wrong_calls_say_what_to_do() -> None:
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    with pytest.raises(DesignError, match="k=9 folds are more than the 6 groups"):
        fit.cv("Batch", 9)
    with pytest.raises(DesignError, match="no grouping factor"):
        fit.cv("batch")
    with pytest.raises(DesignError, match="k=1"):
        fit.cv("Batch", 1)
    frame = bl.load_dataset("Dyestuff").assign(half=lambda d: np.where(d["Batch"].astype(str) < "B", "a", "b"))
    with pytest.raises(FitError, match="Without fold A a fixed effect"):
        bl.Model("Yield ~ half + (1 | Batch)", frame).fit().cv()
