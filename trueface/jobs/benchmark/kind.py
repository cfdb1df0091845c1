"""The kind `benchmark`: one job scores one model on one set of images, in all conditions. No torch here."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from launcher.api import Draft, Role
from trueface.benchmark import cells
from trueface.benchmark.conditions import conditions, contradiction, derive
from trueface.benchmark.settings import BenchmarkSettings
from trueface.data.vocabulary import Vocabulary
from trueface.jobs import shared_features
from trueface.jobs.benchmark import origins
from trueface.jobs.job_kind import folder_of, model_of
from trueface.jobs.kinds import LaboratoryKind, test_inputs
from trueface.jobs.refusals import unfit_scoring


def _outputs(draft: Draft) -> Iterator[Path]:
    """Yield the cells and the index, which is written last, and their folder.

    An attack that makes no sense for the model leaves no cell.
    """
    folder = cells.folder_of(folder_of(draft), draft.data or "")
    yield folder / cells.INDEX
    for condition in conditions(draft.settings["corrupt"], ()):
        yield folder / cells.file_of(condition)
    yield folder


def _unfit(draft: Draft, makers: Sequence[Draft], vocabulary: Vocabulary) -> Iterable[str]:
    yield from unfit_scoring(draft, makers, vocabulary)
    settings = draft.settings
    asked = [*conditions(settings["corrupt"], settings["attack"])]
    if not settings["surrogate"] and (
        transfers := [each.attack for each in asked if each.access == "transfer"]
    ):
        yield (
            f"attack: {', '.join(transfers)} is computed on another model; name it, as in "
            "surrogate: gan1:pre"
        )
    if settings["setting"] == "auto":
        return
    trained, tested = origins.of_makers(makers, vocabulary), origins.of_test(draft, vocabulary)
    if trained is None or tested is None:  # no lists yet: the job compares
        return
    for condition in asked:
        derived = derive(trained, tested, condition.corrupt)
        test = f"{draft.data} ({condition.name})"
        if reason := contradiction(settings["setting"], derived, model_of(draft), test):
            yield reason
            return  # the first tells enough


BENCHMARK = LaboratoryKind(
    name="benchmark",
    role=Role.BENCHMARK,
    summary="score models under corruptions and attacks",
    entry="trueface.jobs.benchmark.benchmarking:benchmark",
    settings=BenchmarkSettings,
    means=Vocabulary.as_named,
    reads=test_inputs,
    makes=_outputs,
    line=lambda _: (),
    refuses=_unfit,
    repeats=shared_features.of_benchmark,
)
