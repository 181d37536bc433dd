"""Joint tests and means where factors are nested in others, beside emmeans 1.8.4.1.

Fits by lme4 1.1-31 with lmerControl("bobyqa", optCtrl = list(rhoend = 1e-11, maxfun = 1e5)), updated three times from
their own theta; `joint_tests(m, lmer.df = "satterthwaite")`, which rounds df to two places and F to three, and
`emmeans(m, "f", lmer.df = "satterthwaite", weights = ...)`. R makes the same data by
d <- expand.grid(rep = 1:3, g = 1:6, fh = 1:5) and the lines of `rows_by_formula` (../conftest.py) and
`frame`, then d[-c(4, 17, 33, 60), ].
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl

JOINT: dict[str, dict[str, tuple[int, float, float]]] = {
    "y ~ f / h": {"f": (1, 76.01, 283.565), "f:h": (3, 76.00, 12.870)},
    "y ~ f + f:h": {"f": (1, 76.01, 283.565), "f:h": (3, 76.00, 12.870)},
    # h has labels of its own in every level of f: the cells alone say that it is nested.
    "y ~ f + h": {"f": (1, 76.01, 283.565), "f:h": (3, 76.00, 12.870)},
    "y ~ f / hr * k": {
        "f": (1, 71.01, 351.715),
        "k": (1, 71.03, 26.120),
        "f:hr": (3, 71.00, 16.042),
        "f:k": (1, 71.02, 8.591),
        "f:hr:k": (3, 71.00, 0.459),
    },
    "y ~ f / h / k": {"f": (1, 71.01, 351.715), "f:h": (3, 71.00, 16.042), "f:h:k": (5, 71.00, 9.242)},
    "y ~ k / (f / h)": {"k": (1, 71.03, 26.120), "k:f": (2, 71.00, 222.888), "k:f:h": (6, 71.00, 10.208)},
    "y ~ f / (h * x)": {
        "f": (1, 71.01, 299.319),
        "f:h": (3, 71.01, 13.461),
        "f:x": (2, 71.08, 4.336),
        "f:h:x": (3, 71.04, 0.075),
    },
    # Not nested: the formula is symmetric in two crossed factors.
    "y ~ f:k": {"f": (1, 77.01, 203.782), "k": (1, 77.04, 14.873), "f:k": (1, 77.03, 5.311)},
}
# Of y ~ f / h / k without the cell of u and k2: estimates, standard errors, degrees of freedom.
MEANS: dict[tuple[str, str], tuple[list[float], list[float], list[float]]] = {
    ("f", "equal"): ([11.31972139, 14.94052433], [0.536881529, 0.5078946483], [6.4849669, 5.2026363]),
    ("f", "proportional"): ([11.66024939, 15.18791395], [0.5237123221, 0.5064781655], [5.8781719, 5.1449138]),
    ("h", "equal"): (
        [10.83356401, 11.80587878, 14.03970833, 14.952323, 15.82954167],
        [0.6151168238, 0.5355153994, 0.5342561191, 0.5355153994, 0.5342561191],
        [10.966684, 6.4206806, 6.3614001, 6.4206806, 6.3614001],
    ),
    ("h", "proportional"): (
        [10.83356401, 11.90339215, 14.26655556, 15.16702585, 16.129],
        [0.6151168238, 0.5321143819, 0.5299300732, 0.5321143819, 0.5299300732],
        [10.966684, 6.2608725, 6.1600451, 6.2608725, 6.1600451],
    ),
    ("k", "equal"): (
        [10.83356401, 11.47433333, 12.13742423, 13.35916667, 14.72025, 14.22233333, 15.68231268, 14.93116667,
         16.72791667],
        [0.6151168238, 0.5953867437, 0.5519323549, 0.5953867437, 0.5470290262, 0.5953867437, 0.5519323549, 0.5953867437,
         0.5470290262],
        [10.966684, 9.6968417, 7.2302363, 9.6968417, 6.9821711, 9.6968417, 7.2302363, 9.6968417, 6.9821711],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def frame(rows_by_formula: pd.DataFrame) -> pd.DataFrame:
    data, fh = rows_by_formula.copy(), np.arange(90) // 18
    for name, levels in {"f": "aabbb", "h": "uvwxz", "hr": "uvuvw"}.items():
        data[name] = np.array(list(levels))[fh]
    return data.drop(index=[3, 16, 32, 59]).reset_index(drop=True)


@pytest.mark.parametrize("formula", JOINT)
def test_joint_tests_are_within_what_a_factor_is_nested_in(frame: pd.DataFrame, formula: str) -> None:
    table = bl.Model(f"{formula} + (1 | g)", frame).fit().joint_tests().set_index("term")
    expected = pd.DataFrame(JOINT[formula], index=["df1", "df2", "F"]).T
    assert list(table.index) == list(expected.index)
    assert (table["df1"] == expected["df1"]).all()
    np.testing.assert_allclose(table["df2"], expected["df2"], atol=0.0051)
    np.testing.assert_allclose(table["F"], expected["F"], atol=0.00051)
    assert (table["note"] == "").all()


@pytest.mark.parametrize(("name", "weights"), MEANS)
def test_means_are_averages_within_what_a_factor_is_nested_in(frame: pd.DataFrame, name: str, weights: str) -> None:
    data = frame[(frame["h"] != "u") | (frame["k"] != "k2")]
    means = bl.Model("y ~ f / h / k + (1 | g)", data).fit().means(name, weights=weights)
    estimate, std_error, df = MEANS[name, weights]
    assert list(means.frame.columns[: {"f": 1, "h": 2, "k": 3}[name]]) == {"f": ["f"], "h": ["h", "f"]}.get(
        name, ["k", "f", "h"]
    )
    np.testing.assert_allclose(means.frame["estimate"], estimate, rtol=1e-8)
    np.testing.assert_allclose(means.frame["std_error"], std_error, rtol=1e-6)
    np.testing.assert_allclose(means.frame["df"], df, rtol=1e-4)
    text = str(means)
    assert "h is nested in f" in text
    assert "k is nested in f:h" in " ".join(text.split())


def test_a_nested_factor_alone_is_one_symmetric_term(frame: pd.DataFrame) -> None:
    # y ~ f:h spans what f / h does. emmeans calls all of it confounded; the cells say which factor is in which.
    alone, nested = (bl.Model(f"y ~ {fixed} + (1 | g)", frame).fit().joint_tests() for fixed in ("f:h", "f / h"))
    assert list(alone["term"]) == ["f", "f:h"]
    np.testing.assert_allclose(alone["F"], nested["F"], rtol=1e-9)


def test_groups_of_pairs_differ_in_size(frame: pd.DataFrame) -> None:
    # Tukey's adjustment within b is for three means, and none is left for two. One mean has no pair.
    fit = bl.Model("y ~ f / h + (1 | g)", frame).fit()
    pairs = fit.means("h", by="f").pairs()
    three = fit.means("h", at={"f": "b"}).pairs().frame
    own = pairs.frame[pairs.frame["f"] == "b"]
    np.testing.assert_allclose(own["p_value"], three["p_value"], rtol=1e-12)
    two = pairs.frame[pairs.frame["f"] == "a"]
    np.testing.assert_allclose(two["p_value"], fit.means("h", by="f").pairs("none").frame["p_value"][:1], rtol=1e-6)
    assert "comparing 2 to 3 means" in str(pairs)
    fewer = bl.Model("y ~ f / h + (1 | g)", frame[frame["h"] != "v"]).fit().means("h", by="f").pairs()
    assert list(fewer.frame["f"]) == ["b"] * 3


def test_joint_tests_by_what_is_nested_or_nested_in(frame: pd.DataFrame) -> None:
    fit = bl.Model("y ~ f / h * k + (1 | g)", frame).fit()
    by_f, by_h = fit.joint_tests("f"), fit.joint_tests("h")
    assert list(by_f["df1"]) == [1, 2, 1, 1, 1, 2]
    assert list(by_h.columns[:3]) == ["term", "h", "f"]
    assert list(by_h["term"]) == ["k"] * 5
    # A test of one function is the square of its t.
    pairs = fit.means("k", by=["h", "f"]).pairs("none").frame
    np.testing.assert_allclose(by_h["F"], pairs["t"] ** 2, rtol=1e-9)


def test_means_of_a_posterior_are_within_them_too(frame: pd.DataFrame) -> None:
    model = bl.Model("y ~ f / h + (1 | g)", frame)
    post, fit = model.sample(random_seed=1), model.fit()
    means = post.means("h")
    assert list(means.frame["f"]) == list("aabbb")
    np.testing.assert_allclose(means.frame["mean"], fit.means("h").frame["estimate"], atol=0.1)
