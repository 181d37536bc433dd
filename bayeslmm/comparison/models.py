"""Several models of one response in one table: likelihood ratios, information criteria, leave-one-out, evidence."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import MOST_DRAWS, labels, shown, whole
from bayeslmm.bayes.priors import flat_coefficients
from bayeslmm.bayes.progress import announced
from bayeslmm.comparison.naming import structure
from bayeslmm.design.alike import elsewhere, known_columns, same_response, same_weighting
from bayeslmm.design.design import Design
from bayeslmm.design.readable import readable, table_text
from bayeslmm.design.screen import fill, screen_width
from bayeslmm.equality import same_values
from bayeslmm.errors import BayesLMMError, BayesLMMWarning, DesignError, FitError, PriorError
from bayeslmm.faces import Posterior, REMLResult, fit_by
from bayeslmm.inference.hypothesis import chi_square_tail
from bayeslmm.likelihood import SummedDesign
from bayeslmm.reml import Optimum
from bayeslmm.results.digits import in_digits
from bayeslmm.results.sampling import Settings, sample_posterior
from bayeslmm.specification import Specification
from bayeslmm.testing.nested_fits import BoundaryWords, chi_bar
from bayeslmm.testing.nesting import not_spanned, step_between
from bayeslmm.testing.residual_nesting import not_within
from bayeslmm.types import FloatArray

if TYPE_CHECKING:
    from bayeslmm.bayes.default_priors import PriorSpec

type Rival = Specification | REMLResult | Posterior
_LEAST_DRAWS = 100
_WORDS = BoundaryWords("p_value", "p_chibar", "bl.anova(..., test='bootstrap')")


@dataclass(frozen=True, repr=False)
class ModelComparison:
    """Models of the same response on the same rows.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per model, in the order given. By maximum likelihood: ``df`` (parameters), ``loglik``, ``aic``, ``bic``;
        ``chisq``, ``chisq_df``, ``p_value`` of the likelihood-ratio test against the model in ``against``, the nearest
        of the others that is nested in it, and ``p_chibar`` by the mixture of chi-squares of `bayeslmm.anova` where
        that leaves variances out. Of the posteriors: ``elpd`` (leave-one-out), ``elpd_diff`` and ``diff_se``
        (from the best and standard error of the difference), ``stacking`` (weights of the predictive distributions);
        ``log_evidence`` and ``probability`` (of the model, all equally likely beforehand), nan where a prior is
        improper.
    notes : tuple of str
    fits : tuple of REMLResult
        By maximum likelihood.
    posteriors : tuple of Posterior
    """

    table: pd.DataFrame
    notes: tuple[str, ...]
    fits: tuple[REMLResult, ...]
    posteriors: tuple[Posterior, ...]

    def __str__(self) -> str:
        return self.text()

    def text(self, width: int | None = None) -> str:
        """The table and its notes.

        Parameters
        ----------
        width : int, optional
            Columns of the screen that it has to fit; by default those of the terminal, or 80.
        """
        width = screen_width() if width is None else whole("width", width, 1, error=DesignError)
        names, shown_table = self._numbered(width)
        lines = [*names, table_text(shown_table, width, index_names=False)]
        return "\n".join([*lines, "", *(fill(note, width, "  ") for note in self.notes)])

    __repr__ = __str__

    def _numbered(self, width: int) -> tuple[list[str], pd.DataFrame]:
        """The table, and where names are long a list of them, whose numbers stand in the table."""
        table, names = self._texts(), [str(name) for name in self.table.index]
        if max(map(len, names)) <= width // 3:
            return [], table
        numbers = {name: str(i) for i, name in enumerate(names, 1)}
        if "against" in table:
            table = table.assign(against=[numbers.get(name, "") for name in self.table["against"]])
        listed = [fill(f"{number}: {name}", width, "   ") for name, number in numbers.items()]
        return [*listed, ""], table.set_axis(list(numbers.values()), axis=0)

    def _texts(self) -> pd.DataFrame:
        """What is known; weights are the solution of an optimiser, whose last digits are its own."""
        shown = self.table.dropna(axis=1, how="all").round({"stacking": 3})
        errors = pd.DataFrame({"elpd": shown["elpd_se"] / 10.0}) if "elpd_se" in shown else None
        return in_digits(shown, errors)

    def _repr_html_(self) -> str:
        import html

        return str(self._texts().to_html()) + "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)


def is_rival(first: Any, second: Any) -> bool:
    """Whether two arguments of `compare` ask for a comparison of models, not for the two sides of one."""
    if isinstance(first, Specification):
        return True
    return any(isinstance(first, kind) and isinstance(second, kind) for kind in (REMLResult, Posterior))


def in_one(given: Any) -> tuple[tuple[Rival, ...], tuple[str, ...] | None] | None:
    """Several models in one list, or in a mapping by their names as ``az.compare`` takes them; None for all else."""
    if not isinstance(given, (Mapping, list, tuple)):
        return None
    values = tuple(given.values() if isinstance(given, Mapping) else given)
    if len(values) < 2 or not all(isinstance(value, (Specification, REMLResult, Posterior)) for value in values):
        return None
    names = tuple(str(name) for name in given) if isinstance(given, Mapping) else None
    return (values, names) if is_rival(values[0], values[1]) else None


def compare_models(
    rivals: Sequence[Any], names: Sequence[str] | None, draws: int, priors: PriorSpec, random_seed: int
) -> ModelComparison:
    """See `compare`.

    Raises
    ------
    DesignError
        Other things than models, fits and posteriors, or other rows or responses.
    """
    designs = [_design(rival) for rival in rivals]
    _check_rows(designs)
    called = _labels(designs, names)
    draws = whole("draws", draws, _LEAST_DRAWS, MOST_DRAWS, DesignError)
    with announced("comparison: fits by ML"):
        fits = tuple(
            fit_by(design, partial(_cross_products, rival), False)
            for design, rival in zip(designs, rivals, strict=True)
        )
    with announced("comparison: posteriors and leave-one-out"):
        posteriors = tuple(
            rival if isinstance(rival, Posterior) else _sampled(fit, priors, draws, random_seed)
            for rival, fit in zip(rivals, fits, strict=True)
        )
        predicted, notes = _left_out(called, posteriors)
    evidence, words = _evidence(called, posteriors)
    likelihoods, boundaries = _likelihoods(called, fits)
    table = pd.concat([likelihoods, predicted, evidence], axis=1)
    table.index.name = None
    notes = (_head(fits), *boundaries, *notes, *words)
    return ModelComparison(readable(table), notes, fits, posteriors)


def _design(rival: Any) -> Design:
    if not isinstance(rival, Specification | REMLResult | Posterior):
        raise DesignError(
            f"compare() got {shown(rival)}, of type {type(rival).__name__}, among models. It takes models, fits or "
            "posteriors: bl.compare(model1, model2)."
        )
    return rival.design


def _cross_products(rival: Rival) -> SummedDesign:
    return rival.cp if isinstance(rival, REMLResult) else rival.cross_products


def _check_rows(designs: Sequence[Design]) -> None:
    """Refuse models of different responses, rows or weights: neither likelihoods nor predictions can be compared."""
    if len(designs) < 2:
        raise DesignError("compare() got one model. It takes two or more: bl.compare(model1, model2).")
    first = designs[0]
    for other in designs[1:]:
        if not same_response(first, other):
            what = f"{first.n} and {other.n} rows" if first.n != other.n else "other values"
            raise DesignError(
                f"The responses of {first.formula!r} and {other.formula!r} differ ({what}): their likelihoods are "
                "about different data. Where rows were dropped for missing values, drop these for both: "
                "data.dropna(subset=...)."
            )
        same = same_weighting(first, other) if elsewhere(first, other) else _same_rows_weights(first, other)
        if not same:
            raise DesignError(f"{first.formula!r} and {other.formula!r} have different weights or frequencies.")


def _same_rows_weights(first: Design, other: Design) -> bool:
    return _same_weights(first, other) and same_values(first.frequency, other.frequency)


def _same_weights(first: Design, other: Design) -> bool:
    """Whether what is known of the residual variances is the same; parameters may differ."""
    if first.residual.names or other.residual.names:
        return same_values(first.weights, other.weights)
    ones = np.ones((first.n, 1))
    return first.sigma == other.sigma and same_values(first.whitened(ones), other.whitened(ones))


def _labels(designs: Sequence[Design], names: Sequence[str] | None) -> list[str]:
    if names is not None:
        chosen = list(labels("names", names, error=DesignError))
        if len(chosen) != len(designs) or len(set(chosen)) != len(chosen):
            raise DesignError(f"names={shown(names)} are not {len(designs)} different names, one for each model.")
        return chosen
    formulas = [" ".join(design.formula.split()) for design in designs]
    rights = [
        ", ".join([formula.partition("~")[2].strip(), *structure(design)])
        for formula, design in zip(formulas, designs, strict=True)
    ]
    return [f"{right} ({i})" if rights.count(right) > 1 else right for i, right in enumerate(rights, 1)]


def _sampled(fit: REMLResult, priors: PriorSpec, draws: int, random_seed: int) -> Posterior:
    settings = Settings(draws, "auto", 4, 1000, random_seed, False, False, ())

    def fitted() -> tuple[SummedDesign, Optimum]:
        by_reml = fit_by(fit.design, lambda: fit.cp, True)
        return by_reml.cp, by_reml.optimum

    return Posterior._of(sample_posterior(fit.design, priors, settings, fitted))


def _likelihoods(called: Sequence[str], fits: Sequence[REMLResult]) -> tuple[pd.DataFrame, list[str]]:
    """Likelihoods and their ratios, and what there is to say of ratios at the end of the range of a variance."""
    rows, notes = [], list[str]()
    for name, fit in zip(called, fits, strict=True):
        nested = [j for j in range(len(fits)) if fits[j].df < fit.df and nested_in(fits[j].design, fit.design)]
        found: list[Any] = [np.nan, np.nan, np.nan, np.nan, ""]
        if nested:
            smaller = max(nested, key=lambda j: fits[j].df)
            chisq = max(fits[smaller].criterion - fit.criterion, 0.0)
            df, mixed = fit.df - fits[smaller].df, np.nan
            step = step_between(fits[smaller].design, fit.design)
            if step.variances > 0:
                mixed, note = chi_bar(fit, step, chisq, f"{name} against {called[smaller]}", _WORDS)
                notes.append(note)
            found = [chisq, float(df), float(chi_square_tail(chisq, df)), mixed, called[smaller]]
        rows.append([fit.df, fit.loglik, fit.aic, fit.bic, *found])
    columns = ["df", "loglik", "aic", "bic", "chisq", "chisq_df", "p_value", "p_chibar", "against"]
    return pd.DataFrame(rows, index=list(called), columns=columns), notes


def nested_in(smaller: Design, larger: Design) -> bool:
    """Whether every mean and covariance of one model is one of another.

    Its columns of the fixed part, and those of each random term, are combinations of the other's; a term of another
    structure than free covariances has to be the same in both.
    """
    if elsewhere(smaller, larger):
        return not step_between(smaller, larger).obstacle and (smaller.offset is None) == (larger.offset is None)
    if not same_values(smaller.offset, larger.offset) or not _spanned(smaller.X, larger.X):
        return False
    if not_within(smaller.residual, larger.residual):
        return False
    for term in smaller.terms:
        codes = smaller.groupings[term.group].codes
        if not any(
            np.array_equal(codes, larger.groupings[other.group].codes)
            and (
                (other.structure.keyword == "us" and _spanned(term.Z, other.Z))
                or (same_values(term.structure, other.structure) and same_values(term.Z, other.Z))
                or (other.structure.keyword == "diag" and term.Z.shape[1] == 1 and _is_column(term.Z, other.Z))
            )
            for other in larger.terms
        ):
            return False
    return True


def _is_column(column: FloatArray, others: FloatArray) -> bool:
    return bool((column == others).all(axis=0).any())


def _spanned(columns: FloatArray, others: FloatArray) -> bool:
    return not not_spanned(columns, others).any()


def _left_out(called: Sequence[str], posteriors: Sequence[Posterior]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Leave-one-out of every posterior and the differences from the best."""
    from arviz_stats import compare as differences

    columns = ["elpd", "elpd_se", "elpd_diff", "diff_se", "stacking"]
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", BayesLMMWarning)
            warnings.simplefilter("ignore", UserWarning)
            left = {label: post.loo() for label, post in zip(called, posteriors, strict=True)}
            frame = differences(left, round_to="none")
    except BayesLMMError as error:
        return pd.DataFrame(np.nan, index=list(called), columns=columns), (f"No leave-one-out: {error}",)
    frame = frame.loc[list(called), ["elpd", "se", "elpd_diff", "dse", "weight"]].set_axis(columns, axis=1)
    odd = [str(one.message) for one in caught if isinstance(one.message, BayesLMMWarning)]
    note = "elpd: leave-one-out, effects integrated out; a difference below 4, or below twice diff_se, says little."
    return frame.astype(float), (note, *dict.fromkeys(odd))


def _evidence(called: Sequence[str], posteriors: Sequence[Posterior]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Log evidences and what they make of equal prior probabilities."""
    values, why = [], _incomparable(posteriors)
    instead = ' bl.compare(..., priors="weak") has proper priors.'
    for post in posteriors:
        if why:
            values.append(np.nan)
            continue
        try:
            values.append(float(post.log_evidence))
        except (PriorError, FitError, DesignError) as error:
            values.append(np.nan)
            why, instead = str(error), instead if isinstance(error, PriorError) else ""
    logs = np.array(values)
    shares = np.exp(logs - logs.max()) if np.isfinite(logs).all() else np.full(len(values), np.nan)
    frame = pd.DataFrame({"log_evidence": logs, "probability": shares / shares.sum()}, index=list(called))
    if why:
        return frame, (f"No evidence: {why}{instead}",)
    return frame, (
        "probability: of the models given the data, all equally likely beforehand; it depends on the priors.",
    )


def _incomparable(posteriors: Sequence[Posterior]) -> str:
    """Why evidences cannot be compared; empty if they can."""
    flat = [post for post in posteriors if flat_coefficients(post.priors, post.design.p).any()]
    if not flat:
        return ""
    first = posteriors[0].design
    if len(flat) == len(posteriors) and all(_same_fixed(first, post.design) for post in posteriors):
        return ""
    return "a flat prior of fixed effects has no height, which would decide between models whose fixed parts differ."


def _same_fixed(a: Design, b: Design) -> bool:
    if elsewhere(a, b):
        return a.p == b.p and bool(known_columns(a, None, b, [None]).all())
    return bool(np.array_equal(a.X, b.X))


def _head(fits: Sequence[REMLResult]) -> str:
    terms = {tuple(term.label for term in fit.design.terms) for fit in fits}
    bound = " Where variances differ, p values are too large: a variance of zero is a bound." if len(terms) > 1 else ""
    return (
        f"Response {fits[0].design.response}, {fits[0].design.observations}. Likelihoods and tests: fits by ML.{bound}"
    )
