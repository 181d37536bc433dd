"""Bad input gets an error that says what was found, why it matters and what to do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl


@pytest.fixture
def data() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({"y": rng.normal(size=24), "x": rng.normal(size=24), "g": np.repeat(list("abcdef"), 4)})


def formula_error(formula: str, data: pd.DataFrame) -> bl.FormulaError:
    with pytest.raises(bl.FormulaError) as caught:
        bl.Model(formula, data)
    return caught.value


def design_error(formula: str, data: object, **options: object) -> str:
    with pytest.raises(bl.DesignError) as caught:
        bl.Model(formula, data, **options)
    return str(caught.value)


def test_missing_column(data: pd.DataFrame) -> None:
    text = design_error("y ~ height + (1 | g)", data)
    assert "'height'" in text and "y, x, g" in text
    assert text.splitlines()[-1].index("^") - 4 == "y ~ height".index("h")


def test_typo_in_a_group(data: pd.DataFrame) -> None:
    text = design_error("y ~ x + (1 | G)", data)
    assert "'G'" in text and "Did you mean 'g'" in text


def test_non_numeric_response(data: pd.DataFrame) -> None:
    data["y"] = [f"{v:.2f} cm" for v in data["y"]]
    text = design_error("y ~ x + (1 | g)", data)
    assert "not numeric" in text and "cm" in text and "to_numeric" in text


def test_constant_response(data: pd.DataFrame) -> None:
    data["y"] = 3.5
    text = design_error("y ~ x + (1 | g)", data)
    assert "constant" in text and "3.5" in text and "24" in text


def test_all_missing_column(data: pd.DataFrame) -> None:
    data["x"] = np.nan
    text = design_error("y ~ x + (1 | g)", data)
    assert "'x'" in text and "no value" in text and "24 rows" in text


def test_infinite_values(data: pd.DataFrame) -> None:
    data.loc[[3, 7], "x"] = np.inf
    text = design_error("y ~ x + (1 | g)", data)
    assert "'x'" in text and "2 infinite" in text and "3, 7" in text


def test_infinite_values_made_by_a_transformation(data: pd.DataFrame) -> None:
    data["x"] = np.arange(24)
    text = design_error("y ~ log(x) + (1 | g)", data)
    assert "log(x)" in text and "row(s) 0" in text


def test_one_group(data: pd.DataFrame) -> None:
    data["g"] = "only"
    text = design_error("y ~ x + (1 | g)", data)
    assert "'g'" in text and "'only'" in text and "at least two levels" in text


def test_one_group_on_request_goes_through_the_ordinary_code(data: pd.DataFrame) -> None:
    data["g"] = "only"
    fit = bl.Model("y ~ x + (1 | g)", data, saturated="allow").fit()
    X = np.column_stack([np.ones(24), data["x"]])
    rss = np.linalg.lstsq(X, data["y"].to_numpy())[1][0]
    # the intercept absorbs the only level: REML is the one of ordinary least squares
    assert fit.sigma**2 == pytest.approx(rss / 22, rel=1e-8)


def test_as_many_groups_as_rows(data: pd.DataFrame) -> None:
    data["g"] = range(24)
    text = design_error("y ~ x + (1 | g)", data)
    assert "24 random effects" in text and "24 rows" in text and "cannot be told apart" in text


@pytest.mark.parametrize(("formula", "effects"), [("y ~ x + (x | g)", 24), ("y ~ x + (1 + x + I(x**2) | g)", 36)])
def test_as_many_random_effects_as_rows(data: pd.DataFrame, formula: str, effects: int) -> None:
    data["g"] = np.repeat(range(12), 2)
    assert f"{effects} random effects" in design_error(formula, data)


def test_negative_weights(data: pd.DataFrame) -> None:
    weights = np.ones(24)
    weights[5] = -2.0
    text = design_error("y ~ x + (1 | g)", data, weights=weights)
    assert "negative" in text and "-2" in text and "row(s) 5" in text


def test_weights_of_the_wrong_length(data: pd.DataFrame) -> None:
    text = design_error("y ~ x + (1 | g)", data, weights=np.ones(10))
    assert "(10,)" in text and "24 rows" in text


def test_duplicated_column_names(data: pd.DataFrame) -> None:
    doubled = pd.concat([data, data[["x"]]], axis=1)
    text = design_error("y ~ x + (1 | g)", doubled)
    assert "2 columns named 'x'" in text


def test_formula_without_a_random_term(data: pd.DataFrame) -> None:
    error = formula_error("y ~ x", data)
    assert "no random-effects term" in str(error) and "(1 | group)" in str(error)


@pytest.mark.parametrize(
    ("formula", "place", "part"),
    [
        ("y ~ x | g + z", 6, "parentheses"),
        ("y ~ log(x | g)", 10, "no random term can be"),
        ("y ~ x + (x | g | h)", 15, "second bar"),
        ("y | g ~ x", 2, "left of ~"),
        ("y ~ x + ( | g)", 10, "left of the bar"),
        ("y ~ x + (1 | )", 11, "right of the bar"),
        ("y ~ x + (1 | 2)", 13, "grouping factor"),
        ("y ~ x + (1 | log(g))", 13, "grouping factor"),
        ("y ~ x + (1 | g) +", 16, "after the last sign"),
        ("~ x + (1 | g)", 0, "No response"),
    ],
)
def test_bar_in_the_wrong_place(data: pd.DataFrame, formula: str, place: int, part: str) -> None:
    error = formula_error(formula, data)
    assert part in str(error)
    assert error.position == place
    lines = str(error).splitlines()
    assert lines[-2].strip() == formula
    assert lines[-1].index("^") == 4 + place


@pytest.mark.parametrize(
    ("formula", "place"),
    [("y ~ x + (1 | g", 8), ("y ~ x + 1 | g)", 13), ("y ~ (x] + (1 | g)", 6), ("y ~ `x + (1|g)", 4)],
)
def test_unbalanced_bracket(data: pd.DataFrame, formula: str, place: int) -> None:
    assert formula_error(formula, data).position == place


def test_no_tilde(data: pd.DataFrame) -> None:
    assert "no ~" in str(formula_error("y + (1 | g)", data))


def test_empty_data_frame(data: pd.DataFrame) -> None:
    text = design_error("y ~ x + (1 | g)", data.iloc[:0])
    assert "no rows" in text and "3 columns" in text


def test_no_data_frame() -> None:
    assert "dict" in design_error("y ~ x + (1 | g)", {"y": [1, 2]})


def test_boolean_response(data: pd.DataFrame) -> None:
    data["y"] = data["y"] > 0
    text = design_error("y ~ x + (1 | g)", data)
    assert "boolean" in text and "logistic" in text and "astype(float)" in text


def test_categorical_response(data: pd.DataFrame) -> None:
    data["y"] = pd.Categorical(np.where(data["y"] > 0, "high", "low"))
    text = design_error("y ~ x + (1 | g)", data)
    assert "categorical" in text and "'high'" in text


def test_columns_with_spaces_quotes_and_dots(data: pd.DataFrame) -> None:
    plain = bl.Model("y ~ x + (x | g)", data).fit()
    odd = data.rename(columns={"y": "reaction time", "x": "the 'x' \"axis\"", "g": "sub.ject"})
    fit = bl.Model("`reaction time` ~ `the 'x' \"axis\"` + (`the 'x' \"axis\"` | sub.ject)", odd).fit()
    assert fit.criterion == pytest.approx(plain.criterion, rel=1e-12)
    assert list(fit.fixef().index) == ["Intercept", "the 'x' \"axis\""]
    assert "sd_sub.ject[the 'x' \"axis\"]" in fit.estimates().index


def test_too_few_rows(data: pd.DataFrame) -> None:
    assert "2 fixed effects" in design_error("y ~ x + (1 | g)", data.iloc[[0, 5]])


def test_function_that_does_not_exist(data: pd.DataFrame) -> None:
    text = design_error("y ~ spline(x) + (1 | g)", data)
    assert "spline" in text and "could not be evaluated" in text


def test_unknown_contrasts(data: pd.DataFrame) -> None:
    assert "numeric" in design_error("y ~ x + (1 | g)", data, contrasts={"x": "sum"})
    data["f"] = np.tile(list("uv"), 12)
    assert "'summ'" in design_error("y ~ f + (1 | g)", data, contrasts={"f": "summ"})
