"""Results at the edges of what they were written for: no fixed effects, one column where a vector is expected."""

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    g, f = np.arange(90) % 9, rng.integers(0, 3, 90)
    x = rng.normal(size=90)
    y = 1 + x + 0.5 * f + rng.normal(size=9)[g] + rng.normal(size=90)
    return pd.DataFrame({"y": y, "x": x, "f": np.array(list("abc"))[f], "g": g.astype(str)})


@pytest.fixture(scope="module")
def empty(data: pd.DataFrame) -> bl.REMLResult:
    return bl.Model("y ~ 0 + (1 | g)", data).fit()


@pytest.mark.parametrize("kind", [{}, {"type": 2, "test": "chisq"}, {"type": 1}, {"ddf": "containment"}])
def test_a_table_of_no_fixed_effects_is_refused_in_words(empty, kind) -> None:
    with pytest.raises(DesignError, match="no fixed effect to test"):
        empty.anova(**kind)


def test_cases_are_said_to_be_sorted_by_what_they_are_sorted_by(empty, data) -> None:
    assert "largest change of sigma" in str(empty.influence())
    assert "largest Cook's distance" in str(bl.Model("y ~ x + (1 | g)", data).fit().influence())


def test_a_name_that_is_no_coefficient_of_none(empty) -> None:
    with pytest.raises(DesignError, match="The model has no fixed effects"):
        empty.test_fixed("x")


@pytest.mark.parametrize("missing", [False, True])
def test_a_response_of_one_column_is_a_response(data, missing) -> None:
    if missing:
        data = data.assign(x=data["x"].where(data.index != 3))
    fit = bl.Model("y ~ x + (1 | g)", data, **({"na_action": "exclude"} if missing else {})).fit()
    new = fit.simulate(1)
    expected = fit.refit(np.asarray(new).ravel() if len(new) == fit.n else new.iloc[:, 0])
    assert fit.refit(new).criterion == expected.criterion
    if not missing:
        assert fit.refit(np.asarray(new)).criterion == expected.criterion


def test_contrasts_within_an_r_formula_are_text(data) -> None:
    # R 4: lme(y ~ C(f, contr.sum)) stops with "invalid type (closure)"; as text it runs, with the same coefficients.
    model = bl.Model("y ~ C(f, Sum) + (1 | g)", data)
    assert 'C(f, "contr.sum")' in str(model.to("nlme"))


def test_backward_elimination_writes_names_that_need_backquotes(data) -> None:
    plain = data.assign(z=np.sin(np.arange(90.0)))
    odd = plain.rename(columns={"x": "the x", "f": "an f", "g": "a g", "z": "z [s]", "y": "the y"})
    expected = bl.Model("y ~ z + x + f + (1 + z | g)", plain).fit().step()
    found = bl.Model("`the y` ~ `z [s]` + `the x` + `an f` + (1 + `z [s]` | `a g`)", odd).fit().step()
    assert found.fit.criterion == pytest.approx(expected.fit.criterion, rel=1e-10)
    assert "z" not in expected.fit.formula
    again = bl.Model(found.fit.formula, odd).fit()
    assert again.criterion == pytest.approx(found.fit.criterion, rel=1e-8)
    assert "a g" in str(found.fit)
