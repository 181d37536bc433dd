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
        What has no variance or might have none, e.g. "sd_Batch[Intercept]".
    correlated : bool
        Whether a term with several correlated effects is what is singular.
    disagreement : str
        Where exact tests contradict an estimate of zero; empty if they do not.
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
    disagreement: str
    rank: str
    often_zero: str
    upper: str
    penalised: str
    posterior: str
    degrees: str


def for_outlier(who: str, changes: tuple[str, ...], several: bool) -> Advice:
    """What comes before any other advice where a few rows, or one row or a level, decide the verdict."""
    return Advice(
        "Look at the data first",
        f"{who[0].upper()}{who[1:]}. A slip of the pen or of a unit is put right in the data; a true value stays, and "
        "both fits are given. fit.influence() leaves out every row, influence('group') every level.",
        f"without {'them' if several else 'it'} {changes[0]}.",
        "Nieuwenhuis, te Grotenhuis & Pelzer 2012",
    )


def for_singular(found: Findings) -> tuple[Advice, ...]:
    """Ways to go on from a singular fit, none of them wrong for everybody."""
    return (
        _limit(
            f"An estimate of zero is the best value, not the only one: give the upper limit of {found.vanished}.", found
        ),
        _keep(found),
        _simplify(found),
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
        _average(found),
    )


def for_near(found: Findings) -> tuple[Advice, ...]:
    """What to do where zero, or a correlation of 1, is in reach of the data."""
    return (
        _limit(f"The data do not tell {found.vanished} from zero: give the limits, not the estimate alone.", found),
        _keep(found),
        _average(found),
    )


def for_open_correlations(labels: str) -> tuple[Advice, ...]:
    """What to do where only a correlation is not determined."""
    return (
        Advice(
            "Report the interval of the correlation",
            f"The standard deviations are away from zero, but the data hardly say anything about {labels}: its "
            "interval ends where correlations end. Do not interpret the estimate.",
            "",
            "Bates, Kliegl, Vasishth & Baayen 2015",
        ),
        Advice(
            "Leave it in or take it out",
            "Without the correlation (|| for |) the model is simpler, but then it depends on where the predictor has "
            "its zero. With it, nothing is lost but a parameter.",
            "",
            "Barr, Levy, Scheepers & Tily 2013; Matuschek et al. 2017",
        ),
    )


def for_open_terms(labels: str) -> tuple[Advice, ...]:
    """What to do where every sd and correlation is determined, but not that all their combinations vary."""
    return (
        Advice(
            "Do not interpret the smallest component",
            f"Every standard deviation is away from zero, but the data are compatible with a covariance of {labels} "
            "that has no variance in some combination of its effects (see the components). The term may have more "
            "parameters than the data can support.",
            "",
            "Bates, Kliegl, Vasishth & Baayen 2015",
        ),
    )


def for_brief() -> tuple[Advice, ...]:
    """What to do where a brief report found something."""
    return (
        Advice(
            "Look at the whole report",
            "boundary(detail='full') has the limits, the tests and the posterior, and what each school advises.",
            "",
            "the verdict above",
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


def for_unidentified(ridges: str) -> tuple[Advice, ...]:
    """What to do where variances can be exchanged for each other."""
    return (
        Advice(
            "Take out one of what cannot be told apart",
            "Two terms describe the same variation, so that only a combination of their variances has an estimate. "
            "Remove one of them, or hold one fixed (fix=); then ask for this report again.",
            ridges,
            "Wang 2013, Electronic Journal of Statistics 7",
        ),
    )


def for_no_residual(sigma: str) -> tuple[Advice, ...]:
    """What to do where the residual standard deviation is what is at its boundary."""
    return (
        Advice(
            "Take out the term that does the work of the residual",
            "With a random effect for every observation, or for every few, the variances of the effects and of the "
            "residual can hardly be told apart. Remove the term, or look at weights that say how precise observations "
            "are.",
            sigma,
            "Bates, Maechler, Bolker & Walker 2015",
        ),
    )


def for_unusable(status: str) -> tuple[Advice, ...]:
    """What to do where there is no minimum to speak of."""
    return (
        Advice(
            "Mend the fit first",
            "Nothing that rests on the minimum of the criterion means anything here. Look for duplicated responses, "
            "for terms with as many effects as rows, for predictors that determine the response; then fit again.",
            status,
            "Bates, Maechler, Bolker & Walker 2015",
        ),
    )


def _limit(text: str, found: Findings) -> Advice:
    return Advice(
        "Report the limit, not the zero", text, found.upper, "Harville & Fenech 1985; Crainiceanu & Ruppert 2004"
    )


def _keep(found: Findings) -> Advice:
    return Advice(
        "Keep the term if the design has it",
        "Where observations were taken within levels, or treatments given to whole levels, the term belongs to the "
        "design: leaving it out because its estimate is small treats the observations as independent.",
        found.often_zero,
        "Hurlbert 1984; Barr, Levy, Scheepers & Tily 2013",
    )


def _simplify(found: Findings) -> Advice:
    if found.disagreement:
        text = "Dropping the term is no safe way here, for the exact tests do not agree with the zero."
        return Advice("Do not simplify unseen", text, found.disagreement, "Matuschek et al. 2017")
    text = (
        "Take out what the data cannot show, the correlations first (write || for |), if the term is there for the "
        "model and not for the design, and look at how far the criterion rises."
        if found.correlated
        else "Drop the term if nothing in the design asks for it. The estimates stay what they are, for a variance "
        "of zero is the model without the term."
    )
    return Advice(
        "Simplify the model", text, found.rank, "Bates, Kliegl, Vasishth & Baayen 2015; Matuschek et al. 2017"
    )


def _average(found: Findings) -> Advice:
    return Advice(
        "Average over what the variance may be",
        "The posterior has no zero to stop at: where its density is highest at zero its interval starts there and has "
        "an upper end, and the fixed effects are averaged over it. Say which prior was used.",
        found.posterior,
        "Gelman 2006; Simpson et al. 2017",
    )
