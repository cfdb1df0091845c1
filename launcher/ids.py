"""The grammar of data IDs and model IDs: parse, print, normalise.

    model id = stage ('#' stage)*                                 fine-tuned from left to right
    stage    = data ['%' poison] ('~' method)* ['@' variant]
    data     = part ('&' part)*                                   union
    part     = subset ':' modifier
    poison   = percent | kind '-' percent
    variant  = key '=' value (',' key '=' value)*

What a subset or a modifier is, a kind knows; here they are words.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal

from launcher.errors import IdError

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+\-]*")
_PERCENT = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_POISON = re.compile(r"(?:(?P<kind>[a-z][a-z0-9]*)-)?(?P<percent>[0-9]+(?:\.[0-9]+)?)")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_VALUE = re.compile(r"[A-Za-z0-9_.+\-]+")


@dataclass(frozen=True, slots=True)
class Part:
    """One subset under one modifier: `gan2:pre`."""

    subset: str
    modifier: str

    def __str__(self) -> str:
        return f"{self.subset}:{self.modifier}"


@dataclass(frozen=True, slots=True)
class DataId:
    """A union of parts, in the order in which they were written; never empty."""

    parts: tuple[Part, ...]

    def __str__(self) -> str:
        return "&".join(map(str, self.parts))

    def __iter__(self) -> Iterator[Part]:
        return iter(self.parts)


@dataclass(frozen=True, slots=True)
class Poison:
    """Which share of the training labels is wrong, in percent (0 < percent <= 100), and how."""

    percent: str
    kind: str | None = None

    def __str__(self) -> str:
        return self.percent if self.kind is None else f"{self.kind}-{self.percent}"

    @property
    def rate(self) -> float:
        """The share as a number in (0, 1]."""
        return float(Decimal(self.percent) / 100)


@dataclass(frozen=True, slots=True)
class Stage:
    """One training: its data, how it was poisoned, what was then unlearned, its swept settings."""

    data: DataId
    poison: Poison | None = None
    methods: tuple[str, ...] = ()
    variant: tuple[tuple[str, str], ...] = ()

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
    """A model, named by what it was made from; never empty."""

    stages: tuple[Stage, ...]

    def __str__(self) -> str:
        return "#".join(map(str, self.stages))

    @property
    def last(self) -> Stage:
        """The newest stage: what the last training or unlearning worked on."""
        return self.stages[-1]

    def then(self, stage: Stage) -> "ModelId":
        """Return this model fine-tuned on one more stage."""
        return ModelId((*self.stages, stage))

    def unlearned(self, method: str) -> "ModelId":
        """Return this model after `method` was applied to its last stage."""
        last = replace(self.last, methods=(*self.last.methods, method))
        return ModelId((*self.stages[:-1], last))


def parse_data(text: str) -> DataId:
    """Read a data ID such as `gan:pre&real:pre`.

    Raises:
        IdError: the text does not follow the grammar.
    """
    return _data(text, text, 0)


def parse_model(text: str) -> ModelId:
    """Read a model ID such as `gan:pre%50~pgu#sd:pre`.

    Raises:
        IdError: the text does not follow the grammar.
    """
    stages = []
    for offset, piece in _pieces(text, "#", 0):
        stages.append(_stage(text, piece, offset))
    return ModelId(tuple(stages))


def parse_poison(text: str) -> Poison | None:
    """Read a poison such as `50`, `2.5` or `f2r-20`; 0 percent is no poison and gives None.

    Raises:
        IdError: not a percentage in 0…100, or not a kind and a percentage.
    """
    return _poison(text, text, 0)


def is_word(text: str) -> bool:
    """Tell whether `text` may stand in an ID as a subset, modifier or method."""
    return _WORD.fullmatch(text) is not None


def normalise(model: ModelId, images: Callable[[DataId], DataId]) -> ModelId:
    """Return the model with each stage's data replaced by what it stands for, in sorted order.

    Args:
        model: the model as written.
        images: says which images a data ID means, as a data ID of elementary parts; a kind
            knows. Two models that were made from the same images become equal.
    """
    return ModelId(
        tuple(
            replace(stage, data=canonical(images(stage.data))) for stage in model.stages
        )
    )


def canonical(data: DataId) -> DataId:
    """Return the same union with its parts sorted and repeated parts left out."""
    return DataId(tuple(sorted(set(data.parts), key=str)))


def _pieces(text: str, mark: str, offset: int) -> Iterator[tuple[int, str]]:
    for piece in text.split(mark):
        yield offset, piece
        offset += len(piece) + 1


def _stage(whole: str, text: str, offset: int) -> Stage:
    rest, at, variant_text = text.partition("@")
    variant = _variant(whole, variant_text, offset + len(rest) + 1) if at else ()
    head, *methods = rest.split("~")
    data_text, percent, poison_text = head.partition("%")
    data = _data(whole, data_text, offset)
    poison = _poison(whole, poison_text, offset + len(data_text) + 1) if percent else None
    position = offset + len(head) + 1
    for method in methods:
        _expect(_WORD, whole, method, position, "an unlearning method after '~'")
        position += len(method) + 1
    return Stage(data, poison, tuple(methods), variant)


def _data(whole: str, text: str, offset: int) -> DataId:
    parts = []
    for start, piece in _pieces(text, "&", offset):
        subset, colon, modifier = piece.partition(":")
        if not colon:
            raise IdError(
                whole, start, max(1, len(piece)), "expected subset:modifier, as in gan2:pre,"
            )
        _expect(_WORD, whole, subset, start, "a subset before ':'")
        _expect(_WORD, whole, modifier, start + len(subset) + 1, "a modifier after ':'")
        parts.append(Part(subset, modifier))
    return DataId(tuple(parts))


def _poison(whole: str, text: str, offset: int) -> Poison | None:
    found = _POISON.fullmatch(text)
    if found is None or Decimal(found["percent"]) > 100:
        raise IdError(
            whole, offset, max(1, len(text)), "expected a percentage from 0 to 100, or kind-percent"
        )
    percent = _canonical_percent(found["percent"])
    return None if percent == "0" else Poison(percent, found["kind"])


def _canonical_percent(text: str) -> str:
    plain = format(Decimal(text).normalize(), "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def _variant(whole: str, text: str, offset: int) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []
    for start, piece in _pieces(text, ",", offset):
        key, _, value = piece.partition("=")
        _expect(_KEY, whole, key, start, "key=value after '@'")
        _expect(_VALUE, whole, value, start + len(key) + 1, f"a value for {key!r}")
        if key in dict(pairs):
            raise IdError(whole, start, len(key), f"{key!r} is given twice")
        pairs.append((key, value))
    return tuple(pairs)


def _expect(pattern: re.Pattern[str], whole: str, text: str, offset: int, what: str) -> None:
    if pattern.fullmatch(text) is None:
        raise IdError(whole, offset, max(1, len(text)), f"expected {what}")
