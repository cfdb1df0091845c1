"""What a model learned from, written beside its weights: it tells of trainings of earlier runs.

A record names the lists of one training and the model from which that started; the
chain of bases gives all that a model has seen. Light to read: no weights are opened, and torch is not needed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from trueface.data.vocabulary import Vocabulary
from trueface.runtime import paths
from trueface.runtime.errors import UsageError
from trueface.runtime.files import read_json, write_json
from trueface.runtime.ids import Words, parse_data
from trueface.training.settings import solver_of

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """The images of one training or unlearning."""

    images: str  # data ID, real images included
    words: Words  # the user's own among those of the data ID
    data_root: str  # absolute, as is the next
    split_path: str
    train_sha256: str  # of the split's training list, as it was then
    # of its validation list; None: validation chose nothing, or a version until 0.2 wrote this
    val_sha256: str | None = None

    @property
    def vocabulary(self) -> Vocabulary:
        """What the words of the data ID meant then."""
        return Vocabulary(tuple(self.words.subsets.items()), tuple(self.words.modifiers.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestry:
    """What one model learned from, and from which model it started."""

    base: str | None
    # several where a training went on from its own earlier weights, or has not written its own yet
    lessons: tuple[Lesson, ...]


_RECORD = TypeAdapter(Ancestry)


def write(folder: Path, base: str | None, lessons: Sequence[Lesson]) -> None:
    """Write what the model in `folder` learned from; a repeated lesson is written once."""
    once = tuple(lesson for place, lesson in enumerate(lessons) if lesson not in lessons[:place])
    record = _RECORD.dump_python(Ancestry(base=base, lessons=once), mode="json")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(paths.ancestry(folder), {"schema": SCHEMA, **record})


def begin(
    folder: Path, base: str | None, lesson: Lesson, *, further: bool = False
) -> Callable[[], None]:
    """Write that the model in `folder` is being made; return what to call once its weights are.

    Until then the weights there are older ones, if any: what these have seen stays written, as
    whoever makes the new ones may be killed before they are there.

    Args:
        folder: of the model.
        base: the model from which it starts.
        lesson: what it learns from now.
        further: it goes on from its own weights, so that it has seen what they had seen for good.
    """
    earlier = read(folder) if paths.checkpoint(folder).exists() else None
    before = earlier.lessons if earlier else ()
    write(folder, base, (*before, lesson))
    return partial(write, folder, base, (*(before if further else ()), lesson))


def read(folder: Path) -> Ancestry | None:
    """Return what the model in `folder` learned from; None where nothing sound says it."""
    try:
        record = read_json(paths.ancestry(folder))
        if record is None or record.pop("schema", None) != SCHEMA:
            return None
        ancestry = _RECORD.validate_python(record)
        for lesson in ancestry.lessons:
            lesson.vocabulary.as_named(parse_data(lesson.images))
    except (OSError, ValueError, ValidationError, UsageError):
        return None
    return ancestry


def follow(
    model: str, ancestry_of: Callable[[str], Ancestry | None]
) -> Iterator[tuple[str, Lesson]]:
    """Yield every lesson of a model and of those it comes from, each with the model that had it.

    Args:
        model: its ID.
        ancestry_of: reads what is written of a model.
    """
    seen: set[str] = set()
    name: str | None = model
    while name is not None and name not in seen:
        seen.add(name)
        ancestry = ancestry_of(name)
        if ancestry is None:
            return
        for lesson in ancestry.lessons:
            yield name, lesson
        name = ancestry.base


def validation_decides(settings: Mapping[str, Any], *, unlearns: bool) -> bool:
    """Tell whether validation had a say in which weights a model has.

    Args:
        settings: of the training or unlearning.
        unlearns: methods of unlearning choose by validation, whichever epoch a training keeps.
    """
    lowers_rate = (
        settings.get("schedule", "plateau") == "plateau" and settings.get("lr_decay_epochs", -1) > 0
    )
    if not unlearns and solver_of(settings) == "ridge":
        return not settings.get("penalty")
    stops = settings.get("early_stop", 0) > 0
    return unlearns or settings.get("select") != "last" or stops or lowers_rate
