"""What the schools advise about a variance of zero, and what the numbers of a fit say to each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Advice:
    """One thing that one can do.

    Attributes
    ----------
    title : str
    text : str
        What it is and when it is right.
    here : str
        What the numbers of this fit say to it; empty if nothing.
    source : str
    """

    title: str
    text: str
    here: str
    source: str

    def __str__(self) -> str:
        here = f" Here: {self.here}" if self.here else ""
        return f"{self.title}. {self.text}{here} [{self.source}]"


@dataclass(frozen=True)
class Findings:
    """What the advice depends on, in numbers and words.

    Attributes
    ----------
    vanished : str
        What has no variance, e.g. "the variance between levels of Batch".
    correlated : bool
        Whether a term with several correlated effects is what is singular.
    rank : str
        How many components of a term the data show; empty for terms with one effect.
    often_zero : str
        How often the estimate would be zero at a stated true share of variance; empty if not known.
    upper : str
        Upper limits of what vanished, in words.
    penalised : str
        Estimates with a penalty, in words.
    posterior : str
        Upper ends of the posterior, in words; empty without one.
    degrees : str
        How the degrees of freedom of the fixed effects differ between methods; empty if not known.
    """

    vanished: str
    correlated: bool
    rank: str
    often_zero: str
    upper: str
    penalised: str
    posterior: str
    degrees: str


def for_singular(found: Findings) -> tuple[Advice, ...]:
    """Ways to go on from a singular fit, none of them wrong for everybody."""
    simplify = (
        "Take out what the data cannot show, the correlations first (write || for |), if the term is there for the "
        "model and not for the design, and look at how far the criterion rises."
        if found.correlated
        else "Drop the term if nothing in the design asks for it. The estimates stay what they are, for a variance "
        "of zero is the model without the term."
    )
    return (
        Advice(
            "Report the limit, not the zero",
            f"An estimate of zero is the best value, not the only one: give the upper limit of {found.vanished}.",
            found.upper,
            "Harville & Fenech 1985; Crainiceanu & Ruppert 2004",
        ),
        Advice(
            "Keep the term if the design has it",
            "Where observations were taken within levels, or treatments given to whole levels, the term belongs to the "
            "design: leaving it out because its estimate is zero treats the observations as independent.",
            found.often_zero,
            "Hurlbert 1984; Barr, Levy, Scheepers & Tily 2013",
        ),
        Advice(
            "Simplify the model", simplify, found.rank, "Bates, Kliegl, Vasishth & Baayen 2015; Matuschek et al. 2017"
        ),
        Advice(
            "Do not lean on the standard errors",
            "Standard errors of the fixed effects take the zero as known. Degrees of freedom decide more than usual.",
            found.degrees,
            "Kenward & Roger 1997",
        ),
        Advice(
            "Keep away from the boundary by a penalty",
            "A penalty on the standard deviation gives a positive point estimate, about one standard error from zero. "
            "It is an estimate, not evidence: it can never say zero.",
            found.penalised,
            "Chung, Rabe-Hesketh, Dorie, Gelman & Liu 2013; Chung et al. 2015",
        ),
        Advice(
            "Average over what the variance may be",
            "The posterior has no zero to stop at: its interval starts there and has an upper end, and the fixed "
            "effects are averaged over it. Say which prior was used.",
            found.posterior,
            "Gelman 2006; Simpson et al. 2017",
        ),
    )


def for_regular() -> tuple[Advice, ...]:
    """What there is to do when nothing has vanished."""
    return (
        Advice(
            "Nothing to do about the boundary",
            "Estimates and profile intervals can be read as usual. A small lower end of an interval is no reason to "
            "drop a term that the design has.",
            "",
            "Barr, Levy, Scheepers & Tily 2013",
        ),
    )
