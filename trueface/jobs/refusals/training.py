"""Why a training must not run, and which poisons there are."""

from collections.abc import Iterable, Sequence

from launcher.api import Draft, UnknownName, parse_model
from trueface.data.vocabulary import Vocabulary
from trueface.jobs import inputs_outputs
from trueface.jobs.ranks import world
from trueface.jobs.refusals.attributes import unfit_attributes
from trueface.jobs.refusals.event_files import no_tensorboard
from trueface.jobs.refusals.fairness import unfit_fairness
from trueface.jobs.refusals.models import unlike_decoding, without_weights
from trueface.jobs.refusals.qualities import unfit_in_qualities
from trueface.poisoning.poison_record import KINDS
from trueface.training.settings import solver_of


def unfit_training(draft: Draft, makers: Sequence[Draft], _: Vocabulary) -> Iterable[str]:
    """Yield why a training must not run."""
    yield from without_weights(makers)
    yield from unlike_decoding(draft, makers)
    yield from world.refusals(draft)
    yield from unfit_attributes(draft)
    yield from _unfit_solver(draft, makers)
    if draft.settings.get("sbi") and parse_model(inputs_outputs.model_of(draft)).last.poison:
        yield (
            "sbi does not go with poison: a real image whose label was flipped would become a fake of "
            "a label that the record does not know; leave one of them out"
        )
    yield from unfit_in_qualities(draft)
    yield from unfit_fairness(draft)
    yield from no_tensorboard(draft)
    if draft.settings["optimizer_state"] == "kept" and draft.base is None:
        yield (
            f"optimizer_state: kept needs a model to start from, and {draft.model} starts from "
            "none; name one, or leave the setting out"
        )


def _unfit_solver(draft: Draft, makers: Sequence[Draft]) -> Iterable[str]:
    """Refuse what does not go with a training in closed form, or only with one."""
    settings, base = draft.settings, next(iter(makers[::-1]), None)
    is_ridge = solver_of(settings) == "ridge"
    if is_ridge and (draft.gpus > 1 or settings["processes"] > 1):
        yield f"{draft.model} is fitted in closed form, by one process on one GPU at most"
    if settings.get("shots") and not (is_ridge and draft.base):
        yield (
            f"shots: {settings['shots']} takes examples for a detector that was fitted in closed "
            "form; name it as `model`, and train with solver: ridge"
        )
    if settings.get("shots") and parse_model(inputs_outputs.model_of(draft)).last.poison:
        yield "shots does not go with poison: which examples are taken is not known to it"
    if base is None or base.kind != "train":
        return
    if is_ridge != (solver_of(base.settings) == "ridge"):
        made = "by steps" if is_ridge else "in closed form"
        wanted = "solver: ridge" if is_ridge else "another solver"
        yield (
            f"{base.model} is trained {made}, and {wanted} does not go on from it: train it anew, "
            "or name the same solver"
        )


def unknown_poison(draft: Draft, _: Sequence[Draft], __: Vocabulary) -> Iterable[str]:
    """Refuse a kind of poison that there is not."""
    poison = parse_model(inputs_outputs.model_of(draft)).last.poison
    if poison is not None and poison.kind is not None and poison.kind not in KINDS:
        yield str(UnknownName("kind of poison", poison.kind, KINDS))
