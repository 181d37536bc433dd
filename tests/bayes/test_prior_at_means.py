"""Default priors of correlated effects stand at the means of the columns, so that they move with the data."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp
from scipy.stats import t as student

import bayeslmm as bl
from bayeslmm.bayes.at_means import at_means
from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.bayes.evidence import integrated
from bayeslmm.bayes.log_likelihood import variance_draws
from bayeslmm.bayes.presets import PRESETS
from bayeslmm.bayes.prior_draws import draw_prior
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.sensitivity import reweight
from bayeslmm.bayes.target import make_target
from bayeslmm.likelihood import cross_products
from bayeslmm.results.labels import find
from bayeslmm.results.negligible import negligible_sd

MOVES = ("default", "weak", "pc", "boundary_avoiding", "flat")
MOVED = ((2000.0, 1.0), (2451545.0, 1.0), (273.0, 1e-3), (0.0, 1e3))


@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    return bl.load_dataset("sleepstudy")


@pytest.fixture(scope="module")
def several() -> pd.DataFrame:
    """Two numbers, a factor and a response with effects of all of them."""
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(14), 12)
    frame = pd.DataFrame({"g": g.astype(str), "x": rng.normal(3, 2, g.size), "z": rng.gamma(3, 1, g.size)})
    frame["f"] = rng.choice(list("abc"), g.size)
    level, slope = rng.normal(0, 2, 14)[g], rng.normal(0.5, 1, 14)[g]
    frame["y"] = (
        5 + level + slope * (frame.x - 3) + rng.normal(0, 1, 14)[g] * (frame.f == "b") + rng.normal(0, 1, g.size)
    )
    return frame


def _hand(sleep: pd.DataFrame) -> dict[str, object]:
    """The default of (t | Subject) with t centred, written out for the zero of t."""
    y, x = sleep.Reaction, sleep.Days
    return {
        "sd_Subject[Intercept]": bl.HalfT(3, float(y.std())),
        "sd_Subject[t]": bl.HalfT(3, float(y.std() / x.std(ddof=0))),
    }


# One column: the posterior at every zero of t is that of priors given by hand for t about its mean.


@pytest.fixture(scope="module")
def by_hand(sleep: pd.DataFrame) -> bl.Posterior:
    centred = sleep.assign(t=sleep.Days - 4.5)
    model = bl.Model("Reaction ~ t + (t | Subject)", centred)
    return model.sample(1000, priors=resolve_priors(model.design, _hand(sleep)).on_zeros(0), random_seed=2)


# A seed at which no draw lies at a threshold of the resampling, where rounding decides.
@pytest.fixture(scope="module", params=MOVED, ids=str)
def moved(request: pytest.FixtureRequest, sleep: pd.DataFrame) -> tuple[float, bl.Posterior]:
    shift, unit = request.param
    frame = sleep.assign(t=unit * (sleep.Days + shift))
    return unit, bl.Model("Reaction ~ t + (t | Subject)", frame).sample(1000, random_seed=2)


def test_posterior_does_not_depend_on_the_zero(moved: tuple[float, bl.Posterior], by_hand: bl.Posterior) -> None:
    unit, post = moved
    expected, found = by_hand.table(), post.table()
    assert post.method == by_hand.method == "importance"
    np.testing.assert_allclose(unit * found.loc["sd_Subject[t]"], expected.loc["sd_Subject[t]"], rtol=1e-6)
    np.testing.assert_allclose(unit * found.loc["t"], expected.loc["t"], rtol=1e-5)
    np.testing.assert_allclose(found.loc["sigma"], expected.loc["sigma"], rtol=1e-6)
    level = post.at_means().loc["sd_at_mean_Subject[Intercept]"]
    np.testing.assert_allclose(level, expected.loc["sd_Subject[Intercept]"], rtol=1e-6)
    corr = post.at_means().loc["corr_at_mean_Subject[Intercept.t]"]
    # Draws are placed by a curvature from differences of the log density, which rounding leaves about 1e-6.
    np.testing.assert_allclose(corr, expected.loc["corr_Subject[Intercept.t]"], rtol=1e-5)
    np.testing.assert_allclose(post.fitted(), by_hand.fitted(), rtol=1e-6)


def test_evidence_and_cross_validation_do_not_depend_on_the_zero(
    moved: tuple[float, bl.Posterior], by_hand: bl.Posterior
) -> None:
    unit, post = moved
    # The flat prior of the fixed slope counts with density one per its unit.
    assert post.log_evidence - np.log(1 / unit) == pytest.approx(by_hand.log_evidence, abs=1e-5)
    with warnings.catch_warnings():
        # One subject changes the posterior too much for reweighting, at every zero.
        warnings.simplefilter("ignore", bl.ConvergenceWarning)
        np.testing.assert_allclose(
            post.loo("group", draws=100).elpd_i, by_hand.loo("group", draws=100).elpd_i, atol=1e-4
        )


def test_other_questions_do_not_depend_on_the_zero(sleep: pd.DataFrame, by_hand: bl.Posterior) -> None:
    post = bl.Model("Reaction ~ t + (t | Subject)", sleep.assign(t=sleep.Days + 2000)).sample(1000, random_seed=2)
    level = "sd_at_mean_Subject[Intercept]"
    for label, own in (("sd_Subject[t]", "sd_Subject[t]"), ("sd_Subject[Intercept]", level)):
        expected = by_hand.bayes_factor(label, scales=[1])
        for asked in dict.fromkeys((label, own)):
            factor = post.bayes_factor(asked, scales=[1])
            assert factor.label == own
            assert factor.log_bf01 == pytest.approx(expected.log_bf01, abs=1e-5)
        assert post.probability_below(own, 6.0) == by_hand.probability_below(label, 6.0)
    rows = ["sd_Subject[t]", "sigma", "t"]
    np.testing.assert_allclose(post.psense().loc[rows, "prior"], by_hand.psense().loc[rows, "prior"], atol=1e-5)
    sweep = [p.prior_sweep(scales=[0.5, 2.0], delta=1.0).xs("sd_Subject[t]", level=1) for p in (post, by_hand)]
    columns = ["mean", "sd", "p_below", "log_evidence_ratio", "ess"]
    np.testing.assert_allclose(sweep[0][columns], sweep[1][columns], rtol=1e-5, atol=1e-9)


def test_table_of_the_fault(sleep: pd.DataFrame) -> None:
    """Slope sd 6.28, sd of the fixed slope 1.63 (REML: 5.92 and 1.55), wherever the zero is."""
    for shift in (-4.5, 20, 2000):
        frame = sleep.assign(t=sleep.Days + shift)
        table = bl.Model("Reaction ~ t + (t | Subject)", frame).sample(4000, random_seed=1).table()
        assert table.loc["sd_Subject[t]", "mean"] == pytest.approx(6.28, abs=0.05)
        assert table.loc["t", "sd"] == pytest.approx(1.63, abs=0.04)


# The density itself, in the coordinates of the user's zero.


def _change_of_coordinates(s0: complex, s1: complex, rho: complex, m: float) -> tuple[complex, ...]:
    level = np.sqrt(s0**2 + 2 * m * rho * s0 * s1 + m**2 * s1**2)
    return level, s1, (rho * s0 + m * s1) / level


def test_jacobian_worked_out_by_hand() -> None:
    """d(level, slope, corr at the mean) / d(the same at zero) = s0^2 / level^2; derivatives by complex steps."""
    point, m, h = np.array([1.3, 0.7, -0.4], dtype=complex), 1.5, 1e-30
    J = np.array([np.imag(_change_of_coordinates(*(point + 1j * h * e), m)) / h for e in np.eye(3)])
    level = _change_of_coordinates(*point, m)[0].real
    assert np.linalg.det(J) == pytest.approx(1.3**2 / level**2, rel=1e-12)


def test_evidence_by_brute_force_at_the_users_zero() -> None:
    """p(y) of (t | g) integrated over sds, correlation and sigma at t = 0, from dense densities of every group."""
    rng = np.random.default_rng(2)
    J, t = 9, np.array([0.0, 1.0, 2.0])
    b = rng.multivariate_normal([0, 0], [[9.0, 1.0], [1.0, 1.0]], J)
    Y = 4 + b[:, :1] + b[:, 1:] * (t - 1.0) + rng.normal(0, 0.7, (J, 3))
    frame = pd.DataFrame({"y": Y.ravel(), "t": np.tile(t, J), "g": np.repeat(np.arange(J), 3).astype(str)})
    model = bl.Model("y ~ t + (t | g)", frame)
    priors, cp = resolve_priors(model.design, None), cross_products(model.design)
    found = integrated(cp, priors, model.fit().optimum.terms, np.random.default_rng(0))
    assert found.error < 2e-5
    assert found.value == pytest.approx(_brute_force(Y, t), abs=6e-5)


def _brute_force(Y: np.ndarray, t: np.ndarray) -> float:
    m, spread_t, spread = t.mean(), t.std(), Y.std(ddof=1)
    # A correlation beyond tanh(6.5) is left out: a uniform prior has 5e-6 of its mass there.
    u0, u1 = np.linspace(-1.5, 4.5, 30), np.linspace(-5.0, 3.2, 36)
    w, v = np.linspace(-6.5, 6.5, 56), np.linspace(-1.5, 1.4, 16)
    total = []
    for log_sigma in v:
        a, c, r = (x.ravel() for x in np.meshgrid(u0, u1, w, indexing="ij"))
        s0, s1, rho, sigma = np.exp(a), np.exp(c), np.tanh(r), np.exp(log_sigma)
        level = np.sqrt(s0**2 + 2 * m * rho * s0 * s1 + m**2 * s1**2)
        log_prior = sum(
            np.log(2) + student.logpdf(s, 3, scale=k) for s, k in _scaled(level, s1, sigma, spread, spread_t)
        )
        # LKJ(1) of two effects is uniform on (-1, 1); then the Jacobian of the test above, and that of the grid.
        log_prior += np.log(0.5) + 2 * np.log(s0 / level) + a + c - 2 * np.log(np.cosh(r)) + log_sigma
        total.append(log_prior + _restricted(Y, t, s0, s1, rho, sigma))
    cell = sum(np.log(x[1] - x[0]) for x in (u0, u1, w, v))
    return float(logsumexp(np.concatenate(total)) + cell)


def _scaled(level, s1, sigma, spread, spread_t):
    return (level, spread), (s1, spread / spread_t), (np.full_like(level, sigma), spread)


def _restricted(Y: np.ndarray, t: np.ndarray, s0, s1, rho, sigma) -> np.ndarray:
    """Log density of the responses with flat fixed effects, every group with its dense covariance matrix."""
    X = np.column_stack([np.ones_like(t), t])
    cov = rho * s0 * s1
    V = s0[:, None, None] ** 2 + cov[:, None, None] * np.add.outer(t, t) + s1[:, None, None] ** 2 * np.outer(t, t)
    V = V + sigma**2 * np.eye(t.size)
    inverse, J = np.linalg.inv(V), Y.shape[0]
    XVX = J * (X.T @ inverse @ X)
    XVy = (X.T @ inverse) @ Y.sum(axis=0)
    squares = np.einsum("kab,ab->k", inverse, Y.T @ Y) - np.einsum(
        "ka,ka->k", XVy, np.linalg.solve(XVX, XVy[..., None])[..., 0]
    )
    log_dets = J * np.linalg.slogdet(V)[1] + np.linalg.slogdet(XVX)[1]
    return -0.5 * ((Y.size - 2) * np.log(2 * np.pi) + log_dets + squares)


# Several columns: the whole density on the coordinates, for every preset that moves with the data.

TERMS = (
    "x",
    "x + z",
    "f",
    "x * f",
    "x + I(x**2)",
    "x * z",
    "I(x**2) + x",
    "x * f + I(x**2)",
    "x + I(x**2) + I(x**2):z + x*z",
)


def _log_density(formula: str, frame: pd.DataFrame, preset: str, points: int = 6) -> np.ndarray:
    """At points of the coordinates that describe the same effects at the means, whatever the columns."""
    design = bl.Model(formula, frame).design
    priors, cp = PRESETS[preset](design), cross_products(design)
    change = priors.changes[0]
    c = len(design.terms[0].effects)
    sizes = np.sqrt(((design.terms[0].Z @ change.matrix) ** 2).mean(axis=0))
    target, _ = make_target(cp, priors, [change.matrix @ np.diag(1.5 / sizes)])
    x = np.random.default_rng(1).normal(0.4, 0.5, (points, target.dimension))
    # Coordinates that are no multiple of a scale are logarithms of sds in the units of the columns.
    x[:, :c] -= np.where(target.folded[:c], 0.0, np.log(sizes))
    log_density = target.evaluate(x).log_density
    assert target.dimension == c * (c + 1) // 2
    return log_density - log_density[0]


@pytest.mark.parametrize("left", TERMS)
@pytest.mark.parametrize("preset", ["default", "pc", "flat"])
def test_density_moves_with_the_data(left: str, preset: str, several: pd.DataFrame) -> None:
    formula = f"y ~ x + f + ({left} | g)"
    expected = _log_density(formula, several, preset)
    for change in (
        {"x": several.x + 50.0},
        {"x": several.x - 3.0, "z": several.z + 20.0},
        {"x": 1e-3 * several.x, "z": 40.0 * several.z},
        {"y": 1e4 + 3.0 * several.y},
    ):
        frame = several.assign(**change)
        np.testing.assert_allclose(_log_density(formula, frame, preset), expected, rtol=1e-6, atol=1e-6)


def test_order_of_different_variables_does_not_matter(several: pd.DataFrame) -> None:
    for left, other in (("x + z", "z + x"), ("x + I(x**2)", "I(x**2) + x")):
        first, second = (bl.Model(f"y ~ x + ({text} | g)", several) for text in (left, other))
        one, two = (m.priors()["below with probability 0.95"].filter(like="sd_") for m in (first, second))
        pd.testing.assert_series_equal(one.sort_index(), two.sort_index(), rtol=1e-10)


def test_columns_at_the_means_are_residuals(several: pd.DataFrame) -> None:
    """Gram-Schmidt along marginality only: ``x:f`` beside x and f, x^2 beside x, z beside nothing."""
    term = bl.Model("y ~ x + (x * f + I(x**2) + z | g)", several).design
    change = at_means(term, 0)
    assert change is not None
    names, Zc = term.terms[0].effects, term.terms[0].Z @ change.matrix
    at = {name: k for k, name in enumerate(names)}
    np.testing.assert_allclose(Zc[:, 1:].mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(Zc[:, at["z"]], several.z - several.z.mean(), atol=1e-12)
    np.testing.assert_allclose(Zc[:, at["f[b]"]], (several.f == "b") - (several.f == "b").mean(), atol=1e-12)
    for name, below in (("I(x ** 2)", ["x"]), ("x:f[b]", ["x", "f[b]", "f[c]"])):
        X = np.column_stack([np.ones(len(several)), *(term.terms[0].Z[:, at[b]] for b in below)])
        z = term.terms[0].Z[:, at[name]]
        np.testing.assert_allclose(Zc[:, at[name]], z - X @ np.linalg.lstsq(X, z)[0], atol=1e-10)
    assert np.linalg.det(change.matrix) == pytest.approx(1.0)


def test_frequencies_count_and_precisions_do_not(sleep: pd.DataFrame) -> None:
    counts = np.arange(len(sleep)) % 3 + 1
    written = sleep.loc[sleep.index.repeat(counts)].reset_index(drop=True)
    formula = "Reaction ~ Days + (Days + I(Days**2) | Subject)"
    counted = bl.Model(formula, sleep, frequency=counts)
    long = resolve_priors(bl.Model(formula, written).design).changes[0]
    own = resolve_priors(counted.design).changes[0]
    np.testing.assert_allclose(own.matrix, long.matrix, rtol=1e-9)
    weighted = resolve_priors(bl.Model(formula, sleep, weights=counts).design).changes[0]
    np.testing.assert_allclose(weighted.matrix, resolve_priors(bl.Model(formula, sleep).design).changes[0].matrix)


def test_constant_and_dependent_columns_do_not_fail(sleep: pd.DataFrame) -> None:
    frame = sleep.assign(c=2000.1, twice=2 * sleep.Days)
    for left in ("Days + c", "Days + twice", "Days + I(2*Days)", "Days + I(Days**2) + I(3*Days**2 + 1)"):
        design = bl.Model(f"Reaction ~ Days + ({left} | Subject)", frame).design
        priors = resolve_priors(design)
        assert all(0 < prior.scale < np.inf for prior in priors.sds[0])
        assert np.isfinite(priors.changes[0].matrix).all()


# What the user says of the zero.


def test_priors_by_hand_are_about_the_users_zero(sleep: pd.DataFrame) -> None:
    model = bl.Model("Reaction ~ Days + (Days | Subject)", sleep)
    plain = resolve_priors(model.design)
    half = bl.HalfNormal(50)
    for key in ("sd_Subject[Intercept]", "sd_Subject", "sd", "(Days | Subject)"):
        assert not resolve_priors(model.design, {key: half}).centred
    for key, value in (("sd_Subject[Days]", half), ("lkj", 2), ("corr_Subject", 2), ("sigma", half), ("beta", "weak")):
        assert resolve_priors(model.design, {key: value}).changes == plain.changes
    # The other effects keep their scale: a slope is the same at every zero.
    assert resolve_priors(model.design, {"sd_Subject[Intercept]": half}).sds[0] == (half, plain.sds[0][1])
    means = resolve_priors(model.design, {"sd_at_mean_Subject[Intercept]": half})
    assert means.changes == plain.changes
    assert means.sds[0] == (half, plain.sds[0][1])
    with pytest.raises(bl.PriorError, match="zeros of its columns"):
        resolve_priors(model.design, {"preset": "brms", "sd_at_mean_Subject[Intercept]": half})


def test_words_say_where(sleep: pd.DataFrame) -> None:
    model = bl.Model("Reaction ~ Days + (Days | Subject)", sleep)
    words = model.priors()["in words"]
    assert words["sd_Subject[Intercept]"] == (
        "The sd between levels of Subject at the mean of Days (4.5) is below 179 (units of Reaction) with probability "
        "0.95."
    )
    assert "at the mean" not in words["sd_Subject[Days]"]
    assert "at the mean of Days (4.5)" in words["corr_Subject[Intercept.Days]"]
    by_hand = model.priors({"sd_Subject[Intercept]": bl.HalfNormal(50)})["in words"]
    assert "between levels of Subject at Days = 0 is below 98" in by_hand["sd_Subject[Intercept]"]
    assert "half-t(3, scale 56.33) at the mean of Days (4.5)" in model.priors()["prior"].iloc[0]
    assert r"at the mean of Days (4.5)" in model.latex(priors=True)


def test_presets_of_packages_and_independent_effects_keep_the_zero(sleep: pd.DataFrame) -> None:
    design = bl.Model("Reaction ~ Days + (Days | Subject)", sleep).design
    assert {name for name, preset in PRESETS.items() if preset(design).centred} == set(MOVES)
    rms = np.sqrt(np.mean(sleep.Days**2))
    for term in ("(Days || Subject)", "(0 + Days | Subject)", "diag(Days | Subject)"):
        priors = resolve_priors(bl.Model(f"Reaction ~ Days + {term}", sleep).design)
        assert not priors.centred
        assert priors.sds[0][-1].scale == pytest.approx(sleep.Reaction.std() / rms)


def test_delta_is_about_the_mean(sleep: pd.DataFrame) -> None:
    for shift in (0, 2000):
        frame = sleep.assign(t=sleep.Days + shift)
        design = bl.Model("Reaction ~ t + (t | Subject)", frame).design
        expected = 0.05 * sleep.Reaction.std() / sleep.Days.std(ddof=0)
        assert negligible_sd(design, find(design, "sd_Subject[t]")) == pytest.approx(expected)
        assert negligible_sd(design, find(design, "sd_Subject[Intercept]")) == pytest.approx(
            0.05 * sleep.Reaction.std()
        )


# Draws, other priors, files.


def test_prior_draws_at_the_means(sleep: pd.DataFrame) -> None:
    design = bl.Model("Reaction ~ Days + (Days | Subject)", sleep).design
    drawn = draw_prior(design, resolve_priors(design, "weak"), 4000, np.random.default_rng(3))
    scale = float(sleep.Reaction.std())
    share = student.cdf(1.0, 3) * 2 - 1
    for values, unit in zip(drawn.sds_at_mean[0].T, (scale, scale / sleep.Days.std(ddof=0)), strict=True):
        assert np.mean(values < unit) == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 4000))
    assert np.mean(drawn.corrs_at_mean[0][:, 0, 1] < 0.5) == pytest.approx(0.75, abs=0.03)
    # At zero: covariances of b0 = level - 4.5 slope and of the slope.
    s, r = drawn.sds_at_mean[0].T, drawn.corrs_at_mean[0][:, 0, 1]
    variance = s[0] ** 2 - 9 * r * s[0] * s[1] + 4.5**2 * s[1] ** 2
    np.testing.assert_allclose(drawn.sds[0][:, 0], np.sqrt(variance), rtol=1e-9)
    np.testing.assert_allclose(drawn.sds[0][:, 1], s[1], rtol=1e-12)
    corr = (r * s[0] - 4.5 * s[1]) / drawn.sds[0][:, 0]
    np.testing.assert_allclose(drawn.corrs[0][:, 0, 1], corr, rtol=1e-6, atol=1e-9)
    # The effects have that covariance given the sds.
    ratio = drawn.b[0][:, :, 0] / drawn.sds[0][:, :1]
    assert ratio.var() == pytest.approx(1.0, abs=0.03)


def test_weights_between_priors_about_the_mean_and_about_the_zero(several: pd.DataFrame) -> None:
    """Evidences of both priors, integrated, differ by what the weights of the draws say."""
    frame = several[several.f != "c"].assign(x=several.x - 2.0)
    model = bl.Model("y ~ x + (x | g)", frame)
    post = model.sample(1000, random_seed=1)
    zero = resolve_priors(model.design, {"sd": bl.HalfT(3, 3.0)})
    assert post.priors.centred
    assert not zero.centred
    weighed = reweight(model.design, post.priors, zero, post._variance_draws)
    rng = np.random.default_rng(0)
    pair = [integrated(post.cross_products, p, post._typical, rng).value for p in (post.priors, zero)]
    assert weighed.log_evidence_ratio == pytest.approx(pair[1] - pair[0], abs=4 * np.sqrt(1 / weighed.ess))


def test_variables_of_the_posterior(sleep: pd.DataFrame, tmp_path) -> None:
    post = bl.Model("Reaction ~ Days + (Days | Subject)", sleep).sample(500, random_seed=1)
    tree = post.data["posterior"]
    s, r = tree["sd_at_mean_Subject"], tree["corr_at_mean_Subject"][..., 0]
    assert s.dims == tree["sd_Subject"].dims
    level, slope = s.sel(Subject__effect="Intercept"), s.sel(Subject__effect="Days")
    at_zero = np.sqrt(level**2 - 9.0 * r * level * slope + 4.5**2 * slope**2)
    np.testing.assert_allclose(tree["sd_Subject"].sel(Subject__effect="Intercept"), at_zero, rtol=1e-9)
    np.testing.assert_allclose(tree["sd_Subject"].sel(Subject__effect="Days"), slope, rtol=1e-12)
    assert "sd_at_mean_Subject[Intercept] ~ half-t(3, scale 56.33)" in tree.attrs["priors"]
    assert list(post.at_means().index) == [
        "sd_at_mean_Subject[Intercept]",
        "sd_at_mean_Subject[Days]",
        "corr_at_mean_Subject[Intercept.Days]",
    ]
    assert bl.Model("Reaction ~ Days + (1 | Subject)", sleep).sample(100, random_seed=1).at_means().empty
    post.save(tmp_path / "post.nc")
    again = bl.load(tmp_path / "post.nc")
    assert again.priors == post.priors
    pd.testing.assert_frame_equal(again.at_means(), post.at_means())
    # From the variables at the means the factors are exact far from zero as well.
    values = {name: tree[name].to_numpy() for name in tree.data_vars}
    factors = [variance_draws(post.design, values, changes).factors[0] for changes in (post.priors.changes, ())]
    np.testing.assert_allclose(*(T @ np.swapaxes(T, 1, 2) for T in factors), rtol=1e-7, atol=1e-10)


def test_two_terms_of_one_factor(several: pd.DataFrame) -> None:
    """Each term has its own change of basis, and effects of both come back to the zeros of the columns."""
    model = bl.Model("y ~ x + z + (x | g) + (0 + z | g)", several)
    post = model.sample(300, random_seed=1)
    assert [change is not None for change in post.priors.changes] == [True, False]
    tree = post.data["posterior"]
    np.testing.assert_array_equal(tree["sd_g"][..., 2], tree["sd_at_mean_g"][..., 2])
    residual = several.y - post.fitted()
    assert residual.std() == pytest.approx(post.table().loc["sigma", "mean"], rel=0.25)


def test_lint_names_terms_that_depend_on_the_zero(sleep: pd.DataFrame) -> None:
    frame = sleep.assign(year=sleep.Days + 2000, centred=sleep.Days - 4.5, f=np.where(sleep.Days > 4, "b", "a"))

    def rules(term: str) -> list[str]:
        report = bl.lint(f"Reaction ~ Days + {term}", frame)
        return [finding.text for finding in report.findings if finding.rule == "zero of a predictor"]

    for term in ("(Days || Subject)", "(0 + Days | Subject)", "(year | Subject)", "diag(Days | Subject)"):
        assert rules(term)
    for term in ("(Days | Subject)", "(centred || Subject)", "(f || Subject)", "(0 + f | Subject)", "(1 | Subject)"):
        assert not rules(term)


def test_names_at_the_mean_do_not_collide(sleep: pd.DataFrame) -> None:
    frame = sleep.rename(columns={"Subject": "at_mean"}).assign(other=np.arange(len(sleep)) % 9)
    model = bl.Model("Reaction ~ Days + (Days | at_mean) + (1 | other)", frame)
    tree = model.sample(100, random_seed=1).data["posterior"]
    assert {"sd_at_mean", "sd_other"} < set(map(str, tree.data_vars))
    assert len({str(name) for name in tree.data_vars if str(name).startswith("sd_")}) == 3


def test_old_priors_without_the_field_are_about_the_zeros(sleep: pd.DataFrame) -> None:
    design = bl.Model("Reaction ~ Days + (Days | Subject)", sleep).design
    own = resolve_priors(design)
    plain = Priors(own.sds, own.lkj, own.sigma)
    assert plain.changes == (None,)
    assert own.on_zeros(0) == plain


@pytest.mark.parametrize("form", ["noncentered", "centered"])
def test_pymc_shows_what_reml_reports(form: str, sleep: pd.DataFrame) -> None:
    """sd, corr and b of the model in PyMC are those at the zero of t, and its mean is the same at every zero."""
    from pytensor import function

    means = []
    for shift in (0.0, 100.0):
        model = bl.Model("Reaction ~ t + (t | Subject)", sleep.assign(t=sleep.Days + shift))
        pymc = model.to_pymc(form=form)
        names = {rv.name: rv for rv in pymc.free_RVs}
        effects = names.get("z_Subject", names.get("b_at_mean_Subject"))
        inputs = [names["sd_at_mean_Subject"], names["r_Subject"], effects]
        outputs = [pymc["sd_Subject"], pymc["corr_Subject"], pymc["b_Subject"], pymc["corr_at_mean_Subject"]]
        rng = np.random.default_rng(4)
        s, rho, values = np.array([30.0, 5.0]), 0.4, rng.normal(size=(18, 2))
        compiled = function(inputs, outputs, mode="FAST_COMPILE")
        sd, corr, b, at_mean = compiled(s, np.array([0.5 + rho / 2]), values)
        chol = s[:, None] * np.array([[1.0, 0.0], [rho, np.sqrt(1 - rho**2)]])
        own = values @ chol.T if form == "noncentered" else values
        mean = 4.5 + shift
        np.testing.assert_allclose(at_mean, [rho])
        np.testing.assert_allclose(b, np.column_stack([own[:, 0] - mean * own[:, 1], own[:, 1]]), rtol=1e-9)
        variance = 900 - 2 * mean * rho * 150 + mean**2 * 25
        np.testing.assert_allclose(sd, [np.sqrt(variance), 5.0], rtol=1e-9)
        np.testing.assert_allclose(corr, [(rho * 150 - mean * 25) / (5 * np.sqrt(variance))], rtol=1e-9)
        codes, Z = model.design.groupings["Subject"].codes, model.design.terms[0].Z
        means.append((Z * b[codes]).sum(axis=1))
    np.testing.assert_allclose(*means, atol=1e-9)


def test_hierarchical_source_says_where(sleep: pd.DataFrame) -> None:
    text = bl.Model("Reaction ~ Days + (Days | Subject)", sleep).pymc_source()
    assert "at the mean of Days (4.5)" in text
    assert "A = np.array([[1.0, -4.5], [0.0, 1.0]])" in text
    assert 'pm.HalfStudentT("sd_at_mean_Subject"' in text
