"""The plane of two effects: places are those of the tables, and the ellipse holds half of all levels."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest

import bayeslmm as bl
from bayeslmm.plots.levels import no_pooling

SLEEP = bl.load_dataset("sleepstudy")


@pytest.fixture(scope="module")
def both() -> bl.Comparison:
    model = bl.Model("Reaction ~ Days + (Days | Subject)", SLEEP)
    return bl.compare(model.fit(), model.sample(200, random_seed=1))


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def points(axis: object) -> dict[str, np.ndarray]:
    return {line.get_label(): np.asarray(line.get_xydata()) for line in axis.get_lines()}  # type: ignore[attr-defined]


def in_rows(values: np.ndarray) -> np.ndarray:
    return values[np.lexsort(values.T)]


def test_places_are_those_of_the_tables(both: bl.Comparison) -> None:
    drawn = points(bl.plot_plane(both))
    found = {name: in_rows(drawn[name]) for name in drawn if "half" not in name and not name.startswith("_")}
    assert sorted(found) == ["REML prediction (BLUP)", "level alone (no pooling)", "posterior mean"]
    np.testing.assert_array_equal(found["REML prediction (BLUP)"], in_rows(both.reml.ranef()["Subject"].to_numpy()))
    np.testing.assert_array_equal(found["level alone (no pooling)"], in_rows(no_pooling(both, "Subject")))
    # Another way of summing the same draws.
    means = both.posterior.ranef()["Subject"].to_numpy()
    np.testing.assert_allclose(found["posterior mean"], in_rows(means), rtol=1e-9)


def test_half_of_all_levels_are_within_the_ellipse(both: bl.Comparison) -> None:
    edge = points(bl.plot_plane(both))["REML: half of all levels"]
    G = both.reml.varcorr_matrices()["Subject"].to_numpy()
    # The median of a chi-square variable with two degrees of freedom is 2 log 2.
    np.testing.assert_allclose(np.einsum("ki,ij,kj->k", edge, np.linalg.inv(G), edge), 2 * np.log(2), rtol=1e-9)


def test_effects_may_be_turned_round_and_independent(both: bl.Comparison) -> None:
    axis = bl.plot_plane(both, effects=["Days", "Intercept"], levels=["308", "335"])
    assert axis.get_xlabel().startswith("Days by Subject")
    assert points(axis)["REML prediction (BLUP)"].shape == (2, 2)
    edge = points(bl.plot_plane(bl.Model("Reaction ~ Days + (Days || Subject)", SLEEP).fit()))[
        "REML: half of all levels"
    ]
    assert abs(np.corrcoef(edge[:-1].T)[0, 1]) < 1e-12


def test_a_singular_estimate_is_a_line() -> None:
    few = SLEEP[SLEEP["Subject"].astype(str).isin(["308", "309", "310"])]
    fit = bl.Model("Reaction ~ Days + (Days | Subject)", few).fit()
    assert fit.is_singular
    edge = points(bl.plot_plane(fit))["REML: half of all levels"]
    assert np.linalg.svd(edge / edge.std(axis=0))[1][1] < 1e-6


def test_levels_alone_of_a_posterior_have_its_correlation() -> None:
    model = bl.Model("Reaction ~ Days + (Days | Subject)", SLEEP, residual="ar1(Days | Subject)")
    post = model.sample(100, random_seed=1)
    drawn = points(bl.plot_plane(post, levels=["308"]))["level alone (no pooling)"]
    # Generalised least squares on its rows, at posterior means.
    rho = np.tanh(np.arctanh(post.draws("residual_rho")).mean())
    own = SLEEP[SLEEP["Subject"].astype(str) == "308"]
    days = own["Days"].to_numpy(dtype=float)
    Z = np.column_stack([np.ones_like(days), days])
    left = own["Reaction"] - Z @ post.table()["mean"].loc[["Intercept", "Days"]].to_numpy(dtype=float)
    W = np.linalg.inv(rho ** np.abs(days[:, None] - days))
    # Rounding of ten rows.
    np.testing.assert_allclose(drawn[0], np.linalg.solve(Z.T @ W @ Z, Z.T @ W @ left), rtol=1e-8)


def test_other_models_and_names_are_refused(both: bl.Comparison) -> None:
    with pytest.raises(bl.DesignError, match=r"no factor of .* has two"):
        bl.plot_plane(bl.Model("Reaction ~ 1 + (1 | Subject)", SLEEP).fit())
    with pytest.raises(bl.DesignError, match="not two effects"):
        bl.plot_plane(both, effects=["Days", "Days"])
    with pytest.raises(bl.DesignError, match="no grouping factor"):
        bl.plot_plane(both, "Days")
