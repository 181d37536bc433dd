"""Posteriors are named by their priors, or as users call them, in every table and tree, and all names differ."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bayeslmm as bl
from bayeslmm.comparison import Comparison
from bayeslmm.comparison.export import text
from bayeslmm.comparison.naming import different, given_names, group_names, long_name, prior_name
from bayeslmm.errors import DesignError

SLEEP = "Reaction ~ Days + (Days | Subject)"
CROSSED = "diameter ~ 1 + (1 | plate) + (1 | sample)"


@cache
def model(formula: str = SLEEP, data: str = "sleepstudy") -> bl.Model:
    return bl.Model(formula, bl.load_dataset(data))


@cache
def fitted(formula: str = SLEEP, data: str = "sleepstudy") -> bl.REMLResult:
    return model(formula, data).fit()


KEPT: dict[tuple[str, str], bl.Posterior] = {}


def sampled(priors: Any = None, formula: str = SLEEP, data: str = "sleepstudy") -> bl.Posterior:
    key = (repr(priors), formula)
    if key not in KEPT:
        KEPT[key] = model(formula, data).sample(60, random_seed=1, priors=priors)
    return KEPT[key]


@cache
def three() -> Comparison:
    return bl.compare(fitted(), sampled(), sampled("brms"), sampled({"sd_Subject": bl.HalfT(3, 50)}))


def unfolded(both: Comparison) -> str:
    """The screen without the breaks that its width asks for."""
    return " ".join(str(both).split())


NAMES = ("default priors", "brms", "sd_Subject ~ half-t(3, 50)")
METHODS = ("posterior (default)", "posterior (brms)", "posterior (sd_Subject ~ half-t(3, 50))")


@pytest.mark.parametrize("preset", ["weak", "brms", "rstanarm", "bambi", "pc", "boundary_avoiding", "flat"])
def test_presets_have_their_own_name(preset: str) -> None:
    assert prior_name(sampled(preset)) == preset


@pytest.mark.parametrize(
    ("priors", "name"),
    [
        (None, "default priors"),
        ("default", "default priors"),
        ({"sd_Subject": bl.HalfNormal(50)}, "sd_Subject ~ half-normal(50)"),
        ({"sd_Subject[Days]": bl.HalfT(3, 5)}, "sd_Subject[Days] ~ half-t(3, 5)"),
        ({"sd_Subject[Intercept]": bl.HalfNormal(5)}, "sd_Subject[Intercept] ~ half-normal(5)"),
        ({"sd_at_mean_Subject[Intercept]": bl.HalfNormal(5)}, "sd_at_mean_Subject[Intercept] ~ …"),
        ({"sigma": bl.Exponential(20.0)}, "sigma ~ exponential(mean 20)"),
        ({"lkj": 2}, "corr_Subject ~ LKJ(2)"),
        ({"preset": "brms", "lkj": 2}, "brms, corr_Subject ~ LKJ(2)"),
        ({"preset": "pc"}, "pc"),
        ({"beta[Days]": bl.Normal(0, 20)}, "beta[Days] ~ normal(0, 20)"),
        ({"beta": bl.Normal(0, 100)}, "beta ~ normal(0, 100)"),
        ({"beta": "weak"}, "weak"),
        ({"sd_Subject": bl.HalfNormal(40), "lkj": 4, "sigma": bl.HalfNormal(9)}, "sd_Subject ~ half-normal(40), …"),
    ],
)
def test_hand_set_priors_in_short_words(priors: Any, name: str) -> None:
    assert prior_name(sampled(priors)) == name
    assert len(name) <= 40


def test_what_is_alike_in_all_factors_is_said_once() -> None:
    both, one = {"sd": bl.HalfNormal(2)}, {"sd_plate": bl.HalfNormal(2)}
    assert prior_name(sampled(both, CROSSED, "Penicillin")) == "sd ~ half-normal(2)"
    assert prior_name(sampled(one, CROSSED, "Penicillin")) == "sd_plate ~ half-normal(2)"


def test_numbers_that_print_alike_are_other_priors() -> None:
    scale = sampled().priors.sigma.scale
    close = sampled({"sigma": bl.HalfT(3, scale * (1 + 1e-9))})
    assert prior_name(close).startswith("sigma ~ half-t(3, ")
    assert prior_name(sampled({"sigma": bl.HalfT(3, scale)})) == "default priors"


def test_names_survive_a_file(tmp_path: Path) -> None:
    pytest.importorskip("h5netcdf")
    for k, priors in enumerate([None, "rstanarm", {"sd_Subject[Days]": bl.HalfNormal(3), "lkj": 2}]):
        post = sampled(priors)
        post.save(tmp_path / f"{k}.nc")
        again = bl.load(tmp_path / f"{k}.nc")
        assert isinstance(again, bl.Posterior)
        assert long_name(again) == long_name(post)


def test_equal_names_get_a_number() -> None:
    both = bl.compare(fitted(), sampled("brms"), sampled("brms"), sampled(), sampled("brms"))
    assert both.names == ("brms", "brms (2)", "default priors", "brms (3)")
    assert len(both.posteriors) == 4
    assert both.table.columns.is_unique
    assert different(["a", "a", "a (2)", "a"]) == ("a", "a (2)", "a (2) (2)", "a (3)")


def test_tables_name_all_posteriors() -> None:
    both = three()
    assert both.names == NAMES
    assert tuple(both.posteriors) == METHODS
    for name, post in zip(NAMES[1:], list(both.posteriors.values())[1:], strict=True):
        own = post.table()
        for column in ("mean", "hdi_low", "hdi_high"):
            np.testing.assert_array_equal(both.table[f"{column} ({name})"], own[column])
    assert set(METHODS) <= set(both.long["method"])
    methods = set(both.fixed.index.get_level_values("method"))
    assert {f"{name}, {kind}" for name in METHODS for kind in ("HDI", "equal-tailed")} <= methods
    assert set(both.to_dict()["posteriors"]) == set(NAMES)


def test_variances_are_those_of_their_own_posterior() -> None:
    squared = three().on_scale("variance").table
    for name, post in zip(NAMES[1:], list(three().posteriors.values())[1:], strict=True):
        own = post.table().loc["sd_Subject[Days]"]
        row = squared.loc["var_Subject[Days]"]
        assert row[f"mean ({name})"] == own["mean"] ** 2 + own["sd"] ** 2
        assert row[f"hdi_high ({name})"] == own["hdi_high"] ** 2


@pytest.mark.parametrize("form", ["text", "html", "markdown", "latex", "long", "fixed"])
def test_no_printed_table_has_a_posterior_without_its_name(form: str) -> None:
    import html

    both = three()
    texts = {
        "text": lambda: str(both),
        "html": lambda: html.unescape(both._repr_html_()),
        "markdown": lambda: both.to_markdown().replace("\\", ""),
        "latex": lambda: both.to_latex().replace(r"\textasciitilde{}", "~").replace("\\", ""),
        "long": lambda: both.to_markdown("long").replace("\\", ""),
        "fixed": lambda: both.to_latex("fixed").replace(r"\textasciitilde{}", "~").replace("\\", ""),
    }
    written = texts[form]()
    for name in METHODS if form in ("long", "fixed") else NAMES:
        assert name in written
    for nameless in ("posterior 2", "HDI 2", "mean 2", "mean_2", "high 2", "posterior mean"):
        assert nameless not in written


def test_one_posterior_is_printed_as_ever() -> None:
    text = unfolded(bl.compare(fitted(), sampled()))
    assert "posterior: 60 independent draws" in text
    assert "HDI low" in text
    assert "(default" not in text
    assert "posterior (brms): 60 independent draws" in unfolded(bl.compare(fitted(), sampled("brms")))


def test_a_name_that_is_cut_is_explained() -> None:
    cut = sampled({"sd_Subject": bl.HalfNormal(40), "lkj": 4, "sigma": bl.HalfNormal(9)})
    text = unfolded(bl.compare(fitted(), sampled(), cut))
    whole = "sd_Subject ~ half-normal(40), corr_Subject ~ LKJ(4), sigma ~ half-normal(9)"
    assert f"posterior (sd_Subject ~ half-normal(40), …), under {whole}: 60 independent draws" in text


def test_trees_have_the_names() -> None:
    both = three()
    assert tuple(both.datatrees(40)) == (*METHODS, "REML bootstrap", "REML profile")
    tree = both.to_datatree(40)
    groups = ["posterior", "posterior_brms", "posterior_sd_Subject_half_t_3_50"]
    assert [name for name in tree.children if name.startswith("posterior")] == groups
    assert [tree[group].attrs["name"] for group in groups] == list(NAMES)
    for group, post in zip(groups, both.posteriors.values(), strict=True):
        np.testing.assert_array_equal(tree[group]["sigma"], post.data["posterior"]["sigma"])
    assert group_names(["x", "a b", "a-b"]) == ("posterior", "posterior_a_b", "posterior_a_b_2")


def test_users_give_names() -> None:
    flat, brms = sampled(), sampled("brms")
    for both in (
        bl.compare(fitted(), {"flat": flat, "other": brms}),
        bl.compare(fitted(), flat, brms, names=["flat", "other"]),
    ):
        assert both.names == ("flat", "other")
        assert tuple(both.posteriors) == ("flat", "other")
        assert both.posteriors["other"] is brms
        assert "mean (other)" in both.table
        assert set(both.datatrees(40)) == {"flat", "other", "REML bootstrap", "REML profile"}
        assert both.on_scale("variance").names == both.names
        text = unfolded(both)
        assert "posterior (flat), under default priors: 60 independent draws" in text
        assert "posterior (other), under brms: 60 independent draws" in text
        assert "HDI high (flat)" in both.printable()
    assert bl.compare(fitted(), {"mine": brms}).names == ("mine",)


@pytest.mark.parametrize("names", ["ab", b"ab", {"a": 1, "b": 2}, 5, {"a", "b"}, [1, "b"], [None, "b"], ["", "b"]])
def test_odd_names(names: Any) -> None:
    with pytest.raises(DesignError, match=r"names=|A posterior is called"):
        given_names(names, 2)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["a"], "1 name"),
        (["a", "b", "c"], "3 names"),
        (["a", "a"], "Two posteriors are called 'a'"),
        (["REML", "b"], "cannot be called 'REML'"),
        (["a\nb", "b"], "on one line"),
        ([" ", "b"], "of one letter or more"),
        ([], "0 names"),
    ],
)
def test_names_that_could_mislead(names: list[str], says: str) -> None:
    with pytest.raises(DesignError, match=says):
        bl.compare(fitted(), sampled(), sampled("brms"), names=names)


def test_a_mapping_is_all_there_is() -> None:
    flat, brms = sampled(), sampled("brms")
    with pytest.raises(DesignError, match="further ones without a name"):
        bl.compare(fitted(), {"flat": flat}, brms)
    with pytest.raises(DesignError, match="names="):
        bl.compare(fitted(), {"flat": flat}, names=["a"])
    with pytest.raises(DesignError, match="nothing to compare"):
        bl.compare(fitted(), {})
    with pytest.raises(DesignError, match="takes the result of"):
        bl.compare(fitted(), {"flat": fitted()})  # type: ignore[dict-item]


@pytest.mark.parametrize("frequency", [None, "times"])
def test_presets_of_a_model_without_fixed_effects(frequency: str | None) -> None:
    """Scales of no columns at all; the sds have the priors that a model with an intercept has."""
    data = bl.load_dataset("Dyestuff").assign(times=2)
    none = bl.Model("Yield ~ 0 + (1 | Batch)", data, frequency=frequency)
    one = bl.Model("Yield ~ 1 + (1 | Batch)", data, frequency=frequency)
    for preset in ("weak", "brms", "rstanarm", "pc"):
        post = none.sample(60, random_seed=1, priors=preset)
        assert post.priors.sds == one.sample(60, random_seed=1, priors=preset).priors.sds
        # Without coefficients the weak set is the default one.
        assert bl.compare(none.fit(), post).names == ("default priors" if preset == "weak" else preset,)
    assert none.prior_predictive(20, random_seed=1)["prior"]["sigma"].size == 20


@pytest.mark.parametrize("width", [80, 120, 1000])
def test_a_folded_table_names_a_posterior_once(width: int) -> None:
    """Every number of the table is there; a block has its posterior's name above and plain headings."""
    both = three()
    screen = text(both, both.header, both.printable(), width)
    table = screen[screen.index("\n\n") :]
    assert max(map(len, screen.split("\n"))) <= width
    for name in METHODS if width < 1000 else NAMES:
        assert name in table
    assert ("HDI high (brms)" in table) == (width == 1000)
    cells = [cell for cell in both.printable().to_numpy().ravel() if cell]
    words = table.split()
    assert all(part in words for cell in cells for part in str(cell).split())
