"""Residual standard deviations that are known: given, said, and refused where sigma has to be estimated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bayeslmm.arguments import real
from bayeslmm.design.design import Design
from bayeslmm.errors import BayesLMMError, DesignError
from bayeslmm.residual import KnownVariances


def with_sigma(design: Design, sigma: Any) -> Design:
    """The design with a residual standard deviation that is known.

    Raises
    ------
    DesignError
        No positive number.
    """
    # Its square is finite, and so is one over it.
    return replace(design, sigma=real("sigma", sigma, least=1e-150, most=1e150, error=DesignError))


def known_text(design: Design) -> str:
    """What is known of the residuals, in words; empty where sigma is estimated."""
    if design.sigma is None:
        return ""
    by_row = isinstance(design.residual, KnownVariances)
    if by_row and design.sigma == 1.0:
        return "known standard errors"
    return f"known standard errors times {design.sigma:g}" if by_row else f"sigma held at {design.sigma:g}"


def refuse_known(design: Design, what: str, instead: str, error: type[BayesLMMError] = DesignError) -> None:
    """Refuse what needs a residual standard deviation that is estimated.

    Parameters
    ----------
    design : Design
    what : str
        What is asked for and why it needs sigma; a clause that starts a sentence.
    instead : str
        What there is in place of it; a sentence.
    error : type of BayesLMMError

    Raises
    ------
    BayesLMMError
    """
    if design.sigma is not None:
        raise error(f"{what}; in this model the residuals have {known_text(design)}. {instead}")
