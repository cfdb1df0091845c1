"""Subsets and modifiers that a person adds to those of a laboratory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.ids import DataId
from launcher.records import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Subsets and modifiers that a person adds to a laboratory's own.

    Each stands for one or more folders, or patterns of folders such as `SDXL-*`.
    """

    subsets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    modifiers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.subsets or self.modifiers)

    def used_by(self, data: DataId) -> "Words":
        """Return those of the words that stand in `data`."""
        subsets = {part.subset for part in data}
        modifiers = {part.modifier for part in data}
        return Words(
            subsets={key: value for key, value in self.subsets.items() if key in subsets},
            modifiers={key: value for key, value in self.modifiers.items() if key in modifiers},
        )

    def record(self) -> dict[str, Json]:
        """Return the words as JSON; nothing where there are none."""
        if not self:
            return {}
        return {
            "subsets": {key: list(value) for key, value in self.subsets.items()},
            "modifiers": {key: list(value) for key, value in self.modifiers.items()},
        }


NO_WORDS = Words()


def read_words(record: Mapping[str, Any]) -> Words:
    """Return the words that `Words.record` wrote."""
    return Words(
        subsets={key: tuple(value) for key, value in record.get("subsets", {}).items()},
        modifiers={key: tuple(value) for key, value in record.get("modifiers", {}).items()},
    )
