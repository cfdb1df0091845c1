"""The kind `benchmark`: one job scores one model on one set of images, in all conditions. No torch here."""

from collections.abc import Iterator
from pathlib import Path

from launcher.api import Draft, Role
from trueface.benchmark.conditions import (
    INDEX,
    BenchmarkSettings,
    conditions,
    folder_of_cells,
)
from trueface.jobs import feature_kind
from trueface.jobs.benchmark.rules import RULES
from trueface.jobs.clip_parts import inherited_clips
from trueface.jobs.job_kind import LaboratoryKind, folder_of
from trueface.jobs.kinds import TEST_INPUTS


def _outputs(draft: Draft) -> Iterator[Path]:
    """Yield the cells and the index, which is written last, and their folder.

    An attack that makes no sense for the model leaves no cell.
    """
    folder = folder_of_cells(folder_of(draft), draft.data or "")
    yield folder / INDEX
    for condition in conditions(draft.settings["corrupt"], ()):
        yield folder / condition.file
    yield folder


BENCHMARK = LaboratoryKind(
    name="benchmark",
    role=Role.BENCHMARK,
    summary="score models under corruptions and attacks",
    entry="trueface.jobs.benchmark.benchmarking:benchmark",
    settings=BenchmarkSettings,
    input_readers=TEST_INPUTS,
    list_outputs=_outputs,
    list_inherited=inherited_clips,
    rules=RULES["benchmark"],
    list_shared_work=feature_kind.benchmark_features,
)
