"""Formulas reach nothing but their closed list of functions: no modules, no files, no processes."""

from __future__ import annotations

import contextlib
import importlib
import os
import pathlib
import random
import types

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.design.functions import FUNCTIONS, find_function
from bayeslmm.errors import BayesLMMError

HOSTILE = [
    "np.lib._npyio_impl.os.system('touch {path}')",
    "np.savetxt('{path}', x)",
    "np.save('{path}', x)",
    "np.loadtxt('{path}')",
    "np.fromfile('{path}')",
    "np.memmap('{path}', mode='w+', shape=3)",
    "np.testing._private.utils.sys.exit(3)",
    "np._globals.enum.sys.exit(3)",
    "np.random.seed(3)",
    "np.random.default_rng(x)",
    "np.seterr(all='raise')",
    "np.show_config()",
    "np.vectorize(x)",
    "np.frompyfunc(x, 1, 1)(x)",
    "np.apply_along_axis(x, 0, x)",
    "np.fromfunction(x, 3)",
    "np.log.__class__(x)",
    "np.add.at(x, 0, 100)",
    "np.add.reduce(x)",
    "np.log(x, z)",
    "np.add(x, z, x)",
    "np.copyto(x, z)",
    "np.put(x, 0, 5)",
    "np.ones(1000000000000)",
    "np.arange(1000000000000)",
    "np.tile(x, 1000000000)",
    "np.add.outer(x, x)",
    "np.kron(x, x)",
    "__import__('os').system('touch {path}')",
    "eval('1')",
    "exec('1')",
    "open('{path}', 'w')",
    "getattr(np, 'os')",
    "globals()",
    "x.to_csv('{path}')",
    "x.__class__(z)",
    "pd.eval('1')",
    "I(lambda: x)",
    "os.system('touch {path}')",
    "breakpoint()",
    "print(x)",
    "factor.__globals__(x)",
    "I(x)(z)",
    "'a'.join(x)",
    "I('a' * 1000000000)",
    "I([x] * 1000000000)",
    "I(x + 9**9**9**9)",
    "poly(x, 1000000000)",
    "bs(x, df=1e300)",
    "ns(x, df=1000000000)",
    "bs(x, df=60, degree=50)",
    "round(x, 1000000000000)",
]


@pytest.fixture
def frame() -> pd.DataFrame:
    x = np.arange(1.0, 25)
    return pd.DataFrame({"y": np.sin(x), "x": x, "z": x**2 % 7 + 1, "g": np.repeat(list("abcdef"), 4)})


def places(text: str) -> list[tuple[str, dict[str, str]]]:
    """A text in every place where a model evaluates one."""
    return [
        (f"y ~ {text} + (1 | g)", {}),
        (f"{text} ~ x + (1 | g)", {}),
        (f"y ~ x + offset({text}) + (1 | g)", {}),
        (f"y ~ x + (0 + {text} | g)", {}),
        ("y ~ x + (1 | g)", {"weights": f"x + 0 * {text}"}),
        ("y ~ x + (1 | g)", {"frequency": f"x + 0 * {text}"}),
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_an_error_and_no_more(frame: pd.DataFrame, tmp_path: pathlib.Path, text: str) -> None:
    path = tmp_path / "made"
    state, before = np.random.get_state()[1].copy(), frame.copy()  # noqa: NPY002 that nobody seeds it
    written = text.replace("{path}", str(path))
    for formula, arguments in places(written):
        with pytest.raises(BayesLMMError):
            bl.Model(formula, frame, **arguments)
    for formula in (f"y ~ {written} + (1 | g)", f"y ~ x + ({written} | g)"):
        with contextlib.suppress(BayesLMMError):
            bl.lint(formula, frame)
    with pytest.raises(BayesLMMError):
        bl.lm_list(f"y ~ {written} | g", frame)
    assert not path.exists()
    pd.testing.assert_frame_equal(frame, before)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_names_of_numpy_that_are_found_compute_values_only() -> None:
    """Everything in NumPy's namespace, also within its modules, is refused but universal functions and summaries."""
    allowed = {name for name in dir(np) if _found(f"np.{name}")}
    assert {"log1p", "where", "clip", "mean", "quantile"} <= allowed
    for name in allowed:
        value = getattr(np, name)
        assert isinstance(value, np.ufunc) or f"np.{name}" in SUMMARIES, name
    for module in ("lib", "linalg", "random", "testing", "char", "ma", "fft"):
        inner = importlib.import_module(f"numpy.{module}")
        assert not any(_found(f"np.{module}.{name}") for name in dir(inner))


SUMMARIES = {
    *(f"np.{name}" for name in ("round", "around", "where", "clip", "interp", "mean", "median", "var", "std")),
    *(f"np.{name}" for name in ("quantile", "percentile", "min", "amin", "max", "amax", "sum")),
}


def _found(name: str) -> bool:
    try:
        find_function(name, {})
    except bl.DesignError:
        return False
    return True


def test_no_function_is_a_module_or_reaches_one() -> None:
    for name, function in FUNCTIONS.items():
        assert not isinstance(function.call, types.ModuleType), name
        assert "." not in name or name in ("as.factor", "as.ordered")


def test_modules_in_the_namespace_are_not_entered(frame: pd.DataFrame) -> None:
    with pytest.raises(bl.DesignError, match="Pass the function itself"):
        bl.Model("y ~ r.random(x) + (1 | g)", frame, extra_namespace={"r": random})
    with pytest.raises(bl.DesignError, match="Pass the function itself"):
        bl.Model("y ~ o.system(x) + (1 | g)", frame, extra_namespace={"o": os})


def test_own_functions_come_in_by_name(frame: pd.DataFrame) -> None:
    half = bl.Model("y ~ half(x) + (1 | g)", frame, extra_namespace={"half": lambda x: x / 2})
    np.testing.assert_array_equal(half.design.X[:, 1], frame["x"] / 2)


@pytest.mark.parametrize("text", ["np.lib._npyio_impl.os.system('touch {path}')", "np.savetxt('{path}', x)"])
def test_a_formula_from_a_file_is_no_program(frame: pd.DataFrame, tmp_path: pathlib.Path, text: str) -> None:
    """A saved fit whose formula somebody has changed: predict evaluates it, by the same rule."""
    import json
    import zipfile

    saved, hostile, made = tmp_path / "fit.npz", tmp_path / "hostile.npz", tmp_path / "made"
    bl.Model("y ~ x + (x | g)", frame).fit().save(saved)
    changed = 0
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(hostile, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith(".json"):
                bad = json.dumps(f"y ~ x + I(x*0 + {text.replace('{path}', str(made))}) + (x | g)")
                new = content.decode().replace('"y ~ x + (x | g)"', bad)
                changed += new != content.decode()
                content = new.encode()
            target.writestr(name, content)
    assert changed
    with pytest.raises(BayesLMMError):
        bl.load(hostile).predict(frame.iloc[:3])
    assert not made.exists()
