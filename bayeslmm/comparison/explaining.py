"""A comparison in plain words: where both inferences agree, where they do not, and the words of both side by side."""

from __future__ import annotations

import pandas as pd

from bayeslmm.comparison.compared import Compared
from bayeslmm.results.labels import Parameter
from bayeslmm.words.explanation import Explanation
from bayeslmm.words.numbers import Measured
from bayeslmm.words.of_posterior import measured, near_zero
from bayeslmm.words.parts import fixed_sentences, model_paragraph
from bayeslmm.words.spreads import subject

# Intervals whose widths differ by less than this share are alike.
_ALIKE = 0.1

WORDS = pd.DataFrame(
    [
        ("estimate (REML)", "posterior mean, median", "the highest point; the average over all that is left"),
        ("confidence interval", "credible interval", "right in 95 of 100 studies; probability 95 % for this one"),
        ("variance estimated as 0", "density highest at 0", "says zero and stops; says how near to zero"),
        ("BLUP, conditional mode", "posterior mean of an effect", "variances taken as known; as uncertain as they are"),
        (
            "p value, likelihood ratio",
            "P(sd < delta), Bayes factor",
            "how odd under zero; how probable, how much better",
        ),
        ("shrinkage", "partial pooling", "the same thing"),
    ],
    columns=["REML", "posterior", "what differs"],
).set_index("REML")


def explain_comparison(both: Compared, table: pd.DataFrame) -> Explanation:
    """What both inferences say, in words; see `bayeslmm.Comparison.explain`.

    Parameters
    ----------
    both : Compared
    table : DataFrame
        Its table on the scale of standard deviations.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2"))
    >>> said = bl.compare(model.fit(), model.sample(random_seed=1)).explain()
    >>> "REML says 0 and stops" in str(said).replace(chr(10), " ")
    True
    """
    columns = table[["reml", "reml_low", "reml_high"]].to_numpy(dtype=float)
    reml = {p: Measured(*map(float, row)) for p, row in zip(both.parameters, columns, strict=True)}
    draws = measured(both.posterior, both.level)
    paragraphs = [
        model_paragraph(both.design),
        *(_varying(both, p, reml[p], draws[p]) for p in both.parameters if p.kind == "sd"),
        *near_zero(both.posterior, draws),
        _fixed(both, reml, draws),
        _reading(both.level),
    ]
    cells = pd.DataFrame(
        {
            "REML": [_cell(reml[p]) for p in both.parameters],
            "posterior": [_cell(draws[p]) for p in both.parameters],
        },
        index=pd.Index([p.label for p in both.parameters], name="parameter", dtype=object),
    )
    heading = f"Estimates with {100 * both.level:g} % intervals"
    return Explanation(tuple(text for text in paragraphs if text), ((heading, cells), ("Words side by side", WORDS)))


def _cell(number: Measured) -> str:
    return f"{number.text} ({number.ends})" if number.ends else number.text


def _in_brackets(reml: Measured, post: Measured) -> str:
    own = f"REML {reml.ends}; " if reml.ends else ""
    return f" ({own}posterior {post.text}{f', {post.ends}' if post.ends else ''})"


def _varying(both: Compared, p: Parameter, reml: Measured, post: Measured) -> str:
    what = f"The standard deviation of {subject(both.design, p)}"
    if reml.value == 0:
        up = f", with values up to {reml.write(reml.high)} in its interval" if reml.ends else ""
        return (
            f"{what}: REML says 0 and stops{up}, because the data are most plausible there. The posterior averages "
            f"over all values that the data leave and the prior allows: {post.text} on average, up to "
            f"{post.write(post.high)}. Both are about the same likelihood; they answer different questions."
        )
    low, high = reml.low, reml.high
    inside = not reml.ends or low <= post.value <= high
    verdict = "they agree within their uncertainty" if inside else "they differ by more than the interval of REML"
    return f"{what} is {_cell(reml)} by REML and {_cell(post)} by the posterior: {verdict}."


def _fixed(both: Compared, reml: dict[Parameter, Measured], draws: dict[Parameter, Measured]) -> str:
    said = fixed_sentences(both.design, reml, lambda p: _in_brackets(reml[p], draws[p]))
    if not said:
        return ""
    shown = f"Fixed effects by REML, and in brackets by the posterior. {said}"
    wider = [
        (draws[p].high - draws[p].low) / (a.high - a.low) - 1.0
        for p, a in reml.items()
        if p.kind == "fixed" and a.ends and draws[p].ends and a.high > a.low
    ]
    if not wider:
        return shown
    most = max(wider, key=abs)
    if abs(most) < _ALIKE:
        return f"{shown} The intervals are about equally wide."
    more = "wider" if most > 0 else "narrower"
    why = (
        ": they are averages over all standard deviations that the data leave"
        if most > 0
        else ", to which the prior contributes"
    )
    return f"{shown} Intervals of the posterior are up to {100 * abs(most):.0f} % {more}{why}."


def _reading(level: float) -> str:
    return (
        f"An interval by REML is made so that {100 * level:g} of 100 of its kind hold the true value. An interval of "
        f"the posterior holds it with probability {100 * level:g} %, given the model and its priors."
    )
