"""Detectors that a run trained on images made of disrupted, purified and clean ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trueface.evaluation.score_tables import without_seed
from trueface.report.generation.made_folders import MADE, RECORD
from trueface.report.json_fields import mapping_of, number_of, text_of
from trueface.runtime import paths
from trueface.runtime.files import Json, read_json
from trueface.runtime.ids import model_folder_name

CLEAN, DISRUPTED, PURIFIED = "clean", "disrupted", "purified"
KINDS = {"disrupt": DISRUPTED, "purify": PURIFIED}
LONGEST_CHAIN = 8  # of folders made of folders


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """Detectors that differ in nothing but their seed, on one test."""

    model: str
    trained_on: str  # "clean", "disrupted", "purified (jpeg75)"
    tested_on: str
    auc: tuple[float, ...]  # of each seed
    accuracy: tuple[float, ...]

    @property
    def record(self) -> dict[str, Json]:
        """What `--json` prints of it."""
        return {
            "model": self.model,
            "trained_on": self.trained_on,
            "data": self.tested_on,
            "auc": [*self.auc],
            "accuracy": [*self.accuracy],
        }


def detectors(run_folder: Path, rows: Sequence[Mapping[str, Json]]) -> tuple[Detector, ...]:
    """Return the detectors of a run, those trained on clean images first.

    Args:
        run_folder: runs/<run>.
        rows: of `launcher results`; rows that pool others are left out.
    """
    groups: dict[tuple[str, str, str], list[Mapping[str, Json]]] = {}
    for row in rows:
        if row.get("pooled") is not False:
            continue
        model = text_of(row, "model")
        key = without_seed(model), trained_on(run_folder, model), text_of(row, "data")
        groups.setdefault(key, []).append(row)
    made = [
        Detector(
            model=model,
            trained_on=condition,
            tested_on=data,
            auc=_values(of, "auc"),
            accuracy=_values(of, "accuracy"),
        )
        for (model, condition, data), of in groups.items()
    ]
    return tuple(sorted(made, key=lambda each: each.trained_on != CLEAN))


def trained_on(run_folder: Path, model: str) -> str:
    """Return from which images the training images of a detector were made.

    Its data root is a folder that a job made of others; `made.json` of each names its source.
    """
    provenance = read_json(paths.provenance(run_folder / model_folder_name(model))) or {}
    root = Path(text_of(provenance, "data_root"))
    project = run_folder.parent.parent
    for _ in range(LONGEST_CHAIN):
        facts = read_json(root / RECORD) if root.parent.name == MADE else None
        if facts is None:
            break
        kind = text_of(facts, "kind")
        if kind in KINDS:
            purifier = text_of(mapping_of(facts, "settings"), "purifier")
            return f"{PURIFIED} ({purifier})" if kind == "purify" else KINDS[kind]
        root = project / text_of(facts, "source")
    return CLEAN


def _values(rows: Sequence[Mapping[str, Json]], name: str) -> tuple[float, ...]:
    values = (number_of(mapping_of(row, name), "value") for row in rows)
    return tuple(value for value in values if value is not None)
