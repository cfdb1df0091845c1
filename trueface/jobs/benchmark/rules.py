"""The rules and checks of the job type `benchmark`: no torch here. See `trueface.jobs.rule`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from launcher.api import Draft
from trueface.benchmark.conditions import conditions, contradiction, derive_setting
from trueface.data.vocabulary import DataIdResolver
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


RULES: Mapping[str, Sequence[Rule | PlanCheck]] = {
    "benchmark": (*SCORING, _refuse_missing_surrogate, check_tier)
}
