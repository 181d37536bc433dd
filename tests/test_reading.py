"""Tables from files for the command line: against what was written, and the lines it was written on."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import bayeslmm as bl
from bayeslmm.cli import app
from bayeslmm.errors import DatasetError
from bayeslmm.reading import LINES, Options, Reading, read_data, read_table


def read(folder: Path, content: str | bytes, name: str = "d.csv", **options: Any) -> Reading:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(str(path), Options(**options))


def refused(folder: Path, content: str | bytes, name: str = "d.csv", **options: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        read(folder, content, name, **options)
    return str(caught.value)


def rows(seed: int, n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "y": rng.normal(size=n) * 10.0 ** rng.integers(-300, 300, n),
            "k": rng.integers(-(10**12), 10**12, n),
            "g": rng.choice(["a", "b c", 'say "x"', "two\nlines", "1,5;x", "Übung ", "None", "NA"], n),
            "b": rng.choice([True, False], n),
        }
    )


@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_what_was_written_is_read_to_the_last_bit(tmp_path: Path, sep: str, encoding: str, newline: str) -> None:
    data = rows(3)
    text = data.to_csv(index=False, sep=sep, lineterminator=newline)
    frame = read(tmp_path, text.encode(encoding)).frame
    for name in ("y", "k", "g", "b"):
        assert frame[name].tolist() == [v.replace("\n", "\n") if name == "g" else v for v in data[name].tolist()]
    assert frame["y"].dtype == float and frame["k"].dtype == np.int64 and frame["b"].dtype == bool


@pytest.mark.parametrize("seed", range(5))
def test_the_index_is_the_line_of_the_file(tmp_path: Path, seed: int) -> None:
    """Every row has an own mark, which is looked for in the lines of the text; blank lines lie between."""
    rng = np.random.default_rng(seed)
    data = rows(seed).assign(mark=[f"mark{i}" for i in range(60)])[["mark", "y", "g"]]
    text, lines = data.to_csv(index=False), list[str]()
    for line in text.splitlines():
        lines += [""] * int(rng.integers(0, 3) if line.startswith("mark") and "y" not in line else 0) + [line]
    content = "\n".join(lines) + "\n"
    frame = read(tmp_path, content).frame
    places = {match: i for i, line in enumerate(content.split("\n"), 1) for match in re.findall(r"^mark\d+", line)}
    assert frame.index.name == LINES and dict(zip(frame["mark"], frame.index, strict=True)) == places


def test_against_pandas_on_plain_tables(tmp_path: Path) -> None:
    data = bl.load_dataset("sleepstudy").astype({"Subject": str})
    text = data.to_csv(index=False)
    frame = read(tmp_path, text).frame.reset_index(drop=True)
    pd.testing.assert_frame_equal(frame, pd.read_csv(io.StringIO(text)))
    pd.testing.assert_frame_equal(read_data(str(tmp_path / "d.csv")), pd.read_csv(io.StringIO(text)))


WORDS = ["NA", "None", "null", "NULL", "nan", "NaN", "N/A", "n/a", "#N/A", "<NA>"]


@pytest.mark.parametrize("word", WORDS)
def test_words_are_levels_beside_words_and_missing_beside_numbers(tmp_path: Path, word: str) -> None:
    got = read(tmp_path, f"y,g,h\n1,{word},a\n{word},b,\n3,{word},c\n")
    assert got.frame["g"].tolist() == [word, "b", word] and not got.frame["g"].isna().any()
    assert got.frame["y"].isna().tolist() == [False, True, False] and got.frame["y"].dtype == float
    assert got.frame["h"].isna().tolist() == [False, True, False]
    assert any(n.startswith("g: ") and f"'{word}' (2 cells) is kept as a level; --na '{word}'" in n for n in got.notes)
    assert any(n.startswith("y: ") and f"'{word}' (1 cell) is taken as missing" in n for n in got.notes)
    named = read(tmp_path, f"y,g,h\n1,{word},a\n{word},b,\n3,{word},c\n", na=(word,))
    assert named.frame["g"].isna().tolist() == [True, False, True] and not named.notes


def test_missing_words_of_ones_own(tmp_path: Path) -> None:
    text = "y,g\n1,.\n.,a\n3,-99\n4,b\n5,a\n"
    assert "--na '.'" in " ".join(read(tmp_path, text).notes)
    frame = read(tmp_path, text, na=(".", "-99")).frame
    assert frame["y"].isna().tolist() == [False, True, False, False, False]
    assert frame["g"].isna().tolist() == [True, False, True, False, False]


def test_a_column_of_nothing_but_missing_words_stays_text(tmp_path: Path) -> None:
    assert read(tmp_path, "y,g\n1,NA\n2,NA\n").frame["g"].tolist() == ["NA", "NA"]


@pytest.mark.parametrize("gap", [False, True])
def test_long_whole_numbers_stay_apart(tmp_path: Path, gap: bool) -> None:
    ids = [2**53 + 1, 2**53, 2**63 - 1, 2**63 - 2]
    for numbers in (ids, [2**64 - 1, 2**64 - 2], [10**25, 10**25 + 1]):
        cells = [str(number) for number in numbers] + [""] * gap
        column = read(tmp_path, "y,i\n" + "".join(f"1,{cell}\n" for cell in cells)).frame["i"]
        assert [int(value) for value in column.dropna()] == numbers and column.isna().sum() == gap


@pytest.mark.parametrize("gap", ["", "\n"])
def test_numbers_are_those_of_python_whichever_way_they_are_read(tmp_path: Path, gap: str) -> None:
    """Columns without gaps are read at once, others cell by cell."""
    texts = ["1.5", " 2 ", "-.5", "3.", "1e-320", "+4E+3", "0.1", "123456789012345678", "1e400", "-0"]
    column = read(tmp_path, "g,y\n" + "".join(f"a,{text}\n" for text in texts) + ("a,\n" if gap else "")).frame["y"]
    assert [str(value) for value in column.dropna()] == [str(float(text)) for text in texts]
    for odd in ("1_000", "0x10", "1 2", "١", "--1", "1e", "12a"):
        frame = read(tmp_path, f"g,y\na,1\nb,{odd}\n" + ("a,\n" if gap else "")).frame
        assert frame["y"].tolist()[:2] == ["1", odd]


DECIMALS = {
    "comma": ("Reaction;Days\n1,5;2\n-2,25;3\n4;1\n", [1.5, -2.25, 4.0]),
    "comma and thousands": ("Reaction;Days\n1.234,5;2\n2,5;3\n1.000.000,25;1\n", [1234.5, 2.5, 1000000.25]),
    "point": ("Reaction;Days\n1.5;2\n1.234;3\n", [1.5, 1.234]),
    "comma in scientific writing": ("Reaction;Days\n1,5e3;2\n2,5E-1;3\n", [1500.0, 0.25]),
}


@pytest.mark.parametrize("kind", DECIMALS)
def test_decimal_commas(tmp_path: Path, kind: str) -> None:
    text, expected = DECIMALS[kind]
    got = read(tmp_path, text)
    assert got.frame["Reaction"].tolist() == expected
    assert any("decimal comma" in note for note in got.notes) == ("comma" in kind)
    assert got.frame["Days"].dtype == np.int64
    if "comma" in kind:
        quoted = re.sub(r"^([^;]*);(\d)$", r'"\1",\2', text, flags=re.M).replace("Reaction;", "Reaction,")
        assert "--decimal ," in " ".join(read(tmp_path, quoted).notes)
        assert read(tmp_path, quoted, decimal=",").frame["Reaction"].tolist() == expected


def test_windows_text_is_read_and_said(tmp_path: Path) -> None:
    got = read(tmp_path, "y;g\n1;Übung\n2;Käse – alt\n".encode("cp1252"))
    assert got.frame["g"].tolist() == ["Übung", "Käse – alt"]
    assert "cp1252" in got.notes[0] and "Übung" in got.notes[0] and "';'" in got.notes[1]
    assert read(tmp_path, "y,g\n1,Ł\n".encode("cp1250"), encoding="cp1250").frame["g"].tolist() == ["Ł"]


def test_options_that_cannot_be(tmp_path: Path) -> None:
    assert "--encoding 'foo' is unknown" in refused(tmp_path, "a,b\n1,2\n", encoding="foo")
    assert "not in the encoding 'ascii'" in refused(tmp_path, "a,b\n1,ü\n", encoding="ascii")
    assert "more than one character" in refused(tmp_path, "a,b\n1,2\n", sep=";;")
    assert "cannot separate" in refused(tmp_path, "a,b\n1,2\n", sep="x")
    assert "--decimal 'x'" in refused(tmp_path, "a,b\n1,2\n", decimal="x")


def test_separators_by_name(tmp_path: Path) -> None:
    for sep, text in (("tab", "y\tg\n1\ta\n"), ("\\t", "y\tg\n1\ta\n"), ("space", "y  g\n 1 a\n"), (";", "y;g\n1;a\n")):
        assert read(tmp_path, text, sep=sep).frame.to_dict("list") == {"y": [1], "g": ["a"]}


def test_tables_of_r_with_names_of_rows(tmp_path: Path) -> None:
    got = read(tmp_path, '"y" "g"\n"1" 3.5 "a b"\n"2" 4 "b"\n', "d.txt")
    assert got.frame[["y", "g"]].to_dict("list") == {"y": [3.5, 4.0], "g": ["a b", "b"]}


@pytest.mark.parametrize("names", ["y,x,x,g", "y,x, x,g", '"y","x","x","g"'])
def test_columns_of_one_name_are_refused_as_in_data_frames(tmp_path: Path, names: str) -> None:
    text = names + "\n" + "".join(f"{i * i % 7},{i},{-i},{'ab'[i % 2]}\n" for i in range(12))
    got = read(tmp_path, text)
    assert list(got.frame.columns) == ["y", "x", "x", "g"] and got.frame.iloc[3].tolist() == [2, 3, -3, "b"]
    assert "several columns are named 'x' (columns 2, 3)." in got.notes
    for formula in ("y ~ x + (1 | g)", "x ~ 1 + (1 | g)"):
        with pytest.raises(bl.DesignError, match="2 columns named 'x'"):
            bl.Model(formula, got.frame)
    assert "2 columns named 'x'" in run("fit", "y ~ x + (1 | g)", "--data", str(tmp_path / "d.csv"), code=1)
    assert bl.Model("y ~ 1 + (1 | g)", got.frame).n == 12


DAMAGED = {
    "empty": b"",
    "blank": b" \n\n",
    "names only": b"a,b\n",
    "open quote": b'a,b\n1,"2\n',
    "too long": b"a,b\n1,2\n3,4,5\n",
    "a workbook": b"PK\x03\x04rest",
    "an old workbook": b"\xd0\xcf\x11\xe0rest",
    "gzip": b"\x1f\x8b\x08rest",
    "random": bytes(range(1, 256)) * 4,
    "half a mark": b"a,b\n\xff\xfe,1\n",
    "half of UTF-16": "a,b\n1,2".encode("utf-16")[:-1],
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_text_files_are_named(tmp_path: Path, kind: str) -> None:
    assert "d.csv' cannot be read as a table" in refused(tmp_path, DAMAGED[kind])


@pytest.mark.parametrize("kind", ["empty", "cut", "text", "flipped"])
def test_damaged_parquet_files_are_named(tmp_path: Path, kind: str) -> None:
    rows(1).to_parquet(tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    flipped = bytes(b ^ 255 if len(whole) - 200 < i < len(whole) - 8 else b for i, b in enumerate(whole))
    content = {"empty": b"", "cut": whole[: len(whole) // 2], "text": b"a,b\n1,2\n", "flipped": flipped}[kind]
    assert "cannot be read as parquet" in refused(tmp_path, content, "d.parquet")


def test_places_that_are_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "d.csv").write_text("a,b\n1,2\n")
    places = {
        str(tmp_path / "x.csv"): "is a folder",
        str(tmp_path / "pipe.csv"): "is a pipe, not a file",
        "/dev/zero": "not a file",
        "/dev/null": "not a file",
        "a" * 5000 + ".csv": "There is no file",
        "a" * 5000: "There is no file",
        "a\0b.csv": "There is no file",
        "no.csv": "There is no file 'no.csv'",
        str(tmp_path / "d.csv" / "x.csv"): "There is no file",
        "nosuch": "no data set named 'nosuch'",
        "Dyestuf": "Did you mean 'Dyestuff'",
    }
    for place, words in places.items():
        with pytest.raises(DatasetError, match=re.escape(words)) as caught:
            read_table(place)
        assert len(str(caught.value)) < 600
    with pytest.raises(DatasetError, match="- for standard input"):
        read_table("nosuch")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Dyestuff").mkdir()
    assert read_table("Dyestuff").frame.shape == (30, 2)


@pytest.mark.skipif(os.geteuid() == 0, reason="may read everything")
def test_files_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("a,b\n1,2\n")
    (tmp_path / "d.csv").chmod(0)
    with pytest.raises(DatasetError, match="cannot be read: Permission denied"):
        read_table(str(tmp_path / "d.csv"))


# --- the commands ----------------------------------------------------------------------------------------------------


def run(*arguments: str, text: str | None = None, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments), input=text)
    assert result.exit_code == code or (code and result.exception is not None), result.output
    return result.output if result.exception is None else f"{result.output}{result.exception}"


def alfalfa() -> str:
    """A table with a level called None, two missing yields, and no other gap."""
    rng = np.random.default_rng(4)
    lines = ["Yield,Date,Block"]
    lines += [f"{rng.normal():.4f},{date},{block}" for block in "abcdef" for date in ("None", "Sep 1", "Oct 7")]
    lines[5] = lines[5].replace(lines[5].split(",")[0], "")
    lines[9] = lines[9].replace(lines[9].split(",")[0], "NA")
    return "\n".join(lines) + "\n"


def test_a_level_called_none_stays_and_dropped_rows_are_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(alfalfa())
    formula = "Yield ~ Date + (1 | Block)"
    text = re.sub(r"\s+", " ", run("fit", formula, "--data", str(tmp_path / "a.csv")))
    assert "16 observations" in text and "(missing Yield: lines 6, 10 of the file)" in text
    assert "Date: 'None' (6 cells) is kept as a level" in text and "Yield: 'NA' (1 cell) is taken as missing" in text
    assert "Date[Sep 1]" in text and "Date[Oct 7]" in text
    text = re.sub(r"\s+", " ", run("fit", formula, "--data", str(tmp_path / "a.csv"), "--na", "None", "--na", "NA"))
    assert "Date: 'None'" not in text and "missing Date: lines 2, 5, 8" in text


@pytest.mark.parametrize("command", ["fit", "lint"])
def test_standard_input_and_options(command: str) -> None:
    text = alfalfa().replace(",", ";")
    out = run(command, "Yield ~ Date + (1 | Block)", "--data", "-", "--sep", ";", "--encoding", "utf-8", text=text)
    assert "Yield: 'NA' (1 cell) is taken as missing" in re.sub(r"\s+", " ", out)
    assert "cannot be read as a table: it is empty" in run(command, "y ~ 1 + (1 | g)", "--data", "-", text="", code=1)


def test_notes_on_the_data_are_said_by_the_command(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(alfalfa().replace("f,", "f ,").replace("Oct 7,b", "Oct 7 ,b"))
    text = re.sub(r"\s+", " ", run("fit", "Yield ~ Date + (1 | Block)", "--data", str(tmp_path / "d.csv")))
    assert "Date has levels that differ only by spaces: 'Oct 7' (4 rows), 'Oct 7 ' (1 row)" in text


def test_a_pipe_that_nobody_writes_to_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.csv")
    done = subprocess.run(
        [sys.executable, "-m", "bayeslmm", "fit", "y ~ 1 + (1 | g)", "--data", str(tmp_path / "p.csv")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1 and "is a pipe" in re.sub(r"\s+", " ", done.stderr)
