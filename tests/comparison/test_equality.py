"""Results and priors that hold arrays are compared by value; comparisons work with normal priors of coefficients."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, asdict, dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.equality import made_fast, same_values
from bayeslmm.likelihood import NormalPrior

NORMAL: list[Any] = ["weak", {"beta[Days]": bl.Normal(0, 20)}]
OTHERS: list[Any] = ["rstanarm", "bambi", {"beta": bl.Normal(0, 100)}]


@cache
def model() -> bl.Model:
    return bl.Model("Reaction ~ Days + (1 | Subject)", bl.load_dataset("sleepstudy"))


@cache
def fitted() -> bl.REMLResult:
    return model().fit()


def sampled(priors: Any) -> bl.Posterior:
    return model().sample(100, random_seed=1, priors=priors)


@pytest.mark.parametrize("priors", NORMAL, ids=str)
def test_comparison_with_normal_priors_of_coefficients(priors: Any) -> None:
    post = sampled(priors)
    both = bl.compare(fitted(), post)
    name = f"posterior ({priors})" if isinstance(priors, str) else "posterior (beta[Days] ~ normal(0, 20))"
    assert list(both.posteriors) == [name]
    table = post.table()
    for label in ("Intercept", "Days"):
        assert both.fixed.loc[(label, f"{name}, HDI"), "estimate"] == table.loc[label, "mean"]
    assert name in set(both.long.astype(str).to_numpy().ravel())
    trees = both.datatrees(n=50)
    assert set(trees) == {name, "REML bootstrap", "REML profile"}
    for table_name in ("fixed", "long"):
        assert "Days" in both.to_markdown(table_name)
        assert "Days" in both.to_latex(table_name)


@pytest.mark.parametrize("priors", OTHERS, ids=str)
def test_names_with_normal_priors_of_coefficients(priors: Any) -> None:
    name = f"posterior ({priors})" if isinstance(priors, str) else "posterior (beta ~ normal(0, 100))"
    assert list(bl.compare(fitted(), sampled(priors)).posteriors) == [name]


def test_presets_are_recognised_and_others_are_not() -> None:
    weak, changed = sampled("weak"), sampled({"beta": bl.Normal(0, 100)})
    assert weak.priors == copy.deepcopy(weak.priors)
    assert hash(weak.priors) == hash(copy.deepcopy(weak.priors))
    assert weak.priors != changed.priors
    assert list(bl.compare(fitted(), weak, changed).posteriors) == [
        "posterior (weak)",
        "posterior (beta ~ normal(0, 100))",
    ]


def test_normal_priors_are_equal_by_value() -> None:
    one = NormalPrior(np.array([0.0, 1.0]), np.array([np.inf, 2.0]))
    assert one == NormalPrior(np.array([0, 1]), np.array([np.inf, 2.0]))
    assert one != NormalPrior(np.array([0.0, 1.0]), np.array([np.inf, 3.0]))
    assert one != NormalPrior(np.array([0.0]), np.array([2.0]))
    assert one != replace(one, basis=np.eye(2))
    assert replace(one, basis=np.eye(2)) == replace(one, basis=np.eye(2))
    assert one != "weak"


def test_results_equal_their_copies() -> None:
    fit, post = fitted(), sampled(None)
    data = bl.load_dataset("Penicillin")
    crossed = bl.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", data).fit()
    ml = model().fit(reml=False)
    penalised = model().fit(penalty="boundary_avoiding")
    for result in (
        fit,
        post,
        crossed,
        ml,
        penalised,
        fit.design,
        bl.compare(fit, post),
        fit.boundary(posterior="none"),
    ):
        again = copy.deepcopy(result)
        assert result == again
        assert hash(result) == hash(again)
    assert fit == fit.refit(fit.design.y)
    assert fit != fit.refit(fit.design.y + 1.0)
    assert fit != ml
    assert fit != crossed
    assert post != sampled("weak")


def test_values_at_any_depth() -> None:
    frame = pd.DataFrame({"a": [1.0, np.nan]})
    one: Any = {"x": (np.array([1.0, np.nan]), [frame, float("nan"), "a"]), "y": None}
    assert same_values(one, copy.deepcopy(one))
    other = copy.deepcopy(one)
    other["x"][0][0] = 2.0
    assert not same_values(one, other)
    assert not same_values(one, {**one, "z": 1})
    assert same_values(1, 1.0)
    assert not same_values(np.array(["a"]), np.array(["b"]))
    assert not same_values((1, 2), [1, 2])


@made_fast
@dataclass(frozen=True)
class _Fast:
    a: int
    values: list[int] = field(default_factory=list)
    b: int = 2
    c: int = field(default=3, kw_only=True)


@dataclass(frozen=True)
class _Plain:
    a: int
    values: list[int] = field(default_factory=list)
    b: int = 2
    c: int = field(default=3, kw_only=True)


@pytest.mark.parametrize(
    ("given", "named"), [((1,), {}), ((1, [5]), {"c": 4}), ((), {"a": 1, "b": 7}), ((), {}), ((1,), {"d": 0})]
)
def test_dataclasses_made_fast_are_made_as_others_are(given: tuple[Any, ...], named: dict[str, Any]) -> None:
    assert inspect.signature(_Fast) == inspect.signature(_Plain)
    found: list[Any] = []
    for kind in (_Fast, _Plain):
        try:
            found.append(asdict(kind(*given, **named)))
        except TypeError as error:
            found.append(str(error).replace(kind.__name__, ""))
    assert found[0] == found[1]


def test_dataclasses_made_fast_are_frozen_copied_and_sent() -> None:
    one = _Fast(1)
    with pytest.raises(FrozenInstanceError):
        one.a = 2  # type: ignore[misc]
    assert one.values is not _Fast(1).values
    assert pickle.loads(pickle.dumps(one)) == copy.deepcopy(one) == replace(one, b=2) == one
    assert replace(one, c=9).c == 9
