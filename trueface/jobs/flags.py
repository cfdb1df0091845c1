"""Settings as words of a command line, and back: one vocabulary for files and flags."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from launcher.api import Settings, UsageError, Words, fault_text
from trueface.data.dataset_file import read_words
from trueface.data.settings import BATCH_SIZE

# Help of the flags for user-defined words; both command lines accept them repeatedly.
WORD_HELP: Mapping[str, str] = {
    "subsets": "your own subset: names of its method folders, or patterns",
    "modifiers": "your own modifier: names of its folders in the data root, or patterns",
}
WORD_SHAPE = "WORD=FOLDER[,FOLDER]"

# Defaults of the original command line that differ from those of a queued job. It saves nothing,
# loads with all cores, and tests in batches as large as those of a training.
CLASSIC_DEFAULTS: Mapping[str, Any] = {
    "batch_size": BATCH_SIZE,
    "save_weights": False,
    "save_scores": False,
    "num_threads": -1,
}

Model = TypeVar("Model", bound=Settings)


def classic_words(settings: Mapping[str, Any], model: type[Settings]) -> Iterator[str]:
    """Yield `settings` as flags of `python -m trueface`, those with default values left out."""
    for key, usual in _default_values(model):
        if key not in settings or _are_equal(settings[key], usual):
            continue
        yield from _boolean_flag(key, settings[key]) or (f"--{key}", *_values(settings[key]))


@cache  # cached because a plan calls it thousands of times
def _default_values(model: type[Settings]) -> tuple[tuple[str, Any], ...]:
    return tuple((key, default(key, field)) for key, field in model.model_fields.items())


def words(settings: Mapping[str, Any], model: type[Settings]) -> Iterator[str]:
    """Yield `settings` as options of `trueface`, those with default values left out."""
    for key, field in model.model_fields.items():
        if key not in settings or _are_equal(settings[key], field.get_default()):
            continue
        name = key.replace("_", "-")
        yield from _boolean_flag(name, settings[key]) or (
            f"--{name}",
            ",".join(_values(settings[key])),
        )


def word_flags(own: Words) -> Iterator[str]:
    """Yield user-defined words as flags, the same on both command lines."""
    for flag, added in (("--subsets", own.subsets), ("--modifiers", own.modifiers)):
        for word, folders in added.items():
            yield from (flag, f"{word}={','.join(folders)}")


def read_word_flags(
    subsets: Iterable[str], modifiers: Iterable[str], data_root: object = None
) -> Words:
    """Return the words that flags gave as `mygan=MyGAN` or `other=A,B-*`, and those of a data root.

    Args:
        subsets: values of --subsets.
        modifiers: values of --modifiers.
        data_root: a path, whose own words apply unless a flag gives the same word; otherwise None.

    Raises:
        UsageError: an entry is not a word with folders, or a word occurs twice.
    """
    own = read_words(Path(data_root)) if isinstance(data_root, str | Path) else Words()
    return Words(
        subsets={**own.subsets, **_own_words("--subsets", subsets)},
        modifiers={**own.modifiers, **_own_words("--modifiers", modifiers)},
    )


def validate_flags(model: type[Model], values: Mapping[str, Any], *, dashes: bool = False) -> Model:
    """Return the settings that flags gave.

    Args:
        model: the vocabulary.
        values: by setting; texts, lists of texts or truths.
        dashes: how the flags are spelt in messages.

    Raises:
        UsageError: all invalid and missing values, in one message.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        lines = []
        for fault in error.errors(include_url=False):
            flag = f"--{fault['loc'][0]}" if fault["loc"] else "settings"
            flag = flag.replace("_", "-") if dashes else flag
            if fault["type"] == "missing":
                lines.append(f"{flag} is required")
            else:
                text, shown = fault_text(fault), _format_value(fault["input"])
                lines.append(f"{flag}: {text}" + ("" if shown in text else f", got {shown}"))
        raise UsageError("\n       ".join(dict.fromkeys(lines))) from error


def default(key: str, field: FieldInfo) -> Any:
    """Return the classic default of a setting, or pydantic's mark for an absent default."""
    return CLASSIC_DEFAULTS.get(key, field.get_default())


def is_truth(field: FieldInfo) -> bool:
    """Return whether a setting is true or false."""
    return field.annotation in {bool, bool | None}


def is_range(field: FieldInfo) -> bool:
    """Return whether a setting is a pair of numbers."""
    return len(get_args(field.annotation)) == 2 and isinstance(field.get_default(), tuple)


def _own_words(flag: str, texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    own: dict[str, tuple[str, ...]] = {}
    for text in texts:
        word, equals, folders = text.partition("=")
        if not (word and equals and folders):
            raise UsageError(f"{flag} {text!r}: expected {WORD_SHAPE}, such as mine=MyFolder")
        if word in own:
            raise UsageError(f"{flag} gives {word!r} twice. Give all folders of a word at once.")
        own[word] = tuple(folders.split(","))
    return own


def _boolean_flag(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, bool):
        return ()
    return (f"--{name}",) if value else (f"--no-{name}",)


def _values(value: Any) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        return (",".join(f"{word}={number}" for word, number in value.items()),)
    return tuple(map(str, value)) if isinstance(value, list | tuple) else (str(value),)


def _are_equal(value: Any, other: Any) -> bool:
    return bool(value == (list(other) if isinstance(other, tuple) else other))


def _format_value(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else repr(value)
