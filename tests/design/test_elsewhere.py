"""Words of other packages that are not there are refused with what to write instead, which works."""

from __future__ import annotations

import numpy as np
import pytest

import bayeslmm as bl
from bayeslmm.design import elsewhere
from bayeslmm.errors import BayesLMMError

SLEEP = bl.load_dataset("sleepstudy")


def refusal(formula: str) -> str:
    with pytest.raises(BayesLMMError) as caught:
        bl.Model(formula, SLEEP)
    return str(caught.value)


@pytest.mark.parametrize("word", elsewhere.FUNCTIONS)
def test_functions(word: str) -> None:
    assert elsewhere.FUNCTIONS[word] in refusal(f"Reaction ~ {word}(Days) + (1 | Subject)")


@pytest.mark.parametrize("word", elsewhere.STRUCTURES)
def test_structures(word: str) -> None:
    assert elsewhere.STRUCTURES[word] in refusal(f"Reaction ~ Days + {word}(0 + Days | Subject)")


@pytest.mark.parametrize("word", elsewhere.GROUPS)
def test_groups(word: str) -> None:
    assert elsewhere.GROUPS[word] in refusal(f"Reaction ~ Days + (1 | {word}(Subject))")


@pytest.mark.parametrize("word", elsewhere.RESPONSES)
def test_responses(word: str) -> None:
    assert elsewhere.RESPONSES[word] in refusal(f"Reaction | {word}(Days) ~ Days + (1 | Subject)")


@pytest.mark.parametrize("word", ["s", "mi", "ar"])
def test_functions_of_the_user_have_any_name(word: str) -> None:
    model = bl.Model(f"Reaction ~ {word}(Days) + (1 | Subject)", SLEEP, extra_namespace={word: lambda x: x / 10})
    assert model.fit().fixef().iloc[1] == pytest.approx(104.67286, abs=1e-5)


@pytest.mark.parametrize(
    ("formula", "residual"),
    [
        ("Reaction ~ ns(Days, df=4) + (1 | Subject)", None),
        ("Reaction ~ bs(Days, df=5) + (1 | Subject)", None),
        ("Reaction ~ ordered(Days) + (1 | Subject)", None),
        ("Reaction ~ Days + id(Days | Subject)", None),
        ("Reaction ~ Days + diag(Days | Subject)", None),
        ("Reaction ~ Days", "ar1(Days | Subject)"),
        ("Reaction ~ Days", "exp(Days | Subject)"),
    ],
)
def test_what_is_recommended_fits(formula: str, residual: str | None) -> None:
    assert bl.Model(formula, SLEEP, residual=residual).fit().status.value


def test_stacked_responses_are_a_multivariate_model() -> None:
    """Of complete data the REML estimate of the covariance of two responses is that of least squares."""
    teeth = bl.load_dataset("Orthodont")
    wide = teeth.pivot(index="Subject", columns="age", values="distance")[[8, 14]]
    long = wide.reset_index().melt(id_vars="Subject", var_name="name", value_name="y").astype({"name": str})
    fit = bl.Model("y ~ 0 + name", long, residual="us(name | Subject)").fit()
    ours, theirs = fit.residual_covariance().to_numpy(), wide.cov().to_numpy()
    assert sorted(ours.diagonal()) == pytest.approx(sorted(theirs.diagonal()), rel=1e-6)
    assert ours[0, 1] == pytest.approx(theirs[0, 1], rel=1e-6)


@pytest.mark.parametrize(
    ("wrong", "instead"),
    [
        ("Error(Subject)", "(1 | Subject)"),
        ("Error(Subject/Days)", "(1 | Subject/Days)"),
        ("Days %in% Subject", "(1 | Subject)"),
    ],
)
def test_groups_of_aov_are_random_effects(wrong: str, instead: str) -> None:
    said = refusal(f"Reaction ~ {wrong}")
    assert f"{instead}." in said and "no random-effects term" in said
    assert bl.Model(f"Reaction ~ {instead}", SLEEP, saturated="allow").design.terms


def test_classes_have_their_article() -> None:
    """Before the sound of a vowel stands an."""
    for value, said in ((3, "is an int,"), (3.0, "is a float,"), (np.zeros(3), "is an ndarray,")):
        with pytest.raises(BayesLMMError, match=said):
            bl.Model(value, SLEEP)  # type: ignore[arg-type]
