# mypy: ignore-errors
"""Functions that PyMC models of this package call, and that their source shows as they stand here."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt


def root_gamma(alpha, beta, size):
    """Square root of a gamma variable; PyMC derives its density."""
    return pm.math.sqrt(pm.Gamma.dist(alpha=alpha, beta=beta, size=size))


def root_inverse_gamma(alpha, beta, size):
    """Square root of an inverse-gamma variable; PyMC derives its density."""
    return pm.math.sqrt(pm.InverseGamma.dist(alpha=alpha, beta=beta, size=size))


def correlation_factor(r, size):
    """Cholesky factor of a correlation matrix; r is (1 + partial correlation) / 2 of a < b given those before a."""
    L = [[0.0] * size for _ in range(size)]
    rest = [1.0] * size
    for k, (a, b) in enumerate(zip(*np.triu_indices(size, 1), strict=True)):
        L[b][a] = (2.0 * r[k] - 1.0) * rest[b]
        rest[b] = rest[b] * 2.0 * pt.sqrt(r[k] * (1.0 - r[k]))
    for k in range(size):
        L[k][k] = rest[k]
    return pt.stack([pt.stack(row) for row in L])


def compound_symmetry_factor(r, size, among=None):
    """Cholesky factor of a correlation matrix with one correlation; r is its place on the range, from 0 to 1."""
    lowest = -1.0 / ((among or size) - 1)
    rho = lowest + (1.0 - lowest) * r[0]
    L = [[pt.zeros(())] * size for _ in range(size)]
    for j in range(size):
        before, here = 1.0 + (j - 1) * rho, 1.0 + j * rho
        L[j][j] = pt.sqrt((1.0 - rho) * here / before) if j else pt.ones(())
        for i in range(j + 1, size):
            L[i][j] = rho * (pt.sqrt((1.0 - rho) / (before * here)) if j else 1.0)
    return pt.stack([pt.stack(row) for row in L])


def autoregression_factor(r, size, times=None):
    """Cholesky factor of correlations rho ** distance; r is the place of rho between -1 and 1, from 0 to 1."""
    times = range(size) if times is None else times
    rho = -1.0 + 2.0 * r[0]
    powers = [pt.ones(())]
    for _ in range(times[-1] - times[0]):
        powers.append(powers[-1] * rho)
    rest = [pt.sqrt(1.0 - rho ** (2 * (times[j] - times[j - 1]))) for j in range(1, size)]
    L = [[pt.zeros(())] * size for _ in range(size)]
    for i in range(size):
        later = [powers[times[i] - times[j]] * rest[j - 1] for j in range(1, i + 1)]
        L[i][: i + 1] = [powers[times[i] - times[0]], *later]
    return pt.stack([pt.stack(row) for row in L])


def toeplitz_factor(r, size):
    """Cholesky factor of a Toeplitz correlation matrix; r is (1 + partial autocorrelation) / 2 (lattice)."""
    sin = [2.0 * r[k] - 1.0 for k in range(size - 1)]
    cos = [2.0 * pt.sqrt(r[k] * (1.0 - r[k])) for k in range(size - 1)]
    rows, backward = [], []
    for t in range(size):
        forward, errors = pt.eye(size)[t], []
        for n in range(t - 1, -1, -1):
            errors.append(cos[n] * backward[n] - sin[n] * forward)
            forward = cos[n] * forward + sin[n] * backward[n]
        rows.append(forward)
        backward = [forward, *errors[::-1]]
    return pt.stack(rows)
