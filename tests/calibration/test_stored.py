"""The stored results: complete, passed where they should, and what the documentation shows."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from bayeslmm.calibration.quantities import quantity_names

from .models import MODELS, REPEATED, summary

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[2] / "docs" / "calibration.md"


@pytest.mark.calibration
@pytest.mark.parametrize("name", MODELS)
def test_every_model_passed_for_all_its_quantities(name: str) -> None:
    table = pd.read_csv(RESULTS / "collapsed.csv")
    own = table[table["model"] == name]
    assert tuple(own["quantity"]) == quantity_names(MODELS[name]().design)
    assert (own["replicates"] == 1000).all()
    assert (own["failures"] == 0).all()
    assert (own["p"] > 0.001 / len(own)).all()
    outside = own["quantity"][own["ecdf"] > 1.0]
    again = table[table["model"] == name + REPEATED].set_index("quantity")
    assert (again.loc[outside, "ecdf"] <= 1.0).all()
    assert again.loc[outside, "ok"].all()


def test_few_quantities_are_outside_their_band() -> None:
    # 1% each under a correct sampler; those of one model are not independent.
    table = pd.read_csv(RESULTS / "collapsed.csv")
    assert (table["ecdf"] > 1.0).sum() <= stats.binom.ppf(0.999, len(table), 0.01)


def test_wrong_samplers_failed() -> None:
    table = pd.read_csv(RESULTS / "wrong.csv").set_index(["model", "quantity"])
    sds = table.xs("sd_g[Intercept]", level="quantity")
    assert len(sds) == 2
    assert (sds["ecdf"] > 1.0).all()
    assert not sds["ok"].any()


@pytest.mark.parametrize("name", ["collapsed", "wrong", "nuts"])
def test_the_summary_is_that_of_the_table(name: str) -> None:
    shown = pd.read_csv(RESULTS / f"{name}_models.csv", dtype=str, keep_default_na=False)
    expected = summary(pd.read_csv(RESULTS / f"{name}.csv")).astype(str)
    pd.testing.assert_frame_equal(shown, expected)


def test_examples_of_the_page_run() -> None:
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    test = doctest.DocTestParser().get_doctest("".join(blocks), {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) >= 5
    assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test).failed == 0
