"""Exceptions and warnings. Every message says what was found, why it matters and what to do."""

from __future__ import annotations


class BayesLMMError(Exception):
    """Base of every error that bayeslmm raises on purpose."""


class FormulaError(BayesLMMError, ValueError):
    """The formula cannot be read as a linear mixed model.

    Parameters
    ----------
    problem : str
        What was found, why it matters, what to do.
    formula : str, optional
        The formula as the user typed it; shown with a caret under `position`.
    position : int, optional
        Zero-based offset into `formula`; of several lines, the one concerned is shown.
    length : int
        Number of characters to underline.
    """

    def __init__(self, problem: str, formula: str | None = None, position: int | None = None, length: int = 1) -> None:
        self.problem = problem
        self.formula = formula
        self.position = position
        message = problem
        if formula is not None and position is not None:
            start = formula.rfind("\n", 0, position) + 1
            line = formula[start:].split("\n", 1)[0].replace("\t", " ")
            message = f"{problem}\n\n    {line}\n    {' ' * (position - start)}{'^' * max(length, 1)}"
        super().__init__(message)


class ArgumentError(BayesLMMError, ValueError):
    """An argument is none of what a function takes."""


class UnknownNameError(BayesLMMError, AttributeError):
    """An attribute that there is not; the message says what it is called here."""


class DesignError(BayesLMMError, ValueError):
    """The data do not fit the formula (missing columns, constant response, one group, ...)."""


class RowsNeededError(DesignError):
    """What was asked for needs the rows of data that are not in memory, and they are too many or not to be had."""


class PriorError(BayesLMMError, ValueError):
    """A prior cannot be used with this model."""


class FitError(BayesLMMError, RuntimeError):
    """The criterion could not be optimised or the posterior not be computed."""


class StorageError(BayesLMMError, ValueError):
    """A file cannot be written, or is not one that can be read."""


class BayesLMMWarning(UserWarning):
    """Base of every warning that bayeslmm emits, so that all can be filtered at once."""


class ConvergenceWarning(BayesLMMWarning):
    """An optimiser or sampler stopped before its own criteria were met."""


class PriorWarning(BayesLMMWarning):
    """A prior does something that its users seldom want."""


class SingularFitWarning(BayesLMMWarning):
    """The estimate lies on the boundary: some variance is zero or some correlation is +-1."""


class DatasetError(BayesLMMError, ValueError):
    """No data set of that name ships with the package."""
