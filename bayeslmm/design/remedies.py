"""Code that users are advised to run on a column, in the language of the library that their table is from."""

from __future__ import annotations

import pandas as pd

from bayeslmm.design.tables import library_of

_PANDAS = {
    "category": "data[{0!r}].astype('category')",
    "number": "pandas.to_numeric(data[{0!r}])",
    "coerced": "pandas.to_numeric(data[{0!r}], errors='coerce')",
    "float": "data[{0!r}].astype(float)",
    "days": "(data[{0!r}] - data[{0!r}].min()) / pandas.Timedelta('1D')",
    "days of dates": "(pandas.to_datetime(data[{0!r}]) - pandas.to_datetime(data[{0!r}]).min()) / "
    "pandas.Timedelta('1D')",
    "days of durations": "data[{0!r}] / pandas.Timedelta('1D')",
    "days of periods": "(data[{0!r}].dt.to_timestamp() - data[{0!r}].min().to_timestamp()) / pandas.Timedelta('1D')",
    "hours of times": "pandas.to_timedelta(data[{0!r}].astype(str)) / pandas.Timedelta('1h')",
    "dates of text": "pandas.to_datetime(data[{0!r}], format={1!r})",
    "mixed dates of text": "pandas.to_datetime(data[{0!r}], format='ISO8601')",
    "decimal comma": "data[{0!r}].str.replace(',', '.').astype(float)",
    "thousands": "data[{0!r}].str.replace(',', '').astype(float)",
    "leading number": "data[{0!r}].str.extract(r'([-+]?[0-9]*[.]?[0-9]+)')[0].astype(float)",
    "recode": "data[{0!r}].replace({1})",
    "unit comma": "data[{0!r}].str.replace(',', '.').str.extract(r'([-+]?[0-9]*[.]?[0-9]+)')[0].astype(float)",
    "minutes clock": "pandas.to_timedelta(data[{0!r}] + ':00') / pandas.Timedelta('1h')",
    "seconds clock": "pandas.to_timedelta(data[{0!r}]) / pandas.Timedelta('1h')",
    "strip": "data[{0!r}].str.strip()",
    "squeeze": r"data[{0!r}].str.replace(r'\s+', ' ', regex=True).str.strip()",
    "unspaced": r"data[{0!r}].str.replace(r'\s+', '', regex=True)",
    "unseen": r"data[{0!r}].str.replace(r'[\xad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]', "
    r"'', regex=True)",
    "lower": "data[{0!r}].str.lower()",
    "normalise": "data[{0!r}].str.normalize('NFKC')",
}
_POLARS = {
    "category": "pl.col({0!r}).cast(pl.String).cast(pl.Categorical)",
    "number": "pl.col({0!r}).cast(pl.Float64)",
    "coerced": "pl.col({0!r}).cast(pl.Float64, strict=False)",
    "float": "pl.col({0!r}).cast(pl.Float64)",
    "days": "(pl.col({0!r}) - pl.col({0!r}).min()).dt.total_seconds() / 86400",
    "days of dates": "(pl.col({0!r}) - pl.col({0!r}).min()).dt.total_days()",
    "days of durations": "pl.col({0!r}).dt.total_seconds() / 86400",
    "days of periods": "(pl.col({0!r}) - pl.col({0!r}).min()).dt.total_days()",
    "hours of times": "pl.col({0!r}).cast(pl.Duration).dt.total_seconds() / 3600",
    "dates of text": "pl.col({0!r}).str.to_datetime({1!r})",
    "mixed dates of text": "pl.col({0!r}).str.to_datetime()",
    "decimal comma": "pl.col({0!r}).str.replace(',', '.', literal=True).cast(pl.Float64)",
    "thousands": "pl.col({0!r}).str.replace_all(',', '', literal=True).cast(pl.Float64)",
    "leading number": "pl.col({0!r}).str.extract(r'([-+]?[0-9]*[.]?[0-9]+)').cast(pl.Float64)",
    "recode": "pl.col({0!r}).replace({1})",
    "unit comma": "pl.col({0!r}).str.replace(',', '.', literal=True).str.extract(r'([-+]?[0-9]*[.]?[0-9]+)')"
    ".cast(pl.Float64)",
    "minutes clock": "pl.col({0!r}).str.to_time('%H:%M').cast(pl.Duration).dt.total_seconds() / 3600",
    "seconds clock": "pl.col({0!r}).str.to_time('%H:%M:%S').cast(pl.Duration).dt.total_seconds() / 3600",
    "strip": "pl.col({0!r}).str.strip_chars()",
    "squeeze": r"pl.col({0!r}).str.replace_all(r'\s+', ' ').str.strip_chars()",
    "unspaced": r"pl.col({0!r}).str.replace_all(r'\s+', '')",
    "unseen": r"pl.col({0!r}).str.replace_all("
    r"r'[\x{{ad}}\x{{200b}}-\x{{200f}}\x{{202a}}-\x{{202e}}\x{{2060}}-\x{{2064}}\x{{fe00}}-\x{{fe0f}}\x{{feff}}]', '')",
    "lower": "pl.col({0!r}).str.to_lowercase()",
    "normalise": "pl.col({0!r}).str.normalize('NFKC')",
}


# The same when a file is read.
_READING = {
    "decimal comma": {"pandas": "decimal=',' in pandas.read_csv", "polars": "decimal_comma=True in polars.read_csv"},
    "thousands": {"pandas": "thousands=',' in pandas.read_csv"},
}


def reading(what: str, series: pd.Series) -> str:
    """How a file would be read to the same effect; empty if there is no such way.

    Examples
    --------
    >>> reading("decimal comma", pd.Series(["1,5"]))
    "decimal=',' in pandas.read_csv"
    """
    return _READING.get(what, {}).get(library_of(series), "")


def remedy(what: str, name: str, series: pd.Series, detail: str = "") -> str:
    """An expression that gives the converted column.

    Parameters
    ----------
    what : str
        A key of the tables above.
    name : str
        The column.
    series : pandas.Series
        The column itself, which knows the library.
    detail : str
        What the expression needs besides, e.g. the format of dates.

    Examples
    --------
    >>> remedy("number", "x", pd.Series(["1"]))
    "pandas.to_numeric(data['x'])"
    """
    library = library_of(series)
    if library == "polars":
        return f"data.with_columns({_POLARS[what].format(name, detail)})"
    code = _PANDAS[what].format(name, detail)
    return f"{code} after data = data.to_pandas()" if library == "pyarrow" else code


def assignment(what: str, name: str, series: pd.Series, detail: str = "") -> str:
    """A statement that converts the column in its table.

    Examples
    --------
    >>> assignment("strip", "g", pd.Series(["a "]))
    "data['g'] = data['g'].str.strip()"
    """
    code = remedy(what, name, series, detail)
    return f"data = {code}" if library_of(series) == "polars" else f"data[{name!r}] = {code}"
