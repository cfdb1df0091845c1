"""Why an unlearning must not run."""

from collections.abc import Iterable, Sequence

from launcher.api import Draft, UsageError, parse_model
from trueface.data.vocabulary import Vocabulary
from trueface.jobs import inputs_outputs
from trueface.jobs.refusals.attributes import unreadable_attributes
from trueface.jobs.refusals.fairness import unfit_selection
from trueface.jobs.refusals.models import unlike_decoding, without_weights
from trueface.poisoning.poison_record import is_random
from trueface.runtime import paths
from trueface.training.objectives.registry import (
    DEFAULT,
    objectives,
    other_objective,
    used_objective,
)
from trueface.unlearning.applicability import Situation, refusal


def unfit_unlearning(draft: Draft, makers: Sequence[Draft], _: Vocabulary) -> Iterable[str]:
    """Yield why an unlearning must not run."""
    yield from without_weights(makers)
    yield from unlike_decoding(draft, makers)
    yield from _unfit_objective(draft, makers)
    yield from unfit_selection(draft)
    yield from unreadable_attributes(draft)
    if draft.settings.get("sbi"):
        yield "sbi: an unlearning does not make fakes of its images; give it to trainings only"
    try:
        base = parse_model(draft.base or inputs_outputs.model_of(draft))
    except UsageError:  # of an earlier run, under a name that says nothing
        return
    poison = base.last.poison
    if poison is None:  # a model without poison has no record to read
        clean = not any(stage.poison for stage in base.stages)
        if clean and not paths.poison_record(draft.model_folder(str(base))).exists():
            yield f"{base} is clean: none of its labels were flipped, so there is nothing to unlearn"
        return
    reason = refusal(
        draft.settings["method"],
        Situation(
            goal="flips",
            rate=float(poison.rate),
            random=is_random(poison.kind),
            known=draft.settings["known"],
            finding=draft.settings["find"],
            retain=draft.settings["keep_retain"],
        ),
        force=draft.settings["force"],
    )
    if reason is not None:
        yield reason


def _unfit_objective(draft: Draft, makers: Sequence[Draft]) -> Iterable[str]:
    """Refuse an unlearning that would train with another loss than the model was trained with."""
    name = draft.settings.get("objective", DEFAULT)
    if columns := objectives()[name].columns:
        needs = ", ".join(columns)
        yield f"objective: {name} needs {needs} of each image, which an unlearning does not read"
    trained = next((maker for maker in reversed(makers) if maker.kind == "train"), None)
    differs = other_objective(trained.settings, draft.settings) if trained else ""
    if trained and differs:
        columns = objectives()[used_objective(trained.settings)].columns
        remedy = f"an unlearning reads no {' and no '.join(columns)}, take another model"
        remedy = remedy if columns else "train and unlearn alike"
        yield f"{trained.model} is trained with {differs}; {remedy}"
