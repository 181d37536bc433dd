"""Names and levels that mean something elsewhere: text, in everything that shows them, keeps them or prints them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm import cli, console
from bayeslmm.comparison import export
from bayeslmm.design.names import in_markdown, in_plot, on_terminal, printable
from bayeslmm.results.latex_text import plain

CODE = '__import__("os").system("touch injected")'
NAMES = [
    f"v\n{CODE}\n#", "cost $ or $", "a_$x", "[red]x[/]", "[/]", "{x}%s%(a)s{0.__class__}", "\x1b[2J\x07", "\u202ex",
    "<script>alert(1)</script>", "\\input{/etc/passwd}", "[1em]x", "a/b", "*x*|y", "'\"", " x ", "..", ":smile:",
    "a(b[c*", "../../tmp/x", "\x85\u2028z", "=cmd|' /C calc'!A0", "%$#&_^~{}\\",
]  # fmt: skip


@pytest.fixture(scope="module")
def levels() -> tuple[bl.Model, bl.Comparison]:
    rng = np.random.default_rng(1)
    g = np.repeat(np.array(NAMES, dtype=object), 4)
    data = pd.DataFrame(
        {"x": rng.normal(size=g.size), "g": g, "f": np.where(np.arange(g.size) % 2 == 0, NAMES[3], NAMES[8])}
    )
    data["y"] = rng.normal(size=len(NAMES)).repeat(4) + rng.normal(size=g.size)
    model = bl.Model("y ~ x + f + (1 | g)", data)
    return model, bl.compare(model.fit(), model.sample(200, random_seed=1))


@pytest.fixture(scope="module")
def columns() -> tuple[bl.Model, bl.Comparison, pd.DataFrame]:
    """Two of the names in every place; what is shown of the others is that of the functions below."""
    rng = np.random.default_rng(2)
    response, x, g, h = f"y$\n{CODE}", "x\x1b[2J<b>", "g/../\\$[/]", "..\u202e_$"
    data = pd.DataFrame(
        {response: rng.normal(size=60), x: rng.normal(size=60), g: np.arange(60) // 6, h: np.arange(60) % 6}
    )
    data[response] += rng.normal(size=10)[data[g]]
    model = bl.Model(f"`{response}` ~ `{x}` + (`{x}` || `{g}`) + (1 | `{h}`)", data)
    return model, bl.compare(model.fit(), model.sample(200, random_seed=1)), data


def printed(both: bl.Comparison) -> list[str]:
    return [str(both), str(both.reml.summary()), str(both.posterior.summary())]


@pytest.mark.parametrize("which", ["levels", "columns"])
def test_nothing_steers_a_terminal(which: str, request: pytest.FixtureRequest) -> None:
    for text in printed(request.getfixturevalue(which)[1]):
        assert all(sign.isprintable() or sign == "\n" for sign in text)


@pytest.mark.parametrize("which", ["levels", "columns"])
def test_command_line_shows_markup_as_it_is(which: str, request: pytest.FixtureRequest, capsys: Any) -> None:
    _model, both, *_ = request.getfixturevalue(which)
    screen = console.terminal()
    console.show_comparison(both, screen)
    console.show_summary(both.reml.summary(), screen)
    screen.print(console.as_table(NAMES[3], both.groups.astype(str)))
    text = capsys.readouterr().out
    assert "\x1b[2J" not in text and "\u202e" not in text and "\x07" not in text
    if which == "levels":
        assert "[red]x[/]" in text and ":smile:" in text


def test_errors_are_shown_as_they_are(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def fails() -> None:
        raise bl.DesignError("[/] \x1b[2J [red]x")

    monkeypatch.setattr(cli, "app", fails)
    with pytest.raises(SystemExit):
        cli.main()
    error = capsys.readouterr().err
    assert "[/] \\x1b[2J [red]x" in error


def test_markdown_is_text(levels: tuple[bl.Model, bl.Comparison]) -> None:
    lines = levels[1].to_markdown("groups").splitlines()
    assert len(lines) == len(NAMES) + 2
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    for line in lines:
        assert not re.search(r"(?<!\\)<", line) and all(sign.isprintable() for sign in line)


def test_latex_is_text(levels: tuple[bl.Model, bl.Comparison]) -> None:
    model, both = levels
    rows = both.to_latex("groups").splitlines()
    assert sum(row.endswith(r"\\") for row in rows) == len(NAMES) + 1
    for row in rows:
        assert not row.startswith(("[", "*"))
        assert "\\input" not in row and all(sign.isprintable() for sign in row)
    for row in export.latex(pd.DataFrame({"a": NAMES})).splitlines()[4:-2]:
        assert not row.startswith(("[", "*")) and _balanced(row.removesuffix(r" \\"))
    assert model.latex().count(r"\\") == 1
    for name in NAMES:
        assert _balanced(plain(name)) and all(sign.isprintable() for sign in plain(name))


def _balanced(text: str) -> bool:
    """Whether nothing but escapes and commands without arguments of their own stands in a text."""
    rest = re.sub(r"\\text[a-z]+\{\}|\\[{}_%&#$]|^\{[\[*]\}", "", text)
    return not re.search(r"[\\{}_%&#$^~]", rest)


def test_figures_do_not_read_mathematics(columns: tuple[bl.Model, bl.Comparison, pd.DataFrame]) -> None:
    import matplotlib.pyplot as plt

    _, both, _ = columns
    bl.plot_variance(both)[0].figure.canvas.draw()
    bl.plot_shrinkage(both, list(both.design.groupings)[1])[0].figure.canvas.draw()
    bl.plot_boundary(both, both.parameters[0].label).figure.canvas.draw()
    plt.close("all")


def test_levels_in_figures(levels: tuple[bl.Model, bl.Comparison]) -> None:
    import matplotlib.pyplot as plt
    from matplotlib.text import Text

    axes = bl.plot_shrinkage(levels[1])
    axes[0].figure.canvas.draw()
    # Matplotlib itself, and the texts as it would draw them
    texts = [in_plot(name) for name in NAMES]
    assert set(texts) == {label.get_text() for label in axes[0].get_yticklabels()}
    assert not any(Text(text=text)._preprocess_math(text)[1] for text in texts)
    plt.close("all")


@pytest.mark.parametrize("which", ["levels", "columns"])
def test_files_give_the_names_back(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    model, both, *data = request.getfixturevalue(which)
    both.reml.save(tmp_path / "fit")
    again = bl.load(tmp_path / "fit")
    assert again.design.groupings.keys() == model.design.groupings.keys()
    assert all(again.design.groupings[g].levels == model.design.groupings[g].levels for g in again.design.groupings)
    if data:
        pd.testing.assert_frame_equal(again.predict(data[0]), both.reml.predict(data[0]))
    for ending in ("nc", "zarr"):
        pytest.importorskip({"nc": "h5netcdf", "zarr": "zarr"}[ending])
        both.posterior.save(tmp_path / f"post.{ending}")
        post = bl.load(tmp_path / f"post.{ending}")
        pd.testing.assert_frame_equal(post.table(), both.posterior.table())
        assert list(map(str, post.ranef())) == list(map(str, both.posterior.ranef()))


def test_nothing_was_run() -> None:
    assert not Path("injected").exists()


@pytest.mark.parametrize("where", ["group", "factor", "column"])
def test_halves_of_characters_are_refused(where: str) -> None:
    texts = np.array(["a\ud800", "b"], dtype=object)[np.arange(20) // 2 % 2]
    name = "g\udfff" if where == "column" else "g"
    values = {"y": np.random.default_rng(1).normal(size=20), "f": "a", "g": np.arange(20) % 5}
    data = pd.DataFrame({key: pd.Series(value, index=range(20)) for key, value in values.items()})
    data["g" if where == "group" else "f"] = pd.Series(
        texts if where != "column" else "u", index=range(20), dtype=object
    )
    data.columns = pd.Index(["y", "f", name], dtype=object)
    with pytest.raises(bl.DesignError, match=r"half a character.*encoding"):
        bl.Model(f"y ~ {'f' if where == 'factor' else '1'} + (1 | `{name}`)", data)


def test_printable_text_is_left_alone() -> None:
    for text in ("Subject", "été", "温度", "a b", "sd_g[x]"):
        assert printable(text) == on_terminal(text) == text
    assert on_terminal("a\n\tb") == "a\n\tb"
    assert in_markdown("sd_Subject[Days]") == "sd_Subject[Days]"
