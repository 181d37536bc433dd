"""Saved models and fits with one thing changed: refused with a StorageError, or what loads is what was saved."""

from __future__ import annotations

import copy
import io
import json
import os
import random
import warnings
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm import StorageError

# The slow lane looks at more changes.
MANY = int(os.environ.get("BAYESLMM_FUZZ", "1"))

type Members = dict[str, bytes]
type Change = tuple[str, Members | bytes]


@cache
def saved(kind: str) -> Any:
    return KINDS[kind]()


def _rows() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    data = pd.DataFrame(
        {"x": rng.normal(size=60), "g": np.arange(60) % 10, "f": np.array(list("abc"))[np.arange(60) % 3]}
    )
    return data.assign(y=data.x + rng.normal(size=10)[data.g] + rng.normal(size=60))


def _weighted() -> bl.Model:
    rng = np.random.default_rng(5)
    return bl.Model(
        "y ~ scale(x) + f + offset(0.1 * x) + (x | g)",
        _rows(),
        weights=rng.uniform(1, 2, 60),
        frequency=1 + np.arange(60) % 3,
        contrasts={"f": "sum"},
    )


def _quietly(fit: Callable[[], Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bl.ConvergenceWarning)
        return fit()


KINDS: dict[str, Callable[[], Any]] = {
    "model": _weighted,
    "weights and frequency": lambda: _weighted().fit(),
    "slopes": lambda: bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit(),
    "ML": lambda: bl.Model("Reaction ~ Days + (Days || Subject)", bl.load_dataset("sleepstudy")).fit(False),
    "zero": lambda: bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit(),
    "penalised": lambda: bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit(
        penalty="boundary_avoiding"
    ),
    "crossed": lambda: bl.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", bl.load_dataset("Penicillin")).fit(),
    "hierarchy": lambda: bl.Model("score ~ Machine + (1 | Worker/Machine)", bl.load_dataset("Machines")).fit(),
    "known theta": lambda: bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit(fix={"Batch": 0.7}),
    "stopped": lambda: _quietly(
        lambda: bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")[1:]).fit(max_evaluations=2)
    ),
}


@cache
def members(kind: str) -> Members:
    """Members of the file; those of version 1 lack checksums."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        saved(kind).save(Path(folder) / "file")
        with zipfile.ZipFile(Path(folder) / "file") as archive:
            return {name: archive.read(name) for name in archive.namelist()}


def zipped(parts: Members) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def array_of(content: bytes) -> np.ndarray:
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)


def load(path: Path, content: bytes) -> Any:
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return bl.load(path)


def assert_refused_or_the_same(kind: str, name: str, path: Path, content: bytes) -> bool:
    """Whether it was refused."""
    try:
        again = load(path, content)
    except StorageError as error:
        assert str(path) in str(error), name
        return True
    assert same(again, saved(kind)), name
    return False


def same(again: Any, first: Any) -> bool:
    """Equal by value, and in every number that is shown."""
    if isinstance(first, bl.Model):
        return bool(again.design == first.design)
    numbers = [
        (
            fit.sigma,
            fit.criterion,
            fit.status,
            fit.is_singular,
            fit.df,
            fit.n,
            fit.aic,
            fit.bic,
            fit.evaluations,
            repr(fit),
        )
        for fit in (again, first)
    ]
    tables = [
        [fit.theta, fit.fixef(), fit.std_error(), fit.fitted(), fit.varcorr(), fit.trace, *fit.ranef().values()]
        for fit in (again, first)
    ]
    return (
        bool(again == first)
        and numbers[0] == numbers[1]
        and all(
            a.equals(b) if hasattr(a, "equals") else np.array_equal(a, b)
            for a, b in zip(tables[0], tables[1], strict=True)
        )
    )


# changes of one thing


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(node, dict | list):
        for key in node if isinstance(node, dict) else range(len(node)):
            yield from leaves(node[key], (*path, key))
    elif path:
        yield path


def other_value(value: Any, rng: random.Random) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice([value + 1, -1, 10**9, 0 if value else 1])
    if isinstance(value, float):
        nan = {"#": "float", "value": "nan"}
        return rng.choice([value * 1.5 + 0.1, -value if value else 1.0, nan, value + 1e-9 * (1 + abs(value))])
    if isinstance(value, str):
        return rng.choice([value + "x", value[:-1] if value else "y", value.swapcase() + " "])
    return rng.choice([1, "None", []])


def changed_headers(parts: Members, rng: random.Random, count: int) -> Iterator[Change]:
    header = json.loads(parts["header.json"])
    for path in rng.choices(list(leaves(header)), k=count):
        other = copy.deepcopy(header)
        node = other
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = other_value(node[path[-1]], rng)
        yield f"header {path}", parts | {"header.json": json.dumps(other).encode()}


def changed_arrays(parts: Members, rng: random.Random) -> Iterator[Change]:
    for name in [name for name in parts if name.endswith(".npy")]:
        array = array_of(parts[name])
        if not array.size:
            continue
        flipped = bytearray(np.ascontiguousarray(array).tobytes())
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        bit = np.frombuffer(bytes(flipped), dtype=array.dtype).reshape(array.shape)
        yield f"{name}: one bit", parts | {name: npy(bit)}
        way = rng.choice([lambda a: a[:-1], lambda a: a.T[..., None], lambda a: a.astype("S8"), lambda a: a * 0])
        yield f"{name}: another array", parts | {name: npy(np.asarray(way(array)))}


def changed_members(parts: Members, rng: random.Random) -> Iterator[Change]:
    arrays = [name for name in parts if name.endswith(".npy")]
    gone = rng.choice(arrays)
    yield f"without {gone}", {name: content for name, content in parts.items() if name != gone}
    one, two = rng.sample(arrays, 2)
    yield f"{one} and {two} exchanged", parts | {one: parts[two], two: parts[one]}
    yield "without a header", {name: content for name, content in parts.items() if name != "header.json"}


def changed_bytes(parts: Members, rng: random.Random, count: int) -> Iterator[Change]:
    whole = zipped(parts)
    for _ in range(count):
        other = bytearray(whole)
        place = rng.randrange(len(other))
        other[place] ^= 1 << rng.randrange(8)
        yield f"a bit of byte {place}", bytes(other)
    for _ in range(2):
        length = rng.randrange(len(whole))
        yield f"the first {length} bytes", whole[:length]


@pytest.mark.parametrize("kind", KINDS)
def test_changes_are_noticed(kind: str, tmp_path: Path) -> None:
    parts, rng = members(kind), random.Random(kind)
    assert same(load(tmp_path / "file", zipped(parts)), saved(kind))
    changes = [
        *changed_headers(parts, rng, 20 * MANY),
        *changed_arrays(parts, rng),
        *changed_members(parts, rng),
        *changed_bytes(parts, rng, 8 * MANY),
    ]
    refused = 0
    for name, change in changes:
        content = change if isinstance(change, bytes) else zipped(change)
        refused += assert_refused_or_the_same(kind, name, tmp_path / "file", content)
    # Bits of dates in the directory of a zip file say nothing; all else is refused.
    assert len(changes) > 40
    assert refused >= len(changes) - 9 * MANY


# without checksums: what follows from the factors is computed again


def without_checksums(parts: Members) -> tuple[dict[str, Any], Members]:
    header = json.loads(parts["header.json"])
    del header["checksum"], header["arrays"]
    return header | {"format_version": 1}, parts


def derived(header: dict[str, Any], parts: Members) -> Iterator[Change]:
    """Every number of the optimum that follows from its factors and the data, changed in some ways."""
    optimum = header["content"]["optimum"]
    nan = {"#": "float", "value": "nan"}
    changes: dict[str, list[Any]] = {
        "sigma": [7.0, -0.7, nan, optimum["sigma"] * (1 + 1e-6), 0.0, {"#": "float", "value": "inf"}],
        "criterion": [nan, optimum["criterion"] + 1e-3, {"#": "float", "value": "-inf"}, 0.0],
        "reml": [not optimum["reml"]],
        "doubt": [nan, -1.0, 0.5],
        "evaluations": [-1],
        "fixed": [{"#": "tuple", "items": [5]}, {"#": "tuple", "items": [-1]}],
        "status": [
            {**optimum["status"], "name": name}
            for name in ("non_finite", "not_identified", "imprecise", "converged_at_boundary", "converged")
            # That an iteration was stopped is nothing that its end shows.
            if name not in (optimum["status"]["name"], "converged")
        ],
    }
    if optimum["vanished"]["items"]:
        changes["vanished"] = [{"#": "tuple", "items": []}]
    for name, values in changes.items():
        for value in values:
            other = copy.deepcopy(header)
            other["content"]["optimum"][name] = value
            yield f"{name} {value}", parts | {"header.json": json.dumps(other).encode()}
    for name in ("terms", "theta", "internal", "factors"):
        nodes = optimum[name]["items"] if "items" in optimum[name] else [optimum[name]]
        for node in nodes:
            member = f"{node['key']}.npy"
            array = array_of(parts[member])
            for what, value in (
                ("x 1.5", array * 1.5),
                ("nan", array * np.nan),
                ("negative", -array),
                ("plus", array + 0.01),
                ("x 1.000001", array * 1.000001),
            ):
                yield f"{name} {what}", parts | {"header.json": json.dumps(header).encode(), member: npy(value)}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "model"])
def test_what_follows_from_the_factors_is_not_believed(kind: str, tmp_path: Path) -> None:
    header, parts = without_checksums(members(kind))
    old = zipped(parts | {"header.json": json.dumps(header).encode()})
    assert same(load(tmp_path / "file", old), saved(kind))
    seen = 0
    for name, change in derived(header, parts):
        seen += 1
        try:
            again = load(tmp_path / "file", zipped(change))
        except StorageError:
            continue
        fit = saved(kind)
        # The same numbers under another sign of a factor, or exact zeros that were multiplied.
        assert again.status is fit.status and again.is_singular == fit.is_singular, name
        for got, wanted in (
            (again.sigma, fit.sigma),
            (again.criterion, fit.criterion),
            (again.theta, fit.theta),
            (again.varcorr()["vcov"], fit.varcorr()["vcov"]),
            (again.fixef(), fit.fixef()),
            (again.fitted(), fit.fitted()),
        ):
            np.testing.assert_allclose(got, wanted, rtol=1e-7, atol=1e-9, err_msg=name)
    assert seen >= 34


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["y", "X", "weights", "offset"])
def test_numbers_of_a_model_are_finite(name: str, value: float, tmp_path: Path) -> None:
    header, parts = without_checksums(members("model"))
    fields = header["content"]["design"]["fields"]
    fields = fields["residual"]["fields"] if name == "weights" else fields
    member = f"{fields[name]['key']}.npy"
    array = array_of(parts[member]).copy()
    array.flat[3] = value
    content = zipped(parts | {"header.json": json.dumps(header).encode(), member: npy(array)})
    with pytest.raises(StorageError, match=f"{name} has values that are no finite numbers"):
        load(tmp_path / "file", content)


def test_a_refused_file_says_what_differs(tmp_path: Path) -> None:
    parts = members("slopes")
    header = json.loads(parts["header.json"])
    header["content"]["design"]["fields"]["response"] = "Response"
    changed = zipped(parts | {"header.json": json.dumps(header).encode()})
    with pytest.raises(StorageError, match=r"checksum of header\.json .* Copy it again"):
        load(tmp_path / "file", changed)
    labels = json.loads(parts["header.json"])["content"]["design"]["fields"]["index"]["key"]
    other = array_of(parts[f"{labels}.npy"]).copy()
    other[0] += 1000
    with pytest.raises(StorageError, match=f"checksum of {labels} is not"):
        load(tmp_path / "file", zipped(parts | {f"{labels}.npy": npy(other)}))
