"""Tables of draws print what the draws can tell, and hold all of it."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl

NAME = "<b>|*_[x]_*|\n</b>"
Tables = tuple[bl.Posterior, bl.Comparison]


@pytest.fixture(scope="module")
def slopes() -> Tables:
    model = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
    post = model.sample(1000, random_seed=1)
    return post, bl.compare(model.fit(), post)


FRAMES: dict[str, Callable[[Tables], Any]] = {
    "table": lambda both: both[0].table(),
    "table_90": lambda both: both[0].table(0.9),
    "at_means": lambda both: both[0].at_means(),
    "hdi": lambda both: both[0].hdi(),
    "varcorr": lambda both: both[0].varcorr(),
    "tidy": lambda both: both[0].tidy(),
    "ranef": lambda both: both[0].ranef()["Subject"],
    "ranef_sd": lambda both: both[0].ranef_sd()["Subject"],
    "ranef_low": lambda both: both[0].ranef_interval()[0]["Subject"],
    "compared": lambda both: both[1].table[["mean", "median", "mode", "hdi_low", "hdi_high"]],
    "groups": lambda both: both[1].groups[["posterior_mean", "posterior_sd", "weight_mean", "weight_low"]],
    "fixed": lambda both: both[1].fixed.query("method.str.contains('HDI')")[["estimate", "conf_low"]],
    "long": lambda both: both[1].long.query("interval == 'HDI'")[["estimate", "conf_low", "conf_high"]],
}


def columns_of(frame: pd.DataFrame) -> list[list[str]]:
    """The texts of each column of numbers, as printed on a wide screen."""
    lines = [re.split(r" {2,}|(?<=\d) (?=[-\d])", line.strip()) for line in repr(frame).splitlines()[1:]]
    floats = [name for name in frame.columns if frame[name].dtype.kind == "f"]
    return [[line[k - len(floats)] for line in lines] for k in range(len(floats))]


def unit(text: str) -> float:
    """What the last digit of a number is worth; trailing zeros of whole numbers may stand for unknown digits."""
    digits, _, exponent = text.lstrip("-").partition("e")
    whole, _, decimals = digits.partition(".")
    zeros = 0 if decimals or exponent else min(len(whole) - len(whole.rstrip("0")), len(whole) - 1)
    return float(10.0 ** (int(exponent or 0) - len(decimals) + zeros))


@pytest.mark.parametrize("which", FRAMES)
def test_numbers_are_rounded_and_no_digit_is_noise(slopes: Tables, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 1000 draws of about normal quantities the last digit is worth a hundredth of their sd, or more."""
    monkeypatch.setenv("COLUMNS", "400")
    frame = FRAMES[which](slopes)
    floats = [name for name in frame.columns if frame[name].dtype.kind == "f"]
    printed = columns_of(frame)
    assert len(printed) == len(floats) > 0
    for name, texts in zip(floats, printed, strict=True):
        assert len(texts) == len(frame)
        for text, value in zip(texts, frame[name], strict=True):
            if np.isnan(value):
                continue
            assert abs(float(text) - value) <= 0.500001 * unit(text), (name, text, value)
            # Two or three digits of what is estimated with an error of 2 % or more of itself.
            assert len(text.lstrip("-0.").replace(".", "")) <= 4, (name, text)


def test_errors_of_effects_are_the_spread_over_samples() -> None:
    """Against 60 samples of the same posterior, each with a seed of its own."""
    from bayeslmm.results.monte_carlo import effect_errors

    rng = np.random.default_rng(3)
    draws = rng.normal(size=(60, 400, 3)) * [1.0, 10.0, 1e-6]
    for measured, value in (("mean", draws.mean(1)), ("sd", draws.std(1)), (0.975, np.quantile(draws, 0.975, axis=1))):
        said = np.mean([effect_errors(own, measured, False, 1.0) for own in draws], axis=0)
        # The spread over 60 repetitions is known to 9 %.
        np.testing.assert_allclose(said, value.std(0, ddof=1), rtol=0.3)


def test_the_frame_holds_every_digit(slopes: Tables) -> None:
    post = slopes[0]
    table = post.table()
    assert table.loc["sigma", "hdi_low"] == post.hdi().loc["sigma", "conf_low"]
    assert table.loc["sigma", "median"] == np.median(post.draws("sigma"))
    assert repr(float(table.loc["sigma", "median"])) in table.to_csv()


def test_digits_go_with_rows_and_leave_what_is_computed(slopes: Tables) -> None:
    table = slopes[0].table()
    median = re.search(r"^sigma +\S+ +\S+ +(\S+)", repr(table), re.MULTILINE)
    assert median is not None
    for frame in (table.loc[["sigma"]], table.sort_values("mean", ascending=False), table.reset_index(), table.copy()):
        assert f" {median[1]} " in repr(frame)
    pd.testing.assert_frame_equal(pd.DataFrame(table.round(9)), pd.DataFrame(table).round(9))
    assert repr(table[["median"]].round(3)) == repr(pd.DataFrame(table)[["median"]].round(3))
    # A number that is not from the table has the digits that pandas gives it.
    assert f"{3 * table.loc['sigma', 'median']:.6f}" in repr(3 * table[["median"]])


def test_copies_and_pickles_have_the_numbers(slopes: Tables) -> None:
    table = slopes[0].table()
    assert repr(copy.deepcopy(table)) == repr(table)
    data = pickle.dumps(table)
    again = pickle.loads(data)
    pd.testing.assert_frame_equal(again, table, check_exact=True)
    assert isinstance(repr(again), str) and len(data) < 10_000


def test_notebooks_show_the_same_digits(slopes: Tables) -> None:
    table = slopes[0].table()
    cells = re.findall(r"<td>(.*?)</td>", table._repr_html_())
    assert cells == [text for line in repr(table).splitlines()[1:] for text in line.split()[1:]]


def test_names_stay_text_in_notebooks() -> None:
    rng = np.random.default_rng(1)
    data = pd.DataFrame({NAME: np.repeat([f"{NAME}{k}" for k in range(6)], 5), "y": rng.normal(size=30)})
    data["y"] += np.repeat(rng.normal(size=6), 5)
    model = bl.Model(f"y ~ 1 + (1 | `{NAME}`)", data)
    post = model.sample(200, random_seed=1)
    for thing in (post.table(), post.ranef(), post.varcorr(), post.tidy(), bl.compare(model.fit(), post).groups):
        page = thing._repr_html_()
        assert "<b>|" not in page and "&lt;b&gt;|" in page


def test_signs_of_two_columns_stay_in_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from bayeslmm.design.readable import Table
    from bayeslmm.design.screen import cells

    monkeypatch.setenv("COLUMNS", "80")
    names = ["数据的名称", "e\u0301le\u0301ment", "plain"]
    frame = Table({"estimate": [1.25, -2.5, 3.0], "観測": [4.0, 5.5, -6.25]}, index=names)
    assert {cells(line) for line in repr(frame).splitlines()} == {cells(repr(frame).splitlines()[0])}


def test_notes_are_words() -> None:
    data = bl.load_dataset("Dyestuff")
    assert repr(bl.Model("Yield ~ 1 + (1 | Batch)", data).design.notes) == "Nothing odd was seen in the data."
    data = data.assign(Batch=data["Batch"].astype(str) + np.where(np.arange(30) == 0, " ", ""))
    notes = bl.Model("Yield ~ 1 + (1 | Batch)", data).design.notes
    assert repr(notes).startswith("Batch") and "Notes(" not in repr(notes)
