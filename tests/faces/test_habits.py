"""Names from other packages: an error that says what they are here, and nothing else changes."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import traceback
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest

import bayeslmm as bl
from bayeslmm import habits


@cache
def model() -> bl.Model:
    return bl.Model("Reaction ~ Days + (1 | Subject)", bl.load_dataset("sleepstudy"))


@cache
def fit() -> bl.REMLResult:
    return model().fit()


@cache
def post() -> bl.Posterior:
    return model().sample(400, random_seed=1)


TABLES = {"fit": (fit, habits.FIT), "post": (post, habits.POSTERIOR), "model": (model, habits.MODEL)}


@pytest.mark.parametrize("face", TABLES)
def test_what_is_named_in_an_error_exists(face: str) -> None:
    """Every `fit.name` of a table is a name of the object, and no habit hides one."""
    make, table = TABLES[face]
    owner = make()
    for name, meant in table.items():
        if not hasattr(type(owner), name):
            with pytest.raises(bl.UnknownNameError, match=re.escape(meant)):
                getattr(owner, name)
        for word, attribute in re.findall(r"\b(fit|post|model|bl)\.([A-Za-z_]\w*)", meant):
            home = bl if word == "bl" else TABLES[word][0]()
            assert hasattr(home, attribute), (name, meant)


def test_a_comparison() -> None:
    both = bl.compare(fit(), post())
    for name, meant in habits.COMPARISON.items():
        with pytest.raises(bl.UnknownNameError, match=re.escape(meant)):
            getattr(both, name)
        for attribute in re.findall(r"\bboth\.([A-Za-z_]\w*)", meant):
            assert hasattr(type(both), attribute), (name, meant)
    assert copy.deepcopy(both).names == pickle.loads(pickle.dumps(both)).names == both.names
    assert not hasattr(both, "_repr_png_")


def test_functions_of_the_module() -> None:
    for name, meant in habits.MODULE.items():
        with pytest.raises(bl.UnknownNameError, match=re.escape(meant.removeprefix("nothing: "))):
            getattr(bl, name)
        for attribute in re.findall(r"\bbl\.([A-Za-z_]\w*)", meant):
            assert hasattr(bl, attribute), (name, meant)
    with pytest.raises(bl.UnknownNameError, match=r"Did you mean bl\.Comparison\?"):
        _ = bl.Comparisn  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["VarCorr", "varCorr", "VARCORR"])
def test_one_suggestion_whatever_the_case(name: str) -> None:
    """Python would add a guess of its own to an AttributeError without a name."""
    with pytest.raises(bl.UnknownNameError) as caught:
        getattr(fit(), name)
    shown = traceback.format_exception_only(caught.value)
    assert shown == [f"bayeslmm.errors.UnknownNameError: fit.{name} is not there. In its place: fit.varcorr().\n"]


ARGUMENTS: list[tuple[Any, Mapping[str, str], type[Exception]]] = [
    (lambda **k: model().fit(**k), habits.FIT_ARGUMENTS, bl.FitError),
    (lambda **k: model().sample(**k), habits.SAMPLE_ARGUMENTS, bl.FitError),
    (
        lambda **k: bl.Model("Reaction ~ 1 + (1 | Subject)", bl.load_dataset("sleepstudy"), **k),
        habits.MODEL_ARGUMENTS,
        bl.DesignError,
    ),
]


@pytest.mark.parametrize(("call", "table", "error"), ARGUMENTS)
def test_arguments(call: Any, table: Mapping[str, str], error: type[Exception]) -> None:
    for name, meant in table.items():
        with pytest.raises(error, match=re.escape(meant.removeprefix("nothing: "))):
            call(**{name: 1})


def test_misspelt_arguments() -> None:
    with pytest.raises(bl.FitError, match=r"remll= of model\.fit\(\) is not there\. Did you mean reml\?"):
        model().fit(remll=True)
    with pytest.raises(bl.FitError, match=r"Did you mean draws\?"):
        model().sample(drws=10)


VERBS: list[tuple[str, Any, Any, Mapping[str, str]]] = [
    ("fit.predict", fit, bl.REMLResult.predict, habits.PREDICT_ARGUMENTS),
    ("post.predict", post, bl.Posterior.predict, habits.PREDICT_ARGUMENTS),
    ("fit.ranef", fit, bl.REMLResult.ranef, habits.RANEF_ARGUMENTS),
    ("fit.simulate", fit, bl.REMLResult.simulate, habits.SIMULATE_ARGUMENTS),
    ("model.simulate", model, bl.Model.simulate, habits.SIMULATE_ARGUMENTS),
    ("fit.confint", fit, bl.REMLResult.confint, habits.CONFINT_ARGUMENTS),
    ("bl.power", model, bl.power, habits.POWER_ARGUMENTS),
]


@pytest.mark.parametrize(("shown", "make", "verb", "table"), VERBS)
def test_arguments_of_other_packages(shown: str, make: Any, verb: Any, table: Mapping[str, str]) -> None:
    own = set(inspect.signature(verb).parameters)
    for name, meant in table.items():
        with pytest.raises(
            (bl.DesignError, bl.FitError), match=re.escape(f"{name}= of {shown}() is not there.")
        ) as caught:
            verb(make(), **{name: 1})
        assert meant in str(caught.value)
        # The argument that is named first is one.
        word = re.match(r"[a-z_]+(?==|,|$)", meant)
        assert word is None or word[0] in own, (name, meant)


def test_no_argument_of_the_package_is_refused() -> None:
    others = [(verb, table) for _, _, verb, table in VERBS]
    for function, table in ((bl.Model.fit, habits.FIT_ARGUMENTS), (bl.Model.sample, habits.SAMPLE_ARGUMENTS), *others):
        assert not set(inspect.signature(function).parameters) & set(table)
    assert not set(inspect.signature(bl.Model).parameters) & set(habits.MODEL_ARGUMENTS)


@pytest.mark.parametrize("face", TABLES)
def test_python_and_notebooks_see_no_new_attribute(face: str) -> None:
    owner = TABLES[face][0]()
    assert not hasattr(owner, "params")
    assert getattr(owner, "params", None) is None
    # What IPython, NumPy, pandas and pickle look for.
    for name in ("_ipython_display_", "_repr_png_", "__array__", "__getstate_manages_dict__", "_repr_mimebundle_"):
        assert not hasattr(owner, name)
    assert "params" not in dir(owner)
    for again in (copy.copy(owner), copy.deepcopy(owner), pickle.loads(pickle.dumps(owner))):
        assert type(again) is type(owner)
        assert again.formula == owner.formula


def test_an_attribute_error_inside_a_property_is_not_hidden() -> None:
    class Broken(bl.REMLResult):
        @property
        def odd(self) -> Any:
            return np.float64(1.0).nothing_of_that_name

    broken = Broken(fit().design, fit().cp, fit().optimum)
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        _ = broken.odd


def test_keys_of_fixed_effects() -> None:
    with pytest.raises(bl.PriorError, match=re.escape("Did you mean 'beta[Days]'?")):
        model().sample(100, priors={"Days": bl.Normal(0, 1)})
