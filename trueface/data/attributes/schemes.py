"""What the columns of a table say: gender, race, their intersection, the forgery, and further groupings.

Seed 002 numbers the intersections in two ways. With a column isasian: 0 male-asian, 1 male-white,
2 male-black, 3 male-others, and 4 to 7 the same for nonmale; without: 0 male-white, 1 male-black,
2 male-others, and 3 to 5. Its README swaps black and white against the header: where a number
contradicts the columns, the columns count, and the contradictions are counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from trueface.data.attributes.table import FORGERY, INTERSEC, LABEL, Row, Table, refuse

GENDERS = ("male", "nonmale")
RACES = ("asian", "white", "black", "others")
EIGHT = tuple(f"{gender}-{race}" for gender, race in product(GENDERS, RACES))
SIX = tuple(f"{gender}-{race}" for gender, race in product(GENDERS, RACES[1:]))
# columns of groups that the signs give
PEOPLE = ("gender", "race", "intersec")
FORGERIES = ("real", "self", "swap", "mouth", "eyes", "soft")  # that the kind `forge` makes
_SIGN = {"1": True, "+1": True, "1.0": True, "-1": False, "-1.0": False}
_LABELS = {"0": 0, "0.0": 0, "real": 0, "1": 1, "1.0": 1, "fake": 1}


class Facts(NamedTuple):
    """What a row says."""

    label: int | None  # 1 fake, 0 real; None: nothing
    forgery: int | None  # 0 real, from 1 the kinds of forgeries; None: nothing
    values: dict[str, str]  # the other columns of groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradictions:
    """Rows whose number of an intersection is not that of their columns."""

    count: int
    line: int  # of the first
    what: str  # is wrong with it


def facts_of(table: Table) -> tuple[list[Facts], Contradictions | None]:
    """Return what each row says, and which rows contradict themselves in their number.

    Raises:
        DataError: cells that cannot be, with their lines.
    """
    faults: list[tuple[int, str]] = []
    facts: list[Facts] = []
    numbers: list[tuple[int, int, str]] = []  # line, number, intersection by the columns
    further = [name for name in table.further if not (table.has_signs and name in PEOPLE)]
    for row in table.rows:
        try:
            people = _people(table, row)
            if INTERSEC in table.header:
                numbers.append((row.line, _number(row), people["intersec"]))
            label = _label(row)
            cells = {name: row.cells[name] for name in further if name in row.cells}
            facts.append(Facts(label, _forgery(row, label), {**people, **cells}))
        except ValueError as error:
            faults.append((row.line, str(error)))
    refuse(table.file, faults)
    contradictions = _compared(table, numbers) if numbers else None
    return facts, contradictions


def _people(table: Table, row: Row) -> dict[str, str]:
    if not table.has_signs:
        return {}
    gender = GENDERS[0] if _sign(row, "ismale") else GENDERS[1]
    there = [race for race in RACES[:-1] if f"is{race}" in table.header]
    races = [race for race in there if _sign(row, f"is{race}")]
    if len(races) > 1:
        raise ValueError(f"{' and '.join(f'is{race}' for race in races)} are both 1")
    race = races[0] if races else RACES[-1]
    return {"gender": gender, "race": race, "intersec": f"{gender}-{race}"}


def _sign(row: Row, column: str) -> bool:
    text = row.cells.get(column, "")
    if text not in _SIGN:
        raise ValueError(f"{column} is {text!r}, expected 1 or -1")
    return _SIGN[text]


def _label(row: Row) -> int | None:
    text = row.cells.get(LABEL)
    if text is None:
        return None
    if text.casefold() not in _LABELS:
        raise ValueError(f"{LABEL} is {text!r}, expected 0 (real) or 1 (fake)")
    return _LABELS[text.casefold()]


def _forgery(row: Row, label: int | None) -> int | None:
    """Return the number of a forgery; that of a real image where its row says nothing."""
    text = row.cells.get(FORGERY, "").casefold()
    if not text:
        return 0 if label == 0 else None
    forgery = FORGERIES.index(text) if text in FORGERIES else _whole(text, FORGERY)
    if label is not None and (forgery > 0) != (label == 1):
        raise ValueError(f"{FORGERY} is {text}, and {LABEL} is {label}: 0 is a real image")
    return forgery


def _number(row: Row) -> int:
    return _whole(row.cells.get(INTERSEC, ""), INTERSEC)


def _whole(text: str, column: str) -> int:
    digits = text.removesuffix(".0")
    if not (digits.isdecimal() and digits.isascii() and len(digits) < 3):
        raise ValueError(f"{column} is {text!r}, expected a whole number from 0")
    return int(digits)


def _compared(table: Table, numbers: Sequence[tuple[int, int, str]]) -> Contradictions | None:
    """Compare numbers with columns under the scheme of the table.

    Raises:
        DataError: a number that the scheme has not.
    """
    scheme = _scheme(table, numbers)
    unknown = [(line, number) for line, number, _ in numbers if number >= len(scheme)]
    columns = "with" if len(scheme) == len(EIGHT) else "without"
    refuse(
        table.file,
        [
            (
                line,
                f"{INTERSEC} is {number}, and the scheme of {len(scheme)} groups ({columns} isasian) "
                f"ends at {len(scheme) - 1}",
            )
            for line, number in unknown
        ],
    )
    wrong = [(line, number, name) for line, number, name in numbers if scheme[number] != name]
    if not wrong:
        return None
    line, number, name = wrong[0]
    what = f"{INTERSEC} {number} is {scheme[number]}, and the columns say {name}"
    return Contradictions(count=len(wrong), line=line, what=what)


def _scheme(table: Table, numbers: Sequence[tuple[int, int, str]]) -> tuple[str, ...]:
    """Return which intersections numbers stand for.

    A column isasian without any 1 may stand beside numbers of six groups: they are if that explains
    every row, of two races at least, and eight groups do not.
    """
    if "isasian" not in table.header:
        return SIX
    races = {name.partition("-")[2] for _, _, name in numbers}
    explained = [
        all(number < len(scheme) and scheme[number] == name for _, number, name in numbers)
        for scheme in (SIX, EIGHT)
    ]
    return SIX if explained == [True, False] and len(races) > 1 else EIGHT


def forgery_name(number: int, *, forged: bool) -> str:
    """Return the value of the column `forgery`: a word for what the kind `forge` made, else the number."""
    return FORGERIES[number] if forged and number < len(FORGERIES) else str(number)
