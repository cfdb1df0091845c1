"""The parts of trainings by name, as declared in their files, without importing torch.

Arguments of `@register_part` are read from the text of the files of this folder. Planning therefore
knows incompatible parts, and settings of a part are settings of every training.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, TypeVar

from trueface.data.augmentations.registry import ALLOWED, extend_settings
from trueface.runtime.declarations import Declared, Registry
from trueface.runtime.field_types import Settings

PACKAGE = "trueface.training.parts"

Base = TypeVar("Base", bound=Settings)


@dataclass(frozen=True, slots=True)
class PartSpec(Declared):
    """Declares a part of trainings; the class below it is a `protocol.Part`."""

    name: str  # for conflicts of others
    _: KW_ONLY
    # settings of which one that is not empty, none, false or 0 means that a training has this part
    chosen_by: tuple[str, ...] = ()
    # other part or setting → why they do not go together. The names of settings in braces, and `model`,
    # are replaced by their values
    conflicts: Mapping[str, str] = field(default_factory=dict)
    # become settings of every training; each has a default that changes nothing, and with another value
    # the training has this part
    settings: type[Settings] = Settings

    def is_set(self, settings: Mapping[str, Any]) -> bool:
        """Return whether one of its own settings differs from its default."""
        fields = self.settings.model_fields.items()
        return any(
            settings.get(key, each.get_default()) != each.get_default() for key, each in fields
        )


register_part = PartSpec
PARTS = Registry(PACKAGE, PartSpec, decorator="register_part", modules=(*ALLOWED, __name__))


def with_parts(base: type[Base]) -> type[Base]:
    """Return `base` with the settings of all registered parts.

    Raises:
        DeclarationError: two of them, or one and `base`, have a setting of the same name, or one
        has
            no default.
    """
    own = {name: part for name, part in PARTS.items() if part.settings.model_fields}
    settings_class = extend_settings(base, own, PARTS.declared)
    for part in own.values():
        settings_class.added |= frozenset(part.settings.model_fields)
    return settings_class


def further_parts(settings: Settings) -> Iterator[Any]:
    """Import and yield the parts with settings of their own that a training has, in the order of their names."""
    values = settings.model_dump()
    return (PARTS.load(name) for name, part in PARTS.items() if part.is_set(values))


def conflicts(settings: Mapping[str, Any], others: Iterable[str], model: str) -> Iterator[str]:
    """Yield why parts and settings of a training do not go together.

    Args:
        settings: of the training, complete.
        others: names of parts that it has for another reason than a setting.
        model: what it makes, for the sentences.
    """
    further = set(others)
    given = {name for name, value in settings.items() if value and value != "none"} | further
    there = {
        name
        for name, part in PARTS.items()
        if name in further or part.is_set(settings) or not given.isdisjoint(part.chosen_by)
    } | (given - PARTS.keys())  # a setting may have the name of a part that it does not choose
    for name, part in PARTS.items():
        for other, sentence in part.conflicts.items():
            if {name, other} <= there:
                yield sentence.format_map({**settings, "model": model})
