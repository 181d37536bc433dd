"""Faults of sources, one by one: chunks that do not go together, passes that differ, interrupts."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayeslmm.errors import DesignError
from bayeslmm.sources import checked, open_source
from bayeslmm.sources.ahead import ahead
from bayeslmm.sources.checking import Checked
from bayeslmm.sources.checksum import checksum

_THREAD = "bayeslmm reading ahead"


def table(*values: float, g: str = "a") -> pd.DataFrame:
    return pd.DataFrame({"y": list(values), "g": g})


def read(tables, columns=("y", "g"), most: int | None = None) -> list[pd.DataFrame]:
    return list(Checked(open_source(list(tables)), columns, most).chunks())


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == _THREAD]


# Chunks that do not go together.


def test_text_in_one_chunk_and_numbers_in_another() -> None:
    tables = [table(1.0), table(2.0), pd.DataFrame({"y": ["3"], "g": ["b"]})]
    with pytest.raises(
        DesignError, match=r"'y' of the list of 3 tables is text in chunk 2, but numbers \(float64\) in chunk 0"
    ):
        read(tables)


def test_answers_in_one_chunk_and_numbers_in_another() -> None:
    tables = [pd.DataFrame({"y": [1, 0]}), pd.DataFrame({"y": [True, False]})]
    with pytest.raises(DesignError, match=r"booleans \(bool\) in chunk 1, but numbers \(int64\) in chunk 0"):
        read(tables, ["y"])


def test_dates_in_one_chunk_and_numbers_in_another() -> None:
    tables = [pd.DataFrame({"y": [1.0]}), pd.DataFrame({"y": [pd.Timestamp("2020-01-01")]})]
    with pytest.raises(DesignError, match=r"dates \(datetime64.*\) in chunk 1, but numbers"):
        read(tables, ["y"])


def test_a_column_that_is_not_in_every_chunk() -> None:
    with pytest.raises(DesignError, match="Table 1 of the list of 2 tables has no column 'g'; it has 'y'"):
        read([table(1.0), pd.DataFrame({"y": [1.0]})])


def test_two_columns_of_one_name() -> None:
    twice = pd.concat([table(1.0), table(2.0)], axis=1)
    with pytest.raises(DesignError, match="several columns named 'y'"):
        read([twice])


def test_whole_numbers_and_others_go_together() -> None:
    (chunk,) = read(
        [pd.DataFrame({"y": [1, 2]}), pd.DataFrame({"y": [0.5]}), pd.DataFrame({"y": [np.float32(3)]})], ["y"]
    )
    assert chunk["y"].tolist() == [1.0, 2.0, 0.5, 3.0]


@pytest.mark.parametrize("first", [True, False])
def test_a_chunk_without_any_value_of_a_column_may_have_any_type(first: bool) -> None:
    none = pd.DataFrame({"y": [None, None], "g": [np.nan, np.nan]})
    tables = [none, table(1.0)] if first else [table(1.0), none]
    for most in (None, 1):
        chunks = read(tables, most=most)
        y = np.concatenate([chunk["y"].astype(float) for chunk in chunks])
        g = np.concatenate([chunk["g"].astype(object) for chunk in chunks])
        order = slice(None) if first else slice(None, None, -1)
        np.testing.assert_array_equal(y[order], [np.nan, np.nan, 1.0])
        assert [level if isinstance(level, str) else None for level in g[order]] == [None, None, "a"]


def test_empty_chunks_pass() -> None:
    empty = table().astype({"y": object})
    data = checked(open_source([empty, table(1.0), empty, empty, table(2.0), empty]), ["y", "g"])
    assert [chunk["y"].tolist() for chunk in data.chunks()] == [[1.0, 2.0]]
    assert data.n == 2


def test_nothing_but_empty_chunks() -> None:
    with pytest.raises(DesignError, match="list of 2 tables has no rows"):
        read([table(), table()])


# Levels.


def categories(levels: list, order: list, ordered: bool = False) -> pd.DataFrame:
    return pd.DataFrame({"g": pd.Categorical(levels, categories=order, ordered=ordered)})


def test_levels_in_another_order_get_that_of_the_first_chunk() -> None:
    tables = [
        categories(["low", "high"], ["low", "mid", "high"]),
        categories(["low", "mid"], ["high", "low", "mid"]),
        categories(["new", "mid"], ["new", "mid"]),
        categories(["new", "high"], ["new", "high"]),
    ]
    found = read(tables, ["g"], most=2)
    assert [chunk["g"].tolist() for chunk in found] == [t["g"].tolist() for t in tables]
    known = ["low", "mid", "high", "new"]
    orders = [chunk["g"].cat.categories.tolist() for chunk in found]
    assert orders == [known[:3], known[:3], known, known]
    (whole,) = read(tables, ["g"])
    assert whole["g"].cat.categories.tolist() == known
    assert whole["g"].tolist() == [level for t in tables for level in t["g"]]


def test_ordered_levels_that_contradict_each_other() -> None:
    tables = [categories(["a"], ["a", "b", "c"], True), categories(["a"], ["c", "b", "a"], True)]
    with pytest.raises(
        DesignError, match=r"'g' of the list of 2 tables are c < b < a in chunk 1, and a < b < c before"
    ):
        read(tables, ["g"])
    for order in (["a", "x", "c"], ["x", "a"], ["a", "x"], ["x"]):
        with pytest.raises(DesignError, match=f"are {' < '.join(order)} in chunk 1, and a < b < c before"):
            read([tables[0], categories([], order, True)], ["g"])


def test_ordered_levels_that_go_on() -> None:
    tables = [
        categories(["a"], ["a", "b"], True),
        categories(["c"], ["b", "c"], True),
        categories(["a"], ["a", "c"], True),
    ]
    (whole,) = read(tables, ["g"])
    assert whole["g"].cat.categories.tolist() == ["a", "b", "c"]
    assert whole["g"].cat.ordered
    assert whole["g"].tolist() == ["a", "c", "a"]


def test_a_level_that_comes_with_the_last_chunk() -> None:
    found = read([table(1.0), table(2.0), table(3.0, g="late")], most=1)
    assert [chunk["g"].tolist() for chunk in found] == [["a"], ["a"], ["late"]]


# Passes that differ.


def changing(first: list, second: list):
    calls = itertools.count()
    return lambda: iter(first if next(calls) < 1 else second)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ([[1.0, 2.0], [3.5]], "its chunk 1 has 1 rows as before, but other values"),
        ([[1.0, 2.0], [3.0, 4.0]], "its chunk 1 has 2 rows now and 1 when it was first read"),
        ([[1.0, 2.0]], "the last 1 of its 3 rows are gone"),
        ([[1.0, 2.0], [3.0], [4.0]], "its chunk 2 has 1 rows now and 0 when"),
        ([[2.0, 1.0], [3.0]], "its chunk 0 has 2 rows as before, but other values"),
        ([[1.0, 2.0], [np.nan]], "its chunk 1 has 1 rows as before, but other values"),
    ],
)
def test_a_second_pass_with_other_rows(second, message: str) -> None:
    call = changing([table(1.0, 2.0), table(3.0)], [table(*values) for values in second])
    # Each table is a chunk: none is as small as a quarter of this.
    data = Checked(open_source(call), ["y", "g"], 2)
    list(data.chunks())
    with pytest.raises(DesignError, match=f"changed between two passes: {message}"):
        list(data.chunks())


def test_a_second_pass_with_another_level() -> None:
    data = checked(open_source(changing([table(1.0, g="a")], [table(1.0, g="b")])), ["y", "g"])
    list(data.chunks())
    with pytest.raises(DesignError, match="its chunk 0 has 1 rows as before, but other values"):
        list(data.chunks())


def test_a_file_that_is_written_again_between_passes(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    table(1.0, 2.0).to_parquet(tmp_path / "rows.parquet")
    data = checked(open_source(tmp_path / "rows.parquet"), ["y", "g"])
    list(data.chunks())
    table(1.0, 2.5).to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(DesignError, match=r"changed between two passes|cannot be read"):
        list(data.chunks())


def test_a_query_whose_table_grows_or_changes() -> None:
    duckdb = pytest.importorskip("duckdb")
    connection = duckdb.connect()
    connection.execute("create table rows as select i::double y, i % 3 g from range(1000) t(i)")
    data = checked(open_source(connection.table("rows")), ["y", "g"])
    for _ in range(3):
        assert sum(map(len, data.chunks())) == 1_000
    connection.execute("update rows set y = y + 1 where y = 500")
    with pytest.raises(DesignError, match=r"DuckDB relation changed .*: it has 1,000 rows as before, but other values"):
        list(data.chunks())
    connection.execute("insert into rows values (1, 1)")
    with pytest.raises(DesignError, match="it has 1,001 rows now and had 1,000 when it was first read"):
        list(data.chunks())


def test_queries_may_give_their_rows_in_another_order() -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"y": np.arange(999.0), "g": ["a", "b", "c"] * 333})
    shuffled = itertools.count()

    def again(given):
        return given.sample(fraction=1.0, shuffle=True, seed=next(shuffled))

    data = Checked(open_source(frame.lazy().map_batches(again)), ["y", "g"], 100)
    first, second = (np.concatenate([chunk["y"] for chunk in data.chunks()]) for _ in range(2))
    assert (first != second).any()
    assert next(shuffled) > 1
    drawn = frame.lazy().map_batches(
        lambda given: given.sample(fraction=1.0, with_replacement=True, seed=next(shuffled))
    )
    data = Checked(open_source(drawn), ["y", "g"], 100)
    list(data.chunks())
    with pytest.raises(DesignError, match=r"polars LazyFrame changed .*drawn at random without a seed"):
        list(data.chunks())
    with pytest.raises(DesignError, match="no fixed order"):
        list(data.chunks(first=1))


def test_rows_that_are_laid_beside_others_have_to_come_in_their_order() -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"y": np.arange(999.0), "g": ["a", "b", "c"] * 333})
    calls = itertools.count()

    def shuffled_at_last(given):
        return given if next(calls) < 4 else given.sample(fraction=1.0, shuffle=True, seed=1)

    data = checked(open_source(frame.lazy().map_batches(shuffled_at_last)), ["y", "g"])
    passes = [np.concatenate([chunk["y"] for chunk in data.chunks(aligned=aligned)]) for aligned in (False, True, True)]
    assert (passes[1] == passes[2]).all()
    while next(calls) < 4:
        pass
    # The same rows, which is all that sums ask for.
    list(data.chunks())
    with pytest.raises(DesignError, match="gave its rows in another order than when they were read for other results"):
        list(data.chunks(aligned=True))
    # Where rows have an order, every pass is compared chunk by chunk.
    data = checked(open_source([table(1.0, 2.0)]), ["y"])
    assert [len(list(data.chunks(aligned=True))) for _ in range(3)] == [1, 1, 1]


@given(st.data())
def test_checksums_of_rows_in_any_order(data) -> None:
    """Equal exactly for the same rows as a multiset, however they are typed and coded."""
    rows = st.tuples(st.sampled_from([0.0, 1.0, -1.5, np.nan]), st.sampled_from(["", "a", "ab", "b", None]))
    first = data.draw(st.lists(rows, min_size=1, max_size=6))
    second = data.draw(st.one_of(st.permutations(first), st.lists(rows, min_size=1, max_size=6)))

    def frame(values, order):
        levels = pd.Categorical([g for _, g in values], categories=order)
        return pd.DataFrame({"y": [y for y, _ in values], "g": levels})

    one = checksum(frame(first, ["", "a", "ab", "b"]), ["y", "g"], False)
    other = checksum(frame(second, data.draw(st.permutations(["", "a", "ab", "b", "z"]))), ["y", "g"], False)
    assert (one == other) == (sorted(map(str, first)) == sorted(map(str, second)))


def test_checksums_see_which_column_a_value_is_in() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [2.0, 1.0]})
    for ordered in (True, False):
        assert checksum(frame, ["a", "b"], ordered) != checksum(
            frame.rename(columns={"a": "b", "b": "a"}), ["a", "b"], True
        )
        pair = pd.DataFrame({"a": [1.0, 2.0], "b": [1.0, 2.0]})
        crossed = pd.DataFrame({"a": [1.0, 2.0], "b": [2.0, 1.0]})
        assert checksum(pair, ["a", "b"], ordered) != checksum(crossed, ["a", "b"], ordered)


# Reading ahead.


def test_what_reading_raises_comes_out_with_no_thread_left() -> None:
    def items():
        yield 1
        raise ValueError("broken")

    found = []
    with pytest.raises(ValueError, match="broken"):
        for item in ahead(items()):
            found.append(item)
    assert found == [1]
    assert not reading_threads()


def test_reading_ends_when_nobody_wants_more() -> None:
    closed = []

    def items():
        try:
            yield from itertools.count()
        finally:
            closed.append(threading.current_thread().name)

    reading = ahead(items())
    assert [next(reading), next(reading)] == [0, 1]
    assert reading_threads()
    reading.close()
    assert closed == [_THREAD]
    assert not reading_threads()


def test_no_more_than_two_items_are_made_before_they_are_wanted() -> None:
    made = []

    def items():
        for item in range(10):
            made.append(item)
            yield item

    reading = ahead(items())
    assert next(reading) == 0
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline and len(made) < 4:
        time.sleep(0.01)
    assert made in ([0, 1], [0, 1, 2])
    reading.close()


@pytest.mark.skipif(os.name == "nt", reason="no signals of this kind")
@pytest.mark.parametrize("where", ["waiting", "computing"])
def test_an_interrupt_leaves_no_thread_behind(where: str) -> None:
    started = threading.Event()

    def items():
        for item in itertools.count():
            if item == 1 and where == "waiting":
                started.set()
                time.sleep(0.3)
            yield item

    def interrupt() -> None:
        assert started.wait(5)
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=interrupt)
    sender.start()
    with pytest.raises(KeyboardInterrupt):
        for _ in ahead(items()):
            if where == "computing":
                started.set()
                time.sleep(5)
    sender.join()
    assert not reading_threads()


def test_a_pass_that_was_broken_off_counts_as_none() -> None:
    data = Checked(open_source([table(1.0), table(2.0)]), ["y"], 1)
    for _ in data.chunks():
        break
    assert data.passes == 0
    assert [chunk["y"].tolist() for chunk in data.chunks()] == [[1.0], [2.0]]
    assert data.passes == 1
    for _ in data.chunks():
        break
    assert data.passes == 1
    assert not reading_threads()


def test_what_a_library_cannot_read_is_said_in_words() -> None:
    polars = pytest.importorskip("polars")

    def fails(given):
        raise ValueError("the disk is gone")

    broken = polars.DataFrame({"y": [1.0]}).lazy().map_batches(fails, schema={"y": polars.Float64})
    with pytest.raises(DesignError, match=r"polars LazyFrame cannot be read beyond chunk 0 .*the disk is gone"):
        list(checked(open_source(broken), ["y"]).chunks())
    assert not reading_threads()


# Chunks without a value.


@pytest.mark.parametrize("missing", [np.nan, None, pd.NaT])
@pytest.mark.parametrize(
    "known", [["a", "b"], pd.Categorical(["a", "b"]), pd.Categorical([7, 8]), [1.5, 2.0], [True, False], ["", "a"]]
)
@pytest.mark.parametrize("most", [1, 3, None])
@pytest.mark.parametrize("once", [False, True])
def test_a_column_without_a_value_in_the_first_chunk_is_the_same_in_every_pass(missing, known, most, once) -> None:
    first, second = pd.DataFrame({"f": [missing] * 4}), pd.DataFrame({"f": known})
    tables = [first, second, first]
    source = Checked(open_source(iter(tables) if once else tables), ["f"], most)
    for _ in range(3):
        chunks = list(source.chunks())
        values = [value for chunk in chunks for value in chunk["f"].astype(object)]
        assert [pd.isna(value) for value in values] == [True] * 4 + [False] * 2 + [True] * 4
        assert values[4:6] == list(known)
    assert source.passes == 3


def test_a_value_that_goes_missing_is_another_value() -> None:
    for known in (["", "b"], pd.Categorical(["a", "b"]), [0.0, 1.0], [True, False], list(pd.to_datetime([0, 1]))):
        with_all, without = (pd.DataFrame({"f": values}) for values in (known, [None, known[1]]))
        tables = [with_all]
        source = Checked(open_source(lambda tables=tables: iter(tables)), ["f"])
        list(source.chunks())
        tables[0] = without
        with pytest.raises(DesignError, match="other values"):
            list(source.chunks())
