"""Rules of job types: which settings of a job do not go together, or not with its model and its GPUs.

A job type has one list of rules and checks. A rule depends on the job alone. Planning asks it, and the start of the job
asks it again: the job may come from another version or from flags. A check also reads files, or compares the job with
those that make its model. Only planning asks it, and the job finds the same later.
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
    """A rule of a job type, in one of three forms.

        Rule(condition, sentence)   a job must not be so
        Rule(condition, rules)      rules that only such jobs can break
        Rule(faults)                the function yields a sentence for each fault

    A sentence says what is wrong, and the remedy. In it the names of settings in braces, `model`,
    `base`, `data`, `name`, `gpus` and `kind` of the job are replaced by their values. A function of
    the job takes its place if that is not enough.
    """

    find: Callable[[Draft], Any]
    then: "str | Callable[[Draft], str] | tuple[Rule, ...] | None" = None

    def __call__(self, draft: Draft, *_: object) -> Iterator[str]:
        """Yield why a job must not run, as a `Check` does."""
        found = self.find(draft)
        if self.then is None:
            yield from found
        elif not found:
            return
        elif isinstance(self.then, str):
            yield self.then.format_map(_fields(draft))
        elif isinstance(self.then, tuple):
            for rule in self.then:
                yield from rule(draft)
        else:
            yield self.then(draft)


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
    faults = (rule(draft) for rule in rules if isinstance(rule, Rule))
    if sentences := [*chain.from_iterable(faults)]:
        raise UsageError("\n       ".join(sentences))
