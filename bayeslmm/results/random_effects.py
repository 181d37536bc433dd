"""Random effects as people want them: with standard deviations, by label, added to the fixed part, as components."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import flag
from bayeslmm.design.labels import group_labels
from bayeslmm.design.readable import Tables, readable
from bayeslmm.errors import DesignError
from bayeslmm.habits import RANEF_ARGUMENTS, no_argument
from bayeslmm.inference.components import principal_components
from bayeslmm.results.draws import Draws
from bayeslmm.results.figures import column_texts
from bayeslmm.results.fit import Fit


def ranef(fit: Fit, *, sd: bool = False, **unknown: Any) -> dict[str, pd.DataFrame]:
    """Conditional means of the random effects (BLUPs): group to frame of levels x effects.

    Parameters
    ----------
    sd : bool
        Add the conditional standard deviations, columns ``sd[<effect>]``, fixed effects and variances taken as known
        (lme4's condVar).

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> fit.ranef(sd=True)["Batch"].round(2).loc["A"].to_dict()
    {'Intercept': -17.61, 'sd[Intercept]': 19.59}
    """
    no_argument("fit.ranef", ranef, unknown, RANEF_ARGUMENTS, DesignError)
    flag("sd", sd, DesignError)
    means = Fit.ranef(fit)
    if not sd:
        return means
    variances = Fit.ranef_variances(fit)
    return Tables(
        {
            group: _beside(frame, np.sqrt(np.maximum(np.diagonal(variances[group], axis1=1, axis2=2), 0.0)))
            for group, frame in means.items()
        }
    )


def posterior_ranef(post: Draws, *, sd: bool = False) -> dict[str, pd.DataFrame]:
    """Posterior means of the random effects: group to frame of levels x effects.

    Parameters
    ----------
    sd : bool
        Add the posterior standard deviations, columns ``sd[<effect>]``.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(1000, random_seed=1)
    >>> post.ranef(sd=True)["Batch"].columns.tolist()
    ['Intercept', 'sd[Intercept]']
    """
    flag("sd", sd, DesignError)
    means = Draws.ranef(post)
    if not sd:
        return means
    spreads = post.ranef_sd()
    return Tables({group: _beside(frame, spreads[group].to_numpy()) for group, frame in means.items()})


def _beside(means: pd.DataFrame, sds: Any) -> pd.DataFrame:
    columns = [f"sd[{name}]" for name in means.columns]
    return readable(pd.concat([means, pd.DataFrame(sds, index=means.index, columns=columns)], axis=1))


def ranef_variances(fit: Fit, *, fixed_known: bool = True, labelled: bool = False) -> dict[str, Any]:
    """Conditional covariances of the random effects: group to array (levels, c, c), or to a labelled table.

    Parameters
    ----------
    fixed_known : bool
        Hold the fixed effects at their estimates, as lme4's condVar does; False adds their uncertainty.
    labelled : bool
        Tables with a line for every level and effect, and a column for every effect.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    >>> fit.ranef_variances(labelled=True)["Subject"].round(2).loc[("308", "Days")].to_dict()
    {'Intercept': -21.44, 'Days': 5.31}
    """
    flag("labelled", labelled, DesignError)
    arrays = Fit.ranef_variances(fit, fixed_known=fixed_known)
    return Tables({group.group: _levels(group, arrays) for group in group_labels(fit.design)}) if labelled else arrays


def _levels(group: Any, arrays: dict[str, Any]) -> pd.DataFrame:
    names = list(group.effects)
    index = pd.MultiIndex.from_product([list(group.levels), names], names=[group.group, "effect"])
    return readable(pd.DataFrame(arrays[group.group].reshape(-1, len(names)), index=index, columns=names))


def coef(result: Fit | Draws) -> dict[str, pd.DataFrame]:
    """Coefficients of every level: fixed effects, and the random effects of the level on top of them.

    Group to frame of levels x coefficients, those of the fixed part first; an effect that is only random stands alone.
    Other grouping factors are at zero, as in lme4's ``coef``. Of a posterior, posterior means.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    >>> fit.coef()["Subject"].round(2).head(2).rename_axis(None)
         Intercept   Days
    308     253.66  19.67
    309     211.01   1.85
    """
    fixed, out = result.fixef(), dict[str, pd.DataFrame]()
    effects = result.ranef()
    for group in group_labels(result.design):
        frame = pd.DataFrame({name: float(value) for name, value in fixed.items()}, index=effects[group.group].index)
        names = [name for i in group.terms for name in result.design.terms[i].effects]
        for name, label in zip(names, group.effects, strict=True):
            own = effects[group.group][label].to_numpy()
            frame[name] = frame[name] + own if name in frame else own
        out[group.group] = readable(frame)
    return Tables(out)


def varcorr_matrices(fit: Fit, *, correlation: bool = False) -> dict[str, pd.DataFrame]:
    """Covariance matrix of the random effects of a level, for every grouping factor, rows and columns by effect.

    Parameters
    ----------
    correlation : bool
        Correlations in place of covariances; nan beside an effect without variance.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    >>> fit.varcorr_matrices(correlation=True)["Subject"].round(3)
               Intercept   Days
    Intercept      1.000  0.066
    Days           0.066  1.000
    """
    flag("correlation", correlation, DesignError)
    out = dict[str, pd.DataFrame]()
    for group in group_labels(fit.design):
        names = list(group.effects)
        G = np.zeros((len(names), len(names)))
        for i, place in zip(group.terms, group.slices, strict=True):
            T = fit.optimum.terms[i]
            G[place, place] = fit.sigma**2 * T @ T.T
        if correlation:
            sd = np.sqrt(np.diagonal(G))
            usable = np.where(sd > 0, sd, np.nan)
            G = G / usable / usable[:, None]
        out[group.group] = readable(pd.DataFrame(G, index=names, columns=names))
    return Tables(out)


def re_pca(fit: Fit, *, scaled: bool = True) -> pd.DataFrame:
    """Principal components of the random effects of every term: how many combinations of effects vary.

    Parameters
    ----------
    scaled : bool
        Measure effects by what they add to the response (times the root mean square of their column), so that the
        components do not depend on units; False: in the units of the predictors, as lme4's ``rePCA``, whose ``sdev``
        are these over sigma.

    Returns
    -------
    DataFrame
        Indexed by term and component: ``sd`` (units of the response), ``share`` of the term's variance,
        ``cumulative``, and in the columns of the effects its loadings.

    References
    ----------
    Bates, Kliegl, Vasishth & Baayen (2015), arXiv:1506.04967.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    >>> fit.rePCA()["share"].round(3).tolist()
    [0.624, 0.376]
    """
    flag("scaled", scaled, DesignError)
    rows, index = list[dict[str, float]](), list[tuple[str, int]]()
    for own in principal_components(fit.design, fit.optimum.terms, fit.sigma, scaled=scaled):
        term = fit.design.terms[own.term]
        for k, (sd, share) in enumerate(zip(own.sd, own.share, strict=True)):
            loadings = {name: float(own.loadings[j, k]) for j, name in enumerate(_unique(term.effects))}
            rows.append({"sd": sd, "share": share, "cumulative": float(own.share[: k + 1].sum()), **loadings})
            index.append((term.label, k + 1))
    frame = pd.DataFrame(rows, index=pd.MultiIndex.from_tuples(index, names=["term", "component"]))
    return readable(frame, lambda: column_texts(frame))


def _unique(names: tuple[str, ...]) -> list[str]:
    """Names of effects that none of the first columns has."""
    return [f"{name} (effect)" if name in ("sd", "share", "cumulative") else name for name in names]
