"""What is said where sigma, or a correlation, is at or near the end of its range."""

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import BayesLMMWarning, DesignError, FitError


def one_effect_per_row(noise: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    g = np.arange(60) % 8
    y = rng.normal(size=60) + rng.normal(size=8)[g]
    frame = pd.DataFrame({"y": y, "x": rng.normal(size=60), "w": rng.exponential(size=60), "i": np.arange(60), "g": g})
    return frame.assign(z=rng.normal(size=8)[g] + noise * rng.normal(size=60))


def test_a_residual_at_zero_is_said() -> None:
    """The weights matter only through sigma: without it this is least squares, and that is the minimum."""
    frame = one_effect_per_row()
    fit = bl.Model("y ~ x + (1 | i)", frame, weights="w", saturated="allow").fit()
    X = np.column_stack([np.ones(60), frame["x"]])
    _, rss, *_ = np.linalg.lstsq(X, frame["y"].to_numpy(), rcond=None)
    least = 58 * (1 + np.log(2 * np.pi * rss[0] / 58)) + np.linalg.slogdet(X.T @ X)[1]
    assert fit.criterion == pytest.approx(least, abs=1e-5)
    if fit.status.ok:
        report = fit.boundary(posterior="none")
        assert "residual standard deviation is at its zero" in report.verdict
        assert "nothing to worry" not in str(report)
        assert "Nothing to do" not in str(report)


def test_a_small_residual_is_no_zero() -> None:
    fit = bl.Model("z ~ x + (1 | g)", one_effect_per_row(1e-7)).fit()
    assert 0.5e-7 < fit.sigma < 2e-7
    assert "at its zero" not in fit.boundary(posterior="none").verdict


def test_a_correlation_far_from_the_data_is_not_called_exact() -> None:
    rng = np.random.default_rng(3)
    s, x = np.arange(100) % 10, rng.normal(size=100)
    y = rng.normal(size=10)[s] + x * rng.normal(size=10)[s] * 0.5 + rng.normal(size=100)
    fit = bl.Model("y ~ x + (x | s)", pd.DataFrame({"y": y, "x": x + 1e6, "s": s})).fit()
    assert not fit.is_singular
    with pytest.raises(DesignError, match=r"within \de-1[23] of -1"):
        fit.confint(method="wald", parameters="corr_s[Intercept.x]")


def test_messages_name_what_was_asked() -> None:
    frame = one_effect_per_row()
    fit = bl.Model("y ~ x + (1 | g) + (0 + x | g)", frame).fit()
    with pytest.raises(DesignError, match=r"'g' is the grouping factor of 2: \(1 \| g\), \(0 \+ x \| g\)"):
        fit.test_zero("g")
    with pytest.raises(DesignError, match="x cannot be nan: give finite numbers"):
        fit.profile("x", [0.0, np.nan])
    ridge = bl.Model("y ~ x + (1 | g) + (1 | h) + (1 | k)", frame.assign(h=frame["g"], k=frame["g"])).fit(
        on_failure="ignore"
    )
    with pytest.warns(BayesLMMWarning, match="cannot all be told apart") as caught:
        # What h takes over from the others they take back.
        assert ridge.test_zero("h").rise == 0.0
    assert len(caught) == 1


def test_evaluations_can_be_raised() -> None:
    model = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
    # Without a row the design is not balanced, and has no closed form to start from.
    unbalanced = bl.Model(model.formula, bl.load_dataset("sleepstudy").iloc[1:])
    short = unbalanced.fit(max_evaluations=2, on_failure="ignore")
    assert "evaluation limit" in str(short.status)
    assert model.fit().criterion == pytest.approx(1743.628, abs=1e-3)  # lme4
    assert model.fit(max_evaluations=300).criterion == pytest.approx(1743.628, abs=1e-3)
    for wrong in (0, 2.5, True, "many"):
        with pytest.raises(FitError, match="max_evaluations"):
            model.fit(max_evaluations=wrong)  # type: ignore[arg-type]
