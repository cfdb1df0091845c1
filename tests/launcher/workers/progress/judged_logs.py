"""Logs in the forms of real tools, and a judge of the numbers that a reader finds.

`NAME.log` in tests/launcher/data/logs is a log. `NAME.json` has its right numbers: `wanted` numbers by name, other `names`
of these, names that are `also_fine`, names and numbers that must `never` be found, and the `progress`.
"""

import fnmatch
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.documents import TREE

FOLDER = TREE / "tests" / "launcher" / "data" / "logs"
_COUNTERS = {
    "epoch",
    "step",
    "global step",
    "iteration",
    "iter",
    "it",
    "e",
}  # neither right nor wrong


class JudgedLog(NamedTuple):
    """A log with its right numbers."""

    name: str
    text: bytes
    truth: Mapping[str, Any]

    @property
    def is_common(self) -> bool:
        """Whether many people use the tool."""
        return bool(self.truth.get("common"))


class Verdict(NamedTuple):
    """The numbers that were read from a log."""

    found: list[str]
    missed: list[str]
    wrong: list[
        str
    ]  # a name or number that must never be there, or a wanted name with another value
    other: list[str]  # in no list
    progress: bool | None  # whether the step is right; None: none was read, or none is judged


def judged_logs() -> Iterator[JudgedLog]:
    """Yield all logs."""
    for file in sorted(FOLDER.glob("*.json")):
        truth = json.loads(file.read_text("utf-8"))
        yield JudgedLog(file.stem, file.with_suffix(".log").read_bytes(), truth)


def judge(
    truth: Mapping[str, Any], numbers: Mapping[str, float], step: tuple[int, int | None] | None
) -> Verdict:
    """Compare numbers and a step of a total with the truth."""
    wanted: Mapping[str, Any] = truth["wanted"]
    accepted = {name: [name, *truth.get("names", {}).get(name, [])] for name in wanted}
    found: list[str] = []
    missed: list[str] = []
    used: set[str] = set()
    for name, right in wanted.items():
        values = [float(each) for each in (right if isinstance(right, list) else [right])]
        got = {
            read
            for read, number in numbers.items()
            if (_is_one(read, accepted[name]) or _ends_as_one(read, accepted[name]))
            and any(_equal(number, value) for value in values)
        }
        used |= got
        (found if got else missed).append(name)
    wrong, other = _judge_rest(truth, numbers, used, accepted)
    return Verdict(found, missed, wrong, other, _judge_step(truth, step))


def _judge_rest(
    truth: Mapping[str, Any],
    numbers: Mapping[str, float],
    used: set[str],
    accepted: Mapping[str, list[str]],
) -> tuple[list[str], list[str]]:
    never, fine = truth.get("never", []), truth.get("also_fine", [])
    wrong_values = [float(each) for each in never if not isinstance(each, str)]
    wrong: list[str] = []
    other: list[str] = []
    for name, number in numbers.items():
        if name in used or _plain(name) in _COUNTERS or _is_one(name, fine):
            continue
        has_wanted_name = any(_is_one(name, names) for names in accepted.values())
        is_never = _is_one(name, never) or _ends_as_one(name, never)
        if has_wanted_name or is_never or any(_equal(number, value) for value in wrong_values):
            wrong.append(f"{name}={number:g}")
        elif not _ends_as_one(name, fine):
            other.append(f"{name}={number:g}")
    return wrong, other


def _judge_step(truth: Mapping[str, Any], step: tuple[int, int | None] | None) -> bool | None:
    if "progress" not in truth:
        return None
    right = truth["progress"] or []
    right = right if isinstance(right, list) else [right]
    if step is None:
        return None if right else True
    return any(step[0] == each["step"] and step[1] in {None, each.get("total")} for each in right)


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-/.:|,]+", " ", name.strip().lower()).strip()


def _is_one(name: str, patterns: Iterable[object]) -> bool:
    plain = _plain(name)
    texts = [_plain(each) for each in patterns if isinstance(each, str)]
    return any(
        plain == each or ("*" in each and fnmatch.fnmatchcase(plain, each)) for each in texts
    )


def _ends_as_one(name: str, patterns: Iterable[object]) -> bool:
    """Return whether a name is one of some behind a title: `Validation Results accuracy`."""
    texts = [_plain(each) for each in patterns if isinstance(each, str)]
    return any(each and f" {_plain(name)}".endswith(f" {each}") for each in texts)


def _equal(a: float, b: float) -> bool:
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return a == b or math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-12)


def read_text(name: str) -> str:
    """Return the text of one log."""
    return Path(FOLDER, f"{name}.log").read_text("utf-8", errors="replace")
