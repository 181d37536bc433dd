"""Slopes at kinks, degrees of freedom after regrid(), notes and names, as a reviewer found them."""

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(7)
    n = 90
    frame = pd.DataFrame(
        {"x": rng.uniform(0.0, 5.0, n), "f": np.tile(["a", "b", "c"], 30), "h": np.repeat(["u", "v"], 45)}
    )
    frame["x"] += 2.5 - frame["x"].mean()
    frame["g"] = [f"g{i % 10:02d}" for i in range(n)]
    effects = rng.normal(size=10)
    frame["y"] = 3.0 + np.maximum(frame["x"] - 2.4, 0) + effects[np.arange(n) % 10] * 0.3 + rng.normal(size=n) * 0.2
    return frame.drop(index=range(0, 30, 3)).reset_index(drop=True)


def test_slope_beside_a_kink_is_the_coefficient(data):
    mean = float(data["x"].mean())
    for away in (1e-2, 1e-3, 3e-5):
        fit = bl.Model(f"y ~ pmax(x - {mean - away!r}, 0) + (1 | g)", data).fit()
        assert fit.trends("x").estimates[0] == pytest.approx(fit.coefficients().iloc[1]["estimate"], rel=1e-7)


def test_slope_beside_a_step_is_zero(data):
    fit = bl.Model("y ~ I(x > 3) + (1 | g)", data).fit()
    assert fit.trends("x", at={"x": 2.999}).estimates[0] == 0.0


def test_no_slope_at_a_kink_or_step(data):
    for formula in ("y ~ pmax(x - 3, 0) + (1 | g)", "y ~ I(x > 3) + (1 | g)"):
        with pytest.raises(DesignError, match="kink or a step at x = 3"):
            bl.Model(formula, data).fit().trends("x", at={"x": 3.0})


def test_regridded_contrasts_have_the_least_df_of_their_means(data):
    means = bl.Model("log(y) ~ f + (1 | g)", data).fit().means("f")
    df = means.frame["df"].to_numpy()
    assert np.ptp(df) > 1e-6
    found = means.regrid().pairs().frame["df"].to_numpy()
    np.testing.assert_allclose(found, [min(df[0], df[1]), min(df[0], df[2]), min(df[1], df[2])], rtol=1e-12)


def test_note_of_slopes_is_about_terms_with_the_slope(data):
    assert "misleading" not in repr(bl.Model("y ~ f * h + x + (1 | g)", data).fit().trends("x", "h"))
    assert "misleading" in repr(bl.Model("y ~ f * h * x + (1 | g)", data).fit().trends("x", "h"))


def test_letters_of_groups_say_so(data):
    fit = bl.Model("y ~ f * h + (1 | g)", data).fit()
    assert "within each group of h" in repr(fit.means("f", by="h").letters())
    assert "within each" not in repr(fit.means("f").letters())


def test_estimable_reads_effects_without_a_space(data):
    fit = bl.Model("y ~ x + (x || g)", data).fit()
    a, b = (fit.estimable({key: 1}).estimates[0] for key in ("g[g01,x]", "g[g01, x]"))
    assert a == b
