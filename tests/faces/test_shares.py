"""Shares of the variance, icc and r2: of a posterior draw by draw, and beside those of the fit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl


def test_shares_of_a_posterior_are_those_of_its_draws() -> None:
    """Of a random intercept the ICC is sd^2 / (sd^2 + sigma^2), draw by draw."""
    model = bl.Model("Reaction ~ Days + (1 | Subject)", bl.load_dataset("sleepstudy"))
    post = model.sample(400, random_seed=1)
    sd, sigma = post.draws("sd_Subject[Intercept]"), post.draws("sigma")
    share = sd**2 / (sd**2 + sigma**2)
    table = post.icc()
    assert table.loc["icc_Subject", "mean"] == pytest.approx(share.mean(), rel=1e-12)
    assert table.loc["icc", "median"] == pytest.approx(np.median(share), rel=1e-12)
    days = np.asarray(bl.load_dataset("sleepstudy")["Days"], dtype=float)
    fixed = post.draws("Days") ** 2 * days.var(ddof=1)
    marginal = fixed / (fixed + sd**2 + sigma**2)
    r2 = post.r2(level=0.9)
    assert r2.loc["r2_marginal", "mean"] == pytest.approx(marginal.mean(), rel=1e-10)
    inside = (marginal >= r2.loc["r2_marginal", "hdi_low"]) & (marginal <= r2.loc["r2_marginal", "hdi_high"])
    assert inside.mean() == pytest.approx(0.9, abs=1 / 200)
    assert isinstance(r2, pd.DataFrame)
    assert model.fit().icc()["icc_Subject"] == pytest.approx(table.loc["icc_Subject", "mean"], abs=0.1)
