"""The kind `benchmark`: one job scores one model on one set of images, in all conditions. No torch here."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from launcher.api import Draft, Role
from trueface.benchmark.conditions import (
    INDEX,
    BenchmarkSettings,
    conditions,
    contradiction,
    derive_setting,
    folder_of_cells,
)
from trueface.data.vocabulary import DataIdResolver
from trueface.jobs import feature_kind, lineage
from trueface.jobs.job_kind import LaboratoryKind, folder_of, model_of
from trueface.jobs.kinds import TEST_INPUTS
from trueface.jobs.refusals import OF_SCORING


def _outputs(draft: Draft) -> Iterator[Path]:
    """Yield the cells and the index, which is written last, and their folder.

    An attack that makes no sense for the model leaves no cell.
    """
    folder = folder_of_cells(folder_of(draft), draft.data or "")
    yield folder / INDEX
    for condition in conditions(draft.settings["corrupt"], ()):
        yield folder / condition.file
    yield folder


def _unfit(draft: Draft, makers: Sequence[Draft], vocabulary: DataIdResolver) -> Iterable[str]:
    settings = draft.settings
    asked = [*conditions(settings["corrupt"], settings["attack"])]
    transfers = [each.attack for each in asked if each.access == "transfer"]
    if transfers and not settings["surrogate"]:
        yield (
            f"attack: {', '.join(transfers)} is computed on another model. Give that model, such as "
            "surrogate: gan1:pre"
        )
    if settings["setting"] == "auto":
        return
    trained, tested = (
        lineage.origin_of_makers(makers, vocabulary),
        lineage.origin_of_test(draft, vocabulary),
    )
    if trained is None or tested is None:  # no lists yet: the job compares
        return
    for condition in asked:
        derived = derive_setting(trained, tested, condition.corrupt)
        test = f"{draft.data} ({condition.name})"
        if reason := contradiction(settings["setting"], derived, model_of(draft), test):
            yield reason
            return  # the first one is sufficient


BENCHMARK = LaboratoryKind(
    name="benchmark",
    role=Role.BENCHMARK,
    summary="score models under corruptions and attacks",
    entry="trueface.jobs.benchmark.benchmarking:benchmark",
    settings=BenchmarkSettings,
    input_readers=TEST_INPUTS,
    list_outputs=_outputs,
    refusal_checks=(*OF_SCORING, _unfit),
    list_shared_work=feature_kind.benchmark_features,
)
