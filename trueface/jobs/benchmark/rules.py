"""The rules and checks of the job type `benchmark`: no torch here. See `trueface.jobs.rule`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from launcher.api import Draft
from trueface.benchmark.clip_lengths import describe_input, incomparable
from trueface.benchmark.conditions import Condition, conditions, contradiction, derive_setting
from trueface.data.clips import Clips
from trueface.data.vocabulary import DataIdResolver
from trueface.jobs.clip_parts import clips_of
from trueface.jobs.rule import PlanCheck, Rule
from trueface.jobs.rules import SCORING


def _refuse_missing_surrogate(draft: Draft) -> Iterator[str]:
    """Refuse attacks that are computed on another model, if none is given."""
    requested = conditions(draft.settings["corrupt"], draft.settings["attack"])
    attacks = [str(each.attack) for each in requested if each.access == "transfer"]
    if attacks and not draft.settings["surrogate"]:
        yield (
            f"attack: {', '.join(attacks)} is computed on another model. Give that model, such as "
            "surrogate: gan1:pre"
        )


@PlanCheck
def check_tier(draft: Draft, makers: Sequence[Draft], vocabulary: DataIdResolver) -> Iterable[str]:
    """Yield that a benchmark tier contradicts what the model knows of the test."""
    from trueface.jobs import lineage  # the start of a job does not need it

    settings = draft.settings
    if settings["setting"] == "auto":
        return
    trained, tested = (
        lineage.origin_of_makers(draft, makers, vocabulary),
        lineage.origin_of_test(draft, vocabulary),
    )
    if trained is None or tested is None:  # no lists yet: the job compares
        return
    for condition in conditions(settings["corrupt"], settings["attack"]):
        derived = derive_setting(trained, tested, condition.corrupt)
        test = f"{draft.data} ({condition.name})"
        if reason := contradiction(settings["setting"], derived, draft.model or "", test):
            yield reason
            return  # the first one is sufficient


@PlanCheck
def check_conditions_of_clips(
    draft: Draft, _: Sequence[Draft], __: DataIdResolver
) -> Iterator[str]:
    """Yield that models of one test read different clips, and a condition is not the same for them. Once per test."""
    key = ("clips of a benchmark", draft.images or draft.data)
    readers: dict[Clips | None, str] = draft.once(
        key, dict
    )  # clips → the first model that reads them
    unfit: list[Condition] = draft.once((*key, "conditions"), list)
    refused: set[str] = draft.once((*key, "refused"), set)
    readers.setdefault(clips_of(draft.settings), draft.model or "")
    found = conditions(draft.settings["corrupt"], draft.settings["attack"])
    unfit += sorted(filter(incomparable, found), key=lambda each: each.access == "random")
    if len(readers) < 2 or not unfit or refused:
        return
    refused.add(unfit[0].name)
    first, second = [f"{model} reads {describe_input(clips)}" for clips, model in readers.items()][
        :2
    ]
    name = f"attack: {unfit[0].attack}" if unfit[0].is_attack else f"corrupt: {unfit[0].corrupt}"
    yield (
        f"{draft.data}: {first}, and {second}, so the benchmark counts videos. {incomparable(unfit[0])}. Leave out "
        f"{name}, or set clips for all models of the benchmark."
    )


RULES: Mapping[str, Sequence[Rule | PlanCheck]] = {
    "benchmark": (*SCORING, _refuse_missing_surrogate, check_tier, check_conditions_of_clips)
}
