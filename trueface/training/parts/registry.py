"""The parts of trainings by name, as their files declare them: nothing of torch is imported.

What `@register_part` says is read from the text of the files of this folder. So plans know which parts
go with which, and settings of a part are settings of every training.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from trueface.data.augmentations.registry import ALLOWED, extended
from trueface.runtime.declarations import read_declarations
from trueface.runtime.field_types import Settings

PACKAGE = "trueface.training.parts"

Base = TypeVar("Base", bound=Settings)
Class = TypeVar("Class", bound=type)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSpec:
    """What is known of a part without importing it."""

    name: str
    chosen_by: tuple[str, ...] = ()  # settings: with one of them a training has this part
    conflicts: Mapping[str, str] = field(default_factory=dict)  # other part or setting → sentence
    settings: type[Settings] = Settings  # its own, beside those that every training has

    def is_set(self, settings: Mapping[str, Any]) -> bool:
        """Tell whether one of its own settings has another value than its default."""
        fields = self.settings.model_fields.items()
        return any(
            settings.get(key, each.get_default()) != each.get_default() for key, each in fields
        )

    def __call__(self, part: Class) -> Class:
        """Leave the decorated class as it is."""
        return part


def register_part(
    name: str,
    *,
    chosen_by: tuple[str, ...] = (),
    conflicts: Mapping[str, str] | None = None,
    settings: type[Settings] = Settings,
) -> PartSpec:
    """Declare a part of trainings; the class below it is a `protocol.Part`.

    Args:
        name: of the part, for conflicts of others.
        chosen_by: settings of which one that is not empty, none, false or 0 means that a training has it.
        conflicts: why it does not go with another part or setting, by that one's name. The names of
            settings in braces, and `model`, are replaced by their values.
        settings: become settings of every training; each has a default that changes nothing, and
            with another value the training has this part.
    """
    return PartSpec(
        name=name,
        chosen_by=chosen_by,
        conflicts=dict(conflicts or {}),
        settings=settings,
    )


DECLARED = read_declarations(PACKAGE, "register_part", modules=(*ALLOWED, __name__))
PARTS = {name: DECLARED[name].pass_to(register_part) for name in sorted(DECLARED)}


def with_parts(base: type[Base]) -> type[Base]:
    """Return `base` with the settings of all registered parts.

    Raises:
        DeclarationError: two of them, or one and `base`, have a setting of the same name, or one has
            no default.
    """
    own = {name: part for name, part in PARTS.items() if part.settings.model_fields}
    made = extended(base, own, DECLARED)
    for part in own.values():
        made.added |= frozenset(part.settings.model_fields)
    return made


def further_parts(settings: Settings) -> Iterator[Any]:
    """Import and yield the parts with settings of their own that a training has, in the order of their names."""
    values = settings.model_dump()
    return (DECLARED[name].load() for name, part in PARTS.items() if part.is_set(values))


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
