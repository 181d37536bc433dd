"""Rows with a frequency: what is read, what is refused, and the design of the rows written out."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.design import build_design
from bayeslmm.design.design import expanded
from bayeslmm.errors import DesignError


@pytest.fixture
def data() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"x": rng.normal(size=40), "g": np.repeat(list("abcdefgh"), 5), "f": rng.integers(0, 5, 40)})
    frame["y"] = frame["x"] + rng.normal(size=8).repeat(5) + rng.normal(size=40)
    frame["w"] = rng.uniform(0.5, 3.0, 40)
    frame["treat"] = rng.choice(["low", "mid", "high"], 40)
    return frame


def written_out(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.loc[frame.index.repeat(frame["f"])]


@pytest.mark.parametrize(
    ("formula", "weights"),
    [
        ("y ~ x + (x | g)", None),
        ("y ~ x * treat + (treat | g)", "w"),
        ("np.exp(y) ~ I(x**2) + offset(w) + (1 | g/treat)", "1 / w"),
        # What looks at several rows sees every copy.
        ("scale(y) ~ scale(x) + (x - np.mean(x) | g)", "w / np.mean(w)"),
        ("y ~ poly(x, 2) + bs(w, df=4) + offset(w - np.median(w)) + (1 | g)", None),
        ("y ~ C(treat, Sum) + factor(treat):x + (1 | g)", None),
    ],
)
def test_the_design_is_that_of_the_rows_written_out(data: pd.DataFrame, formula: str, weights: str | None) -> None:
    design = build_design(formula, data, weights=weights, frequency="f")
    long = build_design(formula, written_out(data), weights=weights)
    assert design.n == int((data["f"] > 0).sum()) and design.n_observations == long.n == int(data["f"].sum())
    assert design.fixed_names == long.fixed_names
    copies = expanded(design)
    assert copies.index.tolist() == long.index.tolist() and copies.frequency is None
    pairs = [(copies.y, long.y), (copies.X, long.X)]
    pairs += [(a.Z, b.Z) for a, b in zip(copies.terms, long.terms, strict=True)]
    pairs += [(copies.groupings[k].codes, long.groupings[k].codes) for k in long.groupings]
    for name in ("weights", "offset"):
        a, b = getattr(copies, name), getattr(long, name)
        assert (a is None) == (b is None)
        pairs += [] if a is None else [(a, b)]
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_frequency_as_column_array_and_expression(data: pd.DataFrame) -> None:
    expected = data["f"].to_numpy()[data["f"] > 0]
    nullable = data.assign(f=data["f"].astype("Int64"))
    for given, frame in [
        ("f", data),
        (data["f"], data),
        (data["f"].tolist(), data),
        ("f * 1.0", data),
        ("f", nullable),
    ]:
        design = build_design("y ~ x + (1 | g)", frame, frequency=given)
        assert design.frequency is not None and design.frequency.dtype == np.int64
        np.testing.assert_array_equal(design.frequency, expected)


def test_rows_dropped(data: pd.DataFrame) -> None:
    data["f"] = np.ones(40)
    data.loc[[3, 4], "f"] = 0
    data.loc[7, "f"] = np.nan
    data.loc[4, "x"] = np.inf
    design = build_design("y ~ x + (1 | g)", data, frequency="f")
    assert design.dropped.reasons == {"missing frequency": (7,), "frequency 0": (3, 4)}
    assert design.n == 37


def test_a_level_without_observations_is_no_level(data: pd.DataFrame) -> None:
    data["f"] = np.where(data["g"] == "b", 0, 2)
    assert build_design("y ~ x + (1 | g)", data, frequency="f").groupings["g"].levels == tuple("acdefgh")


@pytest.mark.parametrize(
    ("frequency", "parts"),
    [
        (np.r_[1.5, 0.25, np.ones(38)], ("2 value(s)", "1.5, 0.25 at row(s) 0, 1", "weights=", "sigma^2 / w", "R's")),
        (np.r_[-1.0, np.ones(39)], ("-1 at row(s) 0", "identical rows")),
        (np.r_[np.inf, np.ones(39)], ("inf at row(s) 0",)),
        (np.ones(3), ("frequency has shape (3,)", "40 rows")),
        (["many"] * 40, ("frequency are not numbers",)),
        (
            pd.Series(np.ones(40), index=range(40, 80)),
            ("frequency is a Series with another index", "frequency.to_numpy()"),
        ),
        (np.zeros(40), ("No row can be used", "frequency 0 in 40 rows")),
        ("w", ("no counts", "weights=")),
        ("nope", ("In frequency='nope'", "not a column")),
        ("2", ("names no column",)),
        ("treat", ("not numeric",)),
    ],
)
def test_refused(data: pd.DataFrame, frequency: object, parts: tuple[str, ...]) -> None:
    with pytest.raises(DesignError) as caught:
        build_design("y ~ x + (1 | g)", data, frequency=frequency)
    assert all(part in str(caught.value) for part in parts)


def test_saturation_is_judged_by_observations() -> None:
    frame = pd.DataFrame({"y": [1.0, 3.0, 2.0, 5.0], "g": list("abcd"), "h": list("aabb")})
    for frequency in (None, np.ones(4)):
        with pytest.raises(DesignError, match=r"4 random effects .* for 4 rows"):
            build_design("y ~ 1 + (1 | g)", frame, frequency=frequency)
    assert build_design("y ~ 1 + (1 | g)", frame, frequency=[2, 1, 1, 1]).n_observations == 5
    frame["x"] = [0.0, 1.0, 1.0, 3.0]
    with pytest.raises(DesignError, match=r"3 complete row\(s\) are not enough for 3"):
        build_design("y ~ poly(x, 2) + (1 | h)", frame, frequency=[1, 1, 0, 1])
    assert build_design("y ~ poly(x, 2) + (1 | h)", frame, frequency=[1, 2, 0, 1]).p == 3


@pytest.mark.parametrize("formula", ["y ~ x + treat + (x || g)", "y ~ x + offset(w) + (0 + treat | g)"])
@pytest.mark.parametrize("spec", ["default", "weak"])
def test_priors_are_those_of_the_rows_written_out(data: pd.DataFrame, formula: str, spec: str) -> None:
    priors = resolve_priors(build_design(formula, data, frequency="f"), spec)
    long = resolve_priors(build_design(formula, written_out(data)), spec)
    scales = [[sd.scale for term in p.sds for sd in term] + [p.sigma.scale] for p in (priors, long)]
    np.testing.assert_allclose(scales[0], scales[1], rtol=1e-12)
    if spec == "weak":
        np.testing.assert_allclose(priors.beta.mean, long.beta.mean, rtol=1e-11)
        np.testing.assert_allclose(priors.beta.sd, long.beta.sd, rtol=1e-12)


def test_the_numbers_of_rows_are_printed(data: pd.DataFrame) -> None:
    model = bl.Model("y ~ x + (1 | g)", data, frequency="f")
    total, rows = int(data["f"].sum()), int((data["f"] > 0).sum())
    fit = model.fit()
    assert model.n == fit.n == total
    assert f"{total} observations in {rows} rows" in str(model) and f"{total} observations in {rows} rows" in str(
        fit.summary()
    )
    assert "observations in" not in str(bl.Model("y ~ x + (1 | g)", data))


def test_kept_in_files_pickles_and_copies(data: pd.DataFrame, tmp_path: Path) -> None:
    model = bl.Model("y ~ x + (1 | g)", data, weights="w", frequency="f")
    fit = model.fit()
    fit.save(tmp_path / "fit.bl")
    model.save(tmp_path / "model.bl")
    again = bl.load(tmp_path / "fit.bl")
    designs = [again.design, bl.load(tmp_path / "model.bl").design]
    designs += [pickle.loads(pickle.dumps(model)).design, copy.deepcopy(model).design]
    for design in designs:
        np.testing.assert_array_equal(design.frequency, model.design.frequency)
        assert design.n_observations == int(data["f"].sum())
    assert again.criterion == fit.criterion and again.bic == fit.bic
