"""What `erased` writes, `metrics.json`, and how it is read again; no torch here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueface.erasing.measures.verdict import Point
from trueface.runtime.errors import DataError
from trueface.runtime.files import read_json
from trueface.runtime.ids import model_folder_name, parse_model

METRICS = "metrics.json"
SHEET = "samples.png"
SCHEMA = 1

TEACHER, NEVER = "teacher", "never"  # labels of models that no method made
# settings that do not tell methods apart
NOT_OF_THE_METHOD = frozenset({"seed", "concept", "anchor"})


def method_label(diffuser: str, teacher: str) -> str:
    """Return what a measured model is called in tables.

    "teacher", the name of the method with those of its swept settings that are no seed or concept
    ("abo@penalty=0"), or "never" for another model that no method made.
    """
    if diffuser == teacher:
        return TEACHER
    stage = parse_model(diffuser).last
    if not stage.methods:
        return NEVER
    shared = {pair for each in parse_model(teacher).stages for pair in each.variant}
    own = [
        f"{key}={value}"
        for key, value in stage.variant
        if key not in NOT_OF_THE_METHOD and (key, value) not in shared
    ]
    name = "~".join(stage.methods)
    return f"{name}@{','.join(own)}" if own else name


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A `metrics.json`."""

    facts: Mapping[str, Any]

    @property
    def key(self) -> tuple[str, str, str]:
        """What seeds are pooled over: method, concept, anchor."""
        return str(self.facts["method"]), str(self.facts["concept"]), str(self.facts["anchor"])

    def number(self, name: str) -> float | None:
        """Return a measure, or another number of the record; None where there is none."""
        value = (self.facts.get("measures") or {}).get(name, self.facts.get(name))
        if isinstance(value, Mapping):
            value = value.get("value")
        return float(value) if isinstance(value, int | float) else None

    def points(self, name: str) -> tuple[Point, ...]:
        """Return a curve: "recovery", "recovery_floor" or "recovery_ceiling"."""
        rows: Sequence[Mapping[str, Any]] = self.facts.get(name) or ()
        return tuple(
            Point(images=int(row["images"]), steps=int(row["steps"]), rate=float(row["rate"]))
            for row in rows
        )

    def most(self, name: str) -> float | None:
        """Return the rate of a curve at most images and steps; None of no curve."""
        points = self.points(name)
        if not points:
            return None
        return max(points, key=lambda point: (point.images, point.steps)).rate


def read_record(run_folder: Path, name: str) -> Record:
    """Return the record of a measured model, by the name of its made folder.

    Raises:
        DataError: there is none, or it is of another form.
    """
    path = run_folder / "made" / model_folder_name(name) / METRICS
    facts = read_json(path)
    if facts is None:
        raise DataError(f"there is no {path}: a job of kind erased writes it")
    needed = ("method", "concept", "anchor", "measures", "recovery")
    missing = [key for key in needed if key not in facts]
    if facts.get("schema") != SCHEMA or missing:
        raise DataError(f"{path} is no record of schema {SCHEMA}; run the job of kind erased anew")
    return Record(facts=facts)
