"""Iterators are kept in temporary files: what happens to these, and what if they cannot be written."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("pyarrow")

from bayeslmm.errors import DesignError, StorageError
from bayeslmm.sources import checked, open_source


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def tables(n: int = 4, rows: int = 3):
    for number in range(n):
        yield pd.DataFrame({"y": np.arange(rows) + float(number * rows), "g": [f"g{number}"] * rows})


def test_files_are_there_as_long_as_the_source(place: Path) -> None:
    data = checked(open_source(tables()), ["y", "g"])
    assert list(place.iterdir()) == []
    for _ in range(3):
        (chunk,) = data.chunks()
        assert chunk["y"].tolist() == list(range(12))
    (folder,) = place.iterdir()
    assert len(list(folder.iterdir())) == 1
    assert folder.stat().st_mode & 0o077 == 0
    del data, chunk
    gc.collect()
    assert list(place.iterdir()) == []


def test_a_pass_that_was_broken_off_goes_on(place: Path) -> None:
    source = open_source(tables(4, 300_000))
    data = checked(source, ["y", "g"])
    for _ in data.chunks():
        break
    found = list(data.chunks())
    np.testing.assert_array_equal(np.concatenate([chunk["y"] for chunk in found]), np.arange(1_200_000.0))
    again = list(data.chunks())
    assert [len(chunk) for chunk in again] == [len(chunk) for chunk in found]


def test_columns_that_were_not_kept(place: Path) -> None:
    source = open_source(tables())
    list(checked(source, ["y"]).chunks())
    with pytest.raises(DesignError, match=r"'g' of the generator of tables was not kept .*only 'y'"):
        list(checked(source, ["y", "g"]).chunks())
    assert [len(chunk) for chunk in checked(source, ["y"]).chunks()] == [12]


def test_what_an_iterator_raises_is_not_taken_for_its_end(place: Path) -> None:
    def broken():
        yield from tables(2)
        raise ConnectionError("the server is gone")

    data = checked(open_source(broken()), ["y", "g"])
    with pytest.raises(ConnectionError, match="the server is gone"):
        list(data.chunks())
    with pytest.raises(DesignError, match=r"stopped after 2 tables \(ConnectionError: the server is gone\)"):
        list(data.chunks())


def test_an_interrupted_generator_is_not_taken_for_one_that_has_ended(place: Path) -> None:
    def interrupted():
        yield from tables(2)
        raise KeyboardInterrupt

    data = checked(open_source(interrupted()), ["y", "g"])
    with pytest.raises(KeyboardInterrupt):
        list(data.chunks())
    with pytest.raises(DesignError, match="stopped after 2 tables"):
        list(data.chunks())


def test_values_that_no_file_of_columns_holds(place: Path) -> None:
    given = iter([pd.DataFrame({"y": [1.0, 2.0], "g": [object(), 1]})])
    with pytest.raises(DesignError, match="values that no file of columns holds"):
        list(checked(open_source(given), ["y", "g"]).chunks())


def test_files_that_were_removed(place: Path) -> None:
    data = checked(open_source(tables()), ["y", "g"])
    list(data.chunks())
    (folder,) = place.iterdir()
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(StorageError, match=r"cannot be read .* Was the folder for temporary files emptied"):
        list(data.chunks())


def test_a_folder_that_cannot_be_written_to(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place / "none"))
    with pytest.raises(StorageError, match=r"are kept in '.*none' while they are read, and that failed: No such file"):
        list(checked(open_source(tables()), ["y", "g"]).chunks())


_LIMITED = """
import resource, sys, tempfile
import numpy as np, pandas as pd
from bayeslmm.errors import StorageError, DesignError
from bayeslmm.sources import checked, open_source
tempfile.tempdir = sys.argv[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
def tables():
    for seed in range(3):
        yield pd.DataFrame({"y": np.random.default_rng(seed).normal(size=400_000)})
data = checked(open_source(tables()), ["y"])
for _ in range(2):
    try:
        list(data.chunks())
    except (StorageError, DesignError) as error:
        print(type(error).__name__, error)
"""


@pytest.mark.skipif(os.name == "nt", reason="no limits of this kind")
def test_a_full_disk_is_said_with_bytes_and_a_way_out(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", _LIMITED, str(tmp_path)], capture_output=True, text=True, check=True)
    first, second = run.stdout.strip().splitlines()
    assert first.startswith(f"StorageError The rows of the generator of tables are kept in '{tmp_path}' while they are")
    assert "File too large. 3,200,000 bytes more were needed, beside 0 that are there" in first
    assert "Set the environment variable TMPDIR" in first
    # The iterator has moved on, and its rows are lost.
    assert second.startswith("DesignError The generator of tables stopped after 1 tables (StorageError")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device")
def test_a_disk_without_space(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bayeslmm.sources import spool

    monkeypatch.setattr(spool.Spool, "_path", lambda self, number: Path("/dev/full"))
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
    with pytest.raises(StorageError, match=r"No space left on device.* bytes more were needed"):
        list(checked(open_source(tables()), ["y", "g"]).chunks())


_KILLED = """
import os, signal, sys, tempfile
import pandas as pd
from bayeslmm.sources import checked, open_source
tempfile.tempdir = sys.argv[1]
data = checked(open_source(iter([pd.DataFrame({"y": [1.0]})])), ["y"])
list(data.chunks())
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name == "nt", reason="no signals of this kind")
def test_files_of_processes_that_were_killed_are_removed(place: Path) -> None:
    subprocess.run([sys.executable, "-c", _KILLED, str(place)], check=False)
    (left,) = place.iterdir()
    data = checked(open_source(tables()), ["y"])
    list(data.chunks())
    (own,) = place.iterdir()
    assert own != left
    other = checked(open_source(tables()), ["y"])
    list(other.chunks())
    assert own.exists()
    assert [len(chunk) for chunk in data.chunks()] == [12]
