"""Numbers from draws are shown as far as their Monte Carlo error, and that error is the spread over repetitions."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

import bayeslmm as bl
from bayeslmm.results.digits import probability, to_error
from bayeslmm.results.intervals import hdi, mode
from bayeslmm.results.monte_carlo import standard_errors

NAMES = ("mean", "sd", "median", "mode", "hdi_low", "hdi_high")


def unit_of(text: str) -> Decimal:
    """What the last digit of a number is worth."""
    return Decimal(10) ** Decimal(text).as_tuple().exponent  # type: ignore[operator]


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1.0, 1e4, 1e12])
def test_the_last_digit_is_of_the_size_of_the_error(scale: float) -> None:
    rng = np.random.default_rng(1)
    for _ in range(400):
        value = scale * float(rng.normal()) * 10 ** float(rng.uniform(-1, 1))
        error = abs(value) * 10 ** float(rng.uniform(-3.5, -0.8))
        text = to_error(value, error)
        unit = float(unit_of(text))
        if "e" not in text and "." not in text:
            # trailing zeros of whole numbers
            unit *= 10.0 ** (len(text) - len(text.rstrip("0")))
            assert unit >= 0.316 * error
        else:
            assert 0.316 * error <= unit <= 3.163 * error
        assert abs(float(text) - value) <= 0.50001 * 10 ** np.round(np.log10(error))


def test_numbers_without_error_keep_five_digits() -> None:
    for value in (251.40510484, -1.23456789e-12, 1e12, 0.0, 9.99999):
        assert to_error(value, 0.0) == f"{value:.5g}"
    assert to_error(251.40510484, 1e-9) == "251.41"


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (16.1873, 0.09, "16.2"),
        (-16.1873, 0.09, "-16.2"),
        (0.04, 1.0, "0"),
        (-0.004, 0.02, "0.00"),
        (0.96, 0.06, "1.0"),
        (99.96, 0.1, "100.0"),
        (99996.0, 5.0, "1.0000e+05"),
        (4.0, float("nan"), "4"),
        (float("-inf"), 0.1, "-inf"),
    ],
)
def test_rounding(value: float, error: float, text: str) -> None:
    assert to_error(value, error) == text


@pytest.mark.parametrize(
    ("share", "size", "text"),
    [(0.0, 4000, "< 0.001"), (0.0, 100, "< 0.05"), (1.0, 4000, "> 0.999"), (0.5, 4000, "0.50"), (0.123, 1e6, "0.123")],
)
def test_a_probability_of_which_no_draw_speaks_is_not_zero(share: float, size: float, text: str) -> None:
    assert probability(share, size) == text


def draws(name: str, rng: np.random.Generator, size: int) -> tuple[Any, str]:
    if name == "normal":
        return rng.normal(3.0, 2.0, size), "fixed"
    return 2.0 * rng.beta(8.0, 3.0, size) - 1.0, "corr"


@pytest.mark.parametrize("name", ["normal", "beta"])
def test_errors_are_the_spread_over_repetitions(name: str) -> None:
    """80 repetitions know a standard deviation to 8 %; errors of intervals and modes are themselves estimates."""
    rng = np.random.default_rng(7)
    found, said = [], []
    for _ in range(80):
        x, kind = draws(name, rng, 1000)
        found.append([x.mean(), x.std(ddof=1), np.median(x), mode(x, kind), *hdi(x, 0.95, kind)])
        errors = standard_errors(x, 0.95, kind, False, 1.0)
        said.append([errors[key] for key in NAMES])
    ratio = np.sqrt(np.mean(np.square(said), axis=0)) / np.std(found, axis=0, ddof=1)
    assert (np.abs(np.log(ratio[:3])) < np.log(1.4)).all(), ratio
    assert (np.abs(np.log(ratio[3:])) < np.log(2.0)).all(), ratio


def test_closed_forms() -> None:
    x = np.random.default_rng(3).exponential(size=20_000)
    errors = standard_errors(x, 0.95, "sd", False, 1.0)
    assert errors["mean"] == pytest.approx(1.0 / np.sqrt(x.size), rel=0.03)
    # the variance of a sample has variance (kurtosis - 1) / n, the kurtosis is 9
    assert errors["sd"] == pytest.approx(np.sqrt(8.0 / 4.0 / x.size), rel=0.2)
    assert errors["median"] == pytest.approx(1.0 / np.sqrt(x.size), rel=0.15)
    # an upper bound is a quantile: sqrt(p (1 - p) / n) / density
    assert errors["hdi_low"] == 0.0 and errors["mode"] == 0.0
    assert errors["hdi_high"] == pytest.approx(np.sqrt(0.95 / 0.05 / x.size), rel=0.25)


def test_dependent_draws_count_for_fewer() -> None:
    """An autoregression of 0.9 has the mean of a nineteenth of its draws."""
    rng = np.random.default_rng(5)
    ratios = []
    for _ in range(12):
        x, noise = np.zeros(8000), rng.normal(size=8000)
        for k in range(1, x.size):
            x[k] = 0.9 * x[k - 1] + noise[k]
        one, other = (standard_errors(x, 0.95, "fixed", dependent, 1.0)["mean"] for dependent in (True, False))
        ratios.append(one / other)
    assert np.sqrt(np.mean(np.square(ratios))) == pytest.approx(np.sqrt(19.0), rel=0.25)


@pytest.fixture(scope="module")
def dyestuff() -> bl.Comparison:
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    return bl.compare(model.fit(), model.sample(4000, random_seed=1))


def test_exact_means_keep_their_digits_and_draws_do_not(dyestuff: bl.Comparison) -> None:
    shown, table = dyestuff.printable(), dyestuff.table
    errors = dyestuff.posterior.monte_carlo_errors()
    assert (errors[["mean", "sd"]].loc[["sigma", "Intercept"]] == 0).all(axis=None)
    for label in table.index:
        assert shown.loc[label, "mean"] == f"{table.loc[label, 'mean']:.5g}"
        for heading, name in (("median", "median"), ("mode", "mode"), ("HDI low", "hdi_low"), ("HDI high", "hdi_high")):
            text, error = shown.loc[label, heading], errors.loc[label, name]
            assert text == to_error(float(table.loc[label, name]), float(error))
            assert error == 0 or len(text.replace(".", "").lstrip("0")) < 5
    # full precision in the frame
    assert table.loc["sigma", "median"] == np.median(dyestuff.posterior.draws("sigma"))


def test_all_forms_of_a_comparison_show_the_same_numbers(dyestuff: bl.Comparison) -> None:
    shown = dyestuff.printable()
    texts = (str(dyestuff), dyestuff._repr_html_(), dyestuff.to_markdown(), dyestuff.to_latex())
    for label in shown.index:
        for text in texts:
            own = re.compile(rf"(?<![\w\[]){re.escape(label)}(?![\w\]])")
            line = next(line for line in re.split(r"</tr>|\n", text) if own.search(line.replace("\\", "")))
            if text is not texts[0]:
                low, high = shown.loc[label, ["HDI low", "HDI high"]]
                assert f"[{low}, {high}]" in re.sub(r"[\\{}]", "", line)
                assert shown.loc[label, "mean"] in line
    assert f"{dyestuff.table.loc['sigma', 'hdi_high']:.5g}" not in "".join(texts)


def test_squares_have_the_errors_of_squares(dyestuff: bl.Comparison) -> None:
    variance, shown = dyestuff.on_scale("variance"), dyestuff.on_scale("variance").printable()
    errors = dyestuff.posterior.monte_carlo_errors()
    high = variance.table.loc["sigma^2", "hdi_high"]
    by_hand = 2.0 * np.sqrt(high) * errors.loc["sigma", "hdi_high"]
    assert shown.loc["sigma^2", "HDI high"] == to_error(float(high), float(by_hand))


def test_summary_and_report_round_too(dyestuff: bl.Comparison) -> None:
    post = dyestuff.posterior
    # The report of a regular fit ends at its verdict.
    report = dyestuff.reml.boundary(post, detail="full")
    high = post.table().loc["sd_Batch[Intercept]", "hdi_high"]
    text = to_error(float(high), float(post.monte_carlo_errors().loc["sd_Batch[Intercept]", "hdi_high"]))
    for shown in (str(post.summary()), post.summary()._repr_html_(), str(report), report._repr_html_()):
        assert re.search(rf"(?<![\d.]){re.escape(text)}(?![\d])", shown)
        assert f"{high:.5g}" not in shown
    assert report["posterior"].loc["sd_Batch[Intercept]", "HDI high"] == high


def test_few_draws_have_two_digits() -> None:
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    post = model.sample(32, random_seed=1)
    assert post.monte_carlo_errors()["median"].isna().all()
    assert str(post.summary())


def test_another_seed_changes_no_more_than_the_errors_say() -> None:
    model = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
    one, two = (model.sample(2000, random_seed=seed) for seed in (1, 2))
    names = ["mean", "sd", "median", "hdi_low", "hdi_high"]
    error = np.hypot(one.monte_carlo_errors()[names], two.monte_carlo_errors()[names])
    assert (np.abs(one.table()[names] - two.table()[names]) <= 5.0 * error).all(axis=None)


@pytest.mark.parametrize("what", ["long", "fixed", "groups"])
def test_the_other_tables_round_too(dyestuff: bl.Comparison, what: str) -> None:
    """Of the rows of the posterior no number has five digits, of those of REML they all may."""
    lines = dyestuff.to_markdown(what).splitlines()  # type: ignore[arg-type]
    frame = getattr(dyestuff, what).reset_index()
    heads = [cell.strip().replace("\\", "") for cell in lines[0].strip("|").split(" | ")]
    for line, (_, row) in zip(lines[2:], frame.iterrows(), strict=True):
        texts = dict(zip(heads, (cell.strip() for cell in line.strip("|").split(" | ")), strict=True))
        drawn = ["posterior_mean", "posterior_sd"] if what == "groups" else ["conf_low", "conf_high"]
        if what == "groups" or "posterior" in row["method"]:
            for name in drawn:
                text = texts[name]
                assert text in ("", "0", "1") or len(text.strip("-").replace(".", "").lstrip("0")) < 5
        elif row["method"] == "REML":
            assert texts["estimate"] == f"{row['estimate']:.5g}"
