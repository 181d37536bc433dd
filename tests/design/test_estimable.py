"""Which rows can be predicted after columns were left out: against exact rational arithmetic."""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.design.estimable import combinations, not_estimable
from bayeslmm.design.rank import independent_columns
from bayeslmm.errors import DesignError


def rank(rows):
    """Rank of a matrix of fractions, by elimination."""
    rows, found = [list(row) for row in rows], 0
    for j in range(len(rows[0])):
        pivot = next((i for i in range(found, len(rows)) if rows[i][j] != 0), None)
        if pivot is None:
            continue
        rows[found], rows[pivot] = rows[pivot], rows[found]
        for i in range(found + 1, len(rows)):
            share = rows[i][j] / rows[found][j]
            if share:
                rows[i] = [a - share * b for a, b in zip(rows[i], rows[found], strict=True)]
        found += 1
    return found


def random_design(rng):
    """Integer columns: constant, numbers, polynomials, factors with empty cells, sums and copies of others."""
    n = int(rng.integers(8, 20))
    f, h = rng.integers(0, 3, n), rng.integers(0, 3, n)
    x = rng.integers(-4, 5, n)
    cells = [(f == i) & (h == j) for i in range(3) for j in range(3)]
    pool = [np.ones(n), x, x**2, 2 * x, 3 * x + 1, *[f == i for i in range(3)], *[h == j for j in range(3)], *cells]
    chosen = rng.choice(len(pool), size=int(rng.integers(3, 9)), replace=False)
    return np.column_stack([np.asarray(pool[k], dtype=int) for k in sorted(chosen)])


@pytest.mark.parametrize("seed", range(150))
def test_against_exact_arithmetic(seed):
    rng = np.random.default_rng(seed)
    whole = random_design(rng)
    other = np.concatenate([rng.integers(-3, 4, (4, whole.shape[1])), rng.integers(0, 2, (4, whole.shape[1]))])
    # Rows that are combinations of the data's can be predicted, however they are made.
    other = np.concatenate([other, rng.integers(-3, 4, (4, len(whole))) @ whole])
    exact = [[Fraction(int(v)) for v in row] for row in whole]
    full = rank(exact)
    right = [rank([*exact, [Fraction(int(v)) for v in row]]) == full for row in other]
    scale = 10.0 ** rng.integers(-8, 9, whole.shape[1])
    X, rows = whole * scale, other * scale
    keep = independent_columns(X)
    assert keep.size == full
    rest = np.setdiff1d(np.arange(X.shape[1]), keep)
    B = combinations(X[:, keep], X[:, rest])
    assert not not_estimable(X[:, keep], B, X[:, keep], X[:, rest]).any()
    assert (~not_estimable(X[:, keep], B, rows[:, keep], rows[:, rest])).tolist() == right


@pytest.mark.parametrize("factor", [2.0, 1.5, 3.0, 0.1, 1.0, -7.0, 1e-8, 1e8])
@pytest.mark.parametrize("offset", [0.0, 1.0, 1e5])
def test_rows_of_the_data_are_predicted_after_a_copy_was_left_out(factor, offset):
    data = bl.load_dataset("sleepstudy")
    data["twin"] = factor * data.Days + offset
    fit = bl.Model("Reaction ~ Days + twin + (1 | Subject)", data).fit()
    plain = bl.Model("Reaction ~ Days + (1 | Subject)", data).fit()
    for random in ("all", None):
        assert fit.predict(data, random=random).to_numpy() == pytest.approx(
            plain.predict(data, random=random).to_numpy(), rel=1e-12
        )
    further = pd.DataFrame({"Days": [0.0, 100.0, -3.0]})
    further["twin"] = factor * further.Days + offset
    assert fit.predict(further, random=None).to_numpy() == pytest.approx(
        plain.predict(further, random=None).to_numpy(), rel=1e-12
    )
    # Less than the rounding of the twin itself cannot tell that it is another number.
    other = max(0.01 * abs(factor), 1e-9 * offset)
    with pytest.raises(DesignError, match=r"cannot predict 1 row"):
        fit.predict(further.assign(twin=further.twin + np.array([0.0, 0.0, other])), random=None)


@pytest.mark.parametrize("factor", [1e-8, 3e-9, 1e-10, 1e-12, 1e-15])
def test_what_rounding_leaves_of_a_copy_is_no_predictor(factor):
    # In steps of 2^-36, that of numbers at 1e5, the twin is 690 to 0.00007 times Days, and the rest is rounding.
    data = bl.load_dataset("sleepstudy").assign(twin=lambda d: factor * d.Days + 1e5)
    fit = bl.Model("Reaction ~ Days + twin + (1 | Subject)", data).fit()
    assert fit.fixef().index.tolist() == ["Intercept", "Days"]
    assert fit.criterion == bl.Model("Reaction ~ Days + (1 | Subject)", data).fit().criterion


@pytest.mark.parametrize("step", [2.0**-36, 2.0**-35, 2.0**-26, 1.0])
def test_a_predictor_of_few_steps_of_rounding_is_one(step):
    # Exact numbers beside a large one; against the numbers themselves.
    rng = np.random.default_rng(8)
    data = pd.DataFrame({"k": rng.integers(0, 8, 40).astype(float), "x": rng.normal(size=40), "g": list("abcd") * 10})
    data["late"], data["y"] = 1e5 + step * data.k, rng.normal(size=40) + data.k
    one, plain = (bl.Model(f"y ~ x + {name} + (1 | g)", data).fit() for name in ("late", "k"))
    assert one.fixef()["late"] * step == pytest.approx(plain.fixef()["k"], rel=1e-9)
    assert one.sigma == pytest.approx(plain.sigma, rel=1e-9)


def test_a_posterior_predicts_the_rows_of_its_data():
    data = bl.load_dataset("sleepstudy").assign(twin=lambda d: 0.1 * d.Days)
    posterior = bl.Model("Reaction ~ Days + twin + (1 | Subject)", data).sample(50, random_seed=1)
    plain = bl.Model("Reaction ~ Days + (1 | Subject)", data).sample(50, random_seed=1)
    own, expected = (p.predict(data, random_seed=1) for p in (posterior, plain))
    assert np.asarray(own, dtype=float) == pytest.approx(np.asarray(expected, dtype=float), rel=1e-10)


def test_an_empty_cell_is_refused_and_the_others_are_not():
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"f": list("aabbccaabbcc") * 3, "h": list("xyxyxxxyxyxx") * 3, "g": np.repeat(list("pqr"), 12)})
    data["y"] = rng.normal(size=len(data))
    fit = bl.Model("y ~ f * h + (1 | g)", data).fit()
    assert fit.predict(data).iloc[:, 0].to_numpy() == pytest.approx(fit.fitted().to_numpy(), rel=1e-9, abs=1e-12)
    with pytest.raises(DesignError, match=r"cannot predict 1 row\(s\) \(1\)"):
        fit.predict(pd.DataFrame({"f": ["a", "c"], "h": ["y", "y"]}), random=None)


def test_a_large_offset_hides_nothing():
    rng = np.random.default_rng(6)
    data = pd.DataFrame({"x": rng.normal(size=40), "g": np.repeat(list("abcd"), 10), "y": rng.normal(size=40)})
    data["late"] = 1e8 + 2.0 * data.x
    fit = bl.Model("y ~ x + late + (1 | g)", data).fit()
    assert fit.predict(data).iloc[:, 0].to_numpy() == pytest.approx(fit.fitted().to_numpy(), rel=1e-9)
    with pytest.raises(DesignError, match="cannot predict 40"):
        fit.predict(data.assign(late=data.late + 0.01))
