"""The grammar of data IDs and model IDs: parse, print, normalise.

    model id = stage ('#' stage)*
    stage    = data ['%' poison] ('~' method)* ['@' variant]
    data     = part ('&' part)*
    part     = subset ':' modifier
    poison   = percent | kind '-' percent
    variant  = key '=' value (',' key '=' value)*

A model is fine-tuned on its stages from left to right. The parts of a data ID form a union. A kind defines the meaning
of subsets and modifiers; in this module they are words.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

from launcher.system.errors import IdError
from launcher.system.files import Json

# a percentage with more than six decimals means less than one image in a hundred million
_PERCENT = r"[0-9]{1,3}(?:\.[0-9]{1,6})?"
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+\-]*")
_POISON = re.compile(rf"(?:(?P<kind>[a-z][a-z0-9]*)-)?(?P<percent>{_PERCENT})")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_VALUE = re.compile(r"[A-Za-z0-9_.+\-]+")
_PAIR = rf"{_KEY.pattern}={_VALUE.pattern}"
_DATA = re.compile(rf"{_WORD.pattern}:{_WORD.pattern}(?:&{_WORD.pattern}:{_WORD.pattern})*")
_STAGE = re.compile(
    rf"({_DATA.pattern})(?:%((?:[a-z][a-z0-9]*-)?{_PERCENT}))?((?:~{_WORD.pattern})*)"
    rf"(?:@({_PAIR}(?:,{_PAIR})*))?"
)
_PART = re.compile(r"(?:^|(?<=[&#]))([^:&#%~@]*):([^:&#%~@]*)")
_FOLDER_BYTES = 255  # the longest name of one folder on the file systems of Linux
_MARK_LETTERS = 12  # letters of a hash: two models of a run have the same one once in 10^10 studies
# IDs repeat, each model once per test set. A larger cache of whole IDs costs more than parsing
# them again; parts are few
_REMEMBERED = 1 << 9
_REMEMBERED_PARTS = 1 << 14


@dataclass(frozen=True, slots=True)
class Part:
    """One subset with one modifier, such as `gan2:pre`."""

    subset: str
    modifier: str

    def __str__(self) -> str:
        return f"{self.subset}:{self.modifier}"


@dataclass(frozen=True, slots=True)
class DataId:
    """A set of images: one or more parts, in the order in which they were written."""

    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("a data ID has at least one part")

    def __str__(self) -> str:
        return "&".join(map(str, self.parts))

    def __iter__(self) -> Iterator[Part]:
        return iter(self.parts)


class Poison(NamedTuple):
    """The percentage of training labels to flip (0 < percent <= 100), and which of them."""

    percent: str
    kind: str | None = None

    def __str__(self) -> str:
        return self.percent if self.kind is None else f"{self.kind}-{self.percent}"

    @property
    def rate(self) -> float:
        """The fraction of flipped labels, in (0, 1]."""
        return float(Decimal(self.percent) / 100)


@dataclass(frozen=True, slots=True)
class Stage:
    """One training of a model ID: data, poison, unlearning method and swept settings."""

    data: DataId
    poison: Poison | None = None
    methods: tuple[str, ...] = ()
    variant: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for method in self.methods:
            if _WORD.fullmatch(method) is None:  # the method becomes part of a folder's name
                raise ValueError(f"{method!r} is not a valid method name in an ID")

    def __str__(self) -> str:
        text = str(self.data)
        if self.poison is not None:
            text += f"%{self.poison}"
        text += "".join(f"~{method}" for method in self.methods)
        if self.variant:
            text += "@" + ",".join(f"{key}={value}" for key, value in self.variant)
        return text


@dataclass(frozen=True, slots=True)
class ModelId:
    """The name of a model: its trainings, in their order. At least one."""

    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("a model ID has at least one stage")

    def __str__(self) -> str:
        return "#".join(map(str, self.stages))

    @property
    def last(self) -> Stage:
        """The newest stage, on which the last training or unlearning worked."""
        return self.stages[-1]

    def then(self, stage: Stage) -> "ModelId":
        """Return this model fine-tuned on one more stage."""
        return ModelId((*self.stages, stage))

    def unlearned(self, method: str) -> "ModelId":
        """Return this model after `method` was applied to its last stage."""
        last = replace(self.last, methods=(*self.last.methods, method))
        return ModelId((*self.stages[:-1], last))


@lru_cache(maxsize=_REMEMBERED)
def parse_data(text: str) -> DataId:
    """Read a data ID such as `gan:pre&real:pre`.

    Raises:
        IdError: the text does not follow the grammar.
    """
    _refuse_space(text)
    return _data(text)


@lru_cache(maxsize=_REMEMBERED)
def parse_model(text: str) -> ModelId:
    """Read a model ID such as `gan:pre%50~pgu#sd:pre`.

    Raises:
        IdError: the text does not follow the grammar.
    """
    _refuse_space(text)
    try:
        return ModelId(tuple(map(_stage, text.split("#"))))
    except IdError as error:  # the error's offset is relative to the stage, not to the whole ID
        start = next(start for start, piece in _pieces(text, "#") if piece == error.text)
        raise IdError(text, start + error.offset, error.length, error.message) from None


def parse_poison(text: str) -> Poison | None:
    """Read a poison such as `50`, `2.5` or `f2r-20`. Returns None for 0 per cent.

    Raises:
        IdError: not a percentage in 0…100, or not a kind and a percentage.
    """
    return _poison(text, text, 0)


def find_word(text: str, word: str, *, modifier: bool) -> tuple[int, int] | None:
    """Return offset and length of the first subset (or modifier) `word` in an ID, or None."""
    group = 2 if modifier else 1
    for part in _PART.finditer(text):
        if part[group] == word:
            return part.start(group), len(word)
    return None


def is_word(text: str) -> bool:
    """Return whether `text` is valid in an ID as a subset, modifier or method."""
    return _WORD.fullmatch(text) is not None


def is_variant_value(text: str) -> bool:
    """Return whether `text` is valid in an ID as the value of a swept setting."""
    return _VALUE.fullmatch(text) is not None


def model_folder_name(model: str) -> str:
    """Return the name of the folder of a model, given its ID.

    It is the ID or, if that is too long for a folder, its first part and a hash of the whole ID.
    """
    if len(model) <= _FOLDER_BYTES:  # IDs are ASCII
        return model
    mark = hashlib.sha256(model.encode()).hexdigest()[:_MARK_LETTERS]
    return f"{model[: _FOLDER_BYTES - _MARK_LETTERS - 1]}.{mark}"


def normalise(model: ModelId, images: Callable[[DataId], DataId]) -> ModelId:
    """Return the model with each stage's data replaced by its elementary parts, in sorted order.

    Args:
        model: Model as written.
        images: Returns the images of a data ID as a data ID of elementary parts; a kind defines it.
            Two models made from the same images become equal.
    """
    return ModelId(
        tuple(replace(stage, data=canonical(images(stage.data))) for stage in model.stages)
    )


def canonical(data: DataId) -> DataId:
    """Return the data ID with its parts sorted and without duplicates."""
    return DataId(tuple(sorted(set(data.parts), key=str)))


def _pieces(text: str, mark: str) -> Iterator[tuple[int, str]]:
    offset = 0
    for piece in text.split(mark):
        yield offset, piece
        offset += len(piece) + 1


def _stage(text: str) -> Stage:
    if (stage := _sound_stage(text)) is not None:
        return stage
    # the fault and its offset are searched only now
    rest, at, variant_text = text.partition("@")
    head, *methods = rest.split("~")
    data_text, percent, poison_text = head.partition("%")
    data = _data(data_text, text)
    poison = _poison(poison_text, text, len(data_text) + 1) if percent else None
    position = len(head) + 1
    for method in methods:
        if _WORD.fullmatch(method) is None:
            _refuse(text, position, method, "expected an unlearning method after '~'")
        position += len(method) + 1
    variant = _variant(variant_text, text, len(rest) + 1) if at else ()
    return Stage(data, poison, tuple(methods), variant)


def _sound_stage(text: str) -> Stage | None:
    """Return a stage, or None if the text does not follow the grammar."""
    match = _STAGE.fullmatch(text)
    if match is None:
        return None
    data_text, poison_text, methods, variant_text = match.groups()
    data = DataId(tuple(map(_part, data_text.split("&"))))
    if poison_text is None and not methods and variant_text is None:
        return Stage(data)
    poison = None if poison_text is None else _sound_poison(poison_text)
    variant = [] if variant_text is None else [pair.split("=") for pair in variant_text.split(",")]
    pairs = tuple((key, value) for key, value in variant)
    if (poison_text is not None and poison is None) or len(dict(pairs)) < len(pairs):
        return None
    poison = None if poison is None or poison.percent == "0" else poison
    return Stage(data, poison, tuple(methods[1:].split("~")) if methods else (), pairs)


def _data(text: str, whole: str | None = None) -> DataId:
    if _DATA.fullmatch(text) is not None:
        return DataId(tuple(map(_part, text.split("&"))))
    # the invalid part and its offset are searched only now
    whole = text if whole is None else whole
    for start, piece in _pieces(text, "&"):
        subset, colon, modifier = piece.partition(":")
        if not colon:
            _refuse(whole, start, piece, "expected subset:modifier, as in gan2:pre")
        if _WORD.fullmatch(subset) is None:
            _refuse(whole, start, subset, "expected a subset before ':'")
        if _WORD.fullmatch(modifier) is None:
            _refuse(whole, start + len(subset) + 1, modifier, "expected a modifier after ':'")
    raise AssertionError(f"{text!r} was refused for no reason")


@lru_cache(maxsize=_REMEMBERED_PARTS)
def _part(text: str) -> Part:
    subset, _, modifier = text.partition(":")
    return Part(subset, modifier)


def _poison(text: str, whole: str, offset: int) -> Poison | None:
    poison = _sound_poison(text)
    if poison is None:
        message = "expected a percentage from 0 to 100, or kind-percent as in f2r-20"
        raise IdError(whole, offset, max(1, len(text)), message)
    return None if poison.percent == "0" else poison


@lru_cache(maxsize=_REMEMBERED_PARTS)
def _sound_poison(text: str) -> Poison | None:
    """Return a poison, including one of 0 percent, or None if the text does not follow the grammar."""
    match = _POISON.fullmatch(text)
    if match is None or Decimal(match["percent"]) > 100:
        return None
    return Poison(_canonical_percent(match["percent"]), match["kind"])


def _canonical_percent(text: str) -> str:
    whole, _, decimals = text.partition(".")
    decimals = decimals.rstrip("0")
    return f"{int(whole)}.{decimals}" if decimals else str(int(whole))


def _variant(text: str, whole: str, offset: int) -> tuple[tuple[str, str], ...]:
    pairs: dict[str, str] = {}
    for start, piece in _pieces(text, ","):
        key, equals, value = piece.partition("=")
        if not equals or _KEY.fullmatch(key) is None:
            _refuse(whole, offset + start, key, "expected key=value after '@'")
        if _VALUE.fullmatch(value) is None:
            _refuse(whole, offset + start + len(key) + 1, value, f"expected a value for {key!r}")
        if key in pairs:
            _refuse(whole, offset + start, key, f"{key!r} is given twice")
        pairs[key] = value
    return tuple(pairs.items())


def _refuse_space(text: str) -> None:
    if text.isprintable() and " " not in text:
        return
    at = next(i for i, char in enumerate(text) if char == " " or not char.isprintable())
    raise IdError(text, at, 1, "an ID cannot contain spaces")


def _refuse(whole: str, offset: int, text: str, message: str) -> NoReturn:
    raise IdError(whole, offset, max(1, len(text)), message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Subsets and modifiers that a user adds to those of a plugin package.

    Each stands for one or more folders, or patterns of folders such as `SDXL-*`.
    """

    subsets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    modifiers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.subsets or self.modifiers)

    def used_by(self, data: DataId) -> "Words":
        """Return the words that occur in `data`."""
        subsets = {part.subset for part in data}
        modifiers = {part.modifier for part in data}
        return Words(
            subsets={key: value for key, value in self.subsets.items() if key in subsets},
            modifiers={key: value for key, value in self.modifiers.items() if key in modifiers},
        )

    def to_json(self) -> dict[str, Json]:
        """Return the words as JSON; empty if there are none."""
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
