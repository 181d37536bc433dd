"""Rows with missing values: left out, kept as nan in results by row, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError
from bayeslmm.storage.encoding import Decoder, Encoder

FORMULA = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    frame = bl.load_dataset("sleepstudy").astype({"Reaction": float, "Days": float})
    frame.loc[[2, 16], "Reaction"] = np.nan
    frame.loc[39, "Days"] = np.nan
    return frame


@pytest.fixture(scope="module")
def excluding(sleep: pd.DataFrame) -> bl.REMLResult:
    return bl.Model(FORMULA, sleep, na_action="exclude").fit()


def test_rows_left_out_are_nan_as_in_r(excluding: bl.REMLResult) -> None:
    # R 4.2.2, lme4 1.1-31: d <- sleepstudy; d$Reaction[c(3, 17)] <- NA; d$Days[40] <- NA
    # f <- lmer(Reaction ~ Days + (Days | Subject), d, na.action = na.exclude, control = lmerControl("bobyqa",
    # optCtrl = list(rhoend = 1e-11, maxfun = 1e5))), three times updated from getME(f, "theta").
    fitted, residuals = excluding.fitted(), excluding.residuals()
    expected = [261.414272681, 280.261010251, np.nan, 317.954485392, 336.801222963, 355.647960533]
    np.testing.assert_allclose(fitted[:6], expected, rtol=3e-8)
    expected = [-11.85427268100, -21.55631025140, np.nan, 3.48531460781, np.nan, np.nan, 12.98266654597]
    np.testing.assert_allclose(residuals[[0, 1, 2, 3, 16, 39, 40]], expected, rtol=1e-6)
    at = excluding.predict()["estimate"][38:41]
    np.testing.assert_allclose(at, [309.676776958, np.nan, 274.625233454], rtol=3e-8)


def test_padded_results_are_those_of_the_fit_without_the_rows(sleep: pd.DataFrame, excluding: bl.REMLResult) -> None:
    dropping = bl.Model(FORMULA, sleep).fit()
    assert dropping.fitted().shape == (177,)
    for padded, short in [
        (excluding.fitted(), dropping.fitted()),
        (excluding.residuals(), dropping.residuals()),
        (pd.DataFrame(excluding.predict()), pd.DataFrame(dropping.predict())),
        (pd.DataFrame(excluding.predict(kind="observation", random=None)),
         pd.DataFrame(dropping.predict(kind="observation", random=None))),
        (excluding.simulate(3, random_seed=1), dropping.simulate(3, random_seed=1)),
    ]:  # fmt: skip
        assert padded.index.equals(sleep.index)
        assert padded.equals(short.reindex(sleep.index))
    assert excluding.criterion == dropping.criterion
    assert str(excluding.design.dropped) == str(dropping.design.dropped)
    assert "results by row have nan there" in " ".join(repr(bl.Model(FORMULA, sleep, na_action="exclude")).split())


def test_order_and_repeated_labels_of_the_data_are_kept(sleep: pd.DataFrame) -> None:
    shuffled = sleep.sample(frac=1.0, random_state=1)
    shuffled.index = pd.Index(["a", "b"] * 90)
    fitted = bl.Model(FORMULA, shuffled, na_action="exclude").fit().fitted()
    assert fitted.index.equals(shuffled.index)
    missing = shuffled["Reaction"].isna() | shuffled["Days"].isna()
    assert (fitted.isna().to_numpy() == missing.to_numpy()).all()


def test_nothing_missing_changes_nothing() -> None:
    frame = bl.load_dataset("sleepstudy")
    plain = bl.Model(FORMULA, frame)
    for action in ("exclude", "fail"):
        assert bl.Model(FORMULA, frame, na_action=action).design == plain.design


def test_rows_of_weight_zero_are_nan_too(sleep: pd.DataFrame) -> None:
    frame = sleep.assign(w=np.where(np.arange(180) == 7, 0.0, 2.0))
    fit = bl.Model(FORMULA, frame, weights="w", na_action="exclude").fit()
    assert np.flatnonzero(fit.fitted().isna()).tolist() == [2, 7, 16, 39]
    # They are known to be without information, not missing.
    whole = bl.load_dataset("sleepstudy").assign(w=frame["w"])
    assert len(bl.Model(FORMULA, whole, weights="w", na_action="fail").dropped) == 1


def test_simulated_responses_of_all_rows_can_be_refitted(excluding: bl.REMLResult) -> None:
    simulated = excluding.simulate(2, random_seed=3)
    again = excluding.refit(simulated[0])
    by_position = excluding.refit(simulated[0].to_numpy())
    short = excluding.refit(simulated[0].dropna().to_numpy())
    assert again.criterion == by_position.criterion == short.criterion
    assert again.fitted().isna().sum() == 3
    np.testing.assert_allclose(excluding.refit_many(simulated).criterion[0], again.criterion, rtol=1e-10)


def test_a_refit_says_which_values_are_missing(excluding: bl.REMLResult) -> None:
    simulated = excluding.simulate(1, random_seed=3)[0].to_numpy().copy()
    simulated[0] = np.nan
    with pytest.raises(DesignError, match=r"1 missing or infinite value"):
        excluding.refit(simulated)


def test_posteriors_have_the_same_rows(sleep: pd.DataFrame) -> None:
    post = bl.Model(FORMULA, sleep, na_action="exclude").sample(200, random_seed=1)
    short = bl.Model(FORMULA, sleep).sample(200, random_seed=1)
    assert post.fitted().equals(short.fitted().reindex(sleep.index))
    assert post.residuals().equals(short.residuals().reindex(sleep.index))
    assert pd.DataFrame(post.predict()).equals(pd.DataFrame(short.predict()).reindex(sleep.index))
    draws = post.predict_draws()
    assert draws.sizes["obs"] == 180
    assert np.flatnonzero(np.isnan(draws.to_numpy()).all((0, 1))).tolist() == [2, 16, 39]
    assert post.add_groups("posterior_predictive", random_seed=1).data["posterior_predictive"].sizes["obs"] == 177


def test_lines_by_group_too(sleep: pd.DataFrame) -> None:
    padded = bl.lm_list("Reaction ~ Days | Subject", sleep, na_action="exclude").residuals()
    assert padded.equals(bl.lm_list("Reaction ~ Days | Subject", sleep).residuals().reindex(sleep.index))


def test_refused_rows_are_named(sleep: pd.DataFrame) -> None:
    message = r"3 row\(s\) have missing values \(missing Reaction: 2, 16; missing Days: 39\)"
    with pytest.raises(DesignError, match=message):
        bl.Model(FORMULA, sleep, na_action="fail")
    both = sleep.assign(Reaction=sleep["Reaction"].where(sleep.index != 39))
    with pytest.raises(DesignError, match=r"3 row\(s\)"):
        bl.Model(FORMULA, both, na_action="fail")
    with pytest.raises(DesignError, match=r"12 row\(s\).*9, ... \(12 in all\)|12 row\(s\).*7, ... \(12 in all\)"):
        bl.Model(FORMULA, bl.load_dataset("sleepstudy").assign(Days=lambda d: d["Days"].where(d.index > 11)),
                 na_action="fail")  # fmt: skip


@pytest.mark.parametrize(("given", "hint"), [("na.exclude", "'exclude'"), ("na.omit", "'drop'"), ("na.fail", "'fail'")])
def test_names_of_r_are_led_on(sleep: pd.DataFrame, given: str, hint: str) -> None:
    with pytest.raises(DesignError, match=f"na_action={hint}"):
        bl.Model(FORMULA, sleep, na_action=given)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [None, 1, "pad", np.array(["drop"]), pd.NA])
def test_other_actions_are_refused(sleep: pd.DataFrame, given: object) -> None:
    with pytest.raises(DesignError, match="It takes 'drop', 'exclude' or 'fail'"):
        bl.Model(FORMULA, sleep, na_action=given)  # type: ignore[arg-type]


def test_files_keep_all_rows(excluding: bl.REMLResult, tmp_path: Path) -> None:
    excluding.save(tmp_path / "fit")
    loaded = bl.load(tmp_path / "fit")
    assert loaded == excluding
    assert loaded.fitted().equals(excluding.fitted())


def test_designs_of_earlier_files_have_the_rows_of_the_fit(sleep: pd.DataFrame) -> None:
    encoder = Encoder()
    design = bl.Model(FORMULA, sleep).design
    encoded = encoder.encode(design)
    del encoded["fields"]["all_rows"]
    assert Decoder(encoder.arrays).decode(encoded) == design


@pytest.mark.parametrize(
    "kept", [np.arange(177) + 4, np.arange(177)[::-1].copy(), np.arange(176), np.arange(177.0), np.arange(177) - 1]
)
def test_changed_positions_are_refused(excluding: bl.REMLResult, kept: np.ndarray, tmp_path: Path) -> None:
    from dataclasses import replace

    from bayeslmm.design.dropped import AllRows
    from bayeslmm.design.stored import check_stored

    rows = excluding.design.all_rows
    assert rows is not None
    check_stored(excluding.design)
    with pytest.raises(ValueError, match=r"rows"):
        check_stored(replace(excluding.design, all_rows=AllRows(rows.index, kept)))
