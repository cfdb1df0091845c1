"""The folders that a run's jobs made of images, by kind, with what was measured in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trueface.report.json_fields import mapping_of, text_of
from trueface.runtime.files import Json, read_json

MADE = "made"  # in a run's folder
RECORD = "made.json"
METRICS = "metrics.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A folder that a job made."""

    name: str  # entry and variant: "restored@purifier=jpeg75"
    path: Path
    kind: str
    facts: Mapping[str, Json]  # of made.json
    measures: Mapping[str, Json]  # of metrics.json; empty where there is none

    @property
    def settings(self) -> Mapping[str, Json]:
        """The settings of its job."""
        return mapping_of(self.facts, "settings")


def made_folders(run_folder: Path, kind: str) -> tuple[Made, ...]:
    """Return what jobs of a kind made in a run, by name; folders that are being made are left out."""
    place = run_folder / MADE
    if not place.is_dir():
        return ()
    return tuple(
        made
        for path in sorted(place.iterdir())
        if not path.name.startswith(".") and (made := _read(path)) is not None and made.kind == kind
    )


def tests_of(folders: Sequence[Made]) -> list[tuple[str, str]]:
    """Return the folders as the tests that a kind's table takes: no model, and a name."""
    return [("", made.name) for made in folders]


def _read(path: Path) -> Made | None:
    facts = read_json(path / RECORD)
    if facts is None:
        return None
    return Made(
        name=path.name,
        path=path,
        kind=text_of(facts, "kind"),
        facts=facts,
        measures=read_json(path / METRICS) or {},
    )
