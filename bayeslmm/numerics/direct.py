"""LAPACK for one small matrix, without NumPy's wrappers, which take longer than the work."""

from __future__ import annotations

import numpy as np
from scipy.linalg import blas, lapack

from bayeslmm.types import AnyArray, FloatArray


def squares(x: AnyArray) -> float:
    """Sum of squares of some numbers (n,), as doubles; infinite, without a warning, where it is too large for one.

    Examples
    --------
    >>> squares(np.array([1.0, 2.0])), squares(np.array([1e200]))
    (5.0, inf)
    """
    # Where numbers do not lie side by side they would be copied.
    return float(blas.ddot(x, x) if x.strides == (8,) else np.vdot(x, x))


def largest(a: FloatArray) -> float:
    """The largest of finite numbers, whatever its sign; 0 of none.

    Examples
    --------
    >>> largest(np.array([[1.0, -3.0], [2.0, 0.0]])), largest(np.empty((0, 2)))
    (3.0, 0.0)
    """
    flat = a.reshape(-1)
    return abs(float(flat[blas.idamax(flat)])) if flat.size else 0.0


def eigenvalues(a: FloatArray) -> FloatArray:
    """Eigenvalues (c,) of a finite symmetric matrix, ascending.

    Examples
    --------
    >>> eigenvalues(np.array([[2.0, 1.0], [1.0, 2.0]])).round(12).tolist()
    [1.0, 3.0]
    """
    values, _, failed = lapack.dsyevd(a, compute_v=0)
    return _found(values, failed)


def eigenvectors(a: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Eigenvalues (c,) of a finite symmetric matrix, ascending, and eigenvectors in the columns of a matrix (c, c).

    Examples
    --------
    >>> values, vectors = eigenvectors(np.array([[2.0, 1.0], [1.0, 2.0]]))
    >>> values.round(12).tolist(), np.abs(vectors).round(4).tolist()
    ([1.0, 3.0], [[0.7071, 0.7071], [0.7071, 0.7071]])
    """
    values, vectors, failed = lapack.dsyevd(a)
    return _found(values, failed), vectors


def cholesky(a: FloatArray) -> FloatArray:
    """Lower Cholesky factor of a symmetric matrix; an error if it is not positive definite in binary64.

    Examples
    --------
    >>> cholesky(np.array([[4.0, 2.0], [2.0, 2.0]])).tolist()
    [[2.0, 0.0], [1.0, 1.0]]
    """
    return _found(*lapack.dpotrf(a, lower=1))


def is_definite(a: FloatArray) -> bool:
    """Whether a symmetric matrix is positive definite in binary64.

    Examples
    --------
    >>> is_definite(np.array([[4.0, 2.0], [2.0, 2.0]])), is_definite(np.array([[1.0, 2.0], [2.0, 1.0]]))
    (True, False)
    """
    return not lapack.dpotrf(a, lower=1)[1]


def solve(a: FloatArray, b: FloatArray) -> FloatArray:
    """``a^-1 b``, shape of b, by LU factorisation with pivoting.

    Examples
    --------
    >>> solve(np.array([[0.0, 2.0], [1.0, 0.0]]), np.array([4.0, 3.0])).tolist()
    [3.0, 2.0]
    """
    *_, x, failed = lapack.dgesv(a, b)
    return _found(x, failed)


def triangular_inverse(upper: FloatArray) -> FloatArray:
    """Inverse of an upper triangular matrix.

    Examples
    --------
    >>> triangular_inverse(np.array([[1.0, 2.0], [0.0, 1.0]])).tolist()
    [[1.0, -2.0], [0.0, 1.0]]
    """
    return _found(*lapack.dtrtri(upper))


def triangle(a: FloatArray) -> FloatArray:
    """R of the QR factorisation of a matrix (c, c), upper triangular; below its diagonal is something else.

    Examples
    --------
    >>> np.abs(np.triu(triangle(np.array([[0.0, 2.0], [1.0, 0.0]])))).tolist()
    [[1.0, 0.0], [0.0, 2.0]]
    """
    qr, *_, failed = lapack.dgeqrf(a)
    return _found(qr, failed)


def log_abs_det(a: FloatArray) -> float:
    """``log |det a|`` of a matrix that may have no rows.

    Examples
    --------
    >>> log_abs_det(np.eye(2)), log_abs_det(np.eye(0))
    (0.0, 0.0)
    """
    if a.size <= 1:
        return float(np.log(np.abs(a)).sum())
    factor, *_ = lapack.dgetrf(a)
    return float(np.log(np.abs(factor.diagonal())).sum())


def _found(result: FloatArray, failed: int) -> FloatArray:
    if failed:
        raise np.linalg.LinAlgError("the matrix is singular or indefinite, or its eigenvalues do not converge")
    return np.asarray(result)
