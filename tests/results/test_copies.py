"""Models, fits and posteriors copied, pickled and sent to other processes answer as the first one does."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy as np
import pytest

import bayeslmm as bl

DATA = bl.load_dataset("sleepstudy")
NEW = DATA.iloc[[3, 14, 95]]


def plus(x: Any) -> Any:
    return x + 1.0


def by_pickle(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def by_cloudpickle(value: Any) -> Any:
    return pickle.loads(cloudpickle.dumps(value))


@pytest.fixture(scope="module", params=["named", "lambda", "closure", "number"])
def made(request: pytest.FixtureRequest) -> tuple[str, bl.Model, bl.REMLResult, bl.Posterior]:
    one = 1.0
    own = {"named": plus, "lambda": lambda x: x + 1.0, "closure": lambda x: x + one, "number": 1.0}[request.param]
    text = "I(Days + own)" if request.param == "number" else "own(Days)"
    model = bl.Model(f"Reaction ~ {text} + (1 | Subject)", DATA, extra_namespace={"own": own})
    return request.param, model, model.fit(), model.sample(60, random_seed=1)


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, by_pickle, by_cloudpickle])
def test_copies_predict(made: tuple[str, bl.Model, bl.REMLResult, bl.Posterior], how: Callable[[Any], Any]) -> None:
    kind, model, fit, post = made
    again, posterior = how(fit), how(post)
    assert again.criterion == fit.criterion
    assert posterior.table().equals(post.table())
    if how is by_pickle and kind in ("lambda", "closure"):
        for lost in (again, posterior):
            with pytest.raises(bl.BayesLMMError, match=r"'own' from extra_namespace.*pickle.*cloudpickle"):
                lost.predict(NEW)
        return
    np.testing.assert_array_equal(again.predict(NEW), fit.predict(NEW))
    np.testing.assert_array_equal(
        np.asarray(posterior.predict(NEW, random_seed=1)), np.asarray(post.predict(NEW, random_seed=1))
    )
    assert how(model).fit().criterion == fit.criterion


def test_a_deep_copy_has_arrays_of_its_own() -> None:
    fit = bl.Model("Reaction ~ Days + (1 | Subject)", DATA).fit()
    again = copy.deepcopy(fit)
    assert not np.shares_memory(again.design.X, fit.design.X)


def test_what_cannot_be_sent_says_what_it_is() -> None:
    lock = threading.Lock()
    model = bl.Model("Reaction ~ own(Days) + (1 | Subject)", DATA, extra_namespace={"own": lambda x: (lock, x)[1]})
    with pytest.raises(TypeError, match=r"lock"):
        cloudpickle.dumps(model)
    np.testing.assert_array_equal(copy.deepcopy(model).fit().predict(NEW), model.fit().predict(NEW))
