"""Linear algebra with other rounding errors, as another processor has them.

A BLAS kernel sums in its own order, so that every processor has its own last digits. Set
``BAYESLMM_ROUNDING_NOISE=2`` (units in the last place; ``2:7`` with another seed) to run the tests with matrix
products, factorisations and elementary functions off by about as much as the order of summation leaves open:

    BAYESLMM_ROUNDING_NOISE=2 python -m pytest -n 0 tests/inference

A test that fails is a candidate: its tolerance is below what its arithmetic leaves, or code loses digits, or it holds
by an exactness that every processor keeps and the noise does not know (a sum that its largest term decides). The noise
follows from the numbers that go in: the same call gives the same result, as it does on one machine. What no order of
summation changes stays exact: sums of one term, sums of small integers, factors of diagonal matrices.

Products and elementary functions are disturbed in the package alone, functions of ``numpy.linalg`` and
``scipy.linalg`` everywhere but in compiled code.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import sys
import zlib
from collections.abc import Callable, Sequence
from functools import wraps
from types import CodeType, ModuleType
from typing import Any

import numpy as np
import scipy.linalg
from scipy.linalg import lapack

PACKAGE = "bayeslmm"
EPS = float(np.finfo(float).eps)
# Arguments with this many leading matrices; their disturbed inputs stand for the backward error of the method.
FACTORS = {
    np.linalg: {"inv": 1, "cholesky": 1, "qr": 1, "svd": 1, "eigh": 1, "eigvalsh": 1, "lstsq": 1, "pinv": 1}
    | {"slogdet": 1, "det": 1, "solve": 1},
    scipy.linalg: {"cholesky": 1, "qr": 1, "cho_factor": 1, "solve_triangular": 1, "eigh": 1, "svd": 1, "solve": 1},
    lapack: {"dpotrf": 1, "dtrtrs": 1, "dtrtri": 1, "dpotri": 1, "dgeqrf": 1, "dsyevd": 1},
}
# Correct to about one unit in the last place, not to the half: libraries differ.
ELEMENTARY = {"exp", "expm1", "exp2", "log", "log1p", "log2", "tanh", "arctanh", "sinh", "cosh", "sin", "cos", "hypot"}
PRODUCTS = {"dot", "tensordot"}
_LARGEST_INTEGER = 2.0**53


class Noise:
    """Uniform numbers between -1 and 1 times `size`, chosen by the numbers that are to be disturbed."""

    def __init__(self, ulps: float, seed: int) -> None:
        self.size = ulps * EPS
        self.seed = seed
        self._pool = np.random.default_rng(seed).uniform(-1.0, 1.0, 1 << 16)

    def like(self, *arrays: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Numbers of a shape that depend on the contents of arrays."""
        key = self.seed
        for a in arrays:
            key = zlib.crc32(np.ascontiguousarray(a).view(np.uint8).reshape(-1), key)
        count = int(np.prod(shape))
        start = key % (self._pool.size - 1)
        chosen = np.take(self._pool, np.arange(start, start + count), mode="wrap")
        return self.size * chosen.reshape(shape)


def _is_matrix(a: Any) -> bool:
    return isinstance(a, np.ndarray) and a.dtype == np.float64 and a.ndim >= 2 and a.size > 0


def _diagonal(a: np.ndarray) -> bool:
    return a.shape[-1] == a.shape[-2] and not np.any(a * (1.0 - np.eye(a.shape[-1])))


def _disturbed(noise: Noise, a: Any) -> Any:
    """A matrix with every entry off by some units in the last place; a symmetric one stays symmetric."""
    if not _is_matrix(a) or not np.isfinite(a).all() or _diagonal(a):
        return a
    factor = noise.like(a, shape=a.shape)
    if a.shape[-1] == a.shape[-2] and np.array_equal(a, a.mT):
        factor = np.triu(factor) + np.triu(factor, 1).mT
    out = a * (1.0 + factor)
    return np.asfortranarray(out) if a.flags.f_contiguous and not a.flags.c_contiguous else out


def _with_disturbed_input(noise: Noise, function: Callable[..., Any], count: int) -> Callable[..., Any]:
    @wraps(function)
    def disturbed(*args: Any, **more: Any) -> Any:
        overwrite = any(more.get(name) for name in ("overwrite_a", "overwrite_c"))
        if overwrite or not args:
            return function(*args, **more)
        return function(*(_disturbed(noise, a) for a in args[:count]), *args[count:], **more)

    return disturbed


def _sum_of_products(noise: Noise, product: Callable[..., Any], arrays: Sequence[Any]) -> Any:
    """A product of arrays off by some units in the last place of its terms."""
    result = product(*arrays)
    plain = [np.asarray(a) for a in arrays]
    if not isinstance(result, np.ndarray | np.floating) or np.asarray(result).dtype != np.float64:
        return result
    if any(a.dtype.kind not in "fiub" for a in plain) or not np.size(result):
        return result
    with np.errstate(all="ignore"):
        size = np.asarray(product(*(np.abs(a.astype(float)) for a in plain)))
        if not np.isfinite(size).all():
            return result
        if all((a == np.rint(a)).all() for a in plain) and (size < _LARGEST_INTEGER).all():
            return result
        terms = np.asarray(product(*((a != 0).astype(float) for a in plain)))
    factor = noise.like(*plain, shape=size.shape)
    value = np.asarray(result)
    if value.ndim >= 2 and value.shape[-1] == value.shape[-2] and np.array_equal(value, value.mT):
        factor = np.triu(factor) + np.triu(factor, 1).mT
    out = value + np.where(terms > 1.5, factor * size, 0.0)
    return out if isinstance(result, np.ndarray) else np.float64(out)


class _Namespace:
    """What the rewritten code of the package calls."""

    def __init__(self, noise: Noise) -> None:
        self.noise = noise

    def matmul(self, a: Any, b: Any) -> Any:
        if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
            return a @ b
        return _sum_of_products(self.noise, np.matmul, (a, b))

    def product(self, name: str, *args: Any, **more: Any) -> Any:
        function = getattr(np, name)
        return _sum_of_products(self.noise, lambda a, b: function(a, b, *args[2:], **more), args[:2])

    def einsum(self, subscripts: str, *arrays: Any, **more: Any) -> Any:
        if "out" in more:
            return np.einsum(subscripts, *arrays, **more)
        return _sum_of_products(self.noise, lambda *a: np.einsum(subscripts, *a, **more), arrays)

    def elementary(self, name: str, *args: Any, **more: Any) -> Any:
        result = getattr(np, name)(*args, **more)
        if "out" in more or not isinstance(result, np.ndarray | np.floating) or result.dtype != np.float64:
            return result
        value = np.asarray(result)
        with np.errstate(all="ignore"):
            rounded = np.rint(value) == value  # exp(0), log(1) and infinities are exact everywhere
            factor = np.where(rounded, 0.0, self.noise.like(value, shape=value.shape) / 2.0)
            out = np.where(np.isfinite(value), value * (1.0 + factor), value)
        return out if isinstance(result, np.ndarray) else np.float64(out)


class _Rewrite(ast.NodeTransformer):
    """Products and elementary functions call the namespace of the noise."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        return self._call("matmul", node, [node.left, node.right]) if isinstance(node.op, ast.MatMult) else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        function = node.func
        if not (isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name)):
            return node
        name = function.attr
        if function.value.id != "np" or name not in ELEMENTARY | PRODUCTS | {"einsum"}:
            return node
        if name == "einsum":
            return self._call("einsum", node, node.args, node.keywords)
        kind = "product" if name in PRODUCTS else "elementary"
        return self._call(kind, node, [ast.Constant(name), *node.args], node.keywords)

    @staticmethod
    def _call(name: str, at: ast.AST, args: list[ast.expr], keywords: list[ast.keyword] | None = None) -> ast.AST:
        function = ast.Attribute(ast.Name("__rounding__", ast.Load()), name, ast.Load())
        return ast.fix_missing_locations(ast.copy_location(ast.Call(function, args, keywords or []), at))


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles a module of the package anew, without stored bytecode."""

    namespace: _Namespace

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return compile(_Rewrite().visit(ast.parse(self.get_data(path), path)), path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__rounding__"] = self.namespace
        super().exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, namespace: _Namespace) -> None:
        self.namespace = namespace

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        # Compiled kernels keep their operators: their loops do not depend on the processor's library.
        if name.split(".")[0] != PACKAGE or name.endswith("_numba_kernels"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            loader = _Loader(name, spec.loader.path)
            loader.namespace = self.namespace
            spec.loader = loader
        return spec


def install(setting: str) -> None:
    """Disturb what follows; before the package is imported.

    Parameters
    ----------
    setting : str
        Units in the last place, and after a colon the seed.
    """
    if any(name == PACKAGE or name.startswith(f"{PACKAGE}.") for name in sys.modules):
        raise RuntimeError(f"{PACKAGE} is imported already, so that its products cannot be disturbed any more.")
    ulps, _, seed = setting.partition(":")
    noise = Noise(float(ulps), int(seed or 0))
    for module, functions in FACTORS.items():
        for name, count in functions.items():
            setattr(module, name, _with_disturbed_input(noise, getattr(module, name), count))
    sys.meta_path.insert(0, _Finder(_Namespace(noise)))
