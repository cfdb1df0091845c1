"""Unlearning methods by name; light: naming a method imports none of them."""

from collections.abc import Mapping
from types import MappingProxyType

METHODS: Mapping[str, str] = MappingProxyType(
    {
        "relabel": "trueface.unlearn.relabel",
        "retrain": "trueface.unlearn.retrain",
    }
)
