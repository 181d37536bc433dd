"""Coverage averaged over the prior, which a posterior owes exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayeslmm.bayes.prior_families import SdPrior
from bayeslmm.calibration.atlas_cells import Cell
from bayeslmm.types import FloatArray
from studies.coverage.marginals import Ends
from studies.coverage.oneway import reduce
from studies.coverage.oneway_posterior import posterior

_CHUNK = 500


def prior_averaged(
    groups: int, size: int, prior: SdPrior, replicates: int = 10_000, *, level: float = 0.95, seed: int = 1
) -> dict[str, float]:
    """Coverage of a posterior's intervals with the standard deviations drawn from their prior: the level, if right.

    That holds for every prior and design, without slack, and tests the computation rather than the method. The mean has
    a flat prior, under which its coverage does not depend on its value.

    Parameters
    ----------
    groups, size : int
        Of a balanced one-way layout.
    prior : SdPrior
        Proper; smooth and even at zero.
    replicates : int
    level : float
    seed : int

    Returns
    -------
    dict
        Coverage by interval: ``hdi`` and ``equal_tailed`` of the sd between groups, and ``mean``.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> prior_averaged(5, 3, bl.HalfNormal(2.0), 500)["hdi"] > 0.9
    True
    """
    rng = np.random.default_rng(seed)
    cell, hits = Cell("balanced", groups, size), []
    for start in range(0, replicates, _CHUNK):
        K = min(_CHUNK, replicates - start)
        sd, sigma = (np.array([prior.quantile(u) for u in rng.random(K)]) for _ in range(2))
        b = sd * rng.standard_normal((groups, K))
        Y = np.repeat(b, size, axis=0) + sigma * rng.standard_normal((groups * size, K))
        post = posterior(reduce(cell, Y), level, prior)
        hits.append(
            [_holds(post.sd.hdi(level), sd), _holds(post.sd.equal_tailed(level), sd), _holds(post.mean, 0.0 * sd)]
        )
    shares = np.concatenate(hits, axis=1).mean(axis=1)
    return dict(zip(("hdi", "equal_tailed", "mean"), map(float, shares), strict=True))


def _holds(ends: Ends, value: FloatArray) -> Sequence[bool]:
    inside: Sequence[bool] = ((ends[0] <= value) & (value <= ends[1])).tolist()
    return inside
