"""Arguments that are sequences, given what else Python iterates over: bytes, mappings, arrays without a dimension."""

from pathlib import Path

import numpy as np
import pytest

import bayeslmm as bl
from bayeslmm.reading import read_table


@pytest.fixture(scope="module")
def both() -> bl.Comparison:
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    return bl.compare(model.fit(), model.sample(200, random_seed=1))


@pytest.mark.parametrize("scales", [b"x", bytearray(b"x"), {2: "a"}, np.array(2.0)])
def test_scales_are_numbers_in_a_list(both: bl.Comparison, scales: object) -> None:
    # b"x" is [120] to Python.
    with pytest.raises(bl.DesignError, match="scales="):
        both.posterior.prior_sweep(scales=scales)
    with pytest.raises(bl.BayesLMMError, match="scales="):
        both.posterior.bayes_factor("sd_Batch", scales=scales)


def test_a_number_of_draws_may_be_an_array_of_no_dimension(both: bl.Comparison) -> None:
    tree = both.to_datatree(np.array(8))
    assert tree["profile"].sizes["chain"] * tree["profile"].sizes["draw"] == 8
    with pytest.raises(bl.DesignError, match="n="):
        both.to_datatree("8")


def test_levels_of_a_figure_are_no_array_of_no_dimension(both: bl.Comparison) -> None:
    with pytest.raises(bl.DesignError, match="how many levels"):
        bl.plot_shrinkage(both, levels=np.array(3))


def test_a_path_that_no_system_takes_is_an_error_of_storage() -> None:
    with pytest.raises(bl.StorageError, match="cannot be read"):
        bl.load("a" * 5000)


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("sep", [";", ",", "|"])
def test_a_file_may_state_its_separator_above_the_names(tmp_path: Path, sep: str, quote: str) -> None:
    file = tmp_path / "sheet.csv"
    rows = [sep.join(("y", "g")), *(sep.join((f"{k}.5", "ab"[k % 2])) for k in range(6))]
    file.write_text("\n".join([f"{quote}sep={sep}{quote}", *rows]), encoding="utf-8")
    reading = read_table(str(file))
    assert list(reading.frame.columns) == ["y", "g"] and reading.frame["y"].tolist() == [k + 0.5 for k in range(6)]
    # Lines are those of the file.
    assert reading.frame.index[0] == 3
