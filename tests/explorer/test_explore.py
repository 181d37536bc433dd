"""What `explore` takes and refuses, and what it writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import bayeslmm as bl
from bayeslmm.cli import app

SLEEP = bl.load_dataset("sleepstudy")


def given(page: str) -> dict[str, object]:
    return dict(json.loads(page.partition('id="yours">')[2].partition("</script>")[0]))


def test_a_page_needs_no_other_file_and_no_network() -> None:
    page = bl.explore(bl.Model("Reaction ~ Days + (Days | Subject)", SLEEP)).page
    assert re.findall(r"(?:src|href)\s*=|https?://|@import|url\((?!#)|fetch\(|XMLHttpRequest", page) == []
    assert "/*" + "SCRIPT" not in page


def test_rows_may_stand_in_any_order() -> None:
    model = bl.Model("Reaction ~ Days + (Days | Subject)", SLEEP)
    shuffled = SLEEP.sort_values(["Days", "Reaction"])
    again = bl.Model("Reaction ~ Days + (Days | Subject)", shuffled)
    one, other = given(bl.explore(model).page), given(bl.explore(again).page)
    assert one == other
    first = SLEEP[SLEEP["Subject"].astype(str) == "308"].sort_values("Days")["Reaction"].to_numpy()
    np.testing.assert_array_equal(one["y"][0], first)  # type: ignore[index]


def test_an_offset_is_taken_out_of_the_response() -> None:
    data = bl.load_dataset("Dyestuff").assign(known=3.0)
    page = given(bl.explore(bl.Model("Yield ~ 1 + offset(known) + (1 | Batch)", data)).page)
    np.testing.assert_allclose(np.ravel(page["y"]), data["Yield"] - 3.0)


@pytest.mark.parametrize(
    ("formula", "rows", "why"),
    [
        ("Reaction ~ Days + (1 | Subject)", slice(None), "fixed effects are Intercept, Days"),
        ("Reaction ~ Days + (Days || Subject)", slice(None), r"random term is \(Days \|\| Subject\)"),
        ("Reaction ~ 1 + (1 | Subject) + (1 | Days)", slice(None), "2 random terms"),
        ("Reaction ~ Days + (0 + Days | Subject)", slice(None), "random term is"),
        ("Reaction ~ 1 + (1 | Subject)", slice(3, None), "7 to 10 rows"),
        ("Reaction ~ Days + (Days | Subject)", slice(3, None), "7 to 10 rows"),
        ("Reaction ~ 1 + (1 | Subject)", slice(30), "3 groups of 10"),
    ],
)
def test_other_models_are_refused_in_words(formula: str, rows: slice, why: str) -> None:
    with pytest.raises(bl.DesignError, match=why):
        bl.explore(bl.Model(formula, SLEEP.iloc[rows]))


def test_different_x_weights_and_rows_without_noise_are_refused() -> None:
    moved = SLEEP.assign(Days=SLEEP["Days"] + 0.5 * (SLEEP["Subject"].astype(str) == "308"))
    with pytest.raises(bl.DesignError, match="different values of Days"):
        bl.explore(bl.Model("Reaction ~ Days + (Days | Subject)", moved))
    with pytest.raises(bl.DesignError, match="weights"):
        bl.explore(bl.Model("Reaction ~ 1 + (1 | Subject)", SLEEP, weights=SLEEP["Days"] + 1.0))
    with pytest.raises(bl.ArgumentError, match="takes a model"):
        bl.explore(SLEEP)  # type: ignore[arg-type]


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.html"
    done = CliRunner().invoke(app, ["explore", "Yield ~ 1 + (1 | Batch)", "--data", "Dyestuff2", "--out", str(path)])
    assert done.exit_code == 0, done.output
    assert given(path.read_text(encoding="utf-8"))["formula"] == "Yield ~ 1 + (1 | Batch)"
    half = CliRunner().invoke(app, ["explore", "Yield ~ 1 + (1 | Batch)"])
    assert half.exit_code != 0


def test_a_page_is_written_only_where_it_may(tmp_path: Path) -> None:
    path = bl.explore().write(tmp_path / "page.html")
    with pytest.raises(bl.StorageError, match="exists"):
        bl.explore().write(path, overwrite=False)
    with pytest.raises(bl.ArgumentError, match="html"):
        bl.explore().write(tmp_path / "page.pdf")
    assert "write('explorer.html')" in repr(bl.explore())
