"""Checksums (SHA-256) of arrays and JSON, the same whatever the byte order, the compression or the order of keys."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from bayeslmm.types import AnyArray


def of_json(value: Any) -> str:
    """The checksum of what JSON can hold; the order of keys does not count.

    Raises
    ------
    ValueError
        Some number is not finite.

    Examples
    --------
    >>> of_json({"a": 1, "b": [2.5]}) == of_json({"b": [2.5], "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def of_array(array: AnyArray) -> str:
    """The checksum of an array: its type, shape and values.

    Text counts by its letters, whatever the width it is kept in, and every NaN is the same.

    Examples
    --------
    >>> of_array(np.arange(3.0)) == of_array(np.arange(3.0).astype(">f8"))
    True
    >>> of_array(np.zeros((2, 3))) == of_array(np.zeros((3, 2)))
    False
    """
    kind = array.dtype.kind
    if kind in "USTO":
        return of_json(["text", list(array.shape), [str(value) for value in array.ravel().tolist()]])
    if kind in "fc" and np.isnan(array).any():
        array = np.where(np.isnan(array), np.nan, array).astype(array.dtype)
    little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
    out = hashlib.sha256(f"{array.dtype.str[1:]} {array.shape}".encode())
    out.update(little.reshape(-1).view(np.uint8).data)
    return out.hexdigest()
