"""The front door: one formula, two inferences."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import ArrayLike

from bayeslmm.arguments import MOST_REFITS, Seed, choice, flag, instance, whole
from bayeslmm.design import CovarianceStructure, Design
from bayeslmm.design.design import Store
from bayeslmm.design.padding import NaAction
from bayeslmm.design.residual_translation import refuse_elsewhere
from bayeslmm.design.screen import fill
from bayeslmm.design.updating import updated_formula
from bayeslmm.errors import ConvergenceWarning, DesignError, FitError, StorageError
from bayeslmm.faces import REMLResult, fit_result
from bayeslmm.habits import FIT_ARGUMENTS, MODEL_ARGUMENTS, no_argument
from bayeslmm.imports import later
from bayeslmm.reml import Optimum, optimise
from bayeslmm.reml.fixed import resolve_fixed
from bayeslmm.reml.penalty import Penalty, resolve_penalty
from bayeslmm.residual import refuse_parameters
from bayeslmm.specification import Specification, for_data, reduced
from bayeslmm.types import FloatArray

# A model is made and fitted without what else may be asked of it.
if TYPE_CHECKING:
    from bayeslmm import bayesian, simulating, summed, views
    from bayeslmm.bayes.default_priors import PriorSpec
    from bayeslmm.faces import Posterior
    from bayeslmm.files.writing import FilePath
    from bayeslmm.reml import penalised, residual_optimum
    from bayeslmm.results.cross_validation import CrossValidation
    from bayeslmm.storage import fits, posteriors
else:
    bayesian, simulating, summed, views = later("bayeslmm", "bayesian", "simulating", "summed", "views")
    penalised, residual_optimum = later("bayeslmm.reml", "penalised", "residual_optimum")
    fits, posteriors = later("bayeslmm.storage", "fits", "posteriors")


# Newton's method needs about ten; a fit that is not done after so many has another trouble.
MAX_EVALUATIONS = 200


# Arguments of `Model` besides formula and data, with what stands for none.
_ARGUMENTS: dict[str, Any] = {
    **dict.fromkeys(("weights", "residual_sd", "residual", "contrasts", "extra_namespace", "cov", "frequency")),
    **dict.fromkeys(("memory", "progress", "n_jobs", "client", "checkpoint")),
    **{"cells": False, "saturated": "error", "store": "auto", "na_action": "drop", "rank_deficient": "drop"},
}


class Model(Specification):
    """A linear mixed model: formula and data, not yet fitted.

    Parameters
    ----------
    formula : str
        lme4-style, e.g. ``"Reaction ~ Days + (Days | Subject)"``.
    data : pandas, polars or pyarrow table, or source of rows
        Never modified. Rows with missing values in a column that is used are dropped and listed in `dropped`. Data
        larger than memory are summed in chunks: the path of a parquet file or folder, an Arrow dataset, a polars
        LazyFrame, a DuckDB relation, a Dask DataFrame, an iterator of tables or a function that returns one.
    weights : str or array of shape (rows,), optional
        Precision weights: the residual variance of row i is ``sigma^2 / weights[i]``. Standard errors that are known
        up to one factor are ``weights = 1 / se^2``.
    contrasts : mapping, optional
        Column name to ``"treatment"``, ``"sum"``, ``"helmert"``, ``"poly"``, ``"diff"``, ``bl.Treatment(reference)``, a
        matrix, or a DataFrame whose index names levels and whose columns name coefficients.
    extra_namespace : mapping, optional
        Functions and values that the formula may use.
    saturated : {"error", "allow"}
        Whether a single level, or as many random effects as rows whose variances no response of this design could
        tell apart, is an error. ``"allow"`` fits such a model all the same: its status is ``not_identified``.
    cov : mapping, optional
        Grouping factor, or random term as written, to the covariance structure of its effects: `Unstructured`,
        `Diagonal`, `Identity`, `CompoundSymmetry`, `HeterogeneousCompoundSymmetry`, `AR1`, `HeterogeneousAR1` or
        `Toeplitz`. The same as a keyword in the formula (``us``, ``diag``, ``id``, ``cs``, ``csh``, ``ar1``,
        ``ar1h``, ``toep``), e.g. ``cs(0 + f | g)``.
    frequency : str or array of shape (rows,), optional
        How many identical rows each row stands for, whole numbers. The fit is that of the rows written out.
    store : {"auto", "levels", "hierarchy", "packed", "anchored", "stochastic"}
        How sums over the rows are kept; results of the first two are the same to rounding. ``"levels"``: the largest
        grouping factor level by level, all other effects in one dense piece (fast where these are few, with exact
        second derivatives); ``"hierarchy"``: nested factors one after the other, crossed ones in the cells that occur
        (for many of them). The others are for crossed factors with thousands of levels, of which nothing is filled in:
        solutions by conjugate gradients, the log determinant ``"stochastic"`` (estimated from random vectors, its error
        stated by `fit.optimum.estimated`), ``"anchored"`` (the same, then made exact at two or three points by a packed
        Cholesky factor) or ``"packed"`` (by that at every point). By default whichever suits the number of effects
        outside the largest factor.
    na_action : {"drop", "exclude", "fail"}
        Rows with missing values in a column that is used: left out, counted and listed; the same, and fitted values,
        residuals, predictions of the model's own rows and simulated responses have all rows of the data, in their
        order, with nan in those (R's ``na.exclude``); or an error that names them.
    rank_deficient : {"drop", "error"}
        Columns of the fixed part that earlier ones span are left out and named (``coefficients(dropped=True)`` shows
        them as nan), or are an error.
    residual_sd : str or array of shape (rows,), optional
        Known standard deviations of the residuals, as the standard errors of the studies of a meta-analysis: the
        residual variance of row i is ``residual_sd[i]^2``, and sigma is 1, not estimated. A column, an expression
        (``"sqrt(vi)"``) or one number per row. One row per level is then no obstacle: ``yi ~ 1 + (1 | study)``.
    cells : bool
        Sum the rows over cells by one GROUP BY, run where the data are, and keep the sums: exact, and quick where
        predictors take few values. As `cell_sums` and `from_sums`; residuals and other looks at single rows are gone.
    residual : str, optional
        Residual structure with parameters: variances ``by(g)``, ``power(x)``, ``exp(x)``, ``const_power(x)``, a
        correlation within groups such as ``ar1(time | g)``, ``cs(g)`` or ``us(visit | g)``, or both joined by ``+``,
        ``"by(sex) + ar1(time | id)"``. The formula then needs no random effects. See the documentation of residual
        structures.
    n_jobs : int, optional
        Of rows read in chunks: processes that sum pieces of them (row groups of parquet files, partitions of Dask), -1
        for one per core. Sums do not depend on their number; if one dies, its piece is summed again.
    client : dask.distributed.Client, optional
        Its cluster sums the pieces, with the same result. For a Dask DataFrame the client that is there.
    checkpoint : path, optional
        Folder in which sums of pieces are kept, so that a call that was broken off goes on; it can be removed later.

    Raises
    ------
    FormulaError, DesignError, StorageError
        The formula cannot be read; the data do not fit it; nothing can be kept in `checkpoint`.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    >>> model
    Model: Yield ~ 1 + (1 | Batch)
      30 observations, 1 fixed effect, 6 random effects
      (1 | Batch): 6 levels x Intercept, 1 covariance parameter
    """

    def __init__(
        self,
        formula: str,
        data: Any,
        *,
        weights: Any = None,
        contrasts: Mapping[str, Any] | None = None,
        extra_namespace: Mapping[str, Any] | None = None,
        saturated: Literal["error", "allow"] = "error",
        cov: Mapping[str, CovarianceStructure] | None = None,
        frequency: Any = None,
        store: Store = "auto",
        na_action: NaAction = "drop",
        rank_deficient: Literal["drop", "error"] = "drop",
        residual_sd: Any = None,
        residual: str | None = None,
        cells: bool = False,
        memory: str | int | None = None,
        progress: bool | None = None,
        n_jobs: int | None = None,
        client: Any = None,
        checkpoint: FilePath | None = None,
        **unknown: Any,
    ) -> None:
        given = locals()
        refuse_elsewhere(unknown, weights)
        no_argument("bl.Model", Model.__init__, unknown, MODEL_ARGUMENTS, DesignError)
        arguments = {name: given[name] for name in _ARGUMENTS}
        self._table, self._design, sums = reduced(formula, data, arguments)
        self._arguments = arguments
        self._optima: dict[bool, Optimum] = {}
        if sums is not None:
            vars(self)["cross_products"] = sums

    from_sums = summed.from_sums
    simulate = simulating.simulate
    matrices = views.matrices
    criterion_at = views.criterion_at
    with_response = views.with_response
    latex = views.latex
    to = views.to
    priors = bayesian.priors
    sample = bayesian.sample
    to_pymc = bayesian.to_pymc
    pymc_source = bayesian.pymc_source
    forms = bayesian.forms
    prior_predictive = bayesian.prior_predictive

    def fit(
        self,
        reml: bool = True,
        *,
        on_failure: Literal["warn", "raise", "ignore"] = "warn",
        fix: Mapping[str, ArrayLike] | None = None,
        penalty: Literal["boundary_avoiding", "gamma", "wishart"] | float | Penalty | None = None,
        priors: PriorSpec = None,
        max_evaluations: int = MAX_EVALUATIONS,
        sigma: float | None = None,
        **unknown: Any,
    ) -> REMLResult:
        """Fit by REML, or by ML with ``reml=False``.

        Parameters
        ----------
        reml : bool
        on_failure : {"warn", "raise", "ignore"}
            What to do when the optimiser did not converge. A singular fit is a finding, not a failure.
        fix : mapping, optional
            Covariance parameters that are known, relative to sigma as in ``result.theta``: ``{"theta": values}`` for
            all, or grouping factor (or random term as written) to the values of that term. The others, sigma and the
            fixed effects are estimated given these.
        penalty : {"boundary_avoiding", "gamma", "wishart"} or float, optional
            Keep the estimates of variances off zero by adding ``(shape - 1) log theta`` to the log likelihood for every
            single sd (theta = sd / sigma; a gamma prior with rate 0), and ``(shape - 1) log |det T|`` for every free
            covariance matrix ``sigma^2 T T'`` (Wishart with c + shape degrees of freedom, infinite scale). The shapes
            are 2 and 2.5 for ``"boundary_avoiding"``, both 2 for ``"gamma"``, both 2.5 for ``"wishart"`` (blme's
            default), both the number otherwise. A point estimate with Wald intervals of the fixed
            effects; profiles and tests of zero, which are about the likelihood alone, are refused.
        priors : str, Priors, mapping or a prior, optional
            The mode of the posterior under these priors, as `sample` takes them (``"default"`` for its default): the
            highest point of the posterior density of standard deviations, correlations and sigma, each as its prior
            is stated, with the fixed effects integrated out (``reml=False``: at their best values). Flat priors give
            the fit without. ``{"preset": "flat", "sd": bl.Gamma(2, 0)}`` has all others flat.
        max_evaluations : int
            Evaluations of the criterion and its derivatives after which the optimiser stops, for a fit whose status
            says that it did so while the criterion was still falling.
        sigma : float, optional
            The residual standard deviation, units of y, where it is known: it is held there, and the criterion is not
            minimised over it. With ``residual_sd`` a factor of these standard deviations.

        Returns
        -------
        REMLResult

        Raises
        ------
        FitError
            An argument that is none of these; a penalty too strong for the number of levels; not converged and
            ``on_failure="raise"``.
        PriorError
            The priors do not fit the model, or there is no mode: the density is infinite at zero, or ever larger.
        DesignError
            `fix` names no term, has the wrong number of values, or values that are no covariance.

        Examples
        --------
        >>> import bayeslmm as bl
        >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()
        >>> fit.is_singular, round(fit.sigma, 4)
        (True, 3.7157)
        >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2"))
        >>> model.fit(penalty="boundary_avoiding").theta.round(4)
        array([0.3214])
        >>> model.fit(priors={"sd": bl.Exponential(2.0)}).is_singular
        True
        """
        no_argument("model.fit", Model.fit, unknown, FIT_ARGUMENTS, FitError)
        reml = flag("reml", reml, FitError, meaning="True is REML, False is ML.")
        on_failure = choice("on_failure", on_failure, ("warn", "raise", "ignore"), FitError)
        fixed = resolve_fixed(self._design, fix)
        limit = whole("max_evaluations", max_evaluations, 1, MOST_REFITS, FitError)
        chosen = resolve_penalty(penalty)
        if sigma is not None:
            self._refuse_beside_residual(sigma=sigma)
            return self._with_sigma(sigma).fit(
                reml, on_failure=on_failure, fix=fix, penalty=penalty, priors=priors, max_evaluations=limit
            )
        optimum: Optimum
        if self._design.residual.names or not self._design.terms:
            self._refuse_beside_residual(priors=priors, penalty=penalty, fix=fix)
            optimum = (
                self._optimum(reml)
                if limit == MAX_EVALUATIONS
                else residual_optimum.optimise_residual(self._design, reml, limit)
            )
        elif priors is not None:
            optimum = self._mode(priors, reml, chosen, limit, fixed)
        elif chosen is not None:
            optimum = penalised.optimise_penalised(
                self.cross_products, reml, chosen, max_evaluations=limit, fixed=fixed
            )
        elif fixed or limit != MAX_EVALUATIONS:
            optimum = optimise(self.cross_products, reml, max_evaluations=limit, fixed=fixed)
        else:
            optimum = self._optimum(reml)
        if not optimum.status.ok and on_failure != "ignore":
            message = f"{self.formula}: {optimum.verdict}"
            if on_failure == "raise":
                raise FitError(message)
            warnings.warn(message, ConvergenceWarning, stacklevel=2)
        return fit_result(self._design, optimum.cp, optimum, self)

    def _refuse_beside_residual(self, **given: Any) -> None:
        for name, value in given.items():
            if value is not None:
                refuse_parameters(self._design.residual, f"model.fit({name}=)")

    def update(self, formula: str | None = None, data: Any = None, **options: Any) -> Model:
        """The same model with another formula, other data or other arguments, in R's manner; nothing is fitted.

        Parameters
        ----------
        formula : str, optional
            A dot left of the tilde is the old response, one right of it all old terms, random ones and offsets too:
            ``". ~ . - x"``, ``"log(.) ~ . + (1 | h)"``, ``"~ . - (x | g) + (1 | g)"``.
        data : table, optional
            As `Model` takes it.
        **options
            Further arguments of `Model`, e.g. ``weights=``; ``None`` takes one away. Those not named stay as they were.

        Returns
        -------
        Model

        Raises
        ------
        FormulaError
            The new formula cannot be read, or takes away what is not there.
        DesignError
            The data do not fit it, or they are not there: the model was read from a file or sent by another process.

        Examples
        --------
        >>> import bayeslmm as bl
        >>> model = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
        >>> model.update("log(.) ~ . + I(Days**2)").formula
        'log(Reaction) ~ Days + I(Days ** 2) + (Days | Subject)'
        >>> model.fit().update("~ . - (Days | Subject) + (1 | Subject)").formula
        'Reaction ~ Days + (1 | Subject)'
        """
        unknown = {name: value for name, value in options.items() if name not in _ARGUMENTS}
        no_argument("model.update", Model.__init__, unknown, MODEL_ARGUMENTS, DesignError)
        table = self._table if data is None else data
        if table is None or not self._arguments:
            raise DesignError(
                "This model was read from a file, sent by another process, or has the response of with_response: there "
                f"is no data frame with its columns and arguments. Make it again: bl.Model({self.formula!r}, data)."
            )
        text = self.formula if formula is None else updated_formula(self.formula, formula)
        given = {name: _ARGUMENTS[name] if value is None else value for name, value in options.items()}
        made: Callable[..., Model] = Model if self._sums is None else partial(Model.from_sums, **self._sums)
        kept = self._arguments if data is None else for_data(self._arguments, data)
        return made(text, table, **{**kept, **given})

    def _mode(
        self, priors: PriorSpec, reml: bool, penalty: Penalty | None, limit: int, fixed: dict[int, FloatArray]
    ) -> Optimum:
        from bayeslmm.bayes.default_priors import resolve_priors
        from bayeslmm.mode import find_mode

        if penalty is not None:
            raise FitError(
                "fit got penalty= and priors=, which both say what keeps variances off zero. Use one of them; "
                "priors={'preset': 'flat', 'sd': bl.Relative(bl.Gamma(2, 0))} is penalty='boundary_avoiding' for a "
                "single effect."
            )
        resolved = resolve_priors(self._design, priors)
        base = None if fixed else self._optimum(reml)
        return find_mode(self.cross_products, resolved, reml, base=base, fixed=fixed, max_evaluations=limit)

    def cv(
        self, groups: Any = None, k: int | None = None, *, reml: bool = True, random_seed: Seed = 1
    ) -> CrossValidation:
        """Cross-validation by whole groups: the same as ``model.fit(reml).cv(groups, k)``; see `REMLResult.cv`."""
        return self.fit(reml).cv(groups, k, random_seed=random_seed)

    def save(self, path: FilePath, *, overwrite: bool = False) -> None:
        """Write the model (its design, not the data frame) to one file, to be read by `load`; no pickle.

        Parameters
        ----------
        path : str or path
            Taken as it is; no extension is added.
        overwrite : bool
            Whether an existing file may be replaced.

        Raises
        ------
        StorageError
            The path exists, nothing can be written there, or a row label cannot be kept.
        """
        sums = None if self._design.facts is None else self.cross_products
        fits.save_parts(path, self._design, overwrite=overwrite, sums=sums)

    @classmethod
    def _from_design(cls, design: Design) -> Model:
        model = cls.__new__(cls)
        model._design, model._optima = design, {}
        return model

    _lines = views.model_lines

    def __repr__(self) -> str:
        return fill("\n  ".join([f"Model: {self.formula}", *self._lines()]), indent="  ")

    def _repr_html_(self) -> str:
        from html import escape

        # Spaces are what some levels differ by.
        items = "".join(f"<li style='white-space:pre-wrap'>{escape(line)}</li>" for line in self._lines())
        return f"<div><b>Model:</b> <code>{escape(self.formula)}</code><ul>{items}</ul></div>"


def load(path: FilePath) -> Model | REMLResult | Posterior:
    """Read a model, a fit or a posterior that its ``save`` has written; nothing is fitted or sampled again.

    Parameters
    ----------
    path : str or path
        ``.nc`` and ``.zarr`` hold posteriors.

    Returns
    -------
    Model, REMLResult or Posterior

    Raises
    ------
    FileNotFoundError
    StorageError
        Another kind of file, one of a version that is not known, or one in which something is damaged, changed or
        missing: checksums are compared, and what follows from the rest is computed again.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fit.save(pathlib.Path(folder) / "dyestuff.npz")
    ...     again = bl.load(pathlib.Path(folder) / "dyestuff.npz")
    >>> again.criterion == fit.criterion
    True
    """
    instance("path", path, str | os.PathLike, "the path of a file that was saved", StorageError)  # type: ignore[arg-type]
    if Path(path).suffix in (".nc", ".zarr"):
        from bayeslmm.faces import Posterior

        return posteriors.load_posterior(path, Posterior)
    design, cp, optimum = fits.load_parts(path)
    if cp is None or optimum is None:
        model = Model._from_design(design)
        return model if cp is None else model._with_design(design, cp)
    return fit_result(design, cp, optimum)
