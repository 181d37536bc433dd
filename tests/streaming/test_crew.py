"""Pieces of a source summed by several: the same whoever does it, though workers die and runs are broken off."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("pyarrow")

import bayeslmm as bl
from bayeslmm.errors import DesignError, FitError, StorageError
from bayeslmm.likelihood import CrossProducts, SummedDesign, cross_products
from bayeslmm.sources import open_source
from bayeslmm.sources import parquet as parquet_module
from bayeslmm.sources import protocol as protocol_module
from bayeslmm.streaming import piece_store
from bayeslmm.streaming.build import summed
from bayeslmm.streaming.crew import Crew
from bayeslmm.streaming.tree import MergeTree
from tests.streaming.chunked import same_criterion

SLOPES = "y ~ x + s + (x | g)"
NESTED = "y ~ x + (1 | h/g)"


def rows(seed: int = 0, n: int = 3_000) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g, x = rng.integers(0, 80, n), rng.normal(size=n)
    slopes = rng.normal(size=(80, 2))
    y = 1.0 + x + slopes[g, 0] + 0.5 * slopes[g, 1] * x + rng.normal(size=n)
    words = np.array(["low", "mid", "high"], dtype=object)
    frame = pd.DataFrame(
        {"y": y, "x": x, "g": g, "h": "h" + pd.Series(g % 7).astype(str), "s": words[rng.integers(0, 3, n)]}
    )
    frame.loc[::37, "x"] = np.nan
    # A level that comes late.
    frame.loc[n - 5 :, "g"] = 80
    return frame


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of twelve row groups, two of which are a piece."""
    monkeypatch.setattr(protocol_module, "MOST_ROWS", 250)
    monkeypatch.setattr(parquet_module, "PIECE_ROWS", 500)
    rows().to_parquet(tmp_path / "rows.parquet", row_group_size=250)
    return tmp_path / "rows.parquet"


def total(path: Any, crew: Crew | None, formula: str = SLOPES, **arguments: Any) -> SummedDesign:
    return summed(formula, open_source(path), crew=crew, progress=False, **arguments)


def bits(sums: CrossProducts) -> list[bytes]:
    """All numbers of the sums, to the last digit."""
    found: list[bytes] = []

    def gather(value: Any) -> None:
        if isinstance(value, np.ndarray):
            found.append(value.tobytes())
        elif isinstance(value, tuple | list):
            for item in value:
                gather(item)
        elif isinstance(value, float):
            found.append(np.float64(value).tobytes())
        elif dataclasses.is_dataclass(value) and "Sums" not in type(value).__name__:
            for field in dataclasses.fields(value):
                gather(getattr(value, field.name))

    for name in ("R", "E", "D", "up", "cells", "fixed", "rows"):
        gather(getattr(sums.sums, name, ()))
    gather(sums.response.coef)
    assert sum(map(len, found)) > 1_000
    return found


@pytest.mark.parametrize("formula", [SLOPES, NESTED])
def test_sums_do_not_depend_on_who_adds_them(path: Path, tmp_path: Path, formula: str) -> None:
    store = "hierarchy" if formula == NESTED else "auto"
    alone = total(path, None, formula, store=store)
    two = total(path, Crew(2), formula, store=store)
    three = total(path, Crew(3), formula, store=store)
    kept = total(path, Crew(kept=piece_store.PieceStore(tmp_path / "kept")), formula, store=store)
    assert bits(two) == bits(three) == bits(kept)
    memory = cross_products(bl.Model(formula, rows(), store=store).design)
    same_criterion(two, memory)
    same_criterion(two, alone)


def test_a_model_says_the_same(path: Path) -> None:
    one, two = bl.Model(SLOPES, rows()), bl.Model(SLOPES, path, n_jobs=2)
    assert str(one.dropped) == str(two.dropped)
    assert one.n == two.n
    a, b = one.fit(), two.fit()
    np.testing.assert_allclose(a.theta, b.theta, rtol=1e-9)
    np.testing.assert_allclose(a.coefficients()["estimate"], b.coefficients()["estimate"], rtol=1e-9)


@pytest.mark.parametrize("pieces", range(1, 18))
def test_the_tree_has_every_piece_once_in_its_place(pieces: int) -> None:
    found = set()
    for seed in range(4):
        tree: MergeTree[tuple] = MergeTree(lambda one, other: (one, other))
        for number in np.random.default_rng(seed).permutation(pieces).tolist():
            tree.add(number, number)
        found.add(str(tree.result()))
    (text,) = found
    assert [int(word) for word in text.replace("(", "").replace(")", "").split(",")] == list(range(pieces))
    # No deeper than it has to be.
    assert max(text[:k].count("(") - text[:k].count(")") for k in range(len(text))) <= np.ceil(np.log2(pieces))


# Workers that die, files that change. Sources and pieces of this file go to workers as they are.


@dataclasses.dataclass(frozen=True)
class Deadly:
    """A piece that ends the process which reads it, the first time or always."""

    piece: Callable[[], Iterator[pd.DataFrame]]
    flag: str
    always: bool = False

    def __call__(self) -> Iterator[pd.DataFrame]:
        if self.always or not os.path.exists(self.flag):
            Path(self.flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.piece()


@dataclasses.dataclass(frozen=True)
class Counted:
    """A piece that says when it is read, and may break off."""

    piece: Any
    log: str
    number: int
    breaks: bool = False

    def identity(self) -> Any:
        return self.piece.identity()

    def __call__(self) -> Iterator[pd.DataFrame]:
        if self.breaks:
            raise KeyboardInterrupt
        with open(self.log, "a") as file:
            file.write(f"{self.number}\n")
        return self.piece()


class Wrapped:
    """A source with other pieces."""

    def __init__(self, path: Path, wrap: Callable[[int, Any], Any]) -> None:
        self._source, self._wrap = open_source(path), wrap

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def pieces(self, columns: Any) -> list[Any]:
        return [self._wrap(number, piece) for number, piece in enumerate(self._source.pieces(columns))]


# Of joblib, where it has its own.
_OWN = ("joblib.externals.cloudpickle",)


@pytest.fixture
def by_value() -> Iterator[None]:
    """Workers cannot import this file."""
    import cloudpickle

    module = sys.modules[__name__]
    libraries = [cloudpickle, *map(importlib.import_module, filter(importlib.util.find_spec, _OWN))]
    for library in libraries:
        library.register_pickle_by_value(module)
    yield
    for library in libraries:
        library.unregister_pickle_by_value(module)


def once(path: Path, flag: Path, always: bool = False) -> Any:
    return Wrapped(path, lambda number, piece: Deadly(piece, str(flag), always) if number == 2 else piece)


@pytest.mark.skipif(os.name == "nt", reason="no signals of this kind")
def test_a_worker_that_dies_costs_its_pieces_alone(path: Path, tmp_path: Path, by_value: None) -> None:
    found = summed(SLOPES, once(path, tmp_path / "flag"), crew=Crew(2), progress=False)
    assert (tmp_path / "flag").exists()
    assert bits(found) == bits(total(path, Crew(2)))


@pytest.mark.skipif(os.name == "nt", reason="no signals of this kind")
def test_workers_that_die_again_and_again(path: Path, tmp_path: Path, by_value: None) -> None:
    with pytest.raises(FitError, match=r"Worker processes died 4 times while they summed rows.*not enough memory"):
        summed(SLOPES, once(path, tmp_path / "flag", always=True), crew=Crew(2), progress=False)


def test_a_run_that_was_broken_off_goes_on(path: Path, tmp_path: Path) -> None:
    log, folder = tmp_path / "log", tmp_path / "kept"

    def counted(breaks: int | None) -> Any:
        return Wrapped(path, lambda number, piece: Counted(piece, str(log), number, number == breaks))

    def run(breaks: int | None) -> tuple[SummedDesign | None, list[int]]:
        log.write_text("")
        kept = piece_store.PieceStore(folder)
        try:
            found = summed(SLOPES, counted(breaks), crew=Crew(kept=kept), progress=False)
        except KeyboardInterrupt:
            found = None
        return found, [int(line) for line in log.read_text().split()]

    found, read = run(4)
    assert found is None
    assert read == [0, 1, 2, 3]
    found, read = run(None)
    # What was left of the first pass, and all pieces of the two that follow (measures of columns, sums).
    assert found is not None
    assert read == [4, 5, *range(6), *range(6)]
    assert bits(found) == bits(total(path, Crew(2)))
    again, read = run(None)
    assert read == []
    assert again is not None
    assert bits(again) == bits(found)
    # A file that is damaged is computed again.
    damaged = max(folder.iterdir(), key=lambda file: file.stat().st_size)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    again, read = run(None)
    assert len(read) == 1
    assert bits(again) == bits(found)


def test_sums_of_other_rows_and_other_models_are_not_taken(path: Path, tmp_path: Path) -> None:
    kept = piece_store.PieceStore(tmp_path / "kept")
    total(path, Crew(kept=kept))
    before = set((tmp_path / "kept").iterdir())
    other = total(path, Crew(kept=kept), NESTED)
    assert bits(other) == bits(total(path, Crew(2), NESTED))
    middle = set((tmp_path / "kept").iterdir())
    assert len(middle) > len(before)
    rows(seed=1).to_parquet(path, row_group_size=250)
    found = total(path, Crew(kept=kept))
    assert bits(found) == bits(total(path, Crew(2)))
    same_criterion(found, cross_products(bl.Model(SLOPES, rows(seed=1)).design))


def test_files_of_sums_can_name_nothing_but_their_parts(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'harm'}",)

    import hashlib

    store = piece_store.PieceStore(tmp_path)
    for content in (Harmful(), [bl.Model], pd.Series([1.0])):
        whole = pickle.dumps(content)
        (tmp_path / "a.sums").write_bytes(hashlib.sha256(whole).digest() + whole)
        assert store.load("a") is None
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "index",
    [
        pd.Index([3, 1, 2]),
        pd.Index([0.5, np.nan]),
        pd.Index(["a", "", "b\n", "Ä"]),
        pd.Index(["a", "b"], dtype=object),
        pd.Index([]),
        pd.Index([], dtype="str"),
        pd.RangeIndex(2, 9, 3),
        pd.Index([1, "a", None], dtype=object),
        pd.DatetimeIndex(["2020-01-01", "2021-01-01"]),
    ],
)
def test_levels_come_back_as_they_were(index: pd.Index, tmp_path: Path) -> None:
    store = piece_store.PieceStore(tmp_path)
    store.save("a", {"levels": index})
    pd.testing.assert_index_equal(store.load("a")["levels"], index, exact=True)


def test_tables_come_back_as_they_were(tmp_path: Path) -> None:
    store = piece_store.PieceStore(tmp_path)
    table = pd.DataFrame(
        {
            "number": [1.5, np.nan],
            "text": ["a", None],
            "levels": pd.Categorical(["u", None], categories=["v", "u"], ordered=True),
            "whole": [1, 2],
            "day": pd.to_datetime(["2020-01-01", "2021-01-01"]),
            "yes": [True, False],
        },
        index=[7, 3],
    )
    store.save("a", [table])
    pd.testing.assert_frame_equal(store.load("a")[0], table)


@pytest.mark.parametrize("formula", ["y ~ scale(x) + s + (x | g)", "y ~ poly(g, 2) + x + (1 | h:s)", NESTED])
def test_every_kind_of_pass_is_taken_from_its_files(path: Path, tmp_path: Path, formula: str) -> None:
    store = "hierarchy" if formula == NESTED else "auto"
    kept = piece_store.PieceStore(tmp_path / "kept")
    found = total(path, Crew(kept=kept), formula, store=store)
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "kept").iterdir()}
    again = total(path, Crew(kept=kept), formula, store=store)
    # Nothing was written once more.
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "kept").iterdir()} == files
    assert bits(again) == bits(found)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device")
def test_a_full_disk(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bayeslmm.files import writing

    real = Path.write_bytes

    def full(self: Path, content: bytes) -> int:
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(content)
        return real(self, content)

    monkeypatch.setattr(writing.Path, "write_bytes", full)
    with pytest.raises(StorageError, match=r"sums of a piece \([\d,]+ bytes\) could not be kept: .*No space left"):
        bl.Model(SLOPES, path, checkpoint=tmp_path / "kept")


def test_sources_that_are_one_stream_have_no_pieces() -> None:
    for crew in ({"n_jobs": 2}, {"checkpoint": "kept"}):
        with pytest.raises(DesignError, match="list of 2 tables is one stream of rows, of which n_jobs="):
            bl.Model(SLOPES, [rows(), rows(1)], **crew)
    with pytest.raises(DesignError, match="n_jobs=0 would run nothing"):
        bl.Model(SLOPES, [rows()], n_jobs=0)
    with pytest.raises(DesignError, match="client='here' is no Dask client"):
        bl.Model(SLOPES, [rows()], client="here")
    with pytest.raises(DesignError, match=r"n_jobs= is about rows that are read in chunks"):
        bl.Model(SLOPES, rows(), n_jobs=2)


def test_pieces_that_do_not_go_together(tmp_path: Path) -> None:
    dd = pytest.importorskip("dask.dataframe")
    first, second = rows(n=100), rows(n=100).assign(s=1)
    data = dd.from_map(lambda frame: frame, [first, first, second], meta=first)
    kept = piece_store.PieceStore(tmp_path / "kept")
    with pytest.raises(
        DesignError, match=r"'s' of the Dask DataFrame .* is numbers \(int64\) in chunk 0 of piece 2, but text"
    ):
        summed(SLOPES, open_source(data), crew=Crew(kept=kept), progress=False, most=100)


def test_a_file_that_changes_between_passes(path: Path, tmp_path: Path) -> None:
    """The last piece of the first pass is read before the file is written again."""

    class Changing(Counted):
        def __call__(self) -> Iterator[pd.DataFrame]:
            with open(self.log, "a") as file:
                file.write("x")
            second = Path(self.log).stat().st_size > 6
            for chunk in self.piece():
                yield chunk.assign(y=chunk["y"] + 1.0) if second and self.number == 3 else chunk

        def identity(self) -> Any:
            return self.number, Path(self.log).stat().st_size if Path(self.log).exists() else 0

    log = str(tmp_path / "log")
    source: Any = Wrapped(path, lambda number, piece: Changing(piece, log, number))
    with pytest.raises(DesignError, match="changed between two passes: its piece 3 has 500 rows as before, but other"):
        summed(SLOPES, source, crew=Crew(kept=piece_store.PieceStore(tmp_path / "kept")), progress=False)


def test_processes_are_joblibs_own(path: Path) -> None:
    """Whoever uses joblib before and after is given workers that it can use."""
    joblib = pytest.importorskip("joblib")
    large = np.ones(200_000)
    for _ in range(2):
        total(path, Crew(2))
        assert joblib.Parallel(2)(joblib.delayed(np.sum)(large) for _ in range(3)) == [200_000.0] * 3


# Clusters.


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def test_a_cluster_adds_as_others_do(path: Path, client: Any, tmp_path: Path) -> None:
    found = total(path, Crew(client=client))
    assert bits(found) == bits(total(path, Crew(2)))
    kept = piece_store.PieceStore(tmp_path / "kept")
    assert bits(total(path, Crew(client=client, kept=kept))) == bits(found)


@pytest.mark.skipif(os.name == "nt", reason="no signals of this kind")
def test_a_cluster_whose_worker_is_killed(path: Path, client: Any, tmp_path: Path, by_value: None) -> None:
    before = set(client.scheduler_info()["workers"])
    found = summed(SLOPES, once(path, tmp_path / "flag"), crew=Crew(client=client), progress=False)
    assert (tmp_path / "flag").exists()
    assert bits(found) == bits(total(path, Crew(2)))
    client.wait_for_workers(2, timeout=60)
    assert len(before) == 2


def test_a_dask_data_frame_stays_on_its_cluster(path: Path, client: Any) -> None:
    dd = pytest.importorskip("dask.dataframe")
    frame = rows()
    data = dd.from_pandas(frame, npartitions=6)
    kept = client.persist(data)
    memory = cross_products(bl.Model(SLOPES, frame).design)
    with client.as_current():
        found = [bl.Model(SLOPES, one, client=client).cross_products for one in (data, kept)]
        # The client that is there is taken.
        found.append(bl.Model(SLOPES, kept).cross_products)
    for sums in found:
        assert bits(sums) == bits(found[0])
        same_criterion(sums, memory)
    single = total(data, Crew(2))
    assert bits(single) == bits(found[0])
