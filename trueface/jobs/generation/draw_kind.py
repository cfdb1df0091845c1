"""The kind `draw`: one job draws images that generators learn from. No torch here."""

from collections.abc import Iterator
from pathlib import Path

from launcher.api import Draft, Input, Role
from trueface.data.drawn.settings import MARK, DrawSettings
from trueface.jobs.generation.generation_kind import GenerationKind


def _inputs(draft: Draft) -> Iterator[Input]:
    if draft.settings["source"]:
        yield Input(path=draft.path(draft.settings["source"]), what="the folder of photographs")
    if draft.settings["attributes"]:
        yield Input(
            path=draft.path(draft.settings["attributes"]), what="the table of their attributes"
        )


def _outputs(draft: Draft) -> Iterator[Path]:
    """Yield the data root, and the mark in it: both appear at once."""
    data_root = draft.path(draft.settings["data_root"])
    yield data_root
    yield data_root / MARK


DRAW = GenerationKind(
    name="draw",
    role=Role.DATA,
    summary="draw portraits or shapes, or make photographs smaller, for generators",
    entry="trueface.jobs.generation.draw:draw",
    settings=DrawSettings,
    reads=_inputs,
    makes=_outputs,
)
