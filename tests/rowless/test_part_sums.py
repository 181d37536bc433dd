"""Sums of a model with fewer columns, made from those of the larger, against those of its own rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import bayeslmm as bl
from bayeslmm.likelihood import profiled
from bayeslmm.likelihood.criteria import evaluate
from bayeslmm.likelihood.level_grams import level_pairs, projected_gram, residual_scores
from bayeslmm.likelihood.part_sums import KeptColumns, products_of_part
from bayeslmm.likelihood.recheck import recheck
from bayeslmm.likelihood.recheck_sums import compressed_size, recheck_compressed, recheck_residual_of_sums
from bayeslmm.likelihood.ridges_of_sums import ridges_of_sums

from .models import data, whole, without
from .rowless import rowless

LARGER = "y ~ x + z + (x | g) + (1 | h) + (1 | s)"
SMALLER: dict[str, tuple[str, KeptColumns]] = {
    "first factor stays": ("y ~ x + z + (x | g) + (1 | s)", KeptColumns((0, 1, 2), ((0, (0, 1)), (2, (0,))))),
    "an effect of the first": ("y ~ x + z + (1 | g) + (1 | h)", KeptColumns((0, 1, 2), ((0, (0,)), (1, (0,))))),
    "first factor goes": ("y ~ x + z + (1 | h) + (1 | s)", KeptColumns((0, 1, 2), ((1, (0,)), (2, (0,))))),
    "fixed effects": ("y ~ z + (x | g) + (1 | h)", KeptColumns((0, 2), ((0, (0, 1)), (1, (0,))))),
    "no intercept": ("y ~ 0 + x + z + (1 | h)", KeptColumns((1, 2), ((1, (0,)),))),
}


@pytest.mark.parametrize("store", ["levels", "hierarchy"])
@pytest.mark.parametrize("case", SMALLER)
def test_a_part_has_the_criterion_of_its_own_rows(case: str, store: Any) -> None:
    formula, kept = SMALLER[case]
    large, _ = rowless(bl.Model(LARGER, data(), store=store))
    small = bl.Model(formula, data()).fit(False)
    design = rowless(bl.Model(formula, data()))[0].design
    cp = products_of_part(large.cross_products, design, kept)
    factors = []
    for block in cp.blocks:
        own = [small.optimum.terms[k] for k in block.terms]
        T = np.zeros((block.size, block.size))
        for part, term in zip(block.slices, own, strict=True):
            T[part, part] = block.inverse_basis[part, part] @ term
        factors.append(T[None])
    for reml in (True, False):
        expected = small if not reml else bl.Model(formula, data()).fit()
        at = small.criterion if not reml else expected.criterion_at(theta=small.theta)
        assert float(profiled(cp, evaluate(cp, factors), reml)[0]) == pytest.approx(float(np.squeeze(at)), abs=1e-7)


@pytest.mark.parametrize("kind", ["slopes", "crossed", "hierarchy", "weights"])
def test_products_of_levels(kind: str) -> None:
    design, cp = whole(kind).design, without(kind)[0].cross_products
    root = np.ones(design.n) if design.row_weights is None else np.sqrt(design.row_weights)
    wide = []
    for block in cp.blocks:
        codes, Z = design.groupings[block.grouping.name].codes, block.columns(design) @ block.basis
        own = np.zeros((design.n, block.n_levels, block.size))
        own[np.arange(design.n), codes] = Z * root[:, None]
        wide.append(own)
    for a in range(len(wide)):
        for b in range(a, len(wide)):
            pairs, found = level_pairs(cp, a, b), np.zeros((*wide[a].shape[1:], *wide[b].shape[1:]))
            found[pairs.first, :, pairs.second] = pairs.products
            expected = np.einsum("njc,nkd->jckd", wide[a], wide[b])
            np.testing.assert_allclose(found, expected, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["slopes", "crossed", "hierarchy", "weights", "offset"])
def test_scores_of_residuals(kind: str) -> None:
    design, cp = whole(kind).design, without(kind)[0].cross_products
    rng = np.random.default_rng(5)
    beta, effects = rng.normal(size=design.p), [rng.normal(size=(b.n_levels, b.size)) for b in cp.blocks]
    residual = design.y_less_offset - design.X @ beta
    for block, b in zip(cp.blocks, effects, strict=True):
        residual = residual - (block.columns(design) * b[design.groupings[block.grouping.name].codes]).sum(1)
    weights = np.ones(design.n) if design.row_weights is None else design.row_weights
    for block, found in zip(cp.blocks, residual_scores(cp, beta, effects), strict=True):
        codes, expected = design.groupings[block.grouping.name].codes, np.zeros((block.n_levels, block.size))
        np.add.at(expected, codes, block.columns(design) * (weights * residual)[:, None])
        np.testing.assert_allclose(found, expected, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["intercepts", "slopes", "crossed", "weights", "frequency"])
def test_the_second_route_agrees_with_the_rows(kind: str) -> None:
    fit, cp = whole(kind).fit(), without(kind)[0].cross_products
    assert compressed_size(cp) < np.inf
    factors = [T[0] for T in fit.optimum.factors]
    value, bound = recheck_compressed(cp, factors, True)
    assert abs(value - recheck(fit.cp, factors, True)[0]) < 1e-8
    assert bound < 1e-6


@pytest.mark.parametrize("kind", ["slopes", "crossed", "nested", "hierarchy", "offset"])
def test_the_second_route_finds_estimates_that_are_off(kind: str) -> None:
    fit, cp = without(kind)[0].fit(), without(kind)[0].cross_products
    gap, bound = recheck_residual_of_sums(cp, fit.optimum.factors, fit.optimum.factor, True)
    assert gap <= max(bound, 1e-9)
    wrong = replace(fit.optimum.factor, r2=fit.optimum.factor.r2 * 1.001)
    gap, bound = recheck_residual_of_sums(cp, fit.optimum.factors, wrong, True)
    assert gap > 0.1 > bound


def test_ridges_are_found_without_rows() -> None:
    frame = data().groupby("g").head(2).assign(t=lambda d: d.groupby("g").cumcount().astype(float))
    models = [bl.Model(formula, frame, saturated="allow") for formula in ("y ~ 1 + (t | g)", "y ~ x + (1 | g)")]
    found = []
    for model in models:
        cp = rowless(model)[0].cross_products
        found.append(ridges_of_sums(cp, True, [None], 1e-12))
    assert [len(ridges) for ridges in found] == [1, 0]
    assert "residual variance" in str(found[0][0])


@pytest.mark.parametrize("kind", ["slopes", "hierarchy"])
def test_columns_beside_the_fixed_effects(kind: str) -> None:
    design, cp = whole(kind).design, without(kind)[0].cross_products
    codes, J = design.groupings["g"].codes, design.groupings["g"].n_levels
    Z = np.zeros((design.n, J, 2))
    Z[np.arange(design.n), codes] = design.terms[0].Z
    Z = Z.transpose(0, 1, 2).reshape(design.n, -1)
    Z = Z / np.linalg.norm(Z, axis=0)
    Q = np.linalg.qr(design.X)[0]
    expected = np.sort(np.linalg.eigvalsh(Z.T @ Z - (Q.T @ Z).T @ (Q.T @ Z)))
    found = np.sort(np.linalg.eigvalsh(projected_gram(cp, [(0, (0, 1))], np.eye(design.p))))
    np.testing.assert_allclose(found, expected, atol=1e-11)
