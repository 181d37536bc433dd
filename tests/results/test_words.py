"""Words of messages and reports that name what they are about."""

from __future__ import annotations

import numpy as np
import pytest

import bayeslmm as bl


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("block", "Block"), ("sd_blok", "Block"), ("block:variety", "Block:Variety"), ("sigm", "sigma")],
)
def test_test_zero_says_what_may_be_meant(asked: str, meant: str) -> None:
    fit = bl.Model("yield ~ nitro + (1 | Block/Variety)", bl.load_dataset("Oats")).fit()
    with pytest.raises(bl.DesignError, match=rf"Did you mean '{meant}'\?"):
        fit.test_zero(asked)


def test_advice_on_rows_agrees_in_number_with_what_it_names() -> None:
    data = bl.load_dataset("sleepstudy").astype({"Reaction": float})
    for rows, word in (([44], "it"), ([44, 131], "them")):
        wrong = data.copy()
        wrong.loc[rows, "Reaction"] *= 10
        report = bl.Model("Reaction ~ Days + (1 | Subject)", wrong).fit().boundary()
        assert report.advice[0].here.startswith(f"without {word} ")


def test_the_two_distances_of_cook_say_which_they_are() -> None:
    fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    held, moved = fit.cooks_distance(), fit.influence().cooks_d
    assert held.attrs["quantity"].startswith("conditional Cook's distance")
    assert moved.attrs["quantity"].startswith("Cook's distance by deletion")
    assert not np.allclose(held, moved)
