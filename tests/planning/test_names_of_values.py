"""Messages of a power study name its own arguments."""

from __future__ import annotations

from typing import Any

import pytest

import bayeslmm as bl


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"effects": {"nito": 1.0}}, r"^effects names 'nito'.*Did you mean 'nitro'\?"),
        ({"effects": {"nitro": "much"}}, r"^effects\['nitro'\]='much'"),
        ({"sds": {"blok": 1.0}}, r"^sds names 'blok'.*Did you mean 'Block'\?"),
        ({"sds": {"Block": -1.0}}, r"^sds\['Block'\] cannot be -1"),
        ({"corrs": {"x": 0.1}}, "^corrs names 'x'"),
    ],
)
def test_messages_name_the_argument(given: dict[str, Any], says: str) -> None:
    fit = bl.Model("yield ~ nitro + (1 | Block/Variety)", bl.load_dataset("Oats")).fit()
    with pytest.raises(bl.DesignError, match=says):
        bl.power(fit, n=5, **given)
