"""The command line on a bad day: one line and an exit code, before the work where it can be known."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

import bayeslmm as bl
from bayeslmm import outcome
from bayeslmm.files.file_names import file_names
from bayeslmm.output import write

SMALL = "Yield ~ 1 + (1 | Batch)"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def unworked(monkeypatch):
    for engine in ("fit", "sample"):
        monkeypatch.setattr(bl.Model, engine, lambda *_, **__: pytest.fail("computed before the folder was looked at"))


@pytest.mark.parametrize(
    ("command", "file"),
    [
        ("fit", "fit.csv"),
        ("fit", "fit.json"),
        ("compare", "report.html"),
        ("compare", "comparison.json"),
        ("compare", "Dyestuff_variance.png"),
        ("compare", "Dyestuff_boundary_sd_Batch_Intercept.png"),
        ("boundary", "boundary.html"),
        ("demo", "report.html"),
        ("demo", "sleepstudy_shrinkage_Subject.png"),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_cannot_be_replaced_is_seen_before_the_work(fails, tmp_path, unworked, command, file, kind):
    (tmp_path / file).mkdir() if kind == "folder" else os.mkfifo(tmp_path / file)
    arguments = [] if command == "demo" else [SMALL, "--data", "Dyestuff"]
    text = fails(command, *arguments, "--out", str(tmp_path))
    assert text.startswith("Error: ")
    assert file in text.replace("\n", "")
    assert kind in text
    assert os.listdir(tmp_path) == [file]


@pytest.mark.parametrize(("out", "words"), [("n" * 256, "256bytes"), ("/proc/new", "annot")])
@pytest.mark.parametrize("command", ["fit", "compare", "boundary", "demo"])
def test_folders_that_cannot_be_made_are_seen_before_the_work(
    fails, monkeypatch, tmp_path, unworked, command, out, words
):
    monkeypatch.chdir(tmp_path)
    arguments = [] if command == "demo" else [SMALL, "--data", "Dyestuff"]
    text = fails(command, *arguments, "--out", out, code=2)
    assert words in "".join(c for c in text if not c.isspace() and c != "│")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 1, "the output cannot be written: No space left"),
        (OSError(errno.EACCES, os.strerror(errno.EACCES), "x.csv"), 1, "x.csv: Permission denied"),
        (IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), "x.csv"), 1, "x.csv: Is a directory"),
        (MemoryError("Unable to allocate 7 TiB"), 1, "not enough memory (Unable to allocate 7 TiB)"),
        (KeyboardInterrupt(), 130, "Interrupted"),
        (UnicodeEncodeError("ascii", "\u00e9", 0, 1, "ordinal not in range"), 1, "PYTHONIOENCODING"),
        (bl.FitError("no fit"), 1, "Error: no fit"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_every_error_of_the_system_is_one_line(fails, monkeypatch, error, code, words):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr("bayeslmm.reading.read_table", failing)
    text = fails("fit", SMALL, "--data", "Dyestuff", code=code)
    assert words in text
    assert text.count("\n") == 1


def test_a_closed_pipe_is_no_error_to_tell(monkeypatch, capsys):
    def failing(*_, **__):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    said = list[str]()
    with pytest.raises(SystemExit) as stop:
        outcome.run(failing, said.append)
    assert (stop.value.code, said) == (141, [])


def test_faults_of_the_program_keep_their_traceback():
    def failing():
        raise ZeroDivisionError("a fault")

    with pytest.raises(ZeroDivisionError, match="a fault"):
        outcome.run(failing, print)


def command(redirect: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command in a shell; what is printed to the standard output goes where redirect says."""
    line = f'set -o pipefail; "{sys.executable}" -m bayeslmm {redirect}'
    env = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=env)


@pytest.mark.slow
@pytest.mark.parametrize("redirect", ["> /dev/full", ">&-"])
def test_an_output_that_takes_nothing(redirect):
    done = command(f'fit "{SMALL}" --data Dyestuff {redirect}')
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if "full" in redirect:
        assert done.returncode == 1
        assert done.stderr == (
            "Error: the output cannot be written: No space left on device. Send it to another place.\n"
        )


@pytest.mark.slow
def test_files_are_written_although_the_reader_leaves(tmp_path):
    done = command(f'compare "{SMALL}" --data Dyestuff --draws 400 --out "{tmp_path / "out"}" | head -1')
    assert done.stderr == ""
    assert done.stdout.startswith("Yield ~ 1")
    assert done.returncode in (0, 1, 141)
    files = {path.name for path in (tmp_path / "out").iterdir()}
    figures = {
        f"Dyestuff_{name}.png" for name in ("boundary_sd_Batch_Intercept", "residuals", "shrinkage_Batch", "variance")
    }
    assert files == {"report.html", "comparison.json", *figures}


@pytest.mark.slow
@pytest.mark.parametrize("variables", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONIOENCODING": ""}])
def test_a_terminal_of_few_signs(tmp_path, variables):
    rows = "\n".join(f"{k * k % 7},\u00e4{k % 4}" for k in range(12))
    (tmp_path / "u.csv").write_text(f"y\u00e9,gr\u00fcppe\n{rows}\n", encoding="utf-8")
    formula = "y\u00e9 ~ 1 + (1 | gr\u00fcppe)"
    done = command(f"""fit "{formula}" --data "{tmp_path / "u.csv"}" """, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert "gr\\xfcppe" in done.stdout or "gr\u00fcppe" in done.stdout


def test_more_draws_than_memory_are_refused_at_once(fails):
    text = fails("compare", SMALL, "--data", "Dyestuff", "--draws", "100000000000")
    # beta, six effects, their sd, sigma: nine numbers of eight bytes
    assert "7,200 GB" in text
    assert "fewer draws" in text


def test_labels_never_share_a_file():
    labels = [
        ("a.b",),
        ("a_b",),
        ("A_B",),
        ("a b",),
        ("a.b",),
        ("+",),
        ("-",),
        ("\u00e9",),
        ("e\u0301",),
        ("\u00df",),
        ("ss",),
    ]
    labels += [
        ("a", "b"),
        ("n" * 300,),
        ("n" * 299 + "m",),
        ("\u4e2d" * 200,),
        ("\ufb01",),
        ("fi",),
        ("con",),
        ("\ud800",),
    ]
    names = file_names(labels, ".png")
    assert len({name.casefold() for name in names}) == len(labels)
    assert all(name.endswith(".png") and len(name.encode()) <= 143 for name in names)
    assert all(c.isalnum() or c in "_-." for name in names for c in name)
    assert names[0] == "a_b.png"
    # A name depends on the labels before it only.
    assert file_names(labels[:6], ".png") == names[:6]


def test_a_report_has_every_figure(tmp_path):
    data = bl.load_dataset("Dyestuff").assign(**{"a.b": lambda d: d["Batch"], "a_b": list("xyz") * 10})
    model = bl.Model("Yield ~ 1 + (1 | `a.b`) + (1 | a_b)", data)
    both = bl.compare(model.fit(), model.sample(60, random_seed=1))
    paths = write([("+", both)], tmp_path)
    pictures = [path for path in paths if path.suffix == ".png"]
    # variances, two standard deviations, shrinkage of two factors, residuals
    assert len(set(pictures)) == 6
    assert sorted(os.listdir(tmp_path)) == sorted(path.name for path in paths)
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 6
