"""Covariance structures as written in formulas and in ``cov=``."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl

STRUCTURES = {
    "us": bl.Unstructured,
    "diag": bl.Diagonal,
    "id": bl.Identity,
    "cs": bl.CompoundSymmetry,
    "ar1": bl.AR1,
}


@pytest.fixture
def data() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"y": rng.normal(size=60), "x": rng.normal(size=60), "g": np.repeat(list("abcde"), 12)})
    frame["h"] = np.tile(list("uvwxyz"), 10)
    return frame.assign(f=np.tile(["p", "q", "r"], 20))


@pytest.mark.parametrize("keyword", STRUCTURES)
def test_keyword_and_argument_are_the_same(keyword: str, data: pd.DataFrame) -> None:
    written = bl.Model(f"y ~ x + {keyword}(0 + f | g)", data).design.terms[0]
    given = bl.Model("y ~ x + (0 + f | g)", data, cov={"g": STRUCTURES[keyword]()}).design.terms[0]
    assert written.structure == given.structure == STRUCTURES[keyword](3)
    assert written.label == f"{keyword}(0 + f | g)"
    np.testing.assert_array_equal(written.Z, given.Z)


@pytest.mark.parametrize(
    ("formula", "structures"),
    [
        ("y ~ x + (x | g)", [bl.Unstructured(2)]),
        ("y ~ x + (x || g)", [bl.Diagonal(2)]),
        ("y ~ x + id(x | g/f)", [bl.Identity(2), bl.Identity(2)]),
        ("y ~ cs((0 + f | g)) + (1 | h)", [bl.CompoundSymmetry(3), bl.Unstructured(1)]),
    ],
)
def test_structures_of_a_formula(formula: str, structures: list[object], data: pd.DataFrame) -> None:
    assert [term.structure for term in bl.Model(formula, data).design.terms] == structures


def test_a_column_may_be_called_like_a_structure(data: pd.DataFrame) -> None:
    data["id"], data["cs"] = data["x"], data["g"]
    design = bl.Model("y ~ id + cs(0 + f | cs) + I(id**2)", data).design
    assert design.fixed_names == ("Intercept", "id", "I(id ** 2)")
    assert design.terms[0].group == "cs"


def test_key_may_be_the_term(data: pd.DataFrame) -> None:
    model = bl.Model("y ~ x + (1 | g) + (0 + f | g)", data, cov={"(0+f|g)": bl.CompoundSymmetry()})
    assert [term.structure for term in model.design.terms] == [bl.Unstructured(1), bl.CompoundSymmetry(3)]


@pytest.mark.parametrize(
    ("formula", "cov", "message"),
    [
        ("y ~ x + (0 + f | g)", {"k": bl.AR1()}, r"'k'.*names no random term.*\(g\).*\(0 \+ f \| g\)"),
        ("y ~ x + (1 | g) + (0 + f | g)", {"g": bl.AR1()}, r"2 terms share.*\(1 \| g\), \(0 \+ f \| g\)"),
        ("y ~ x + (0 + f | g)", {"g": "cs"}, r"'cs', which is no covariance structure.*bl\.CompoundSymmetry\(\)"),
        ("y ~ x + (0 + f | g)", {"g": bl.CompoundSymmetry}, r"no covariance structure"),
        ("y ~ x + (0 + f | g)", {"g": bl.AR1(4)}, r"for 4 effects, but \(0 \+ f \| g\) has 3: f\[p\]"),
        ("y ~ x + id(0 + f | g)", {"g": bl.AR1()}, r"asks for ar1, but id\(0 \+ f \| g\) in the formula says id"),
        ("y ~ x + (x || g)", {"g": bl.Identity()}, r"asks for id, but \(x \|\| g\) in the formula says diag"),
        ("y ~ x + (0 + f | g)", {"g": bl.AR1(), "(0 + f | g)": bl.AR1()}, r"twice"),
        ("y ~ x + (0 + f | g)", [bl.AR1()], r"cov is a list"),
        ("y ~ x + cs(1 | g)", None, r"cs is about the correlation of several effects.*only one: Intercept"),
        ("y ~ x + ar1(f | g)", None, r"in order of time.*ar1\(0 \+ f \| g\)"),
    ],
)
def test_refused(formula: str, cov: object, message: str, data: pd.DataFrame) -> None:
    with pytest.raises(bl.DesignError, match=message):
        bl.Model(formula, data, cov=cov)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ x + cs(0 + f || g)", r"cs and \|\| both say"),
        ("y ~ x + fa(0 + f | g)", r"us, diag, id, cs, csh, ar1, ar1h, toep"),
        ("y ~ x - cs(0 + f | g)", r"cannot be subtracted"),
        ("y ~ x + cs(| g)", r"Nothing stands left of the bar"),
    ],
)
def test_refused_by_the_parser(formula: str, message: str, data: pd.DataFrame) -> None:
    with pytest.raises(bl.FormulaError, match=message):
        bl.Model(formula, data)
