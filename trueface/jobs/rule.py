"""Rules of job types: which settings of a job do not go together, or not with its model and its GPUs.

A job type has one list of rules and checks. Each is a function that yields a sentence for each fault of a job: what is
wrong, and the remedy. A rule takes the job alone. Planning asks it, and the start of the job asks it again, because the
job may come from another version or from flags. A `PlanCheck` also reads files, or compares the job with those that make
its model. Only planning asks it. The job itself reports the same fault later. The list is in the module `rules` beside
the entry function. No torch here.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import chain

from launcher.api import Draft, Job, Settings, UsageError, parse_model
from trueface.data.vocabulary import PUBLISHED, DataIdResolver

Rule = Callable[[Draft], Iterable[str]]


@dataclass(frozen=True, slots=True)
class PlanCheck:
    """A check that only planning asks.

    Args:
        find: yields why a job must not run, given the jobs that make its model, and the vocabulary.
    """

    find: Callable[[Draft, Sequence[Draft], DataIdResolver], Iterable[str]]


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
    faults = (rule(draft) for rule in rules if not isinstance(rule, PlanCheck))
    if sentences := [*chain.from_iterable(faults)]:
        raise UsageError("\n       ".join(sentences))
