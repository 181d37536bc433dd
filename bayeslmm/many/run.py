"""Many models of one table: one formula and many responses, or many formulas."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from bayeslmm.arguments import MOST_REFITS, choice, flag, level, shown, whole
from bayeslmm.bayes.default_priors import PriorSpec
from bayeslmm.bayes.progress import interactive
from bayeslmm.calibration.kept_tasks import open_store, run_tasks
from bayeslmm.calibration.workers import check_workers
from bayeslmm.design.tables import kept_table, open_table, to_pandas
from bayeslmm.errors import DesignError, FitError, FormulaError
from bayeslmm.habits import FIT_MANY_ARGUMENTS, no_argument
from bayeslmm.many.batches import Batches, model_of, names_used, of_formulas, of_responses
from bayeslmm.many.chunk import VERSION, ManyChunk, ManySettings, check_chunk, make_tasks, run_task
from bayeslmm.many.result import FittedBatch, ManyFits, join_chunks
from bayeslmm.model import Model
from bayeslmm.results.sampling import FEWEST_DRAWS

type ManyDDF = Literal["satterthwaite", "kenward-roger", "z"]


def fit_many(
    formulas: str | Mapping[str, str],
    data: Any,
    responses: Any = None,
    *,
    reml: bool = True,
    ddf: ManyDDF = "satterthwaite",
    zero: bool = True,
    confidence: float = 0.95,
    posterior: int = 0,
    priors: PriorSpec = None,
    random_seed: int = 1,
    n_jobs: int = 1,
    client: Any = None,
    store: str | os.PathLike[str] | None = None,
    progressbar: bool | None = None,
    **options: Any,
) -> ManyFits:
    """Fit one formula to many responses (genes, voxels, items), or many formulas to one table.

    Responses with values in the same rows share their design: sums over the rows are formed once, and all are solved by
    one vectorised Newton iteration. One bad response does not stop the others: every fit has a status.

    Parameters
    ----------
    formulas : str or mapping
        One right side, ``"~ x + (x | g)"``, for all `responses`; or names to whole formulas, of which those with the
        same right side and the same rows share their sums.
    data : pandas, polars or pyarrow table
    responses : table, array of shape (rows, K), or sequence of str, optional
        One response per column, rows as in `data` (of a pandas table the index says which); or names of columns of
        `data`. Missing values are left out response by response.
    reml : bool
    ddf : {"satterthwaite", "kenward-roger", "z"}
        Degrees of freedom of the coefficients, as in `REMLResult.coefficients`.
    zero : bool
        Whether to test for every standard deviation of random effects that it is zero, by the likelihood ratio as in
        `power`.
    confidence : float
        Level of the intervals.
    posterior : int
        Draws of the posterior of every fit, whose summaries join `ManyFits.tidy`: by quadrature up to three variance
        parameters (means and sds are then exact), by importance sampling beyond. 0 for none; 2,000 take some tens of
        milliseconds each.
    priors : None, str, Priors or mapping
        Of the posteriors, as in `Model.sample`.
    random_seed : int
    n_jobs : int
        Worker processes (joblib); -1 for one per core. Results do not depend on it.
    client : dask.distributed.Client, optional
        Run on its cluster instead.
    store : path, optional
        Folder in which finished pieces are kept. A run that was killed continues from there; pieces whose data or
        settings have changed are computed again.
    progressbar : bool, optional
        By default in a terminal or a notebook.
    **options
        Further arguments of `Model` (``weights=``, ``residual=``, ``cov=``, ...), the same for all fits.

    Returns
    -------
    ManyFits
        ``.table`` has one row per fit, ``.tidy()`` one per parameter of each; ``fits[name]`` is one fit with all its
        methods. Interrupting the run (Ctrl-C) returns what was done so far.

    Raises
    ------
    FormulaError, DesignError
        No formula can be used; what is wrong with the first. Responses of another number of rows, or without names.
    FitError
        An argument out of range.
    StorageError
        The store cannot be written to, or holds something else.

    Notes
    -----
    Each estimate is that of a fit by itself, with the exception that `REMLResult.refit_many` states. Null distributions
    that depend on the data (mixtures of chi-square distributions) are those of the first response of a design.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> sleep = bl.load_dataset("sleepstudy")
    >>> new = bl.Model("Reaction ~ Days + (Days | Subject)", sleep).fit().simulate(200, random_seed=1)
    >>> fits = bl.fit_many("~ Days + (Days | Subject)", sleep, new)
    >>> fits.table["status"].value_counts().to_dict()
    {'converged': 198, 'converged_at_boundary': 2}
    """
    began = time.perf_counter()
    habits = {name: value for name, value in options.items() if name in FIT_MANY_ARGUMENTS}
    no_argument("bl.fit_many", fit_many, habits, FIT_MANY_ARGUMENTS, FitError)
    settings = ManySettings(
        flag("reml", reml, FitError),
        choice("ddf", ddf, ("satterthwaite", "kenward-roger", "z"), FitError),
        flag("zero", zero, FitError),
        level("confidence", confidence, FitError),
        whole("posterior", posterior, 0, MOST_REFITS, FitError),
        priors,
        whole("random_seed", random_seed, 0, error=FitError),
    )
    if settings.ddf == "kenward-roger" and not settings.reml:
        raise FitError("ddf='kenward-roger' adjusts REML estimates, and reml=False asks for maximum likelihood.")
    if 0 < settings.draws < FEWEST_DRAWS:
        raise FitError(
            f"posterior={settings.draws}: the diagnostics of a sample need at least {FEWEST_DRAWS} draws. 0 is none."
        )
    n_jobs = check_workers(n_jobs, client)
    show = interactive() if progressbar is None else flag("progressbar", progressbar, FitError)
    source = _Formulas(formulas, data, options) if responses is None else _Responses(formulas, data, responses, options)
    kept = open_store(store, {"version": VERSION, "study": "many fits"})
    batches = source.batches()
    tasks = [(batch, make_tasks(batch, settings)) for batch in batches.ready]
    done = run_tasks(
        run_task, [task for _, own in tasks for task in own], kept, (ManyChunk, check_chunk),
        n_jobs=n_jobs, client=client, show=show, stage="Fits",
    )  # fmt: skip
    fitted: list[FittedBatch] = []
    for batch, own in tasks:
        if (found := join_chunks(batch.names, own, done)) is not None:
            fitted.append(found)
    seconds = time.perf_counter() - began
    return ManyFits(source.names, batches.refused, settings, seconds, tuple(fitted), source.model, source.formula)


class _Formulas:
    """Several formulas on one table."""

    formula: str | None = None

    def __init__(self, formulas: Any, data: Any, options: Mapping[str, Any]) -> None:
        if not isinstance(formulas, Mapping) or not formulas:
            found = "an empty mapping" if isinstance(formulas, Mapping) else shown(formulas)
            raise FormulaError(
                f"formulas is {found}. Pass names and formulas, {{'a': 'y ~ x + (1 | g)', ...}}, or one right side "
                "with responses: bl.fit_many('~ x + (1 | g)', data, responses)."
            )
        self._formulas = {str(name): formula for name, formula in formulas.items()}
        self._data, self._options = kept_table(data), dict(options)
        self.names = tuple(self._formulas)

    def batches(self) -> Batches:
        return of_formulas(self._formulas, self._data, self._options)

    def model(self, name: str) -> Model:
        return Model(self._formulas[name], self._data, **self._options)


class _Responses:
    """One right side of a formula and many responses."""

    def __init__(self, formula: Any, data: Any, responses: Any, options: Mapping[str, Any]) -> None:
        if not isinstance(formula, str) or not formula.lstrip().startswith("~"):
            raise FormulaError(
                f"formulas is {shown(formula)}. With responses= give the right side alone, '~ x + (1 | g)': the left "
                "side is each response in turn."
            )
        table, available = open_table(data)
        names = _column_names(responses, available)
        if names is None:
            self._responses = _aligned(responses, table)
        else:
            self._responses = to_pandas(table, names)[names]
        self.names = tuple(str(name) for name in self._responses.columns)
        self._responses.columns = pd.Index(self.names, dtype=object)
        if len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise DesignError(f"Two responses are called {twice!r}. Give them different names.")
        # A dot stands for no response.
        used = names_used(formula, options)
        others = [name for name in available if name not in self.names or name in used]
        self._frame, self._options = to_pandas(table, others)[others], dict(options)
        self.formula = formula.strip()

    def batches(self) -> Batches:
        return of_responses(self.formula, self._frame, self._responses, self._options)

    def model(self, name: str) -> Model:
        return model_of(self.formula, self._frame, self._responses[name], self._options)


def _column_names(responses: Any, available: Sequence[str]) -> list[str] | None:
    """Names of columns of the data, if that is what was given.

    Raises
    ------
    DesignError
        A name that is no column; none at all.
    """
    if isinstance(responses, str):
        responses = [responses]
    flat = isinstance(responses, list | tuple | pd.Index | pd.Series) or np.ndim(responses) == 1
    if not flat or not all(isinstance(name, str) for name in responses):
        return None
    if not len(responses):
        raise DesignError("responses= names no column. Give at least one.")
    absent = [name for name in responses if name not in available]
    if absent:
        raise DesignError(
            f"responses= names {absent[0]!r}, which is no column of the data ({len(absent)} such name(s)). Columns "
            f"are {', '.join(available)}."
        )
    return list(responses)


def _aligned(responses: Any, table: Any) -> pd.DataFrame:
    """Responses as a frame with the rows of the table.

    Raises
    ------
    DesignError
    """
    n = table.shape[0]
    if isinstance(responses, Mapping):
        responses = pd.DataFrame(dict(responses))
    if isinstance(responses, np.ndarray) or not hasattr(responses, "columns"):
        try:
            array = np.asarray(responses)
        except Exception as error:
            raise DesignError(f"responses={shown(responses)} makes no table of {n} rows: {error}.") from error
        if array.ndim != 2:
            raise DesignError(f"responses has shape {array.shape}. It needs ({n}, K): one response per column.")
        frame = pd.DataFrame(array)
    else:
        frame = to_pandas(responses).copy(deep=False)
    if not frame.shape[1]:
        raise DesignError("responses has no columns: there is nothing to fit.")
    if isinstance(responses, pd.DataFrame) and isinstance(table, pd.DataFrame):
        frame = _in_order(frame, table.index)
    if len(frame) != n:
        raise DesignError(
            f"responses has {len(frame)} rows and data {n}. Row i of one must belong to row i of the other"
            + (": responses has a row for each response, so pass its transpose." if frame.shape[1] == n else ".")
        )
    return frame


def _in_order(frame: pd.DataFrame, index: pd.Index) -> pd.DataFrame:
    """The rows in the order of an index that has the same labels."""
    if frame.index.equals(index) or len(frame) != len(index):
        return frame
    if frame.index.is_unique and index.is_unique and frame.index.isin(index).all():
        return frame.loc[index]
    raise DesignError(
        "responses has another index than data, which does not say which row belongs to which. Give both the same, or "
        "pass responses.to_numpy() if row i of one belongs to row i of the other."
    )
