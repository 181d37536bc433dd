"""Which public members of models, fits, posteriors and comparisons need rows: tried on a model whose rows are away."""

from __future__ import annotations

import inspect
import warnings
from functools import cache
from typing import Any

import bayeslmm as bl
from bayeslmm.errors import BayesLMMError, RowsNeededError

from ..arguments import calls
from .rowless import rowless

# Not tried: PyMC takes its time, and data are what these are about.
NOT_TRIED = {"Model.to_pymc", "Model.update", "REMLResult.update", "Model.with_response", "Model.from_sums"}


@cache
def objects() -> dict[str, Any]:
    model = rowless(calls.model())[0]
    fit = model.fit()
    post = model.sample(draws=60, chains=2, keep=["g"], random_seed=1, progressbar=False)
    return {"Model": model, "REMLResult": fit, "Posterior": post, "Comparison": bl.compare(fit, post)}


def members() -> list[str]:
    """Names of all public members, as ``Class.name``."""
    return [f"{kind}.{name}" for kind, own in objects().items() for name in dir(type(own)) if not name.startswith("_")]


def needs_rows(member: str) -> bool:
    """Whether a member cannot answer without rows, in any of the ways in which it is called."""
    kind, name = member.split(".")
    own = objects()[kind]
    static = inspect.getattr_static(type(own), name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not callable(getattr(type(own), name, None)) or isinstance(static, property):
            return _raises(lambda: repr(getattr(own, name)))
        if calls.CALLS.get(member) is None:
            return _raises(lambda: repr(getattr(own, name)()))
        # The first way to call it is the plain one.
        keywords = {k: v() if callable(v) else v for k, v in calls.CALLS[member][0].items()}
        if name in ("predict", "predict_draws", "simulate"):
            keywords["newdata"] = calls.data()
        if name == "confint":
            keywords = {"method": "profile"}
        return _raises(lambda: repr(getattr(own, name)(**keywords)))


def _raises(call: Any) -> bool:
    try:
        call()
    except RowsNeededError:
        return True
    except BayesLMMError:
        # Not there for this model, whatever becomes of its rows.
        return False
    return False
