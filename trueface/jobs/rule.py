"""Rules of job types: which settings of a job do not go together, or not with its model and its GPUs.

A job type has one list of rules and checks. A rule depends on the job alone: planning asks it, and the start of the
job asks it again, because not every job is planned by this version or planned at all. A check also reads
files, or compares the job with those that make its model: only planning asks it, and the job finds the same later.
The list is in the module `rules` beside the entry function. No torch here.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from typing import Any

from launcher.api import Draft, Job, Settings, UsageError
from trueface.data.vocabulary import DataIdResolver

# why a job must not run, given the jobs that make its model, and the vocabulary
Check = Callable[[Draft, Sequence[Draft], DataIdResolver], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of a job type; the function yields a sentence for each way in which a job breaks it."""

    find_faults: Callable[[Draft], Iterable[str]]

    def __call__(self, draft: Draft, *_: object) -> Iterable[str]:
        """Return why a job must not run, as a `Check` does."""
        return self.find_faults(draft)


def forbid(broken: Callable[[Draft], object], sentence: str | Callable[[Draft], str]) -> Rule:
    """Return the rule that a job must not be so.

    Args:
        broken: Whether a job breaks the rule.
        sentence: What is wrong, and the remedy. Names of settings in braces, `model`, `base`, `data`, `name` and
            `gpus` of the job are replaced. A function if that is not enough.
    """

    def find_faults(draft: Draft) -> Iterator[str]:
        if broken(draft):
            yield (
                sentence.format_map(_fields(draft))
                if isinstance(sentence, str)
                else sentence(draft)
            )

    return Rule(find_faults)


def when(condition: Callable[[Draft], object], *rules: Rule) -> Rule:
    """Return the rules as one that only such jobs can break."""

    def find_faults(draft: Draft) -> Iterable[str]:
        return (
            [each for rule in rules for each in rule.find_faults(draft)] if condition(draft) else ()
        )

    return Rule(find_faults)


def _fields(draft: Draft) -> dict[str, Any]:
    own = ("model", "base", "data", "name", "gpus", "kind")
    return {**draft.settings, **{name: getattr(draft, name) for name in own}}


def refuse_broken_rules(job: Job, settings: Settings, entry_module: str) -> None:
    """Refuse to start a job that breaks a rule of its type.

    Args:
        job: to start.
        settings: of the job.
        entry_module: the module of its entry function.

    Raises:
        UsageError: all sentences.
    """
    # by a name that no text contains: if a rule changes, finished jobs are not to run again
    rules = import_module(f"{entry_module.rpartition('.')[0]}.rules").RULES.get(job.kind, ())
    # the requested device is not known, only the one that the job got
    draft = Draft(
        kind=job.kind,
        run=job.run,
        run_folder=job.root or job.run_folder,
        folder=job.folder,
        model=job.model,
        base=job.base,
        data=job.data,
        images=job.images,
        name=job.name.partition("/")[2] or job.name,
        settings=settings.model_dump(mode="json"),
        words=job.words,
        gpus=1 if job.device == "cpu" else job.gpus,
    )
    faults = [rule.find_faults(draft) for rule in rules if isinstance(rule, Rule)]
    if sentences := [*chain.from_iterable(faults)]:
        raise UsageError("\n       ".join(sentences))
