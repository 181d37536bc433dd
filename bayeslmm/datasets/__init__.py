"""Small data sets of the field, shipped with their sources; nothing is downloaded."""

from __future__ import annotations

import copy
import difflib
import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from bayeslmm.arguments import text as check_text
from bayeslmm.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["describe_dataset", "list_datasets", "load_dataset"]


@cache
def _sources() -> dict[str, Any]:
    text = files(__name__).joinpath("data/sources.json").read_text(encoding="utf-8")
    sources: dict[str, Any] = json.loads(text)
    return sources


def load_dataset(name: str) -> pd.DataFrame:
    """Load a data set that ships with the package.

    Parameters
    ----------
    name : str
        One of `list_datasets`; case does not matter.

    Returns
    -------
    pandas.DataFrame
        Factors are categorical, with the levels in the order of the source. ``attrs`` holds description, source
        and the units of the columns.

    Raises
    ------
    DatasetError
        Unknown name.

    Examples
    --------
    >>> load_dataset("Dyestuff").shape
    (30, 2)
    """
    import pandas as pd

    check_text("name", name, "the name of a data set, as in bl.list_datasets()", DatasetError)
    entry = describe_dataset(name)
    path = files(__name__).joinpath("data").joinpath(entry["file"])
    categorical = {c: str for c, info in entry["columns"].items() if "levels" in info}
    with path.open("rb") as handle:
        frame = pd.read_csv(handle, compression="xz" if entry["file"].endswith(".xz") else None, dtype=categorical)
    for column, info in entry["columns"].items():
        if "levels" in info:
            levels = info["levels"]
            if levels == "sorted":
                levels = sorted(frame[column].unique(), key=int)
            frame[column] = pd.Categorical(frame[column], categories=levels, ordered=info["ordered"])
    frame.attrs = {
        "description": entry["description"],
        "source": entry["source"],
        "columns": {c: info["description"] for c, info in entry["columns"].items()},
    }
    return frame


def describe_dataset(name: str) -> dict[str, Any]:
    """Description, source, columns and a formula of a data set.

    Parameters
    ----------
    name : str
        One of `list_datasets`; case does not matter.

    Returns
    -------
    dict
        ``file``, ``rows``, ``description``, ``formula``, ``source``, ``licence`` and ``columns``: for each column
        its ``description`` with the unit and, for a factor, its ``levels`` in order (``"sorted"``: by number) and
        whether they are ``ordered``. Of a meta-analysis also ``residual_sd``, the column of known standard errors,
        for ``bl.Model(..., residual_sd=...)``. A copy.

    Raises
    ------
    DatasetError
        Unknown name.

    Examples
    --------
    >>> describe_dataset("rail")["columns"]["travel"]
    {'description': 'nanoseconds above 36,100'}
    """
    sources = _sources()
    by_lower = {known.lower(): known for known in sources}
    found = by_lower.get(str(name).lower())
    if found is None:
        near = difflib.get_close_matches(str(name).lower(), by_lower, n=2)
        hint = f" Did you mean {' or '.join(repr(by_lower[n]) for n in near)}?" if near else ""
        raise DatasetError(
            f"There is no data set named {name!r}.{hint} Shipped are: {', '.join(sources)}. For data of your own "
            "pass a data frame to bl.Model."
        )
    entry: dict[str, Any] = copy.deepcopy(sources[found])
    return entry


def list_datasets() -> pd.DataFrame:
    """Table of the data sets.

    Returns
    -------
    pandas.DataFrame
        One row for each name: number of rows, names of the columns, description, a suggested formula, source.

    Examples
    --------
    >>> "sleepstudy" in list_datasets().index
    True
    """
    import pandas as pd

    from bayeslmm.design.readable import readable

    rows = {
        name: {
            "rows": entry["rows"],
            "columns": ", ".join(entry["columns"]),
            "description": entry["description"],
            "formula": entry["formula"],
            "source": entry["source"],
        }
        for name, entry in _sources().items()
    }
    return readable(pd.DataFrame.from_dict(rows, orient="index").rename_axis("name"))
