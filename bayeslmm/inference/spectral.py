"""One variance of a linear mixed model reduced to independent contrasts.

With one random term of variance ``lambda sigma^2`` the data enter every question about lambda through r contrasts
``t_k ~ N(0, sigma^2 (1 + lambda mu_k))`` and a residual sum of squares ``SSE ~ sigma^2 chi2_f``, all independent:
``mu_k`` are the positive eigenvalues of ``Z'(I - P_X)Z``. F tests, exact intervals and the exact null distribution of
the likelihood ratio are functions of these numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.linalg import lapack

from bayeslmm.design.design import Design, RandomTerm
from bayeslmm.errors import DesignError
from bayeslmm.inference.spans import IN_SPAN, between, expand, singular, span, spread, without
from bayeslmm.inference.spectral_rows import stand_ins
from bayeslmm.likelihood import SummedDesign
from bayeslmm.likelihood.columns import orthogonalise
from bayeslmm.likelihood.within import grouped_qr
from bayeslmm.types import FloatArray, IntArray

# Dense eigenproblems up to this size; some seconds.
LARGEST = 2000
# Entries of the dense columns that are moved into X; 400 MB.
_ENTRIES = 50_000_000
# Eigenvalues closer than this, relative to the largest, are one eigenvalue.
_SAME = 1e-9


@dataclass(frozen=True)
class Spectrum:
    """One scalar variance reduced to independent contrasts.

    Attributes
    ----------
    mu : FloatArray, shape (r,)
        Positive eigenvalues of ``Z'(I - P_X)Z``, largest first (rows multiplied by the roots of the weights).
    xi : FloatArray, shape (q,)
        Positive eigenvalues of ``Z'Z``.
    t : FloatArray, shape (K, r)
        Projections of K responses on the eigenvectors; units of y.
    sse : FloatArray, shape (K,)
        Residual sum of squares of the responses on [X Z].
    f : int
        Its degrees of freedom, ``n - p - r``.
    n : int
        Observations (the sum of the frequencies, where there are any).
    p : int
        Rank of the X used, the projected columns of the other terms included.
    """

    mu: FloatArray
    xi: FloatArray
    t: FloatArray
    sse: FloatArray
    f: int
    n: int
    p: int

    @property
    def r(self) -> int:
        """Number of contrasts that know of the variance."""
        return int(self.mu.size)

    @property
    def equal(self) -> bool:
        """Whether all mu agree up to rounding, as in balanced layouts: F decides everything then."""
        return bool(self.mu[0] - self.mu[-1] <= _SAME * self.mu[0])


def spectrum(
    design: Design | SummedDesign,
    term: int,
    effects: tuple[int, ...],
    Y: FloatArray | None = None,
    others: Literal["projected", "ignored"] = "projected",
) -> Spectrum:
    """Reduce one variance of a design to independent contrasts.

    Parameters
    ----------
    design : Design or SummedDesign
    term : int
        Position in ``design.terms``.
    effects : tuple of int
        Effects of the term that have this variance: one, or all of an identity structure.
    Y : FloatArray, shape (n, K), optional
        Responses in units of y, from which the offset is subtracted; by default the response of the design.
    others : {"projected", "ignored"}
        What happens to all other random effects, those of the same term included. ``"projected"``: their columns
        join X, so that everything is exact whatever their variances. ``"ignored"``: as if there were none.

    Returns
    -------
    Spectrum

    Raises
    ------
    DesignError
        The effects have no variance of their own; nothing of Z is left once X is taken out, or (projected) nothing of
        the residual; too large for dense linear algebra.

    References
    ----------
    Seely & El-Bassiouni (1983), Ann. Stat. 11, 197-210; Harville & Fenech (1985), Biometrics 41, 137-152; Crainiceanu &
    Ruppert (2004), J. R. Stat. Soc. B 66, 165-185.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    >>> found = spectrum(model.design, 0, (0,))
    >>> found.mu.round(10).tolist(), found.f
    ([5.0, 5.0, 5.0, 5.0, 5.0], 24)
    """
    dense: dict[str, FloatArray] | None = None
    if isinstance(design, SummedDesign):
        if design.design.facts is None or Y is not None:
            design = design.design
        else:
            chosen = design.design.terms[term]
            made = stand_ins(design, chosen.group, others == "projected", LARGEST)
            design, dense = made.design, made.dense
    chosen = design.terms[term]
    _check_scalar(chosen, effects)
    name = _name(chosen, effects)
    if len(effects) > 1 and design.groupings[chosen.group].n_levels * len(effects) > LARGEST:
        raise DesignError(_too_large(name, design.groupings[chosen.group].n_levels * len(effects)))
    codes, J = design.groupings[chosen.group].codes, design.groupings[chosen.group].n_levels
    columns = _columns(design, term, effects, others, dense)
    Q, R, X = columns.Q, columns.R, columns.X
    y = _responses(design, Y, columns)
    E = between(Q, X, codes, J)
    outside, share, turned = singular(X - expand(Q, E, codes))
    r = int(np.count_nonzero(np.einsum("lii->li", R))) - (X.shape[1] - outside.shape[1])
    f = design.n_observations - columns.p - max(r, 0)
    _check_left(name, r, f, others, design)
    Ey = between(Q, y, codes, J)
    rest = y - expand(Q, Ey, codes)
    rest = rest - outside @ (outside.T @ rest)
    sse = np.einsum("nk,nk->k", rest, rest) if f > 0 else np.zeros(y.shape[1])
    B = E @ turned
    known = np.zeros((share.size, y.shape[1]))
    known[: outside.shape[1]] = outside.T @ y
    mu, t = _eigen(R, B, share, Ey - B @ (known / (1.0 + share)[:, None]), r, name)
    return Spectrum(mu, _own_eigenvalues(design, chosen, effects), t, sse, f, design.n_observations, columns.p)


def rows_or_sums(design: Design, cp: SummedDesign) -> Design | SummedDesign:
    """What `spectrum` is to work on: the rows of a design, or their sums where these are not in memory."""
    return design if design.facts is None else cp


def _check_scalar(term: RandomTerm, effects: tuple[int, ...]) -> None:
    if len(effects) == 1 and term.structure.sharing(effects[0]) == effects:
        return
    if len(term.structure.rows) == 1 and len(effects) == len(term.effects):
        return
    raise DesignError(
        f"The effects {', '.join(term.effects[k] for k in effects)} of {term.label} do not have one variance of their "
        f"own (structure {term.structure.keyword!r}), so that the data cannot be reduced to independent contrasts. "
        "Exact methods exist for one effect, or for all effects of an identity structure."
    )


def _name(term: RandomTerm, effects: tuple[int, ...]) -> str:
    return f"sd_{term.group}[{', '.join(term.effects[k] for k in effects)}]"


def _too_large(name: str, size: int) -> str:
    return (
        f"{name} has {size} random effects; its exact distribution needs the eigenvalues of a dense matrix of that "
        f"size (at most {LARGEST}). Use the chi-bar-square test or a profile interval; with so many levels they are "
        "accurate."
    )


def _own_eigenvalues(design: Design, term: RandomTerm, effects: tuple[int, ...]) -> FloatArray:
    """Positive eigenvalues of Z'Z, largest first."""
    grouping = design.groupings[term.group]
    R = grouped_qr(design.whitened(term.Z[:, list(effects)], within=grouping), grouping.codes, grouping.n_levels)[1]
    xi = np.linalg.eigvalsh(R @ R.mT).ravel()
    return np.sort(xi[xi > IN_SPAN**2 * xi.max()])[::-1]


@dataclass(frozen=True)
class _Columns:
    """Weighted columns of a design, those of Z and X without what is projected within levels.

    Attributes
    ----------
    Q : FloatArray, shape (n, c)
        Of the effects in question, orthonormal within every level.
    R : FloatArray, shape (J, c, c)
    same : FloatArray, shape (n, s)
        Other effects of the same grouping factor, likewise; they are projected level by level.
    X : FloatArray, shape (n, k)
        Orthonormal columns of all else that is projected, orthogonal to `same`.
    p : int
        Rank of what is projected.
    codes : IntArray, shape (n,)
    n_levels : int
    """

    Q: FloatArray
    R: FloatArray
    same: FloatArray
    X: FloatArray
    p: int
    codes: IntArray
    n_levels: int

    def project(self, columns: FloatArray) -> FloatArray:
        """Columns without what X and the effects of the same factor explain."""
        columns = without(columns, self.same, self.codes, self.n_levels)
        return columns - self.X @ (self.X.T @ columns)


def _columns(
    design: Design, term: int, effects: tuple[int, ...], others: str, dense: dict[str, FloatArray] | None
) -> _Columns:
    if others not in ("projected", "ignored"):
        raise DesignError(f"others={others!r} is unknown. Use 'projected' or 'ignored'.")
    chosen = design.terms[term]
    grouping = design.groupings[chosen.group]
    codes, J = grouping.codes, grouping.n_levels
    beside: dict[str, list[FloatArray]] = {name: [] for name in design.groupings}
    if others == "projected":
        for i, other in enumerate(design.terms):
            if dense is not None and other.group != grouping.name:
                continue
            beside[other.group] += [other.Z[:, k] for k in range(len(other.effects)) if i != term or k not in effects]
    same = beside.pop(grouping.name)
    together = np.column_stack([*same, *chosen.Z[:, list(effects)].T])
    Q, R = grouped_qr(design.whitened(together, within=grouping), codes, J)
    s = len(same)
    X = orthogonalise(design.X, design.row_weights).columns / np.sqrt(design.n)
    fixed = span(without(design.whitened(X), Q[:, :s], codes, J))
    if any(beside.values()) or (others == "projected" and dense):
        # X comes first and stays exact; the rest loses what lies in it.
        rest = without(_dense(design, beside) if dense is None else _of_length_one(dense), Q[:, :s], codes, J)
        for _ in range(2):
            rest = rest - fixed @ (fixed.T @ rest)
        fixed = np.concatenate([fixed, span(rest)], axis=1)
    p = int(np.count_nonzero(np.einsum("lii->li", R[:, :s, :s]))) + fixed.shape[1]
    return _Columns(Q[:, s:], R[:, s:, s:], Q[:, :s], fixed, p, codes, J)


def _dense(design: Design, beside: dict[str, list[FloatArray]]) -> FloatArray:
    """Columns (n, k) of the effects of the other grouping factors, of length 1."""
    size = sum(len(z) * design.groupings[name].n_levels for name, z in beside.items())
    if design.n * size > _ENTRIES or size > LARGEST:
        raise DesignError(
            f"Taking out the other random terms needs {size} dense columns of {design.n} rows (at most {LARGEST} "
            f"columns and {_ENTRIES:,} numbers). Use the chi-bar-square test or a profile interval."
        )
    found = []
    for name, z in beside.items():
        if z:
            grouping = design.groupings[name]
            Q, _ = grouped_qr(design.whitened(np.column_stack(z), within=grouping), grouping.codes, grouping.n_levels)
            found.append(spread(Q, grouping.codes, grouping.n_levels))
    return np.concatenate(found, axis=1)


def _of_length_one(dense: dict[str, FloatArray]) -> FloatArray:
    """The same of effects whose columns are there."""
    columns = np.concatenate([own.reshape(len(own), -1) for own in dense.values()], axis=1)
    length = np.linalg.norm(columns, axis=0)
    return np.asarray(columns / np.where(length > 0, length, 1.0))


def _responses(design: Design, Y: FloatArray | None, columns: _Columns) -> FloatArray:
    """Weighted responses (n, K) without what is projected."""
    y = design.y[:, None] if Y is None else np.asarray(Y, dtype=float)
    y = y if design.offset is None else y - design.offset[:, None]
    one = design.whitened(np.ones((design.n, 1)))
    if np.linalg.norm(columns.project(one)) < IN_SPAN * np.linalg.norm(one):
        # The difference to the first observation is exact where responses agree in their leading digits.
        y = y - y[0]
    y = design.whitened(y)
    for _ in range(3):
        y = columns.project(y)
    return y


def _check_left(name: str, r: int, f: int, others: str, design: Design) -> None:
    inside = "the fixed effects" + (" and the other random terms" if others == "projected" and design.q else "")
    if r < 1:
        raise DesignError(
            f"Every column of {name} lies in the span of {inside}: nothing is left that would tell its variance from "
            "them without assumptions about the others. Use the likelihood-ratio tests or a profile interval."
        )
    if f < 1 and others == "projected":
        raise DesignError(
            f"The columns of {inside} and of {name} together fit {design.n_observations} observations without residual "
            "(0 degrees of freedom), so that there is nothing to compare with. Use the likelihood-ratio tests or a "
            "profile interval."
        )


def _eigen(
    R: FloatArray, B: FloatArray, share: FloatArray, z: FloatArray, r: int, name: str
) -> tuple[FloatArray, FloatArray]:
    """The r largest eigenvalues of ``G'G`` and the projections (K, r) of z on the left singular vectors of G.

    ``G = (I - B diag(1 / (1 + share)) B')R`` with ``B'B = diag(1 - share^2)``, so that ``G'G = R'(I - BB')R``. Where a
    share is small, so is an eigenvalue, and ``G'G`` keeps half as many of its digits as G.
    """
    J, c, p = B.shape
    if J * c > LARGEST:
        return _eigen_classes(R[:, 0, 0], B[:, 0], share, z[:, 0], r, name)
    RB = np.einsum("lab,lap->lbp", R, B).reshape(J * c, p)
    M = -(RB @ RB.T)
    blocks = M.reshape(J, c, J, c)
    levels = np.arange(J)
    blocks[levels, :, levels, :] += R.mT @ R
    vectors = np.linalg.eigh(M)[1][:, ::-1][:, :r]
    images = (R @ vectors.reshape(J, c, r)).reshape(J * c, r)
    images -= (B.reshape(J * c, p) / (1.0 + share)) @ (RB.T @ vectors)
    # Only p eigenvalues can be small for this reason; among themselves the vectors above do not tell them apart.
    small = slice(max(r - p, 0), None)
    images[:, small] = _turned(images[:, small])
    mu = np.einsum("jr,jr->r", images, images)
    t = (z.reshape(J * c, z.shape[2]).T @ images) / np.sqrt(mu)
    largest_first = np.argsort(-mu, kind="stable")
    return mu[largest_first], t[:, largest_first]


def _turned(columns: FloatArray) -> FloatArray:
    """Orthogonal columns of the same span and squares, longest first."""
    U, length, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(U * length)


def _eigen_classes(
    length: FloatArray, B: FloatArray, share: FloatArray, z: FloatArray, r: int, name: str
) -> tuple[FloatArray, FloatArray]:
    """The same for one effect per level: levels with columns of one length are rotated until few know of X."""
    p = B.shape[1]
    _, which = np.unique(np.round(length / length.max(), 13), return_inverse=True)
    order = np.argsort(which, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(which))[:-1])
    size = sum(min(rows.size, p) for rows in members)
    if size > LARGEST:
        raise DesignError(_too_large(name, size))
    tops: list[tuple[float, FloatArray, FloatArray]] = []
    mu, t = [], []
    for rows in members:
        top, rotated = _rotate(B[rows], z[rows])
        tops.append((float(length[rows[0]]), top, rotated[: top.shape[0]]))
        mu.append(np.full(rows.size - top.shape[0], length[rows[0]] ** 2))
        t.append(rotated[top.shape[0] :].T)
    small = np.concatenate([np.full(top.shape[0], a) for a, top, _ in tops])
    inner = r - sum(m.size for m in mu)
    if inner > 0:
        R = small[:, None, None]
        top = np.concatenate([top for _, top, _ in tops])[:, None]
        values, projections = _eigen(R, top, share, np.concatenate([y for _, _, y in tops])[:, None], inner, name)
        mu.append(values)
        t.append(projections)
    merged = np.concatenate(mu)
    largest_first = np.argsort(-merged, kind="stable")
    return merged[largest_first], np.concatenate(t, axis=1)[:, largest_first]


def _rotate(E: FloatArray, Ey: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Rotate rows so that only the first min(m, p) of E (m, p) are not zero: these rows, and all rows of Ey."""
    if E.shape[0] <= E.shape[1]:
        return E, Ey
    packed, tau, _, _ = lapack.dgeqrf(np.asfortranarray(E))
    work = max(64 * Ey.shape[1], 1)
    rotated, _, _ = lapack.dormqr("L", "T", packed, tau, np.asfortranarray(Ey), work)
    return np.triu(packed[: E.shape[1]]), np.asarray(rotated)
