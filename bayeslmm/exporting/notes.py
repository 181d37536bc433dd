"""What is said of every target alike: methods, weights, rows, and what a package does not have."""

from __future__ import annotations

from bayeslmm.errors import ArgumentError
from bayeslmm.exporting.parts import ModelParts, WrittenTerm

WEIGHTS = "Weights mean the same there: the residual variance of a row is sigma^2 / weight."
GIVEN = "The weights were given as numbers: put them into a column called weights."
FREQUENCY = "Rows are written out as often as a column called frequency says, with the counts that were given."
DROPPED = "Rows with missing values are left out, as here."
NET = "The offset is taken off the response: the same estimates."
SAMPLED = "There is no REML or ML: it is a posterior, to be compared with model.sample()."
# What can be done where a package does not have a covariance.
SAMPLE_HERE = "bayeslmm samples it: model.sample()"
INDICATORS = "make 0/1 columns of the factor in the data first, as terms of their own"


def title(parts: ModelParts, package: str) -> str:
    """The first line."""
    return f"{parts.formula} for {package}; {parts.data} is the data frame."


def method_note(parts: ModelParts, function: str, default: str) -> str:
    """Which criterion, and whether it is the default of a function."""
    here = "REML" if parts.reml else "ML"
    if here == default:
        return f"{here} is the default of {function}{', as here' if here == 'REML' else '; here it is REML'}."
    return f"{here} has to be said: the default of {function} is {default}."


def weights_notes(parts: ModelParts) -> list[str]:
    """What weights mean, and where they are, if there are any."""
    if parts.weights is None:
        return []
    return [WEIGHTS, *([GIVEN] if parts.given_weights else [])]


def rows_notes(parts: ModelParts, dropped: str = DROPPED) -> list[str]:
    """Words on rows that count several times, and on those left out."""
    return [*([FREQUENCY] if parts.frequency else []), *([dropped] if parts.dropped else [])]


def missing(part: WrittenTerm, package: str, instead: str) -> ArgumentError:
    """The error for a covariance structure that a package does not have."""
    return ArgumentError(f"{package} has no covariance like that of {part.label} ({part.keyword}); {instead}.")


def refuse_weights(parts: ModelParts, package: str) -> None:
    """Refuse a model with weights, which a package does not have.

    Raises
    ------
    ArgumentError
    """
    if parts.weights is not None:
        raise ArgumentError(
            f"{package} has no weights that divide the residual variance of a row, as those of this model do. lme4, "
            "nlme, sas, matlab and julia have them."
        )
