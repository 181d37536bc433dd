"""How far the effects of a term are from all being zero, by the draws of a posterior: the joint test's counterpart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from bayeslmm.arguments import choice
from bayeslmm.design.readable import headed
from bayeslmm.design.screen import cell_text
from bayeslmm.equality import by_value
from bayeslmm.errors import DesignError
from bayeslmm.means.call import Names
from bayeslmm.means.joint_hypotheses import joint_hypotheses, orthogonal_rows
from bayeslmm.results.digits import probability
from bayeslmm.results.draws import Draws
from bayeslmm.results.linear import DDF, known_ddf
from bayeslmm.types import BoolArray, FloatArray

_HEADING = "Terms of the fixed part: how far out in the posterior zero is"
_NOTES = (
    "p_farther: posterior probability of values farther from the centre than no effect at all is (Box and Tiao). It is "
    "no probability of no effect; that takes proper priors of the coefficients, and both models: bl.compare(model0, "
    "model1, priors='weak').",
)


def posterior_joint_tests(
    post: Draws,
    by: Names = None,
    *,
    at: Mapping[str, Any] | None = None,
    ddf: DDF | None = None,
    df2: Literal["least", "combined"] = "least",
) -> pd.DataFrame:
    """For every term, how far out in the posterior of all its contrasts, slopes or interactions the point zero is.

    A posterior has no F test. What it says of the same hypothesis is the content of the smallest ellipsoid about its
    mean that zero lies on, in the metric of its covariance: the highest-density region of a normal or t posterior.
    ``p_farther`` is what lies outside, counted among the draws. Under flat priors, and where the degrees of freedom are
    those of the residuals, it is the p value of the F test.

    Parameters
    ----------
    by, at
        As in `bayeslmm.means.joint.joint_tests`.
    ddf, df2 : optional
        As of a fit, so that both take one call; a posterior has no degrees of freedom.

    Returns
    -------
    pandas.DataFrame
        ``term``, the columns of `by`, ``df1`` (dimensions), ``F`` (squared distance of zero from the posterior mean
        in the metric of the posterior covariance, over df1), ``p_farther``, and ``note``, as for a fit.

    Raises
    ------
    DesignError
        Unknown names.

    References
    ----------
    Box & Tiao (1965), Annals of Mathematical Statistics 36, 1468-1482.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("distance ~ age * Sex + (age | Subject)", bl.load_dataset("Orthodont"))
    >>> found = model.sample(random_seed=1).joint_tests()
    >>> found["term"].tolist(), found["p_farther"].round(2).tolist()
    (['age', 'Sex', 'age:Sex'], [0.0, 0.01, 0.03])
    """
    known_ddf(ddf)
    choice("df2", df2, ("least", "combined"), DesignError)
    frame, sizes = farther_table(post, by, at)
    return headed(frame, _HEADING, _NOTES, lambda: _texts(frame, sizes))


def farther_table(post: Draws, by: Names, at: Mapping[str, Any] | None) -> tuple[pd.DataFrame, list[float]]:
    """The table of `posterior_joint_tests`, and how many independent draws each probability is from."""
    rows, sizes = list[dict[str, Any]](), list[float]()
    for own in joint_hypotheses(post.design, by, at):
        found = farther(post, own.L)
        rows.append({**own.labels, "df1": found.df1, "F": found.F, "p_farther": found.share, "note": own.note})
        sizes.append(np.nan if found.share != found.share else post._size(found.agree))
    return pd.DataFrame(rows), sizes


@by_value
@dataclass(frozen=True, eq=False)
class Farther:
    """Where zero is among the draws of some combinations of the fixed effects.

    Attributes
    ----------
    df1 : float
        Dimensions.
    F : float
        Squared distance of zero from the mean, in the metric of the covariance, over df1.
    agree : BoolArray, shape (S,)
        Which draws are farther than zero.
    """

    df1: float
    F: float
    agree: BoolArray

    @property
    def share(self) -> float:
        """Posterior probability of being farther."""
        return float(self.agree.mean()) if np.isfinite(self.F) else float("nan")


def farther(post: Draws, L: FloatArray) -> Farther:
    """Where zero is among the draws of ``L beta``; nan if L has no rows, or there are too few draws."""
    beta = np.asarray(post.data["posterior"]["beta"])
    beta = beta.reshape(-1, beta.shape[-1])
    k = len(rows := orthogonal_rows(L)) if len(L) else 0
    if not 0 < k < len(beta) - 1:
        return Farther(float(k), float("nan"), np.zeros(len(beta), dtype=bool))
    values = beta @ rows.T
    # Columns of one size, so that the factor does not depend on units.
    values = values / np.maximum(values.std(axis=0), np.finfo(float).tiny)
    centre = values.mean(axis=0)
    off = values - centre
    inverse = np.linalg.pinv(off.T @ off / (len(off) - 1), hermitian=True)
    F = float(centre @ inverse @ centre) / k
    return Farther(float(k), F, np.einsum("si,ij,sj->s", off, inverse, off) / k > F)


def _texts(frame: pd.DataFrame, sizes: list[float]) -> pd.DataFrame:
    """Digits of F as its Monte Carlo error leaves them: three."""
    out = frame.astype(object)
    out["df1"] = [f"{value:.0f}" for value in frame["df1"]]
    out["F"] = ["" if value != value else cell_text(float(f"{value:.3g}")) for value in frame["F"]]
    out["p_farther"] = [probability(p, size) for p, size in zip(frame["p_farther"], sizes, strict=True)]
    return out
