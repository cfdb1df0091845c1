"""The grammar of chains of corruptions, such as `jpeg50+blur1`, without importing torch.

    chain = "none" | "raw" | step ("+" step)*     `raw` is another word for `none`.
    step  = name (number ("-" number)?)?          The kind defines the range of the number.
                                                  Two numbers: any value between them.
    c23, c40                                      Other words for h264-23, h264-40.

Declarations with `@register_corruption` in the files of `kinds` are read from their text. A file is
imported when an image is corrupted.
"""

import random
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from types import MappingProxyType
from typing import Literal

from trueface.runtime.declarations import Numbered, Registry, words_of
from trueface.runtime.errors import UnknownName
from trueface.runtime.files import Json

PACKAGE = "trueface.corruptions.kinds"
NO_STRENGTH = 0.0  # strength of a corruption without a number
_DECLARED = re.compile(r"[a-z]+(?:[0-9]+-)?")  # with digits and a dash: h264-, of h264-23
NONE = "none"
RAW = "raw"  # name of this chain as a quality of a training
# names for videos, after FaceForensics++ (A. Rössler et al., arXiv 1901.08971): constant rate factors
ALIASES: Mapping[str, str] = MappingProxyType({"c23": "h264-23", "c40": "h264-40"})
MOST_STEPS = 8  # steps of a chain, because its text is part of file names
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
# a sign only to be refused; where a kind's name has a dash, the number follows it
_STEP = re.compile(rf"([a-z]+(?:[0-9]+-(?=[0-9]))?)(-?{_NUMBER})?(?:-({_NUMBER}))?")
_PLAIN = re.compile(rf"([a-z]+)(-?{_NUMBER})?(?:-({_NUMBER}))?")
_NAME = re.compile(r"[A-Za-z_]+(?:264-?)?")


@dataclass(frozen=True, slots=True)
class CorruptionSpec(Numbered):
    """Declares a kind of corruption. The function below it is a `chain.CorruptionFunction`.

    Its name has lower-case letters; digits and a dash may follow them. With `draws`, a training
    draws its random parameters again in each epoch.

    Raises:
        ValueError: a name that the grammar cannot hold, or a range without a strength.
    """

    _: KW_ONLY
    strength: str = ""  # meaning of the number, with its unit; "": it takes none
    # frames of a clip: "alike" with equal random values, "apart" with values of their own, or "together": the
    # function gets all of them, (T, 3, H, W)
    frames: Literal["alike", "apart", "together"] = "alike"
    program: str = ""  # program that must be installed, or jobs are refused; "": none

    def __post_init__(self) -> None:
        if not _DECLARED.fullmatch(self.name) or self.name in {"none", "raw"}:
            raise ValueError(
                f"corruption {self.name!r}: the name must consist of lower-case letters and must not be "
                "none or raw"
            )
        self.refuse_range()

    @property
    def number(self) -> str:
        """The strength."""
        return self.strength


register_corruption = CorruptionSpec
SPECS = Registry(PACKAGE, CorruptionSpec, decorator="register_corruption")


@dataclass(frozen=True, slots=True)
class CorruptionStep:
    """One corruption, of one strength or of any within a range."""

    name: str  # a key of `SPECS`
    strength: float
    upper: float | None = None  # the range's end; None: the strength is always the same

    def __str__(self) -> str:
        if not SPECS[self.name].strength:
            return self.name
        end = "" if self.upper is None else f"-{self.upper:g}"
        return f"{self.name}{self.strength:g}{end}"

    @property
    def json_record(self) -> dict[str, Json]:
        """The step, for the record of a test."""
        spec = SPECS[self.name]
        record: dict[str, Json] = {"kind": self.name, "summary": spec.summary}
        if spec.strength:
            record["strength"] = self.strength
        if self.upper is not None:
            record["up_to"] = self.upper
        return record

    @property
    def draws(self) -> bool:
        """Whether images of other names come out otherwise."""
        return self.upper is not None or SPECS[self.name].draws

    def draw_strength(self, rng: random.Random) -> float:
        """Return the strength, of a range one within it: each whole number, or each, as likely."""
        if self.upper is None:
            return self.strength
        if SPECS[self.name].whole:
            return float(rng.randint(int(self.strength), int(self.upper)))
        return rng.uniform(self.strength, self.upper)


def parse_steps(text: str) -> tuple[CorruptionStep, ...]:
    """Return the steps of a chain in order, none for `none` and `raw`.

    Raises:
        ValueError: an unknown kind, with the nearest name, a number that is missing, outside its
        range or superfluous, or not a chain.
    """
    if text in {NONE, RAW}:
        return ()
    too_many = "the chain has {count} corruptions, but at most {most} are allowed"
    return tuple(_step(word, text) for word in words_of(text, MOST_STEPS, too_many))


def canonical(text: str) -> str:
    """Return a chain as it is stored and as files are named: `jpeg050` is `jpeg50`.

    Raises:
        ValueError: see `parse_steps`.
    """
    return format_steps(parse_steps(text))


def format_steps(steps: Iterable[CorruptionStep]) -> str:
    """Return steps as they are written."""
    return "+".join(map(str, steps)) or NONE


def plugin_modules(text: str) -> tuple[str, ...]:
    """Return the modules of a chain's kinds: they are imported by name."""
    return SPECS.modules(step.name for step in parse_steps(text))


def missing_programs(text: str) -> tuple[str, ...]:
    """Return why a chain cannot be done on this machine: each program that it lacks, in words."""
    needed = {step.name: SPECS[step.name].program for step in parse_steps(text)}
    return tuple(
        f"{text}: {name.rstrip('-')} needs the program {program}, which is not in PATH. Install it, "
        "or leave this corruption out."
        for name, program in needed.items()
        if program and shutil.which(program) is None
    )


def describe_choices() -> str:
    """Return how each kind is written, for lists of settings."""
    return ", ".join((NONE, *(spec.example for spec in SPECS.values())))


def _step(word: str, chain: str) -> CorruptionStep:
    if not word:
        raise ValueError(
            f"{chain!r}: a corruption is missing. Write none, or for example jpeg50+blur1."
        )
    word = ALIASES.get(word, word)
    match = _STEP.fullmatch(word)
    if match is None or match[1] not in SPECS:  # jpeg30-100 has no kind jpeg30-
        match = _PLAIN.fullmatch(word)
    known = match is not None and match[1] in {*SPECS, NONE, RAW}
    name = match[1] if match and known else next(iter(_NAME.findall(word)), word)
    if name in {NONE, RAW}:
        raise ValueError(f"{chain!r}: {name} cannot be combined with other corruptions")
    if name not in SPECS:
        raise ValueError(UnknownName("corruption", name, SPECS))
    spec = SPECS[name]
    if match is None:
        raise ValueError(
            f"{word!r} is not a corruption. Write {spec.example}, and join several with +."
        )
    low = spec.value(match[2], word) or NO_STRENGTH
    if match[3] is None:
        return CorruptionStep(name, low)
    high = spec.value(match[3], word) or NO_STRENGTH
    if low > high:
        raise ValueError(f"{word}: the range falls from {low:g} to {high:g}")
    return CorruptionStep(name, low) if low == high else CorruptionStep(name, low, high)
