"""A posterior with the model in PyMC: its free variables, predictive draws and moment matching."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl

pm = pytest.importorskip("pymc")

DRAWS = 400
# "auto" is one of the two for every grouping factor.
FORMS = ["noncentered", "centered"]
GROUPS = 7


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(12)
    n = 84
    g, h, f = np.arange(n) % GROUPS, rng.integers(4, size=n), np.array(["u", "v", "w"])[rng.integers(3, size=n)]
    x = rng.normal(size=n)
    e = rng.normal(size=n)
    y = 20 + 3 * rng.normal(size=GROUPS)[g] + x * (2 + rng.normal(size=GROUPS)[g]) + 2 * rng.normal(size=4)[h] + e
    w, o, k = rng.uniform(0.5, 2, size=n), rng.normal(size=n), rng.integers(1, 4, size=n)
    return pd.DataFrame({"y": y, "x": x, "f": f, "g": g, "h": h, "w": w, "o": o, "k": k})


DATA = frame()
# Formula, arguments of the model, priors.
CASES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "intercept": ("y ~ x + (1 | g)", {}, None),
    "slopes": ("y ~ x + (x | g)", {}, None),
    "no coefficients": ("y ~ 0 + (x | g)", {}, None),
    "nested": ("y ~ x + (1 | h/g)", {}, None),
    "crossed": ("y ~ x + (x | g) + (1 | h)", {}, None),
    "independent": ("y ~ x + (x || g)", {}, None),
    "cs": ("y ~ x + cs(0 + f | g)", {}, None),
    "ar1": ("y ~ x + ar1(0 + f | g)", {}, None),
    "id": ("y ~ x + id(0 + f | g)", {}, None),
    "weights": ("y ~ x + (x | g)", {"weights": "w"}, None),
    "offset": ("y ~ x + offset(o) + (1 | g)", {}, None),
    "weak": ("y ~ x + (x | g)", {}, "weak"),
    "rstanarm": ("y ~ x + (x | g) + (1 | h)", {}, "rstanarm"),
    "boundary_avoiding": ("y ~ x + (x | g)", {}, "boundary_avoiding"),
    "two families": ("y ~ x + (x | g)", {}, {"sd_g[x]": bl.HalfNormal(2)}),
}


def posterior(case: str, draws: int = DRAWS) -> tuple[bl.Model, bl.Posterior, Any]:
    formula, options, priors = CASES[case]
    model = bl.Model(formula, DATA, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bl.BayesLMMWarning)
        return model, model.sample(draws, random_seed=4, priors=priors), priors


def predicted(post: bl.Posterior, model: Any) -> Any:
    """Draws (S, n) by PyMC; any warning is an error but the one about potentials."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The effect of Potentials")
        tree = pm.sample_posterior_predictive(post.data, model=model, progressbar=False, random_seed=9)
    return tree["posterior_predictive"]["y"].to_numpy().reshape(-1, len(DATA))


@pytest.mark.parametrize("case", CASES)
def test_the_model_finds_all_its_variables(case: str) -> None:
    """And computes from them the effects, sds and correlations that the posterior has."""
    model, post, priors = posterior(case, 40)
    values = {str(name): array.to_numpy()[0, :3] for name, array in post.data["posterior"].data_vars.items()}
    for form in FORMS:
        own = model.to_pymc(priors, form=form)
        assert {rv.name for rv in own.free_RVs} <= set(values)
        derived = [variable for variable in own.deterministics if variable.name in values]
        compute = own.compile_fn(
            derived, inputs=own.free_RVs, point_fn=False, on_unused_input="ignore", mode="FAST_COMPILE"
        )
        for k in range(3):
            found = compute(*(values[rv.name][k] for rv in own.free_RVs))
            for variable, value in zip(derived, found, strict=True):
                np.testing.assert_allclose(value, values[str(variable.name)][k], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("case", ["crossed", "weights", "offset"])
def test_predictive_draws_are_right(case: str) -> None:
    model, post, priors = posterior(case)
    ours = post.add_groups("posterior_predictive", random_seed=5).data["posterior_predictive"]["y"]
    ours = ours.to_numpy().reshape(-1, len(DATA))
    sd = ours.std(0)
    drawn = [predicted(post, model.to_pymc(priors, form=form)) for form in FORMS]
    for theirs in drawn:
        # Means of two sets of draws, each with its own residuals: six standard errors, of which 84 are looked at.
        assert (np.abs(theirs.mean(0) - ours.mean(0)) < 6 * sd * np.sqrt(2 / DRAWS)).all()
        assert (np.abs(np.log(theirs.std(0) / sd)) < 6 / np.sqrt(DRAWS)).all()
        # Given the draws of a mean, what is left is the residual alone.
        mean = post.predict_draws().to_numpy().reshape(-1, len(DATA))
        w = DATA["w"].to_numpy() if case == "weights" else 1.0
        residual = (theirs - mean) / post.draws("sigma")[:, None] * np.sqrt(w)
        assert abs(residual.mean()) < 5 / np.sqrt(residual.size)
        assert abs(residual.var() - 1) < 5 * np.sqrt(2 / residual.size)
    np.testing.assert_allclose(drawn[0], drawn[1], rtol=1e-8)


EDGES = [((0.0, 1.0), 0.3), ((0.0, 0.0), 0.0), ((2.0, 1e-9), -0.5), ((3.0, 1.0), 1.0)]


# Of effects at the mean of x only as much is left as beside those at its zero: fewer decades between two sds.
@pytest.mark.parametrize(
    ("prior", "edges", "at"),
    [
        ("brms", [*EDGES, ((1e-8, 1e8), -1.0)], ""),
        (None, [*EDGES, ((1e-2, 1e3), -1.0), ((1e-8, 1.0), 0.4)], "_at_mean"),
    ],
)
def test_zero_variances_and_perfect_correlations(prior: str | None, edges: Any, at: str) -> None:
    """Draws at the edge of the parameter space give the effects back that they came with."""
    from bayeslmm.bayes.free_variables import free_variables

    model = bl.Model("y ~ x + (x | g)", DATA)
    post = model.sample(40, random_seed=4, priors=prior)
    A = np.array([[1.0, -DATA["x"].mean() if at else 0.0], [0.0, 1.0]])
    tree = post.data["posterior"].to_dataset().copy(deep=True)
    z = np.random.default_rng(1).normal(size=tree["b_g"].shape)
    for sd, corr in edges:
        L = np.array([[1.0, 0.0], [corr, np.sqrt(1.0 - corr**2)]])
        tree[f"sd{at}_g"][:], tree[f"corr{at}_g"][:] = np.array(sd), corr
        tree["b_g"][:] = z @ (np.array(sd)[:, None] * L).T @ A.T
        found = {
            name: np.asarray(values[1]) for name, values in free_variables(model.design, post.priors, tree).items()
        }
        assert all(np.isfinite(values).all() for values in found.values())
        np.testing.assert_allclose(found["r_g"], 0.5 * (1 + corr), rtol=1e-12)
        back = found["z_g"] @ (np.array(sd)[:, None] * L).T @ A.T
        np.testing.assert_allclose(back, tree["b_g"], rtol=1e-9, atol=1e-9 * max(sd))


def test_a_form_for_each_factor() -> None:
    model, post, _ = posterior("crossed", 100)
    one, other = (predicted(post, model.to_pymc(form=form)) for form in ("auto", {"g": "centered", "h": "noncentered"}))
    np.testing.assert_allclose(one, other, rtol=1e-8)


def test_frequencies_and_whole_numbers() -> None:
    model = bl.Model("y ~ x + (1 | g)", DATA, frequency="k")
    post = model.sample(DRAWS, random_seed=1)
    theirs = predicted(post, model.to_pymc())
    ours = post.add_groups("posterior_predictive", random_seed=5).data["posterior_predictive"]["y"].to_numpy()
    difference = theirs.mean(0) - ours.reshape(-1, len(DATA)).mean(0)
    assert (np.abs(difference) < 6 * theirs.std(0) * np.sqrt(2 / DRAWS)).all()


def test_new_data_is_taken_by_the_model() -> None:
    """``pm.set_data`` with other rows of the same levels, as in any PyMC model."""
    model, post, _ = posterior("slopes", 100)
    own = model.to_pymc()
    with own:
        pm.set_data({"X": model.design.X + np.array([0.0, 1000.0])})
    shifted = predicted(post, own)
    expected = 1000.0 * post.fixef()["x"]
    assert (shifted - predicted(post, model.to_pymc())).mean() == pytest.approx(expected, rel=0.05)


def test_the_collapsed_form_has_nothing_to_predict() -> None:
    model, post, _ = posterior("intercept", 40)
    with pytest.warns(UserWarning, match="Potentials"):
        tree = pm.sample_posterior_predictive(post.data, model=model.to_pymc(form="collapsed"), progressbar=False)
    assert "posterior_predictive" not in tree.children


@pytest.mark.slow
def test_moment_matching_by_arviz() -> None:
    az = pytest.importorskip("arviz")
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    post = model.sample(DRAWS, random_seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain, exact = az.loo(post.data, pointwise=True), post.loo(refit=True)
        for form in ("noncentered", "centered"):
            matched = az.loo(post.data, pointwise=True, moment_match=True, model=model.to_pymc(form=form))
            assert float(matched.pareto_k.max()) < plain.good_k < float(plain.pareto_k.max())
            # What is left is the Monte Carlo error of 400 draws.
            assert matched.elpd == pytest.approx(exact.elpd, abs=0.5)
