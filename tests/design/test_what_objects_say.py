"""What a prompt shows of objects that hold large arrays: what they are and of which size, within the screen."""

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl


@pytest.fixture(scope="module")
def shown() -> dict[str, object]:
    sleep = bl.load_dataset("sleepstudy")
    model = bl.Model("Reaction ~ Days + (Days | Subject)", sleep)
    fit = model.fit()
    both = bl.compare(fit, model.sample(100, random_seed=1))
    return {
        "design": model.design,
        "cross-products": fit.cp,
        "optimum": fit.optimum,
        "structure": fit.structure,
        "error contrasts": bl.error_contrasts(model),
        "bootstrap": both.bootstrap(3),
    }


@pytest.mark.parametrize("width", [80, 120])
def test_reprs_fit_into_the_screen(shown: dict[str, object], width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for name, value in shown.items():
        lines = repr(value).splitlines()
        assert max(map(len, lines)) <= width and len(lines) <= 6, name
        assert "array(" not in repr(value), name


def test_they_name_the_model_and_the_sizes(shown: dict[str, object]) -> None:
    for name in ("design", "cross-products", "optimum", "error contrasts"):
        assert "Reaction ~ Days + (Days | Subject)" in repr(shown[name]), name
    assert "180 observations, 2 fixed effects, 36 random" in " ".join(repr(shown["design"]).split())
    assert "180 x 178" in repr(shown["error contrasts"])
    assert "3 bootstrap estimates of 6 parameters" in repr(shown["bootstrap"])


def _response(cells: list[str]) -> str:
    data = pd.DataFrame({"y": cells, "g": list("abcdefgh") * 3})
    with pytest.raises(bl.DesignError) as refused:
        bl.Model("y ~ 1 + (1 | g)", data)
    return str(refused.value)


def test_advice_for_a_response_of_text_leaves_its_numbers() -> None:
    numbers = [f"{1000 + 17 * k:,}.5" for k in range(24)]
    text = _response(numbers)
    assert "comma for thousands" in text and "coerce" not in text
    # The advice is code; what it gives is the numbers.
    code = text[text.index("e.g. ") + 5 :].rstrip(".")
    found = eval(code, {"data": pd.DataFrame({"y": numbers})})
    np.testing.assert_array_equal(found, [1000 + 17 * k + 0.5 for k in range(24)])


def test_advice_that_would_leave_nothing_is_not_given() -> None:
    # A dash in place of the minus: pandas.to_numeric would make all of them missing.
    text = _response([f"\N{MINUS SIGN}{k}.5" for k in range(24)])
    assert "None of its values is a number" in text and "coerce" not in text


def test_advice_says_what_becomes_missing() -> None:
    text = _response([*map(str, range(20)), "cm", "kg", "m", "s"])
    assert "errors='coerce'" in text and ("4 of 24" in text or "cm" in text.split("Convert")[1])
