"""Names, dims and coords."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from bayeslmm.bayes.layout import group_columns, make_layout
from bayeslmm.design.design import Design
from bayeslmm.design.grouping import Grouping

Make = Callable[..., Design]


def test_variables_and_dims(design: Make) -> None:
    layout = make_layout(design("blocks and crossed"))
    assert layout.posterior_dims == {
        "beta": ("coef",),
        "sigma": (),
        "sd_h": ("h__effect",),
        "sd_g": ("g__effect",),
        "corr_g": ("g__pair",),
        "b_h": ("h", "h__effect"),
        "b_g": ("g", "g__effect"),
    }
    assert set(layout.coords) == {
        "obs",
        "coef",
        "h",
        "h__effect",
        "g",
        "g__effect",
        "g__pair",
    }
    assert layout.coords["g__effect"] == ("Intercept", "x", "w")
    assert layout.coords["g__pair"] == ("Intercept.x",)


def test_pairs_in_order_of_the_columns(design: Make) -> None:
    layout = make_layout(design("slopes 3x3"))
    assert layout.coords["g__pair"] == ("Intercept.x", "Intercept.w", "x.w")


@pytest.mark.parametrize("kind", ["one-way", "uncorrelated", "two terms"])
def test_no_correlation_without_a_correlated_term(kind: str, design: Make) -> None:
    assert "corr_g" not in make_layout(design(kind)).posterior_dims


def test_repeated_effects_are_numbered(design: Make) -> None:
    layout = make_layout(design("repeated effect"))
    assert layout.coords["g__effect"] == ("Intercept", "Intercept.1", "x")
    assert layout.coords["g__pair"] == ("Intercept.1.x",)


def test_columns_of_merged_terms(design: Make) -> None:
    data = design("repeated effect")
    columns = group_columns(data, make_layout(data).groups[0])
    np.testing.assert_array_equal(columns, np.hstack([term.Z for term in data.terms]))


def test_no_fixed_effects_means_no_beta(design: Make) -> None:
    layout = make_layout(design("one-way", fixed=()))
    assert "beta" not in layout.posterior_dims
    assert "coef" not in layout.coords
    assert "X" not in layout.data_dims


@pytest.mark.parametrize("name", ["sigma", "beta", "obs", "coef", "draw", "X", "offset", "sd_sigma"])
def test_dim_never_shares_a_name_with_a_variable(name: str, design: Make) -> None:
    layout = make_layout(_renamed(design("one-way"), name))
    variables = {*layout.posterior_dims, *layout.data_dims, "chain", "draw"}
    assert not variables & set(layout.coords)
    assert len(layout.coords) == 4
    assert layout.groups[0].sd == f"sd_{name}"


@pytest.mark.parametrize("name", ["sigma", "X", "obs", "weights", "sd_g", "a/b"])
def test_response_never_shares_a_name(name: str, design: Make) -> None:
    layout = make_layout(design("one-way", response=name))
    assert layout.response not in {*layout.posterior_dims, *layout.coords}
    assert "/" not in layout.response
    assert len(layout.data_dims) == 6


def test_group_with_the_name_of_the_response(design: Make) -> None:
    layout = make_layout(_renamed(design("one-way"), "y"))
    assert layout.groups[0].dim != layout.response


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (np.array([3, 1, 2]), [3, 1, 2]),
        (np.array(["a", "b", "c"], dtype=object), ["a", "b", "c"]),
        (np.array([1, 1, 2]), [0, 1, 2]),
        (np.array([1, "b", 2], dtype=object), [0, 1, 2]),
        (np.array([0.5, 1.5, 2.5]), [0, 1, 2]),
    ],
)
def test_observations_keep_labels_that_identify_them(index: np.ndarray, expected: list[object], design: Make) -> None:
    layout = make_layout(replace(design("one-way"), index=index))
    assert list(layout.coords["obs"]) == expected


def _renamed(design: Design, name: str) -> Design:
    old = design.groupings["g"]
    return replace(
        design,
        terms=tuple(replace(term, group=name) for term in design.terms),
        groupings={name: Grouping(name, old.codes, old.levels)},
    )
