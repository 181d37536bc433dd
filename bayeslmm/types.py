"""Array aliases used throughout."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

type FloatArray = NDArray[np.float64]
type IntArray = NDArray[np.int64]
type BoolArray = NDArray[np.bool_]
type AnyArray = NDArray[Any]
