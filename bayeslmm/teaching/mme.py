"""Henderson's mixed-model equations, assembled and solved as they stand in the textbook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve

from bayeslmm.arguments import choice
from bayeslmm.design.design import Design
from bayeslmm.design.readable import readable
from bayeslmm.design.screen import fill
from bayeslmm.errors import DesignError, FitError
from bayeslmm.residual import NO_PARAMETERS
from bayeslmm.teaching.matrices import Matrices, build_matrices, effect_index
from bayeslmm.teaching.size import check_dense
from bayeslmm.teaching.terms import block_diagonal
from bayeslmm.types import FloatArray

# A factor of correlations with a smaller singular value is singular for the purpose of inverting G: its inverse
# would carry the square of this ratio.
_SINGULAR = 1e-5

type Form = Literal["b", "u"]


@dataclass(frozen=True, repr=False, eq=False)
class MixedModelEquations:
    """``C solution = rhs``, with its solution and what C^-1 says about its error.

    In the form ``"b"`` (Henderson) the unknowns are (beta, b) and ``C = [X'R^-1X, X'R^-1Z; Z'R^-1X, Z'R^-1Z +
    G^-1]``. It needs the inverse of G. The form ``"u"`` puts ``b = Lambda u`` and ``u ~ N(0, sigma^2 I)``: every
    Z becomes Z Lambda and G^-1 becomes I / sigma^2, so that a singular G needs no special care.

    Attributes
    ----------
    form : {"b", "u"}
        Which unknowns the equations are in.
    C : scipy.sparse.csc_array, shape (p + q, p + q)
    rhs : FloatArray, shape (p + q,)
    unknowns : FloatArray, shape (p + q,)
        Solution of the equations: (beta, b) or (beta, u).
    solution : FloatArray, shape (p + q,)
        (beta, b) in both forms.
    covariance : FloatArray, shape (p + q, p + q)
        Covariance of (estimate of beta, prediction of b minus b): C^-1, for the form ``"u"`` mapped to b.
    reference : FloatArray, shape (p + q,)
        (beta, b) of the fit.
    matrices : Matrices
        What the equations are made of.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> mme = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit().mme()
    >>> mme.C.shape, mme.form
    ((7, 7), 'b')
    >>> mme.table().round(2).iloc[0].tolist()
    [1527.5, 19.38]
    >>> mme.check() < 1e-9
    True
    """

    form: Form
    C: sparse.csc_array
    rhs: FloatArray
    unknowns: FloatArray
    solution: FloatArray
    covariance: FloatArray
    reference: FloatArray
    matrices: Matrices

    @property
    def beta(self) -> FloatArray:
        """Fixed effects, shape (p,)."""
        return self.solution[: self.matrices.p]

    @property
    def b(self) -> FloatArray:
        """Random effects, shape (q,), ordered as the columns of Z."""
        return self.solution[self.matrices.p :]

    @property
    def std_error(self) -> FloatArray:
        """Standard errors of beta, then root prediction error variances of b; shape (p + q,)."""
        return np.sqrt(np.maximum(np.diagonal(self.covariance), 0.0))

    def table(self) -> pd.DataFrame:
        """Solution with its errors: (group, level, effect) to ``estimate`` and ``std_error``.

        Rows of fixed effects have the group ``"fixed"`` and no level. The error of a random effect is the square root
        of the variance of prediction minus truth, beta estimated.
        """
        return readable(pd.DataFrame({"estimate": self.solution, "std_error": self.std_error}, index=self._index()))

    def to_frame(self, name: str = "C") -> pd.DataFrame:
        """``"C"`` (with the right-hand side as last column) or ``"covariance"``, with names.

        Raises
        ------
        DesignError
            Another name.
        """
        choice("name", name, ("C", "covariance"), DesignError)
        index = self._index()
        if name == "C":
            frame = pd.DataFrame(self.C.toarray(), index=index, columns=index)
            frame[("rhs", "", "")] = self.rhs
            return frame
        return pd.DataFrame(self.covariance, index=index, columns=index)

    def check(self) -> float:
        """Largest absolute difference of (beta, b) to ``fixef()`` and ``ranef()`` of the fit."""
        return float(np.abs(self.solution - self.reference).max())

    def _index(self) -> pd.MultiIndex:
        fixed = [("fixed", "", name) for name in self.matrices.fixed_names]
        return effect_index([*fixed, *self.matrices.effects])

    def __repr__(self) -> str:
        m = self.matrices
        singular = "; G is singular, it has none" if singular_terms(m) else ""
        unknown = {
            "b": "unknowns (beta, b), C = [X'R^-1X, X'R^-1Z; Z'R^-1X, Z'R^-1Z + G^-1]",
            "u": "unknowns (beta, u), b = Lambda u, C = [X'R^-1X, X'R^-1A; A'R^-1X, A'R^-1A + I/sigma^2], A = Z Lambda"
            f"\n  no inverse of G is needed{singular}",
        }[self.form]
        return fill(
            f"Mixed-model equations of {m.formula}\n  {unknown}\n  {m.p} fixed and {m.q} random effects, "
            f"largest difference to the fit {self.check():.2g}",
            indent="  ",
        )


def singular_terms(matrices: Matrices) -> bool:
    """Whether G has no usable inverse: a variance of zero, or a correlation of one."""
    Lambda = matrices.Lambda
    length = np.sqrt(np.asarray((Lambda * Lambda).sum(axis=1)).ravel())
    if not length.all():
        return True
    # The determinant of a lower-triangular factor of correlations is the product of its diagonal; a
    # small diagonal entry bounds the smallest singular value from above.
    return bool((np.abs(Lambda.diagonal()) / length).min() < _SINGULAR)


def henderson(
    design: Design,
    terms: Sequence[FloatArray],
    sigma: float,
    reference: FloatArray,
    form: Literal["auto", "b", "u"] = "auto",
    lam: FloatArray = NO_PARAMETERS,
) -> MixedModelEquations:
    """Assemble and solve the mixed-model equations.

    Parameters
    ----------
    design : Design
    terms : sequence of FloatArray, each (c, c)
        Relative factors in the user's units.
    sigma : float
    reference : FloatArray, shape (p + q,)
        (beta, b) to compare with.
    form : {"auto", "b", "u"}
        ``"auto"``: ``"b"`` unless G is singular.
    lam : FloatArray, shape (k,)
        Parameters of the residual structure.

    Returns
    -------
    MixedModelEquations

    Raises
    ------
    FitError
        ``form="b"`` with a singular G.
    DesignError
        Unknown form, no residual variance, or too many effects.

    References
    ----------
    Henderson (1950, 1975); Robinson (1991), Statist. Sci. 6, 15-32.
    """
    choice("form", form, ("auto", "b", "u"), DesignError)
    m = build_matrices(design, terms, sigma, lam)
    check_dense("C^-1", m.p + m.q, m.p + m.q, "Use ranef() and ranef_variances(), which need no inverse.")
    singular = singular_terms(m)
    if form == "b" and singular:
        raise FitError(
            "G is singular (a variance of zero or a correlation of one), so G^-1 does not exist and the equations "
            "cannot be written in b. Use form='u', which puts b = Lambda u, or form='auto', which chooses."
        )
    chosen: Form = "u" if form == "u" or singular else "b"
    return _solve(design, terms, m, chosen, reference)


def _solve(
    design: Design, terms: Sequence[FloatArray], m: Matrices, form: Form, reference: FloatArray
) -> MixedModelEquations:
    variance = m.sigma**2
    if form == "b":
        columns = m.Z
        inverses = [np.linalg.inv(T) for T in terms]
        penalty = block_diagonal(design, [S.T @ S / variance for S in inverses])
    else:
        columns = sparse.csc_array(m.Z @ m.Lambda)
        penalty = sparse.csc_array(sparse.eye_array(m.q) / variance)
    W = m.residual.whitening(m.lam)
    precision = sparse.csc_array(W.T @ W / variance)
    joint = sparse.csc_array(sparse.hstack([sparse.csc_array(m.X), columns], format="csc"))
    cross = sparse.csc_array(joint.T @ precision @ joint)
    C = sparse.csc_array(cross + sparse.block_diag([sparse.csc_array((m.p, m.p)), penalty], format="csc"))
    rhs = joint.T @ (precision @ m.y)
    inverse = _inverse(C.toarray())
    # The second product takes up what rounding left of the right-hand side.
    unknowns = inverse @ rhs
    unknowns = unknowns + inverse @ (rhs - C @ unknowns)
    if form == "b":
        return MixedModelEquations(form, C, rhs, unknowns, unknowns, inverse, reference, m)
    back = sparse.block_diag([sparse.eye_array(m.p), m.Lambda], format="csr")
    covariance = back @ (back @ inverse).T
    return MixedModelEquations(form, C, rhs, unknowns, back @ unknowns, covariance, reference, m)


def _inverse(C: FloatArray) -> FloatArray:
    """Inverse of a positive definite matrix, its unknowns brought to one scale first."""
    scale = 1.0 / np.sqrt(np.diagonal(C))
    factor = cho_factor(scale[:, None] * C * scale, lower=True)
    inverse: FloatArray = scale[:, None] * cho_solve(factor, np.eye(len(scale))) * scale
    return (inverse + inverse.T) / 2
