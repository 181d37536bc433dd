"""What fits are asked of their means, asked of posteriors and of both side by side."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError

DRAWS = 4000


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(12)
    g, a, x = np.repeat(np.arange(40), 12), np.tile(list("abc"), 160), rng.uniform(0, 4, 480)
    y = 5 + 0.05 * (a == "b") + 0.3 * x + rng.normal(size=40)[g] + rng.normal(size=480)
    return pd.DataFrame({"y": y, "a": a, "x": x, "g": g.astype(str)})


@pytest.fixture(scope="module")
def both(data: pd.DataFrame) -> bl.Comparison:
    model = bl.Model("y ~ a + x + (1 | g)", data)
    return bl.compare(model.fit(), model.sample(DRAWS, random_seed=1))


def test_share_farther_than_zero_is_the_p_value_where_data_are_many(both: bl.Comparison) -> None:
    table = both.joint_tests(ddf="z")
    p, shares = table["p_value"].to_numpy(), table["p_farther"].to_numpy()
    assert 0.02 < p[0] < 0.9 and p[1] < 1e-8 and shares[1] == 0.0
    # Five errors of a share, and the difference between z and the t of a posterior.
    assert abs(shares[0] - p[0]) < 5 * np.sqrt(p[0] * (1 - p[0]) / DRAWS) + 0.005
    alone = both.posterior.joint_tests(ddf="kenward-roger")
    assert alone["p_farther"].tolist() == shares.tolist() and alone["df1"].tolist() == [2.0, 1.0]
    # F: that of the posterior covariance, which is REML's but for the error of moments of draws.
    np.testing.assert_allclose(alone["F"], table["F"], rtol=5 * np.sqrt(2 / DRAWS))
    text = repr(both.joint_tests())
    assert "< 0.00" in text and max(map(len, text.splitlines())) <= 80


def test_of_one_dimension_it_is_counted_by_hand(data: pd.DataFrame) -> None:
    post = bl.Model("y ~ x + offset(0.29 * x) + (1 | g)", data).sample(DRAWS, random_seed=1)
    x = post.draws("x")
    share = np.mean(np.abs(x - x.mean()) > abs(x.mean()))
    assert post.joint_tests()["p_farther"].tolist() == [share] and 0 < share < 1


def test_it_does_not_depend_on_the_coding(data: pd.DataFrame) -> None:
    found = []
    for formula in ("y ~ a * x + (1 | g)", "y ~ C(a, Sum) * x + (1 | g)"):
        post = bl.Model(formula, data).sample(DRAWS, random_seed=1, priors={"sigma": bl.HalfNormal(5)})
        found.append(post.joint_tests()["p_farther"].to_numpy())
    # Coordinates differ, and draws with them: Monte Carlo error.
    np.testing.assert_allclose(*found, atol=5 * 0.5 * np.sqrt(2 / DRAWS))


def test_posteriors_take_the_arguments_of_fits(both: bl.Comparison) -> None:
    post = both.posterior
    same = (
        (post.means("a"), post.means("a", ddf="z", adjust="tukey")),
        (post.trends("x", "a"), post.trends("x", "a", ddf="residual", adjust="mvt")),
        (post.estimable({"x": 1}), post.estimable({"x": 1}, ddf="satterthwaite")),
    )
    for plain, asked in same:
        pd.testing.assert_frame_equal(plain.frame, asked.frame)
    for wrong in ({"ddf": "kr"}, {"adjust": "turkey"}, {"ddf": 3}):
        with pytest.raises(DesignError, match=next(iter(wrong))):
            post.means("a", **wrong)
        with pytest.raises(DesignError, match=next(iter(wrong))):
            post.trends("x", **wrong)
    for call in (post.joint_tests, both.joint_tests):
        with pytest.raises(DesignError, match="ddf"):
            call(ddf="kr")
        with pytest.raises(DesignError, match="df2"):
            call(df2="most")
        with pytest.raises(DesignError, match="nothing"):
            call("nothing")


def test_letters_of_all_stand_beside_each_other(both: bl.Comparison) -> None:
    more = bl.compare(both.reml, {"one": both.posterior, "two": both.posterior})
    for own in (both, more):
        means = own.means("a")
        table = means.letters(level=0.9)
        fit = means.reml.letters(level=0.9)
        assert table["letters"].tolist() == fit["letters"].tolist() and table["a"].tolist() == fit["a"].tolist()
        for name, posterior in means.posteriors.items():
            alone = posterior.letters(level=0.9).set_index("a").loc[table["a"]]
            assert table[f"letters ({name})"].tolist() == alone["letters"].tolist()
            assert table[f"mean ({name})"].tolist() == alone["mean"].tolist()
        assert max(map(len, repr(table).splitlines())) <= 80


def test_letters_of_a_posterior_show_the_digits_that_are_known(both: bl.Comparison) -> None:
    means = both.posterior.means("a", by="x", at={"x": [0, 2]})
    shown = {line.split()[2] for line in repr(means).splitlines()[3:9]}
    table = means.letters()
    assert len(table) == 6 and all(cell in repr(table) for cell in shown)


def test_linear_functions_of_both(both: bl.Comparison) -> None:
    asked = {"b": {"a[b]": 1}, "g 3": {"Intercept": 1, "g[3]": 1}}
    found = both.estimable(asked, ddf="z").frame
    assert found["estimate"].tolist() == both.reml.estimable(asked, ddf="z").frame["estimate"].tolist()
    assert found["mean"].tolist() == both.posterior.estimable(asked).frame["mean"].tolist()
    assert found["p_positive"].between(0, 1).all()


def test_probabilities_of_what_tests_would_show(both: bl.Comparison) -> None:
    pairs = both.means("a").pairs("none")
    own = pairs.posteriors[both.names[0]]
    draws = own.draws["a - b"].to_numpy()
    counted = {
        "greater": draws > 0.01,
        "less": draws < 0.01,
        "noninferiority": draws > 0.01 - 0.1,
        "nonsuperiority": draws < 0.01 + 0.1,
        "equivalence": np.abs(draws - 0.01) < 0.1,
    }
    for side, agree in counted.items():
        found = pairs.test(0.01, side, 0.1)
        assert found["probability"][0] == agree.mean()
        # Where data are many and priors flat, one minus the one-sided p value.
        p = both.means("a", ddf="z").pairs("none").test(0.01, side, 0.1)["p_value"][0]
        if side != "equivalence":
            assert abs(1 - p - agree.mean()) < 5 * 0.5 / np.sqrt(DRAWS)
    assert own.test(0.01)["probability"][0] == max(counted["greater"].mean(), counted["less"].mean())
    with pytest.raises(DesignError, match="margin"):
        own.test(side="equivalence")
    assert max(map(len, repr(pairs.test()).splitlines())) <= 80
