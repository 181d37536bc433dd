"""The matrices of a linear mixed model, with names on rows and columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from bayeslmm.design.design import Design, expanded
from bayeslmm.design.observations import need_observations
from bayeslmm.design.screen import fill
from bayeslmm.errors import DesignError
from bayeslmm.residual import NO_PARAMETERS, Residual
from bayeslmm.teaching.size import check_dense, memory
from bayeslmm.teaching.terms import block_diagonal, check_sigma, effect_names, sparse_Z
from bayeslmm.types import AnyArray, FloatArray

_FORCE = "Work with Z, G and R, which are sparse, or force it: {}."


@dataclass(frozen=True, repr=False, eq=False)
class Matrices:
    """``y = offset + X beta + Z b + e`` with ``b ~ N(0, G)`` and ``e ~ N(0, R)``, as matrices.

    Columns of Z stand term after term in the order of the formula, within a term level by level with its effects.

    Attributes
    ----------
    formula : str
    y : FloatArray, shape (n,)
        Response without the offset.
    X : FloatArray, shape (n, p)
    Z : scipy.sparse.csc_array, shape (n, q)
    Lambda : scipy.sparse.csc_array, shape (q, q)
        Relative factor: ``b = Lambda u`` with ``u ~ N(0, sigma^2 I)``.
    sigma : float
        Residual standard deviation.
    residual : Residual
        Structure of the residuals.
    lam : FloatArray, shape (k,)
        Its parameters.
    rows : array, shape (n,)
        Index labels of the rows kept.
    fixed_names : tuple of str
        Names of the columns of X.
    effects : tuple of tuple of str
        (group, level, effect) of the columns of Z.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> m = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit().matrices()
    >>> m.X.shape, m.Z.shape, m.V.shape
    ((30, 1), (30, 6), (30, 30))
    >>> m.to_frame("G").iloc[:2, :2].round(0).to_numpy().tolist()
    [[1764.0, 0.0], [0.0, 1764.0]]
    """

    formula: str
    y: FloatArray
    X: FloatArray
    Z: sparse.csc_array
    Lambda: sparse.csc_array
    sigma: float
    residual: Residual
    lam: FloatArray
    rows: AnyArray
    fixed_names: tuple[str, ...]
    effects: tuple[tuple[str, str, str], ...]

    @property
    def n(self) -> int:
        return int(self.X.shape[0])

    @property
    def p(self) -> int:
        return int(self.X.shape[1])

    @property
    def q(self) -> int:
        """Number of random effects."""
        return len(self.effects)

    @property
    def G(self) -> sparse.csc_array:
        """Covariance of the random effects, ``sigma^2 Lambda Lambda'``, shape (q, q)."""
        return sparse.csc_array(self.sigma**2 * (self.Lambda @ self.Lambda.T))

    @property
    def R(self) -> sparse.csc_array:
        """Covariance of the residuals, sparse, shape (n, n): ``sigma^2 I``, with precision weights ``sigma^2 W^-1``."""
        return sparse.csc_array(self.sigma**2 * self.residual.covariance(self.lam))

    @property
    def weights(self) -> FloatArray:
        """Precision weights, ones if there are none, shape (n,)."""
        return np.ones(self.n) if self.residual.weights is None else self.residual.weights

    @property
    def V(self) -> FloatArray:
        """Covariance of y, ``Z G Z' + R``, dense, shape (n, n).

        Raises
        ------
        DesignError
            More than 25 million entries; ``covariance(force=True)`` makes it all the same.
        """
        return self.covariance()

    def covariance(self, force: bool = False) -> FloatArray:
        """``V = Z G Z' + R``, dense, shape (n, n).

        Parameters
        ----------
        force : bool
            Make it whatever its size.

        Raises
        ------
        DesignError
            More than 25 million entries, and not forced.
        """
        if not force:
            check_dense("V", self.n, self.n, _FORCE.format("covariance(force=True)"))
        half = self.Z @ (self.sigma * self.Lambda)
        V: FloatArray = (half @ half.T).toarray()
        R = sparse.coo_array(self.R)
        V[R.row, R.col] += R.data
        return V

    def to_frame(self, name: str, force: bool = False) -> pd.DataFrame:
        """One of the matrices with names on its rows and columns.

        Parameters
        ----------
        name : {"X", "Z", "Lambda", "G", "R", "V"}
            Columns of Z carry (group, level, effect).
        force : bool
            Make it whatever its size; the frame is dense.

        Raises
        ------
        DesignError
            Unknown name, or more than 25 million entries.

        Examples
        --------
        >>> import bayeslmm as bl
        >>> m = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).matrices()
        >>> list(m.to_frame("X").columns)
        ['Intercept', 'Days']
        >>> m.to_frame("Z").columns[1]
        ('Subject', '308', 'Days')
        """
        rows, fixed, random = self._labels()
        known: dict[str, tuple[Callable[[], AnyArray | sparse.csc_array], pd.Index, pd.Index]] = {
            "X": (lambda: self.X, rows, fixed),
            "Z": (lambda: self.Z, rows, random),
            "Lambda": (lambda: self.Lambda, random, random),
            "G": (lambda: self.G, random, random),
            "R": (lambda: self.R, rows, rows),
            "V": (lambda: self.covariance(force), rows, rows),
        }
        if name not in known:
            raise DesignError(f"There is no matrix {name!r}. Use one of {', '.join(known)}.")
        make, index, columns = known[name]
        if not force:
            check_dense(f"The frame of {name}", len(index), len(columns), _FORCE.format(f"to_frame({name!r}, True)"))
        values = make()
        dense = values if isinstance(values, np.ndarray) else values.toarray()
        return pd.DataFrame(dense, index=index, columns=columns)

    def _labels(self) -> tuple[pd.Index, pd.Index, pd.Index]:
        return pd.Index(self.rows), pd.Index(list(self.fixed_names), dtype=str), effect_index(self.effects)

    def __repr__(self) -> str:
        rank = f"rank {np.linalg.matrix_rank(self.X)}" if self.p else "no fixed effects"
        zeros = int((self.Lambda.diagonal() == 0).sum())
        lines = [
            f"Matrices of {self.formula}",
            f"  X       {self.n} x {self.p}, {rank}",
            f"  Z       {self.n} x {self.q}, sparse, {self.Z.nnz} nonzeros",
            f"  Lambda  {self.q} x {self.q}, sparse, {self.Lambda.nnz} nonzeros, {zeros} zeros on its diagonal",
            f"  G       {self.q} x {self.q} = sigma^2 Lambda Lambda'",
            f"  R       {self.n} x {self.n} = {self.residual.text}, sigma = {self.sigma:.6g}",
            f"  V       {self.n} x {self.n} = Z G Z' + R, dense when asked for ({memory(self.n, self.n)})",
        ]
        return fill("\n".join(lines), indent=" " * 8)


def effect_index(effects: Sequence[tuple[str, str, str]]) -> pd.MultiIndex:
    """Index with the levels group, level and effect."""
    return pd.MultiIndex.from_tuples(list(effects), names=["group", "level", "effect"])


def build_matrices(
    design: Design, terms: Sequence[FloatArray], sigma: float, lam: FloatArray = NO_PARAMETERS
) -> Matrices:
    """Matrices of a design at given relative factors and sigma.

    Parameters
    ----------
    design : Design
    terms : sequence of FloatArray, each (c, c)
        Relative factors in the user's units, terms in the order of the formula.
    sigma : float
    lam : FloatArray, shape (k,)
        Parameters of the residual structure.

    Raises
    ------
    DesignError
        sigma is not a positive number.

    Notes
    -----
    Rows with a frequency are written out: copies of a row are different observations, which only the matrices of
    all of them show.
    """
    check_sigma(sigma)
    need_observations(design, "Matrices have the rows")
    design = expanded(design)
    return Matrices(
        formula=design.formula,
        y=design.y_less_offset,
        X=design.X,
        Z=sparse_Z(design),
        Lambda=block_diagonal(design, terms),
        sigma=float(sigma),
        residual=design.residual,
        lam=lam,
        rows=design.index,
        fixed_names=design.fixed_names,
        effects=tuple(effect_names(design)),
    )
