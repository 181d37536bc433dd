"""What a formula asks for is counted before it is made: exactly, and against rows and memory."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from formulae import model_description

import bayeslmm as bl
from bayeslmm.design import Design, evaluate
from bayeslmm.design.evaluate import Evaluator
from bayeslmm.design.size import Width, _Counter, check_columns, check_structure
from bayeslmm.design.tokens import tokenize
from bayeslmm.errors import DesignError, FormulaError


def frame(n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    data = pd.DataFrame({name: rng.normal(size=n) for name in ("y", "x", "z")})
    for k, name in enumerate(("f", "g", "h")):
        data[name] = [f"{name}{v}" for v in rng.integers(0, 2 + k, n)]
    data["o"] = pd.Categorical(rng.integers(0, 4, n), ordered=True)
    data["b"] = rng.random(n) < 0.5
    data["few"] = pd.Categorical(rng.choice(["u", "v"], n), categories=["u", "v", "w"])
    return data


TEXTS = [
    "x", "f", "0 + f", "f * g", "f:g", "0 + f:x + g", "(f + g + h)^2", "o * x", "b", "0 + b:f", "few * g", "x:z",
    "f / g",
    "poly(x, 3) * f", "bs(x, df=5)", "C(f, Sum):g", "factor(b)", "I(x**2) + o:h", "f %in% g", "0 + few",
    "f*g*h - f:g:h",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS[1:])  # sums of numbers are no terms to count
def test_columns_are_counted_exactly(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def counted(terms: Any, full: Any, widths: Any, rows: int, *, constant: bool, **_: Any) -> None:
        sizes = [
            [widths[k].full if k in own else widths[k].reduced for k in t] for t, own in zip(terms, full, strict=True)
        ]
        seen.append(constant + sum(int(np.prod(size)) for size in sizes))

    monkeypatch.setattr(evaluate, "check_columns", counted)
    data = frame()
    columns = {name: data[name] for name in data}
    X, _ = Evaluator(columns, {"g": np.array([[1.0], [0.0], [-1.0]])}, {}).columns(
        text.replace("%in%", ":").replace("^", "**")
    )
    assert seen == [X.shape[1]]


@pytest.mark.parametrize("text", [*TEXTS, "(f + g)^2 * (x + z)", "f * (g + x:(z + h))^3", "(f * g * h)^2", "(x+z)^99"])
def test_terms_are_never_more_than_counted(text: str) -> None:
    formulae = text.replace("^", "**").replace("%in%", ":")
    terms = [term for term in model_description(formulae).common_terms if term.kind != "intercept"]
    assert _Counter(tokenize(text)).sum() >= len(terms)


@pytest.mark.parametrize(
    ("text", "count"), [("a", 1), ("a*b*c", 7), ("(a+b+c+d)^2", 10), ("a/b", 3), ("f(a, b*c)+d", 2)]
)
def test_terms_are_counted(text: str, count: int) -> None:
    assert _Counter(tokenize(text)).sum() == count


def test_levels_against_observations() -> None:
    data = frame(12).assign(s=[f"s{k}" for k in range(12)], g=np.arange(12) % 3)
    with pytest.raises(DesignError, match=r"12 complete row\(s\) are not enough for 13 .*s \(s: 12 levels\)"):
        bl.Model("y ~ s + x + (1 | g)", data)
    # counts are of observations, not of rows; and levels left of a bar may be as many
    assert bl.Model("y ~ s + (1 | g)", data, frequency=np.full(12, 3)).design.p == 12
    assert bl.Model("y ~ x + id(0 + s | g)", data, saturated="allow").design.terms[0].Z.shape == (12, 12)


def test_empty_cells_are_no_reason_to_refuse() -> None:
    rng = np.random.default_rng(3)
    data = pd.DataFrame(
        {"y": rng.normal(size=40), "g": np.arange(40) % 5, "f": np.arange(40) % 8, "h": np.arange(40) % 8}
    )
    data["f"], data["h"] = data.f.astype(str), data.h.astype(str)
    design = bl.Model("y ~ f * h + (1 | g)", data).design  # 64 columns for 40 rows, 8 of them independent
    assert design.p == 8 and len(design.aliased) == 56


def test_limits_name_the_term_and_its_levels() -> None:
    widths = {"x": Width(1, 1, False), "f": Width(200, 199, independent=200), "g": Width(30, 29, independent=30)}
    with pytest.raises(
        DesignError, match=r"6,000 columns of 10 rows.*largest term is f:g \(f: 200 levels, g: 30 levels\)"
    ):
        check_columns([("x",), ("f", "g"), ("f",), ("g",)], [(), (), (), ()], {**widths, "g": Width(30, 29)}, 10)
    with pytest.raises(DesignError, match="columns"):
        check_columns([("f",)], [()], {"f": Width(1000, 999)}, 10**6)
    check_columns([("f",)], [()], {"f": Width(1000, 999)}, 10**5)
    check_columns([("p",)], [()], {"p": Width(150, 150, False)}, 10**9)


@pytest.mark.parametrize(("keyword", "most"), [("us", 99), ("diag", 368), ("cs", 5000), ("id", 5000)])
def test_covariances_of_many_effects(keyword: str, most: int) -> None:
    check_structure("(0 + f | g)", keyword, most)
    with pytest.raises(DesignError, match=r"\(0 \+ f \| g\) has .* effects for every level"):
        check_structure("(0 + f | g)", keyword, 2 * most)


@pytest.mark.parametrize("power", ["1000000000", "100", "9" * 5000])
def test_powers_without_a_meaning_are_refused(power: str) -> None:
    with pytest.raises(FormulaError, match="larger than the number of its variables"):
        bl.Model(f"y ~ (x + z)^{power} + (1 | g)", frame())


@pytest.mark.parametrize("power", ["0", "x", "\u00b2", "1.5", "00"])
def test_powers_that_are_no_numbers_are_refused(power: str) -> None:
    with pytest.raises(FormulaError):
        bl.Model(f"y ~ (x + z)^{power} + (1 | g)", frame())


def test_powers_beyond_the_variables_are_all_interactions() -> None:
    data = frame()
    assert bl.Model("y ~ (x + z)^9 + (1 | g)", data).design.fixed_names == ("Intercept", "x", "z", "x:z")


OWN = {"rank": lambda x: x.rank()}


def build(formula: str, data: pd.DataFrame) -> Design:
    return bl.Model(formula, data).design


def test_copies_of_rows_are_counted() -> None:
    data = frame()
    for text in ("scale(x)", "poly(x, 2)", "bs(x, df=4)", "center(x)", "I(x - median(x))"):
        counted = bl.Model(f"y ~ {text} + (1 | g)", data, frequency=np.full(60, 10**9)).design
        # Equal counts change no column but its length: scale() divides by n - 1, poly() has norm 1 over all copies.
        once = build(f"y ~ {text} + (1 | g)", data).X
        lengths = [np.linalg.norm(X, axis=0) for X in (counted.X, once)]
        np.testing.assert_allclose(counted.X / lengths[0], once / lengths[1], rtol=1e-9, atol=1e-11)
        with pytest.raises(DesignError, match=r"as often as frequency says.*60,000,000,000 rows of 60 .*480\.0 GB"):
            bl.Model(f"y ~ {text} + rank(x) + (1 | g)", data, frequency=np.full(60, 10**9), extra_namespace=OWN)
    with pytest.raises(DesignError, match="as often as frequency says"):
        bl.Model(
            "y ~ x + (1 | g)",
            data,
            weights="x - min(x) + 1",
            frequency=np.full(60, 2**53),
            extra_namespace={"min": np.min},
        )
    bl.Model("y ~ log(x + 10) + (1 | g)", data, frequency=np.full(60, 10**9))
    bl.Model("y ~ scale(x) + (1 | g)", data, frequency=np.full(60, 1000))


RUN = """
import resource, time
import numpy as np, pandas as pd, bayeslmm as bl
n = 10_000
data = pd.DataFrame({"y": np.random.default_rng(1).normal(size=n), "x": np.arange(n) / n, "i": np.arange(n)})
data["g"] = data.i // 20
data["s"] = [f"v{k}" for k in range(n)]
data["s2"] = [f"v{k % 300}" for k in range(n)]
data["o"] = pd.Categorical(data.i, ordered=True)
for k in range(12):
    data[f"f{k}"] = [f"l{v}" for v in np.random.default_rng(k).integers(0, 5, n)]
some, all_of_them = "+".join(f"f{k}" for k in range(8)), "*".join(f"f{k}" for k in range(12))
bl.Model("y ~ x * f0 + (1 | g)", data); bl.lint("y ~ x * f0 + (1 | g)", data)
more = pd.concat([data, data])  # every value twice: enough rows, too many columns
resource.setrlimit(resource.RLIMIT_AS, (6_000_000_000, 6_000_000_000))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
for text in ("y ~ s + (1|g)", "y ~ factor(i) + (1|g)", "y ~ ordered(i) + (1|g)", "y ~ o + (1|g)", "y ~ C(s) + (1|g)",
             "y ~ x + (0+s|g)", "y ~ x + id(0+s|g)", "y ~ x + cs(0+s|g)", "y ~ x + diag(0+s|g)", "y ~ x + (s||g)",
             "y ~ s:s2 + (1|g)", "y ~ x*o + (1|g)", f"y ~ ({some})^4 + (1|g)", f"y ~ {all_of_them} + (1|g)",
             "y ~ (x+i)^1000000000 + (1|g)"):
    for frame in (data, more):
        for use in (bl.Model, bl.lint):
            start = time.process_time()
            try:
                use(text, frame)
                found = "read"
            except (bl.DesignError, bl.FormulaError):
                found = "refused"
            if use is bl.Model or time.process_time() - start > 5:
                print(found, time.process_time() - start, text, sep=";")
print("peak", peak() - before, "", sep=";")
"""


def test_neither_memory_nor_time_is_taken() -> None:
    ran = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    *lines, last = (line.split(";") for line in ran.stdout.splitlines())
    assert len(lines) == 30 and {line[0] for line in lines} == {"refused"}, ran.stdout
    assert max(float(line[1]) for line in lines) < 5, ran.stdout
    assert float(last[1]) < 150, ran.stdout
