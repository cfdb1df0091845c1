"""Toy kinds that make folders: `bend` from a folder with the help of models, `blend` from two folders."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.api import Draft, Input, Job, Json, Kind, Role, Settings, write_atomic
from tests.launcher.toylab import Toy, laboratory


class BendSettings(Settings):
    """A toy that bends the words of a folder as a model likes it."""

    neutral = frozenset({"threads"})
    folders = ("source",)
    models = ("model", "judge")

    source: str = "data/toys"
    model: str = ""
    judge: str = ""
    by: str = "left"
    lr: float = 0.0
    threads: int = 1
    results: bool = False


class BlendSettings(Settings):
    """A toy that blends two folders."""

    folders = ("source", "other")

    source: str
    other: str = ""
    by: str = "left"


@dataclass(frozen=True, kw_only=True)
class FolderToy(Toy):
    """A toy that makes a folder."""

    def inputs(self, draft: Draft) -> tuple[Input, ...]:
        """Return the folders and models that the settings name."""
        named = [draft.settings.get(name) for name in self.settings.folders]
        folders = [Input(path=draft.path(str(path)), what="the source") for path in named if path]
        models = [draft.settings[name] for name in self.settings.models]
        return (
            *folders,
            *(
                Input(path=draft.model_folder(str(model)) / "model.json", what="the model")
                for model in models
                if model
            ),
        )

    def outputs(self, draft: Draft) -> tuple[Path, ...]:
        """Return the folder, and the file that is written last."""
        return (draft.made_folder(), draft.made_folder() / "made.json")


def folder_kinds(prefix: str = "") -> dict[str, Kind]:
    """Return the kinds by their names."""
    kinds: list[Kind] = [
        FolderToy(
            name=f"{prefix}bend",
            role=Role.FOLDER,
            entry=f"{__name__}:bend",
            settings=BendSettings,
            results=f"{__name__}:table",
        ),
        FolderToy(
            name=f"{prefix}blend",
            role=Role.FOLDER,
            entry=f"{__name__}:bend",
            settings=BlendSettings,
        ),
    ]
    return {kind.name: kind for kind in kinds}


def bend(job: Job) -> Mapping[str, Json]:
    """Write the words of the sources, each marked by the job."""
    words = []
    for name in ("source", "other"):
        if folder := job.settings.get(name):
            files = sorted(job.path(str(folder)).glob("*.txt"))
            words += [
                f"{job.settings['by']}-{word}"
                for file in files
                for word in file.read_text().split()
            ]
    folder = Path(job.outputs[0])
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "words.txt", "\n".join(words))
    write_atomic(folder / "made.json", json.dumps({"words": len(words)}))
    return {"words": len(words)}


def table(run_folder: Path, tests: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return how many words each folder has."""
    rows = []
    for model, name in tests:
        made = json.loads((run_folder / "made" / name / "made.json").read_text())
        rows.append(
            {
                "method": name,
                "words": made["words"],
                "share": made["words"] / 7,
                "model": model or None,
            }
        )
    return rows


KINDS: Mapping[str, Kind] = {**laboratory(), **folder_kinds()}
# The kinds of an installed toy laboratory in the entry-point group `launcher.kinds`.
BEND, BLEND = folder_kinds("toy").values()
