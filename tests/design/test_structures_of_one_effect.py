"""Covariance structures of one effect: ``id`` and ``diag`` are ``(1 | g)``, to the last digit and everywhere."""

import warnings

import numpy as np
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError

DATA = bl.load_dataset("sleepstudy")
DATA = DATA.assign(arm=np.repeat(["a", "b", "c"], 60))
PAIRS = [
    ("{}(1 | Subject)", "(1 | Subject)"),
    ("{}(0 + Days | Subject)", "(0 + Days | Subject)"),
    ("{}(1 | Subject) + (0 + Days | Subject)", "(1 | Subject) + (0 + Days | Subject)"),
    ("{0}(1 | arm) + {0}(1 | Subject)", "(1 | arm) + (1 | Subject)"),
]


def both(pair, keyword="id"):
    left, right = pair[0].format(keyword), pair[1]
    return bl.Model(f"Reaction ~ Days + {left}", DATA), bl.Model(f"Reaction ~ Days + {right}", DATA)


def alike(own, other):
    return own.equals(other) if hasattr(own, "equals") else np.array_equal(own, other)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("keyword", ["id", "diag", "us"])
@pytest.mark.parametrize("options", [{}, {"reml": False}, {"penalty": "wishart"}])
def test_fits(pair, keyword, options):
    one, other = (model.fit(**options) for model in both(pair, keyword))
    assert one.criterion == other.criterion
    assert alike(one.estimates(), other.estimates())


@pytest.mark.parametrize("pair", PAIRS[:3])
def test_what_follows_from_a_fit(pair, tmp_path):
    one, other = (model.fit() for model in both(pair))
    label = next(name for name in one.estimates().index if name.startswith("sd_"))
    Y = np.column_stack([DATA.Reaction, 2.0 * DATA.Reaction[::-1]])
    asked = [
        lambda fit: fit.confint(),
        lambda fit: fit.confint(parameters=label, method="wald"),
        lambda fit: fit.profile(label),
        lambda fit: fit.refit_many(Y).estimates(),
        lambda fit: fit.refit(Y[:, 1]).estimates(),
        lambda fit: fit.simulate(2, random_seed=1),
        lambda fit: fit.bootstrap(4, random_seed=1).draws,
        lambda fit: fit.ranef()["Subject"],
        lambda fit: fit.predict(DATA.iloc[:3]),
        lambda fit: fit.coefficients(ddf="satterthwaite"),
        lambda fit: fit.icc(),
    ]
    for ask in asked:
        assert alike(ask(one), ask(other))
    one.save(tmp_path / "one.npz")
    assert alike(bl.load(tmp_path / "one.npz").estimates(), other.estimates())


def test_boundary_reports():
    one, other = (model.fit() for model in both(PAIRS[0]))
    a, b = (fit.boundary(posterior="none", random_seed=1, detail="full") for fit in (one, other))
    assert alike(a["tests"], b["tests"])


@pytest.mark.parametrize("pair", PAIRS[:3])
def test_texts(pair):
    one, other = both(pair)
    left = pair[0].format("id")
    assert one.pymc_source().replace(left, pair[1]) == other.pymc_source()
    assert one.latex() == other.latex()
    assert alike(one.priors(), other.priors())
    assert one.priors().index.tolist() == other.priors().index.tolist()


@pytest.mark.parametrize("method", ["auto", "quadrature", "importance"])
def test_posteriors(method):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        one, other = (model.sample(100, method=method, random_seed=1) for model in both(PAIRS[0]))
    assert alike(one.table(), other.table())


def test_chains():
    yields = bl.load_dataset("Dyestuff")
    options = {"method": "collapsed_nuts", "chains": 1, "tune": 20, "random_seed": 1, "progressbar": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, other = (bl.Model(f"Yield ~ 1 + {t}(1 | Batch)", yields).sample(40, **options) for t in ("id", ""))
    assert alike(one.draws("sigma"), other.draws("sigma"))


def test_draws_from_the_prior():
    one, other = (model.prior_predictive(5, random_seed=1) for model in both(PAIRS[0]))
    assert one["prior"].to_dataset().equals(other["prior"].to_dataset())


def test_the_structure_as_an_object():
    one = bl.Model("Reaction ~ Days + (1 | Subject)", DATA, cov={"Subject": bl.Identity()}).fit()
    assert alike(one.estimates(), bl.Model("Reaction ~ Days + (1 | Subject)", DATA).fit().estimates())


@pytest.mark.parametrize("keyword", ["cs", "ar1"])
@pytest.mark.parametrize("left", ["1", "0 + Days"])
def test_correlations_of_one_effect_are_refused(keyword, left):
    with pytest.raises(DesignError, match=r"correlation of several effects.*has only one"):
        bl.Model(f"Reaction ~ Days + {keyword}({left} | Subject)", DATA)
