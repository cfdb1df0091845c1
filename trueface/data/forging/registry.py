"""Types of forgery by name and number: nothing of them is imported here.

What `@register_forgery` says in the files of `types` is read from their text; a file is imported
when a face is forged.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from types import MappingProxyType
from typing import Any, Literal

from trueface.runtime.declarations import Declared, Registry
from trueface.runtime.errors import UnknownName

PACKAGE = "trueface.data.forging.types"
SELF = "self"  # type that replaces one that needs a donor, if there is no donor

FacePart = Literal["face", "mouth", "eyes"]


@dataclass(frozen=True, slots=True)
class ForgerySpec(Declared):
    """Declares a type of forgery, without its code; the function below it makes the source, see `blending.ForgerySource`.

    Raises:
        ValueError: a name or number that tables cannot hold.
    """

    name: str  # lower-case letters; part of a folder's name
    _: KW_ONLY
    number: int  # in column spe_label of Fairness-Generalization's tables, from 1; 0 is real
    summary: str  # a few words for lists
    part: FacePart = "face"  # replaced part of the face
    needs_donor: bool = False  # another face of the same group and list
    matches_colour: bool = False  # the source takes mean and deviation of the face's colours

    def __post_init__(self) -> None:
        name, number = self.name, self.number
        if not (name.isascii() and name.isalpha() and name.islower()) or number < 1:
            raise ValueError(
                f"{name!r}, {number}: the name of a type consists of lower-case letters, and its "
                "number is at least 1"
            )

    @property
    def folder(self) -> str:
        """The folder of its images below Fake/."""
        return f"Forged-{self.name}"


register_forgery = ForgerySpec
_READ = Registry(PACKAGE, ForgerySpec, decorator="register_forgery")
# by name, in the order of their numbers
SPECS: Mapping[str, ForgerySpec] = MappingProxyType(
    {spec.name: spec for spec in sorted(_READ.values(), key=lambda spec: spec.number)}
)
NUMBERS: Mapping[int, ForgerySpec] = MappingProxyType(
    {spec.number: spec for spec in SPECS.values()}
)


def parse_types(text: str) -> tuple[ForgerySpec, ...]:
    """Return the types in a text such as "1-5", "1,3" or "self,swap", by number, each once.

    Raises:
        ValueError: the text names no type.
        UnknownName: there is no such type.
    """
    named: set[int] = set()
    for word in filter(None, (part.strip() for part in text.split(","))):
        first, dash, last = word.partition("-")
        if first.isdecimal() and (not dash or last.isdecimal()):
            numbers = range(int(first), int(last or first) + 1)
            if not numbers:
                raise ValueError(f"types {word!r} count down from {first} to {last}")
            named.update(_type_number(str(number)) for number in numbers)
        else:
            named.add(_type_number(word))
    if not named:
        raise ValueError(f"types {text!r} is empty: choose from {describe_choices()}")
    return tuple(NUMBERS[number] for number in sorted(named))


def canonical_types(text: str) -> str:
    """Return the same types as a text that is equal for equal types: "1,3,5" or "1-5"."""
    numbers = [spec.number for spec in parse_types(text)]
    first, last = numbers[0], numbers[-1]
    if len(numbers) > 1 and numbers == list(range(first, last + 1)):
        return f"{first}-{last}"
    return ",".join(map(str, numbers))


def describe_choices() -> str:
    """Return the types in words."""
    return ", ".join(f"{spec.number} {spec.name} ({spec.summary})" for spec in SPECS.values())


def find_source(name: str) -> Callable[..., Any]:
    """Import the file of a type; return its function."""
    return _READ.load(name)  # type: ignore[no-any-return]  # what a file holds


def plugin_modules(types: Iterable[ForgerySpec]) -> tuple[str, ...]:
    """Return the modules that types stand for: they are imported by name."""
    return _READ.modules(spec.name for spec in types)


def _type_number(word: str) -> int:
    if word in SPECS:
        return SPECS[word].number
    if word.isdecimal() and int(word) in NUMBERS:
        return int(word)
    raise UnknownName("type of forgery", word, (*SPECS, *map(str, NUMBERS)))
