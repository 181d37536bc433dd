"""Priors and diagnostics in a terminal: lines that fit, with the numbers in them."""

from __future__ import annotations

from dataclasses import replace

import pytest

import bayeslmm as bl
from bayeslmm.bayes.collapsed import ChainDiagnostics


@pytest.mark.parametrize("priors", ["default", "weak", "brms", "rstanarm", "bambi", "flat"])
def test_priors_and_diagnostics_are_lists(priors: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    model = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
    post = model.sample(200, random_seed=1, priors=priors)
    for thing in (post.priors, post.diagnostics):
        lines = repr(thing).splitlines()
        assert all(len(line) <= 80 for line in lines)
        assert not any(word in repr(thing) for word in ("array(", "SelfCheck(", "None", "NormalPrior("))
    shown = repr(post.priors)
    assert f"sigma: {post.priors.sigma}" in shown
    assert ("fixed effects: flat" in shown) is (post.priors.beta is None)
    diagnostics = post.diagnostics
    assert f"log evidence: {diagnostics.log_evidence:.4f}" in repr(diagnostics)  # type: ignore[union-attr]
    assert f"Pareto k: {diagnostics.pareto_k:.2f}" in repr(diagnostics)  # type: ignore[union-attr]


def test_verdicts_are_those_of_the_diagnostics() -> None:
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    good = model.sample(200, random_seed=1).diagnostics
    assert repr(good).startswith("Diagnostics of quadrature: reliable")
    bad = replace(good, quadrature_error=1.0)  # type: ignore[type-var]
    assert repr(bad).startswith("Diagnostics of quadrature: not reliable")
    chains = ChainDiagnostics(1.2, 50.0, 3)
    assert repr(chains).startswith("Diagnostics of collapsed_nuts")
    assert "largest R-hat: 1.2000" in repr(chains)
    assert "divergences: 3" in repr(chains)
