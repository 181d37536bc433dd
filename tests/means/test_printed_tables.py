"""Tables of tests and other numbers of a fit print the digits that are known, whatever the scale; values keep all."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl


@pytest.fixture(scope="module")
def oats() -> bl.REMLResult:
    # Not balanced, so that no number has few digits by itself.
    data = bl.load_dataset("Oats").assign(nitro=lambda d: d["nitro"].astype(str)).iloc[5:]
    return bl.Model("yield ~ Variety + nitro + (1 | Block) + (1 | Block:Variety)", data).fit()


def longest(text: str) -> int:
    """Most significant digits of a number in a text."""
    found = ["0.0", *re.findall(r"(?<![\w.])-?\d+\.\d+(?:e[-+]\d+)?(?![\w.])", text)]
    return max(len(number.split("e")[0].replace(".", "").lstrip("-0")) for number in found)


def test_tables_show_known_digits_and_keep_all(oats: bl.REMLResult) -> None:
    tables: list[pd.DataFrame] = [
        oats.joint_tests(),
        oats.means("nitro").pairs().test(),
        oats.means("nitro").frame,
        oats.vif(),
        bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit().rePCA(),
    ]
    for table in tables:
        assert longest(repr(table)) <= 5
        raw = pd.DataFrame(table)
        assert longest(raw.to_string(float_format="%.12g")) > 6
        assert (raw.to_numpy() == pd.DataFrame(table.copy()).to_numpy()).all()


def test_p_values_are_printed_as_in_other_tables(oats: bl.REMLResult) -> None:
    for table, name in [(oats.joint_tests().set_index("term"), "p_value"), (oats.anova(), "Pr(>F)")]:
        text, p = repr(table), table[name]
        assert f"{p['nitro']:.2e}" in text and f"{p['Variety']:.4g}" in text
    assert "<0.0001" in repr(oats.means("nitro").pairs().test())


def test_letters_of_a_posterior_print_as_those_of_a_fit(oats: bl.REMLResult) -> None:
    model = bl.Model(oats.formula, bl.load_dataset("Oats").assign(nitro=lambda d: d["nitro"].astype(str)))
    means = model.sample(random_seed=1).means("nitro")
    table, text = means.letters(), repr(means.letters())
    assert text.startswith("Means that share a letter")
    # Each row has the digits that it has in the table of means, which leaves the median out.
    rows = {line.split()[0]: line.split()[1:] for line in repr(means).splitlines() if line.startswith("0.")}
    for line in text.splitlines():
        cells = line.split()
        if cells and cells[0] in rows:
            assert [*cells[1:3], *cells[4:-1]] == rows[cells[0]]
    assert np.isfinite(table["mean"]).all()


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_cross_validation_prints_at_any_scale(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    data = bl.load_dataset("sleepstudy").assign(Reaction=lambda d: d["Reaction"] * scale)
    found = bl.Model("Reaction ~ Days + (Days | Subject)", data).fit().cv(k=4)
    text = str(found)
    assert max(map(len, text.splitlines())) <= 80
    printed = [float(line.split()[2]) for line in text.splitlines() if re.match(r"\d", line)]
    assert printed == pytest.approx(found.folds["rmse"].tolist(), rel=2e-3)


def test_long_names_of_models_are_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    columns = {f"column{i}": np.sin(np.arange(180.0) * (i + 1)) for i in range(8)}
    data = bl.load_dataset("sleepstudy").assign(**columns)
    models = [bl.Model(f"Reaction ~ {' + '.join(list(columns)[:k])} + (1 | Subject)", data) for k in (8, 7)]
    text = str(bl.compare(*models, draws=200))
    assert max(map(len, text.splitlines())) <= 80
    assert "column6 + column7 + (1 | Subject)" in " ".join(text.split())


def test_a_posterior_shows_its_summary() -> None:
    post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(200, random_seed=1)
    assert repr(post) == str(post.summary())
    assert "sd_Batch[Intercept]" in repr(post)
