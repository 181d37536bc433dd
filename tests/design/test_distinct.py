"""Whether variances can be told apart is the exact rank of what they do to the covariance of the response."""

from __future__ import annotations

import warnings
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.design.build import build_design
from bayeslmm.design.design import Design
from bayeslmm.design.distinct import Ridge, find_ridges
from bayeslmm.teaching import build_matrices, dense_criterion

# Ranks of integer matrices are counted modulo this prime.
PRIME = (1 << 31) - 1


def inverse(a: int) -> int:
    return pow(int(a) % PRIME, PRIME - 2, PRIME)


def residues(A: np.ndarray) -> np.ndarray:
    fractions = (Fraction(float(v)).limit_denominator(10**6) for v in np.ravel(A))
    return np.array([f.numerator * inverse(f.denominator) % PRIME for f in fractions], dtype=object).reshape(A.shape)


def echelon(A: np.ndarray) -> tuple[np.ndarray, list[int]]:
    A, row, pivots = A.copy() % PRIME, 0, []
    for column in range(A.shape[1]):
        found = np.flatnonzero(A[row:, column])
        if not found.size:
            continue
        A[[row, row + found[0]]] = A[[row + found[0], row]]
        A[row] = A[row] * inverse(A[row, column]) % PRIME
        for k in np.flatnonzero(A[:, column]):
            if k != row:
                A[k] = (A[k] - A[k, column] * A[row]) % PRIME
        pivots.append(column)
        row += 1
        if row == A.shape[0]:
            break
    return A, pivots


def contrasts(X: np.ndarray) -> np.ndarray:
    """A basis of the vectors that X sends to zero."""
    reduced, pivots = echelon(residues(X.T))
    free = [j for j in range(X.shape[0]) if j not in pivots]
    K = np.zeros((X.shape[0], len(free)), dtype=object)
    for k, j in enumerate(free):
        K[j, k] = 1
        for i, p in enumerate(pivots):
            K[p, k] = -reduced[i, j] % PRIME
    return K


def changes(structure: bl.CovarianceStructure, c: int) -> list[np.ndarray]:
    ones, eye, lag = np.ones((c, c)), np.eye(c), np.abs(np.subtract.outer(np.arange(c), np.arange(c)))
    if structure.keyword == "id":
        return [eye]
    if structure.keyword == "cs":
        return [eye, ones - eye]
    if structure.keyword == "ar1":
        return [0.3**lag, lag * 0.3 ** np.maximum(lag - 1, 0)]
    pairs = [(i, j) for i in range(c) for j in range(i + 1) if i == j or structure.keyword == "us"]
    return [((np.outer(eye[i], eye[j]) + np.outer(eye[j], eye[i])) > 0).astype(float) for i, j in pairs]


def exact_nullity(design: Design, reml: bool) -> int:
    """How many combinations of the variance parameters do nothing, in exact arithmetic."""
    n, covariances = design.n, []
    for term in design.terms:
        codes = design.groupings[term.group].codes
        Z, same = residues(term.Z), (codes[:, None] == codes).astype(object)
        covariances += [same * (Z @ residues(d) @ Z.T) for d in changes(term.structure, len(term.effects))]
    weights = np.ones(n) if design.weights is None else design.weights
    covariances.append(np.diag([inverse(int(w)) for w in weights]))
    K = contrasts(design.X) if reml else np.eye(n, dtype=int).astype(object)
    left = np.array([(K.T @ V @ K % PRIME).ravel() for V in covariances])
    return len(covariances) - len(echelon(left)[1])


TERMS = (
    "(1 | g)|(x | g)|(x || g)|(0 + x | g)|(1 | h)|(z | h)|(0 + f | g)|(0 + f || g)|cs(0 + f | g)|ar1(0 + f | g)|"
    "id(0 + f | g)|(1 | g:h)|(1 | obs)|(0 + x | obs)|(x | obs)|(f | g)|(T | g)|(T || g)|(T + x | g)"
).replace(")|", ")\n")


def random_design(rng: np.random.Generator) -> Design:
    n = int(rng.integers(6, 17))
    levels = int(rng.integers(2, n // 2 + 1))
    data = pd.DataFrame({"y": rng.normal(size=n), "obs": np.arange(n), "h": rng.integers(0, 4, n)})
    data["g"] = np.arange(n) % levels if rng.random() < 0.5 else rng.permutation(np.arange(n) % levels)
    data["x"], data["z"] = rng.integers(-20, 20, n) + 50 * int(rng.integers(0, 2)), rng.integers(-3, 4, n)
    data["T"] = np.arange(n) // levels
    data["f"] = np.array(list("abc"))[data["T"] % int(rng.integers(2, 4))]
    data["w"] = 1 if rng.random() < 0.5 else rng.integers(1, 5, n)
    terms = rng.choice(TERMS.split("\n"), int(rng.integers(1, 4)), replace=False)
    try:
        return build_design(
            f"y ~ {rng.choice(['1', 'x', 'T', 'f'])} + {' + '.join(terms)}", data, weights="w", saturated="allow"
        )
    except bl.DesignError:
        return random_design(rng)


@pytest.mark.parametrize("seed", range(4))
def test_verdicts_are_those_of_exact_ranks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    verdicts = []
    for _ in range(12):
        design = random_design(rng)
        for reml in (True, False):
            found = bool(find_ridges(design, reml))
            assert found == (exact_nullity(design, reml) > 0), design.formula
            verdicts.append(found)
    assert 0 < sum(verdicts) < len(verdicts)


@pytest.mark.parametrize("change", [lambda x: x, lambda x: x + 2e6, lambda x: 1e-9 * x, lambda x: 1e9 * x - 4e9])
def test_units_and_zero_of_a_predictor_do_not_matter(change) -> None:
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"g": np.repeat(np.arange(12), 2), "T": np.tile([0.0, 1.0], 12), "y": rng.normal(size=24)})
    data["t"] = data["T"] + rng.uniform(0, 0.5, 24)
    regular, irregular = (data.assign(x=change(data[name])) for name in ("T", "t"))
    assert find_ridges(build_design("y ~ x + (x | g)", irregular)) == ()
    with pytest.raises(bl.DesignError, match="cannot be told apart"):
        build_design("y ~ x + (x | g)", regular)


def pairs(seed: int = 3, n: int = 18) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"id": np.repeat(np.arange(n), 2), "T": np.tile([0.0, 1.0], n), "obs": np.arange(2 * n)})
    data["t"], data["f"] = 3 * data["T"] + rng.uniform(1, 2, 2 * n), data["T"].map({0: "a", 1: "b"})
    b = rng.normal(size=(n, 2))[data["id"]]
    data["y"] = 2 + data["t"] + b[:, 0] + b[:, 1] * data["t"] + 0.5 * rng.normal(size=2 * n)
    data["v"] = 2 + data["T"] + b[:, 0] + b[:, 1] * data["T"] + 0.5 * rng.normal(size=2 * n)
    return data


IDENTIFIED = [
    "v ~ T + (T || id)",
    "y ~ t + (t | id)",
    "y ~ t + (0 + t | obs)",
    "y ~ t + (t + I(t**2) | id)",
    "y ~ t + (0 + t | id) + (0 + t | obs)",
]


@pytest.mark.parametrize("formula", IDENTIFIED)
def test_as_many_effects_as_rows_are_fitted_where_columns_tell_variances_apart(formula: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = bl.Model(formula, pairs()).fit()
    assert fit.status.ok and not fit.optimum.ridges
    assert "random effects for 36 rows; their variances and the residual variance are told apart" in " ".join(
        str(fit.summary()).split()
    )

    def criterion(sds: list[float], sigma: float) -> float:
        """At multiples of the estimated standard deviations of the terms, and of sigma."""
        factors = [sd / sigma * T for sd, T in zip(sds, fit.optimum.terms, strict=True)]
        return dense_criterion(build_matrices(fit.design, factors, 1.0), sigma=sigma * fit.sigma)

    same = [1.0] * len(fit.optimum.terms)
    assert fit.criterion == pytest.approx(criterion(same, 1.0), abs=1e-8)
    # A minimum, by the criterion itself: no small change of a variance lowers it.
    for factor in (0.97, 1.03):
        assert criterion(same, factor) > fit.criterion
        for k in range(len(same)):
            changed = [np.sqrt(factor) if i == k else 1.0 for i in range(len(same))]
            assert criterion(changed, 1.0) > fit.criterion - 1e-9


@pytest.mark.parametrize(
    ("term", "parts"),
    [
        ("(1 | obs)", ["variance of Intercept in (1 | obs)", "residual variance"]),
        ("(T | id)", ["variance of Intercept in (T | id)", "covariance of Intercept and T", "residual variance"]),
        ("cs(0 + f | id)", ["parameter sd in cs(0 + f | id)", "residual variance"]),
        ("(1 | id) + (1 | obs)", ["variance of Intercept in (1 | obs)", "residual variance"]),
        ("(1 | obs) + (0 + t | id)", ["variance of Intercept in (1 | obs)", "residual variance"]),
    ],
)
def test_a_refusal_names_what_is_exchanged_and_the_way_on(term: str, parts: list[str]) -> None:
    with pytest.raises(bl.DesignError) as caught:
        bl.Model(f"y ~ t + {term}", pairs())
    text = str(caught.value)
    assert (
        "36 random effects" in text and "36 rows" in text and "saturated='allow'" in text and "holds text" not in text
    )
    assert all(part in text for part in parts)
    fit = bl.Model(f"y ~ t + {term}", pairs(), saturated="allow").fit(on_failure="ignore")
    assert fit.status.name == "not_identified"


def test_weights_that_differ_tell_a_row_effect_from_residuals() -> None:
    data = pairs().assign(w=np.tile([1.0, 3.0], 18))
    assert bl.Model("y ~ t + (1 | obs)", data, weights="w").fit().status.ok
    with pytest.raises(bl.DesignError, match="cannot be told apart"):
        bl.Model("y ~ t + (1 | obs)", data.assign(w=2.0), weights="w")


def test_numbers_read_as_text_are_named() -> None:
    sleep = bl.load_dataset("sleepstudy").assign(Days=lambda d: d["Days"].astype(str))
    with pytest.raises(bl.DesignError) as caught:
        bl.Model("Reaction ~ Days + (Days | Subject)", sleep)
    text = str(caught.value)
    assert "`Days` holds text ('0', '1', '2', ...)" in text and "pandas.to_numeric(data['Days'])" in text
    assert "10 variances and 45 covariances of (Days | Subject), residual variance" in text


def test_rows_written_out_and_frequencies_have_one_verdict() -> None:
    data = pairs().assign(n=2)
    for term in ("(1 | obs)", "(t | id)", "(T | id)", "(T || id)"):
        counted = build_design(f"y ~ t + {term}", data, frequency="n", saturated="allow")
        written = build_design(f"y ~ t + {term}", data.loc[data.index.repeat(2)], saturated="allow")
        assert find_ridges(counted) == find_ridges(written)


def test_the_linter_says_where_lme4_stops() -> None:
    findings = {finding.rule: finding for finding in bl.lint("y ~ t + (t | id)", pairs()).findings}
    assert "check.nobs.vs.nRE" in findings["as many effects as rows"].elsewhere["lme4"]
    assert "36 random effects for 36 rows" in findings["as many effects as rows"].here
    assert not [f for f in bl.lint("y ~ t + (1 | id)", pairs()).findings if f.rule == "as many effects as rows"]


def test_residuals_that_vanish_are_said() -> None:
    fit = bl.Model("y ~ t + (T || id)", pairs()).fit()
    assert fit.sigma < 1e-5
    assert "residual standard deviation is estimated at zero" in str(fit.summary())


def test_many_parts_of_one_term_are_taken_together_under_its_name() -> None:
    effects = Ridge(tuple(f"parameter p{i} in toep(0 + f | g)" for i in range(7)))
    assert str(effects) == "only a combination is determined of the 7 parameters of toep(0 + f | g)"
    mixed = Ridge((*(f"residual rho in {arm}" for arm in "abcdefg"), "residual variance"))
    assert str(mixed).endswith("of the 7 parameters of the residuals, the residual variance")
