"""Models and fits on disk: what is read is what was written, and what cannot be kept is refused."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import subprocess
import sys
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm import StorageError
from bayeslmm.likelihood import Factor, SummedDesign
from bayeslmm.storage.encoding import Decoder, Encoder

CASES = {
    "one-way": ("Yield ~ 1 + (1 | Batch)", "Dyestuff"),
    "zero": ("Yield ~ 1 + (1 | Batch)", "Dyestuff2"),
    "crossed": ("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin"),
    "slopes": ("Reaction ~ Days + (Days | Subject)", "sleepstudy"),
    "uncorrelated": ("Reaction ~ Days + (Days || Subject)", "sleepstudy"),
    "nested": ("score ~ Machine + (1 | Worker/Machine)", "Machines"),
    "no fixed effects": ("Reaction ~ 0 + offset(250 + 10 * Days) + (1 | Subject)", "sleepstudy"),
}


def assert_equal(a: Any, b: Any, where: str = "") -> None:
    """Same types and the same bits, all the way down."""
    assert type(a) is type(b), where
    if isinstance(a, np.ndarray) and a.dtype != object:
        assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes(), where
    elif isinstance(a, np.ndarray | tuple | list):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{where}[{i}]")
    elif isinstance(a, dict):
        assert list(a) == list(b), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}[{key!r}]")
    elif dataclasses.is_dataclass(a):
        for field in dataclasses.fields(a):
            assert_equal(getattr(a, field.name), getattr(b, field.name), f"{where}.{field.name}")
    elif isinstance(a, pd.DataFrame | pd.Series):
        (pd.testing.assert_frame_equal if isinstance(a, pd.DataFrame) else pd.testing.assert_series_equal)(
            a, b, check_exact=True
        )
    else:
        assert a is b or a == b or (a != a and b != b), where


@pytest.fixture(scope="module", params=[(kind, reml) for kind in CASES for reml in (True, False)], ids=str)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[bl.REMLResult, Path]:
    kind, reml = request.param
    formula, name = CASES[kind]
    fit = bl.Model(formula, bl.load_dataset(name)).fit(reml)
    path = tmp_path_factory.mktemp("fits") / "fit"
    fit.save(path)
    return fit, path


def test_everything_stored_comes_back_bit_for_bit(saved) -> None:
    fit, path = saved
    again = bl.load(path)
    assert isinstance(again, bl.REMLResult)
    assert_equal(fit.design, again.design, "design")
    for field in dataclasses.fields(fit.optimum):
        if field.name not in ("cp", "factor"):
            assert_equal(getattr(fit.optimum, field.name), getattr(again.optimum, field.name), field.name)
    assert again.cp.design is again.design
    assert again.status is fit.status


def test_a_loaded_fit_answers_what_a_fresh_one_does(saved) -> None:
    fit, path = saved
    again = bl.load(path)
    for name in ("fixef", "std_error", "vcov", "varcorr", "estimates", "predict", "residuals", "tidy", "confint"):
        assert_equal(getattr(fit, name)(), getattr(again, name)(), name)
    for name in ("sigma", "theta", "criterion", "loglik", "aic", "bic", "df", "n", "is_singular", "evaluations"):
        assert_equal(getattr(fit, name), getattr(again, name), name)
    for name in ("ranef", "ranef_variances"):
        one, two = getattr(fit, name)(), getattr(again, name)()
        assert_equal(one, two, name)
    assert_equal(fit.trace, again.trace)
    assert_equal(fit.profile("sigma"), again.profile("sigma"))
    assert str(fit.summary()) == str(again.summary())
    assert repr(fit) == repr(again)


def test_loading_does_not_search(saved, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("loading must not optimise")

    monkeypatch.setattr("bayeslmm.numerics.newton.minimise", refuse)
    monkeypatch.setattr("bayeslmm.reml.optimum.minimise", refuse)
    bl.load(saved[1])


def test_a_loaded_model_fits_as_the_first_one_does(tmp_path: Path) -> None:
    model = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
    model.save(tmp_path / "model")
    again = bl.load(tmp_path / "model")
    assert isinstance(again, bl.Model)
    assert repr(again) == repr(model)
    # lme4's vignette
    assert again.fit().criterion == pytest.approx(1743.6283, abs=5e-5)
    assert again.fit().criterion == model.fit().criterion
    assert again.sample(100, random_seed=1).sigma == model.sample(100, random_seed=1).sigma


def test_a_fit_is_read_in_another_process(tmp_path: Path) -> None:
    fit = bl.Model(*_with(CASES["slopes"])).fit()
    fit.save(tmp_path / "fit")
    code = f"import bayeslmm as bl; f = bl.load({str(tmp_path / 'fit')!r}); print(repr((f.sigma, f.theta.tolist())))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert eval(out.stdout) == (fit.sigma, fit.theta.tolist())


def _with(case: tuple[str, str]) -> tuple[str, pd.DataFrame]:
    return case[0], bl.load_dataset(case[1])


def test_numpy_alone_reads_the_arrays(tmp_path: Path) -> None:
    fit = bl.Model(*_with(CASES["one-way"])).fit()
    fit.save(tmp_path / "fit")
    with np.load(tmp_path / "fit", allow_pickle=False) as archive:
        arrays = [archive[name] for name in archive.files if name != "header.json"]
        header = json.loads(archive["header.json"])
    assert any(np.array_equal(a, bl.load_dataset("Dyestuff")["Yield"]) for a in arrays)
    assert (header["format"], header["format_version"], header["kind"]) == ("bayeslmm", 2, "fit")
    assert header["written_by"]["bayeslmm"] == bl.__version__


INDEXES = {
    "int": pd.Index(range(100, 130)),
    "negative": pd.Index(np.arange(-15, 15, dtype=np.int32)),
    "str": pd.Index([f"r{i}\u00e9" for i in range(30)]),
    "object": pd.Index([f"r{i}\x00" if i % 2 else i for i in range(30)], dtype=object),
    "float": pd.Index(np.linspace(0, 1, 30)),
    "timestamp": pd.date_range("2020-01-01", periods=30, freq="h", unit="s"),
    "nanoseconds": pd.date_range("2020-01-01 00:00:00.123456789", periods=30, freq="h"),
    "zone": pd.date_range("2020-03-29", periods=30, freq="h", tz="Europe/Zurich"),
    "offset": pd.date_range("2020-03-29", periods=30, freq="h", tz="+01:30"),
    "timedelta": pd.timedelta_range("1h", periods=30),
    "period": pd.period_range("2020-01", periods=30, freq="M"),
    "interval": pd.interval_range(0, 30),
    "categorical": pd.CategoricalIndex(list("abcdef") * 5),
    "missing": pd.Index([None, np.nan, pd.NaT, pd.NA, *range(26)], dtype=object),
    "tuples": pd.MultiIndex.from_product([["a", "b", "c"], pd.date_range("2020", periods=2), range(5)]),
    "nested": pd.Index([(i, ("x", 2.5, None)) for i in range(30)], tupleize_cols=False),
    "dates": pd.Index([dt.date(2020, 1, 1) + dt.timedelta(i) for i in range(30)], dtype=object),
    "datetimes": pd.Index([dt.datetime(2020, 1, 1, i % 24, tzinfo=dt.UTC) for i in range(30)], dtype=object),
    "decimal": pd.Index([Decimal(i) / 4 for i in range(30)], dtype=object),
    "numpy": pd.Index([np.float32(i) if i % 2 else np.datetime64(i, "D") for i in range(30)], dtype=object),
    "huge": pd.Index([10**30 + i for i in range(30)], dtype=object),
}


@pytest.mark.parametrize("kind", INDEXES)
def test_row_labels_keep_their_types(kind: str, tmp_path: Path) -> None:
    index = INDEXES[kind]
    data = bl.load_dataset("Dyestuff").set_axis(index, axis=0)
    data.iloc[[0, 3, 29], data.columns.get_loc("Yield")] = np.nan
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", data).fit()
    fit.save(tmp_path / "fit")
    again = bl.load(tmp_path / "fit")
    kept, dropped = index.delete([0, 3, 29]), tuple(index[[0, 3, 29]])
    assert_equal(kept.to_numpy(), again.design.index)
    assert_equal(dropped, again.design.dropped.labels)
    assert_equal({"missing Yield": dropped}, again.design.dropped.reasons)
    for one, two in zip(dropped, again.design.dropped.labels, strict=True):
        assert str(getattr(one, "tz", None)) == str(getattr(two, "tz", None))
        assert repr(one) == repr(two)
    assert_equal(fit.residuals(), again.residuals())


class Label:
    def __repr__(self) -> str:
        return "Label()"


class Subclass(str):
    pass


@pytest.mark.parametrize("label", [Label(), Subclass("a"), frozenset({1}), b"bytes"], ids=repr)
def test_labels_that_cannot_be_kept_are_refused_and_leave_no_file(label: Any, tmp_path: Path) -> None:
    data = bl.load_dataset("Dyestuff")
    data.index = pd.Index([label, *range(1, 30)], dtype=object)
    with pytest.raises(StorageError, match=r"design\.index\[0\] is .* of type .*reset_index"):
        bl.Model("Yield ~ 1 + (1 | Batch)", data).save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "value",
    [
        float("inf"),
        float("-inf"),
        float("nan"),
        -0.0,
        5e-324,
        (1, [2, (3,)], {"a": None, 1: True}),
        slice(1, None, 2),
        np.zeros((2, 0, 3)),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(["a", "bc"]),
        np.float32(0.1),
        np.timedelta64(3, "h"),
        np.datetime64("NaT", "ns"),
        "\ud800 lone surrogate \u0000",
        {"#": "tuple", "items": [1]},
    ],
    ids=repr,
)
def test_values_survive_text(value: Any) -> None:
    encoder = Encoder()
    text = json.dumps(encoder.encode(value), allow_nan=False)
    again = Decoder(encoder.arrays).decode(json.loads(text))
    assert repr(again) == repr(value)
    assert_equal(value, again)


def test_one_array_is_written_once() -> None:
    array = np.ones(3)
    encoder = Encoder()
    one, two = Decoder(encoder.arrays).decode(encoder.encode((array, array)))
    assert len(encoder.arrays) == 1 and one is two


def test_only_classes_of_the_package_are_made() -> None:
    for name in (
        "os:system",
        "bayeslmm.design.build:build_design",
        "bayeslmm.design.evaluate:Evaluator",
        "builtins:int",
    ):
        with pytest.raises(StorageError, match="does not know"):
            Decoder({}).decode({"#": "object", "class": name, "fields": {}})


def test_existing_paths_are_kept_unless_told(tmp_path: Path) -> None:
    model = bl.Model(*_with(CASES["one-way"]))
    path = tmp_path / "model"
    path.write_text("precious")
    with pytest.raises(StorageError, match=r"exists.*overwrite=True"):
        model.save(path)
    assert path.read_text() == "precious"
    model.save(str(path), overwrite=True)
    assert bl.load(str(path)).formula == model.formula
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    with pytest.raises(StorageError, match="is a folder"):
        model.save(tmp_path, overwrite=True)
    with pytest.raises(StorageError, match="does not exist"):
        model.save(tmp_path / "nowhere" / "model")


def rewritten(path: Path, change: Any) -> Path:
    """The file with another header."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(members["header.json"])
    change(header)
    members["header.json"] = json.dumps(header).encode()
    out = path.with_name("changed")
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out


@pytest.fixture
def file(tmp_path: Path) -> Path:
    bl.Model(*_with(CASES["slopes"])).fit().save(tmp_path / "fit")
    return tmp_path / "fit"


def test_unknown_versions(file: Path) -> None:
    def newer(header: dict[str, Any]) -> None:
        header |= {"format_version": 99, "written_by": {"bayeslmm": "7.0"}}

    with pytest.raises(StorageError, match=r"format version 99.*reads 1.*bayeslmm 7\.0"):
        bl.load(rewritten(file, newer))


def test_other_fields_and_classes(file: Path) -> None:
    def extra(header: dict[str, Any]) -> None:
        header["content"]["design"]["fields"]["colour"] = "red"

    def gone(header: dict[str, Any]) -> None:
        del header["content"]["design"]["fields"]["y"]

    def unknown(header: dict[str, Any]) -> None:
        header["content"]["design"]["class"] = "bayeslmm.design.design:Drawing"

    for change, words in ((extra, "fields of Design .colour"), (gone, "fields of Design .y"), (unknown, "Drawing")):
        with pytest.raises(StorageError, match=f"{words}.*written by bayeslmm"):
            bl.load(rewritten(file, change))


def test_numbers_that_do_not_belong_together(file: Path) -> None:
    def lower(header: dict[str, Any]) -> None:
        header["content"]["optimum"]["criterion"] -= 1.0

    with pytest.raises(StorageError, match=r"criterion in the file is 1742\.6.* give 1743\.6"):
        bl.load(rewritten(file, lower))


def test_cut_files_and_changed_bytes_are_noticed(file: Path) -> None:
    whole = file.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 40)):
        file.write_bytes(whole[:length])
        with pytest.raises(StorageError, match="damaged or incomplete" if length > 4 else "damaged|did not|not a file"):
            bl.load(file)
    for place in range(200, len(whole) - 200, max(1, len(whole) // 40)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            again = bl.load(file)
        except StorageError:
            continue
        # A byte that nothing reads (dates in the directory of the zip file).
        assert again.criterion == pytest.approx(1743.6283, abs=5e-5)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "starts with b''"), (b"hello world", "b'hell'"), (b"\x93NUMPY\x01\x00", "not a file that bayeslmm wrote")],
)
def test_other_kinds_of_files(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(StorageError, match=words):
        bl.load(tmp_path / "file")


def test_other_archives_folders_and_nothing(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", a=np.arange(3))
    with pytest.raises(StorageError, match=r"did not write \(it holds a\.npy\)"):
        bl.load(tmp_path / "arrays.npz")
    with pytest.raises(StorageError, match="folder"):
        bl.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"There is no file '/.*nothing'\. Give the path"):
        bl.load(tmp_path / "nothing")


def test_pickled_arrays_are_not_read(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            if name.endswith(".npy"):
                with archive.open(name, "w") as member:
                    np.lib.format.write_array(member, np.array([Label()], dtype=object), allow_pickle=True)
            else:
                archive.writestr(name, content)
    with pytest.raises(StorageError, match="damaged or incomplete"):
        bl.load(file)


def test_remade_parts_are_not_in_the_file(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        text = archive.read("header.json").decode()
    assert SummedDesign.__name__ not in text and Factor.__module__ + ":" not in text
