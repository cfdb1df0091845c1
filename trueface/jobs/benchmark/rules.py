"""The rules and checks of the job type `benchmark`: no torch here. See `trueface.jobs.rule`."""

from collections.abc import Iterable, Mapping, Sequence

from launcher.api import Draft
from trueface.benchmark.conditions import conditions, contradiction, derive_setting
from trueface.data.vocabulary import DataIdResolver
from trueface.jobs.rule import Check, Rule
from trueface.jobs.rules import SCORING


def _transfers(draft: Draft) -> list[str]:
    """Return the attacks that are computed on another model."""
    asked = conditions(draft.settings["corrupt"], draft.settings["attack"])
    return [str(each.attack) for each in asked if each.access == "transfer"]


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


RULES: Mapping[str, Sequence[Check]] = {
    "benchmark": (
        *SCORING,
        Rule(
            lambda draft: _transfers(draft) and not draft.settings["surrogate"],
            lambda draft: (
                f"attack: {', '.join(_transfers(draft))} is computed on another model. Give that model, such as "
                "surrogate: gan1:pre"
            ),
        ),
        check_tier,
    )
}
