"""What `refit` and `refit_many` take for a response: which rows are meant, and what is no number."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError

DATA = bl.load_dataset("sleepstudy")


@pytest.fixture(scope="module")
def partial():
    """A fit from which rows were dropped, and the response of all rows."""
    data = DATA.copy()
    data["Days"] = data.Days.astype(float)
    data.loc[[3, 50, 179], "Days"] = np.nan
    return bl.Model("Reaction ~ Days + (1 | Subject)", data).fit()


@pytest.fixture(scope="module")
def whole():
    return bl.Model("Reaction ~ Days + (1 | Subject)", DATA).fit()


def test_the_index_says_which_rows_are_meant(partial):
    assert len(partial.design.dropped) == 3
    new = 2.0 * DATA.Reaction + 3.0
    expected = partial.refit(new.loc[partial.design.index].to_numpy()).estimates()
    for given in (new, new.loc[partial.design.index], new.sample(frac=1.0, random_state=2)):
        assert partial.refit(given).estimates().tolist() == expected.tolist()
    assert partial.refit(new).fitted().index.tolist() == list(partial.design.index)


def test_frames_by_their_index(partial):
    frame = pd.DataFrame({"a": DATA.Reaction, "b": DATA.Reaction**2})
    expected = partial.refit_many(frame.loc[partial.design.index].to_numpy()).estimates()
    for given in (frame, frame.sample(frac=1.0, random_state=3)):
        assert partial.refit_many(given).estimates().equals(expected)
    assert expected.iloc[0].tolist() == pytest.approx(partial.estimates().tolist(), rel=1e-7)


def test_missing_values_of_rows_that_are_not_used_do_not_matter(partial):
    new = DATA.Reaction.copy()
    new[3] = np.nan
    assert partial.refit(new).criterion == partial.refit(DATA.Reaction).criterion
    new[4] = np.nan
    with pytest.raises(DesignError, match="1 missing or infinite"):
        partial.refit(new)


def test_an_index_that_does_not_say(partial):
    with pytest.raises(DesignError, match=r"another index.*row 170 of the fit is not in it"):
        partial.refit(DATA.Reaction.iloc[:170])
    with pytest.raises(DesignError, match="labels repeat"):
        partial.refit(pd.concat([DATA.Reaction, DATA.Reaction]))
    with pytest.raises(DesignError, match=r"shape \(180,\).*3 rows of the data were left out"):
        partial.refit(DATA.Reaction.to_numpy())


N = len(DATA)
ODD = {
    "dates": pd.date_range("2020-01-01", periods=N),
    "durations": pd.to_timedelta(np.arange(1, N + 1), unit="h"),
    "NumPy dates": np.arange(N).astype("datetime64[D]"),
    "text": [str(v) for v in range(N)],
    "complex": np.arange(N) * (1 + 1j),
    "complex objects": np.array([complex(v, 1) for v in range(N)], dtype=object),
    "booleans": np.arange(N) % 2 == 0,
    "boolean objects": np.array([bool(v % 2) for v in range(N)], dtype=object),
    "nullable booleans": pd.array(np.arange(N) % 2 == 0, dtype="boolean"),
    "masked": np.ma.masked_array(DATA.Reaction.to_numpy(), mask=np.arange(N) == 3),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_no_number_is_refused(whole, name):
    values = ODD[name]
    with pytest.raises(DesignError, match=r"not numbers|masked|not numeric"):
        whole.refit(values)
    both = np.ma.stack([values, values], axis=1) if name == "masked" else np.stack([np.asarray(values)] * 2, axis=1)
    with pytest.raises(DesignError, match=r"not numbers|masked|not numeric"):
        whole.refit_many(both)
    if name != "masked":
        series = pd.Series(values, index=DATA.index)
        with pytest.raises(DesignError, match="not numbers"):
            whole.refit(series)
        with pytest.raises(DesignError, match="not numbers"):
            whole.refit_many(pd.DataFrame({"a": DATA.Reaction, "b": series}))


@pytest.mark.parametrize("name", [name for name in ODD if "bool" not in name and name != "masked"])
@pytest.mark.parametrize("argument", ["weights", "frequency"])
def test_the_same_of_weights_and_frequencies(name, argument):
    with pytest.raises(DesignError, match="not numbers"):
        bl.Model("Reaction ~ Days + (1 | Subject)", DATA, **{argument: ODD[name]})


def test_masked_weights_are_missing():
    weights = np.ma.masked_array(np.where(np.arange(N) == 3, 1000.0, 1.0), mask=np.arange(N) == 3)
    masked = bl.Model("Reaction ~ Days + (1 | Subject)", DATA, weights=weights)
    dropped = bl.Model("Reaction ~ Days + (1 | Subject)", DATA.drop(index=3))
    assert len(masked.dropped) == 1
    assert masked.fit().estimates().tolist() == pytest.approx(dropped.fit().estimates().tolist(), rel=1e-9)


def test_numbers_of_other_kinds_are_numbers(whole):
    expected = whole.refit(DATA.Reaction.to_numpy()).criterion
    objects = np.array(DATA.Reaction.tolist(), dtype=object)
    unmasked = np.ma.masked_array(DATA.Reaction.to_numpy())
    for given in (objects, unmasked, DATA.Reaction.tolist(), DATA.Reaction.astype("Float64")):
        assert whole.refit(given).criterion == expected
    decimals = np.array([Decimal(str(v)) for v in DATA.Reaction], dtype=object)
    assert whole.refit(decimals).criterion == pytest.approx(expected, rel=1e-12)


def test_sizes_beyond_squares_are_refused_by_name(whole):
    with pytest.raises(DesignError, match=r"The new response reaches 4.66e"):
        whole.refit(DATA.Reaction * 1e200)
    with pytest.raises(DesignError, match="The new response in column 1 reaches"):
        whole.refit_many(np.column_stack([DATA.Reaction, DATA.Reaction * 1e200]))
