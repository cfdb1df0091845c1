"""Asks the engines of backends what they say of a pilot, all at once and not for long; nothing is submitted."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from launcher.backends.pilot_records import new_token, pilot_spec
from launcher.backends.protocol import EngineError, backend_of
from launcher.backends.settings import BackendSettings
from launcher.planning.preview import Answer
from launcher.system.paths import Home
from launcher.system.processes import in_time

PATIENCE_S = 10.0
Ask = Callable[[Sequence[BackendSettings]], Mapping[str, Answer]]


def asked_once(home: Home) -> Ask:
    """Return what asks engines of pilots, each of them once, also for several plans."""
    answers: dict[str, Answer] = {}

    def ask(asked: Sequence[BackendSettings]) -> Mapping[str, Answer]:
        new = [settings for settings in asked if settings.name not in answers]
        answers.update(ask_engines(new, home))
        return answers

    return ask


def ask_engines(
    asked: Sequence[BackendSettings], home: Home, patience_s: float = PATIENCE_S
) -> Mapping[str, Answer]:
    """Return by name what each engine says; of one that does not answer in time, that."""
    late = Answer(trouble=f"no answer in {patience_s:g} s")
    found = in_time({each.name: partial(_answer, each, home) for each in asked}, patience_s)
    return {settings.name: found.get(settings.name, late) for settings in asked}


def refusals(asked: Sequence[BackendSettings], home: Home, patience_s: float) -> list[str]:
    """Return what engines say that take no such pilots, as of a partition that does not exist."""
    answers = ask_engines(asked, home, patience_s).values()
    estimates = [answer.estimate for answer in answers if answer.estimate is not None]
    return [estimate.why for estimate in estimates if not estimate.possible]


def _answer(settings: BackendSettings, home: Home) -> Answer:
    try:
        backend = backend_of(settings, home)
        return Answer(estimate=backend.estimate(pilot_spec(settings, new_token(), ())))
    except EngineError as error:
        return Answer(trouble=" ".join(str(error).split()))
