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


def serial_correlation(lam, at):
    """Correlations rho ** |t - t'| of rows at times at[..., 0]; lam is atanh(rho)."""
    lag = np.abs(at[..., :, None, 0] - at[..., None, :, 0])
    return pt.tanh(lam[0]) ** lag


def exponential_correlation(lam, at):
    """Correlations that fall exponentially with the distance in time; lam is the log of the range."""
    lag = np.abs(at[..., :, None, 0] - at[..., None, :, 0])
    return pt.exp(-lag * pt.exp(-lam[0]))


def distance_correlation(lam, at, kind):
    """Correlations by the distance in space; lam is the log of the range."""
    u = np.sqrt(((at[..., :, None, :] - at[..., None, :, :]) ** 2).sum(-1)) * pt.exp(-lam[0])
    if kind == "exp":
        return pt.exp(-u)
    return pt.exp(-(u**2)) if kind == "gaussian" else (1.0 + u) * pt.exp(-u)


def equal_correlation(lam, at, largest):
    """One correlation of all pairs; lam is the logit of its place between the lowest and one."""
    lowest, eye = -1.0 / (largest - 1), np.broadcast_to(np.eye(at.shape[-2]), (*at.shape[:-1], at.shape[-2]))
    return eye + (lowest + (1.0 - lowest) * pt.sigmoid(lam[0])) * (1.0 - eye)


def moving_average_correlation(lam, at):
    """Correlations of ARMA(1, 1); lam has atanh of phi and theta."""
    lag = np.abs(at[..., :, None, 0] - at[..., None, :, 0])
    phi, theta = pt.tanh(lam[0]), pt.tanh(lam[1])
    first = (1.0 + phi * theta) * (phi + theta) / (1.0 + 2.0 * phi * theta + theta**2)
    return (lag == 0) + (lag > 0) * first * phi ** np.maximum(lag - 1.0, 0.0)


def between_visits(rows, at):
    """Entries of a K x K matrix, a list of rows, for rows of the data at visits at[..., 0]."""
    visit = at[..., 0].astype(int)
    return pt.stack([pt.stack(row) for row in rows])[visit[..., :, None], visit[..., None, :]]


def free_correlation(lam, at, size):
    """Any correlations; row i of the Cholesky factor is (lam_i1, .., 1) over its length."""
    rows, start = [], 0
    for i in range(size):
        u = [*lam[start : start + i], pt.ones(())]
        length = pt.sqrt(sum(x**2 for x in u))
        rows.append([x / length for x in u])
        start += i
    R = [[sum(a * b for a, b in zip(p, q, strict=False)) for q in rows] for p in rows]
    return between_visits(R, at)


def banded_correlation(lam, at, size):
    """One correlation for every lag; lam has atanh of the partial ones (Durbin's recursion)."""
    r, a, left = [pt.ones(())], [], 1.0
    for h in range(1, size):
        p = pt.tanh(lam[h - 1])
        r.append(p * left + sum(c * r[h - 1 - k] for k, c in enumerate(a)))
        a = [*(c - p * d for c, d in zip(a, a[::-1], strict=True)), p]
        left = left * (1.0 - p**2)
    return between_visits([[r[abs(i - j)] for j in range(size)] for i in range(size)], at)


def antedependent_correlation(lam, at, size):
    """Products of the correlations of neighbouring visits; lam has atanh of these."""
    R = [[pt.ones(())] * size for _ in range(size)]
    for i in range(size):
        for j in range(i + 1, size):
            R[i][j] = R[j][i] = R[i][j - 1] * pt.tanh(lam[j - 1])
    return between_visits(R, at)


def correlation_by_arm(lam, at, family, count, *options):
    """A family whose parameters differ between arms, the last coordinate of positions."""
    arm, own = at[..., 0, -1], at[..., :-1]
    return sum(
        family(lam[k : k + count], own, *options) * (arm == k // count)[..., None, None]
        for k in range(0, len(lam), count)
    )


def whitened(e, matrices, blocks):
    """Independent residuals and the log determinant of the correlations, groups of one size and pattern together."""
    z, log_det = [], 0.0
    for C, (rows, which) in zip(matrices, blocks, strict=True):
        L = pt.linalg.cholesky(C)
        z.append(pt.linalg.solve_triangular(L[which], e[rows][..., None], lower=True).flatten())
        log_det = log_det + 2.0 * pt.log(pt.diagonal(L, axis1=-2, axis2=-1))[which].sum()
    return pt.concatenate(z), log_det


def whitened_chain(e, r, before, after):
    """The same where every row depends on the one before alone, with which it has the correlation r."""
    rest = 1.0 - r**2
    return pt.set_subtensor(e[after], (e[after] - r * e[before]) / pt.sqrt(rest)), pt.log(rest).sum()


def chain_correlation(family, lam, start, end, *options):
    """Correlations of rows at `end` with those before, at `start`."""
    return family(lam, np.stack([start, end], axis=1), *options)[:, 0, 1]
