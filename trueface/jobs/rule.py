"""Rules of job types: which settings of a job do not go together, or not with its model and its GPUs.

A job type has one list of rules and checks. A rule needs only the job, its machine and the names in its data folder.
Planning asks it, and the start of the job asks it again, because the job may come from another version or from flags.
A check also reads files, or compares the job with those that make its model. Only planning asks it. The job itself
reports the same fault later. The list is in the module `rules` beside the entry function. No torch here.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from typing import Any

from launcher.api import Draft, Job, Settings, UsageError, parse_model
from trueface.data.vocabulary import PUBLISHED, DataIdResolver

# why a job must not run, given the jobs that make its model, and the vocabulary
Check = Callable[[Draft, Sequence[Draft], DataIdResolver], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of a job type, in one of three forms.

        Rule(condition, sentence)   refuses a job that meets the condition.
        Rule(condition, rules)      asks these rules about a job that meets the condition.
        Rule(faults)                the function yields a sentence for each fault of a job.

    A sentence names the fault and the remedy. Names in braces are replaced by their values: settings, and
    `model`, `base`, `data`, `name`, `gpus` and `kind` of the job. If that is not enough, a function of the job
    returns the sentence.
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


def published_root(model: str | None) -> str | None:
    """Return the published model that a model is made from, or is. None if there is none."""
    with suppress(UsageError):  # a model of an earlier run may have a name that is not an ID
        first = parse_model(model).stages[0] if model else None
        if first and any(part.subset == PUBLISHED for part in first.data):
            return str(first)
    return None


def refuse_broken_rules(job: Job, settings: Settings, entry_module: str) -> None:
    """Refuse to start a job that breaks a rule of its type.

    Args:
        job: to start.
        settings: of the job.
        entry_module: the module of its entry function.

    Raises:
        UsageError: all sentences.
    """
    # an import statement would add the rules to the code of each job, and a changed rule would run finished jobs again
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
