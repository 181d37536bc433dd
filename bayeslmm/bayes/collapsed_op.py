"""The collapsed log likelihood with its exact gradient as a PyTensor Op, for PyMC models over the variances alone.

Value and gradient come from one evaluation: the Op returns both, and its pullback reads the gradient off. Compiled by
numba it runs in object mode, in JAX as a callback, so that every sampler that PyMC knows can use it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

from bayeslmm.likelihood import CrossProducts, NormalPrior
from bayeslmm.likelihood.density_gradient import density_gradient
from bayeslmm.types import AnyArray, FloatArray


class ValueAndGradient(Op):  # type: ignore[misc]
    """A scalar function in NumPy that comes with its gradient: outputs are the value and one gradient per input.

    Parameters
    ----------
    function : callable
        Of arrays with the shapes of the inputs; gives the value and the gradients. Compared by identity; has to be
        picklable for samplers that run in other processes.
    shapes : tuple of tuple of int
        Shapes of the inputs.
    """

    def __init__(self, function: Callable[..., tuple[FloatArray, ...]], shapes: tuple[tuple[int, ...], ...]) -> None:
        self.function, self.shapes = function, shapes

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.function is other.function

    def __hash__(self) -> int:
        return hash((type(self), id(self.function)))

    def __reduce__(self) -> tuple[Any, ...]:
        return _make, (self.function, self.shapes)

    def make_node(self, *inputs: Any) -> Apply[Any]:
        """Node for inputs of the right shapes."""
        types = [pt.TensorType("float64", shape=shape) for shape in self.shapes]
        variables = [
            type_.filter_variable(pt.as_tensor_variable(value, dtype="float64"))
            for type_, value in zip(types, inputs, strict=True)
        ]
        return Apply(self, variables, [pt.dscalar(), *(type_() for type_ in types)])

    def perform(self, node: Any, inputs: Sequence[Any], output_storage: Any) -> None:
        """Evaluate in Python."""
        for storage, value in zip(output_storage, self.function(*inputs), strict=True):
            storage[0] = np.asarray(value)

    def infer_shape(self, node: Any, input_shapes: Any) -> list[Any]:
        """A scalar, and the shapes of the inputs."""
        return [(), *input_shapes]

    def do_constant_folding(self, fgraph: Any, node: Any) -> bool:
        """Leave evaluations to run time."""
        return False

    def connection_pattern(self, node: Any) -> list[list[bool]]:
        """The gradient that comes with the value is itself not differentiated."""
        return [[True, *([False] * len(node.inputs))] for _ in node.inputs]

    def pullback(self, inputs: Sequence[Any], outputs: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        """Gradient of a function of the value."""
        return [cotangents[0] * slope for slope in outputs[1:]]


@dataclass(frozen=True, eq=False)
class CollapsedLogLikelihood:
    """Log p(y | covariances, sigma) with the fixed and random effects integrated out, and its gradient.

    Called with one relative factor T (c, c) for every term of the formula (``T T'`` is the covariance of its effects
    divided by sigma^2; any square root will do) and log sigma. Where the system is singular to rounding the log
    likelihood is minus infinity.

    Attributes
    ----------
    cp : CrossProducts
    prior : NormalPrior or None
        Of beta; None is flat.
    """

    cp: CrossProducts
    prior: NormalPrior | None = None

    def __call__(self, *inputs: AnyArray) -> tuple[FloatArray, ...]:
        *terms, log_sigma = (np.asarray(value, dtype=float) for value in inputs)
        try:
            with np.errstate(all="ignore"):
                found = density_gradient(self.cp, terms, float(np.exp(log_sigma)), self.prior)
                slopes = [-0.5 * slope for slope in found.in_factors(terms)]
        except np.linalg.LinAlgError:
            return _impossible(terms)
        result = (np.array(-0.5 * found.value), *slopes, np.array(-0.5 * found.log_sigma))
        return result if all(np.isfinite(a).all() for a in result) else _impossible(terms)


def _impossible(terms: Sequence[AnyArray]) -> tuple[FloatArray, ...]:
    return np.array(-np.inf), *(np.zeros_like(T) for T in terms), np.array(0.0)


def collapsed_log_likelihood(
    cp: CrossProducts, terms: Sequence[Any], log_sigma: Any, prior: NormalPrior | None = None
) -> Any:
    """Log p(y | covariances, sigma) as a PyTensor scalar.

    Parameters
    ----------
    cp : CrossProducts
    terms : sequence of (c, c) matrices
        Relative factors on the user's columns, terms in the order of the formula.
    log_sigma : scalar
    prior : NormalPrior, optional
        Of beta; flat by default.
    """
    shapes = tuple((structure.size,) * 2 for structure in cp.frame.structures)
    return value_and_gradient(CollapsedLogLikelihood(cp, prior), (*shapes, ()), [*terms, log_sigma])


def value_and_gradient(
    function: Callable[..., tuple[FloatArray, ...]], shapes: tuple[tuple[int, ...], ...], inputs: Sequence[Any]
) -> Any:
    """The value of a function that comes with its gradient (`ValueAndGradient`), as a PyTensor scalar."""
    return _make(function, shapes)(*inputs)[0]


def _make(function: Callable[..., tuple[FloatArray, ...]], shapes: tuple[tuple[int, ...], ...]) -> ValueAndGradient:
    """The Op, known to the compilers that are installed, also in the process that unpickles it."""
    _register_numba()
    if find_spec("jax") is not None:
        _register_jax()
    return ValueAndGradient(function, shapes)


def _register_numba() -> None:
    try:
        numba = import_module("numba")
        basic = import_module("pytensor.link.numba.dispatch.basic")
    except ImportError:
        return
    if ValueAndGradient not in basic.numba_funcify.registry:
        basic.numba_funcify.register(ValueAndGradient, partial(_for_numba, numba, basic))


def _for_numba(numba: Any, basic: Any, op: ValueAndGradient, node: Any = None, **kwargs: Any) -> Any:
    signature = numba.types.Tuple([basic.get_numba_type(output.type) for output in node.outputs])

    def in_python(inputs: tuple[AnyArray, ...]) -> tuple[FloatArray, ...]:
        return tuple(np.asarray(value) for value in op.function(*inputs))

    def evaluate(*inputs: Any) -> Any:
        with numba.objmode(result=signature):
            result = in_python(inputs)
        return result

    return basic.numba_njit(evaluate)


def _register_jax() -> None:
    dispatch = import_module("pytensor.link.jax.dispatch")
    if ValueAndGradient not in dispatch.jax_funcify.registry:
        dispatch.jax_funcify.register(ValueAndGradient, _for_jax)


def _for_jax(op: ValueAndGradient, **kwargs: Any) -> Any:
    jax = import_module("jax")

    def host(*inputs: Any) -> tuple[FloatArray, ...]:
        return op.function(*(np.asarray(value) for value in inputs))

    def evaluate(*inputs: Any) -> Any:
        scalar = jax.ShapeDtypeStruct((), np.float64)
        shapes = (scalar, *(jax.ShapeDtypeStruct(np.shape(value), np.float64) for value in inputs))
        return jax.pure_callback(host, shapes, *inputs, vmap_method="sequential")

    def forward(*inputs: Any) -> tuple[Any, Any]:
        result = evaluate(*inputs)
        return result, result[1:]

    def backward(slopes: Any, above: Any) -> Any:
        return tuple(above[0] * slope for slope in slopes)

    differentiable = jax.custom_vjp(evaluate)
    differentiable.defvjp(forward, backward)
    return differentiable
