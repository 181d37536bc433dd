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
    assert "not numeric" in text and "cm" in text and "str.extract" in text


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
    with pytest.warns(bl.ConvergenceWarning, match="the data say nothing about the variance of Intercept in"):
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
    data["g"], data["x"] = np.repeat(range(12), 2), np.tile([0.0, 1.0], 12)
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


@pytest.mark.parametrize(
    ("formula", "place", "part"),
    [
        ("y ~ x, z + (1 | g)", 5, "','"),
        ("y ~ x z + (1 | g)", 6, "'z'"),
        ("y ~ (x z | g)", 7, "'z'"),
        ("y ~ x == 1 + (1 | g)", 6, "I(x > 1)"),
        ("y ~ 2 * x + (1 | g)", 4, "I(2 * x)"),
        ("y ~ x + 3 + (1 | g)", 8, "number 3"),
        ("y ~ -x + (1 | g)", 5, "I(-x)"),
        ("y ~ 1 + (-x | g)", 9, "I(-x)"),
        ("y ~ x^2 + (1 | g)", 5, "I(x**2)"),
        ("y ~ log(x)**2 + (1 | g)", 10, "I("),
        ("y ~ (x + z)^w + (1 | g)", 12, "whole number"),
        ("y ~ x * + (1 | g)", 6, "missing after"),
        ("y ~ x + (x:| g)", 10, "missing after"),
        ("y ~ (x + ()) + (1 | g)", 10, "missing before"),
        ("y ~ f[1] + (1 | g)", 5, "'['"),
        ("y ~ 'x' + (1 | g)", 4, "cannot be a term"),
        ("y ~ log(.) + (1 | g)", 8, "a single column is needed"),
        ("y ~ offset(x) * z + (1 | g)", 4, "summand of its own"),
        ("y ~ log(offset(x)) + (1 | g)", 8, "summand of its own"),
        ("y ~ x + y + (1 | g)", 8, "response y"),
        ("y ~ x | g | h", 10, "Two bars"),
        ("y ~ x * (1 | g)", 11, "whole summands"),
        ("y ~ x - (1 | g)", 8, "subtracted"),
    ],
)
def test_text_without_meaning(data: pd.DataFrame, formula: str, place: int, part: str) -> None:
    error = formula_error(formula, data)
    assert part in str(error) and error.position == place


def test_formula_that_is_no_string(data: pd.DataFrame) -> None:
    with pytest.raises(bl.FormulaError, match="int, not a string"):
        bl.Model(5, data)


def test_caret_stands_under_the_whole_name() -> None:
    data = pd.DataFrame({"Reaction": np.arange(6.0), "g": list("uuvvww")})
    text = design_error("Reaction ~ a + (1 | g)", data)
    assert text.splitlines()[-1].index("^") == 4 + len("Reaction ~ ")


@pytest.mark.parametrize("values", [[1.5] * 12 + [2.5] * 12, [1] * 12 + [2] * 12])
def test_numbers_stored_as_objects(data: pd.DataFrame, values: list[float]) -> None:
    data["x"] = pd.Series(values, dtype=object)
    text = design_error("y ~ x + (1 | g)", data)
    assert "'x'" in text and "to_numeric" in text and "category" in text


def test_dates_as_predictor(data: pd.DataFrame) -> None:
    data["x"] = pd.date_range("2024-03-01", periods=24)
    text = design_error("y ~ x + (1 | g)", data)
    assert "2024-03-01" in text and "Timedelta('1D')" in text


def test_complex_numbers(data: pd.DataFrame) -> None:
    data["x"] = data["x"] * 1j
    assert "'x' holds complex" in design_error("y ~ x + (1 | g)", data)


def test_numbers_read_as_text(data: pd.DataFrame) -> None:
    data["x"] = data["x"].map(str)
    text = design_error("y ~ x + (1 | g)", data)
    assert "24 fixed effects" in text and "read as text" in text


@pytest.mark.parametrize("response", ["I(y > 0)", "I(g)"])
def test_expression_that_gives_no_number(data: pd.DataFrame, response: str) -> None:
    text = design_error(f"{response} ~ x + (1 | g)", data)
    assert response in text and "number" in text


def test_boolean_objects_as_response(data: pd.DataFrame) -> None:
    data["y"] = pd.Series([True, False] * 12, dtype=object)
    assert "boolean" in design_error("y ~ x + (1 | g)", data)


def test_logarithm_of_a_negative_response(data: pd.DataFrame) -> None:
    data["y"] = np.arange(24) - 1.0
    text = design_error("log(y) ~ x + (1 | g)", data)
    assert "log(y)" in text and "row(s) 0, 1" in text and "negative number" in text


def test_categorical_offset(data: pd.DataFrame) -> None:
    assert "'g' is not numeric" in design_error("y ~ x + offset(g) + (1 | g)", data)


def test_function_with_one_value(data: pd.DataFrame) -> None:
    assert "np.mean(x)" in design_error("y ~ np.mean(x) + (1 | g)", data)


def test_rows_that_are_never_complete(data: pd.DataFrame) -> None:
    data.loc[:11, "x"] = np.nan
    data.loc[12:, "y"] = np.nan
    text = design_error("y ~ x + (1 | g)", data)
    assert "missing x in 12 rows" in text and "missing y in 12 rows" in text


def test_constant_after_dropping(data: pd.DataFrame) -> None:
    data["y"] = [1.0] * 23 + [2.0]
    data.loc[23, "x"] = np.nan
    assert "all 23 values are 1" in design_error("y ~ x + (1 | g)", data)


@pytest.mark.parametrize(
    ("weights", "part"),
    [
        ("nope", "weights='nope'"),
        ("1 / nope", "'nope', which is not a column"),
        ("g", "not numeric"),
        ("2.0", "names no column"),
        ("1 / zero", "infinite"),
        (["a"] * 24, "not numbers"),
        (np.zeros(24), "weight 0 in 24 rows"),
        (2.0, "24 rows"),
    ],
)
def test_other_weights(data: pd.DataFrame, weights: object, part: str) -> None:
    data["zero"] = np.arange(24)
    assert part in design_error("y ~ x + (1 | g)", data, weights=weights)


def test_weights_in_another_order(data: pd.DataFrame) -> None:
    weights = pd.Series(np.ones(24)).sort_index(ascending=False)
    text = design_error("y ~ x + (1 | g)", data, weights=weights)
    assert "another index" in text and "to_numpy" in text


def test_levels_of_the_same_name(data: pd.DataFrame) -> None:
    data["a"] = ["x:y"] * 12 + ["x"] * 12
    data["b"] = ["z"] * 12 + ["y:z"] * 12
    text = design_error("y ~ x + (1 | a:b)", data)
    assert "'x:y:z'" in text and "Rename" in text


def test_random_term_without_columns(data: pd.DataFrame) -> None:
    assert "(0 | g) has no columns" in design_error("y ~ x + (0 | g)", data)


def test_shape_of_contrasts(data: pd.DataFrame) -> None:
    text = design_error("y ~ g + (1 | g)", data, contrasts={"g": np.ones((3, 1))})
    assert "for g" in text and "(3, 1)" in text and "6 levels" in text
    assert "does not use" in design_error("y ~ x + (1 | g)", data, contrasts={"f": "sum"})


def test_caret_in_a_formula_of_several_lines(data: pd.DataFrame) -> None:
    lines = str(formula_error("y ~ x +\n  (1 | g) +\n\t2 * x", data)).splitlines()
    assert lines[-2] == "     2 * x" and lines[-1] == "     ^"


def test_duplicated_column_names_of_another_table(data: pd.DataFrame) -> None:
    arrow = pytest.importorskip("pyarrow")
    columns = [arrow.array(data[name]) for name in ("y", "x", "x", "g")]
    assert "'x'" in design_error("y ~ x + (1 | g)", arrow.Table.from_arrays(columns, names=["y", "x", "x", "g"]))


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ Intercept + (1 | g)",
        "y ~ x + (Intercept | g)",
        "y ~ x * Intercept + (1 | g)",
        "y ~ x + x:Intercept + (1 | g)",
        "y ~ 0 + `Intercept` + (1 | g)",
        "y ~ poly(x, 2) + Intercept + (1 | g)",
    ],
)
def test_a_predictor_called_like_the_constant(data: pd.DataFrame, formula: str) -> None:
    data["Intercept"] = data["x"] ** 2
    text = design_error(formula, data)
    assert "'Intercept'" in text and "constant" in text and "I(Intercept)" in text and "Rename" in text


def test_other_roles_of_a_column_called_like_the_constant(data: pd.DataFrame) -> None:
    data["Intercept"] = data["x"] ** 2
    design = bl.Model("y ~ I(Intercept) + (1 | g)", data).design
    assert design.fixed_names == ("Intercept", "I(Intercept)")
    np.testing.assert_array_equal(design.X, np.column_stack([np.ones(24), data["Intercept"]]))
    np.testing.assert_array_equal(bl.Model("Intercept ~ x + (1 | g)", data).design.y, data["Intercept"])
    data["Intercept"] = data["g"]
    assert bl.Model("y ~ x + (1 | Intercept)", data).fit().estimates().index[0] == "sd_Intercept[Intercept]"


@pytest.mark.parametrize("name", ["sigma", "sd_g[Intercept]", "sd_g[x]", "corr_g[Intercept.x]"])
def test_a_predictor_called_like_another_parameter(data: pd.DataFrame, name: str) -> None:
    data[name] = data["x"] ** 2
    text = design_error(f"y ~ `{name}` + (x | g)", data)
    assert repr(name) in text and ("deviation" in text or "correlation" in text)
    assert "a coefficient" in text and "Rename" in text


def test_names_of_parameters_inside_other_terms(data: pd.DataFrame) -> None:
    data["sigma"] = data["x"] ** 2
    other = data.rename(columns={"sigma": "z"})
    found = bl.Model("y ~ I(sigma) + sigma:x + (sigma | g)", data).fit().estimates()
    expected = bl.Model("y ~ I(z) + x:z + (z | g)", other).fit().estimates()
    labels = ["sd_g[Intercept]", "sd_g[sigma]", "corr_g[Intercept.sigma]", "sigma", "Intercept", "I(sigma)"]
    assert list(found.index[:6]) == labels
    np.testing.assert_allclose(found.to_numpy(), expected.to_numpy(), rtol=1e-9)
