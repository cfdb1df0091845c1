"""One job of a plan, made from its step: its files, the code of its kind, what it asks for."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.draft import Draft, Input
from launcher.ids import NO_WORDS, DataId, Words, parse_data
from launcher.job import Resources
from launcher.job_options.request import JobRequest
from launcher.kind_interface import Role
from launcher.kinds import program_cost, roots_of, signature_of
from launcher.planning.expanding.step import Step
from launcher.planning.identity import Code, Identity
from launcher.planning.plan import PlannedJob
from launcher.taskfile.settings import Settled

_LEARNING = frozenset(
    {Role.TRAIN, Role.UNLEARN, Role.TEST, Role.BENCHMARK, Role.FOLDER, Role.SHARED}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFiles:
    """What a kind says of one job."""

    inputs: tuple[Input, ...]
    outputs: tuple[Path, ...]
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What the jobs of one entry have in common, where they have the same settings."""

    settings: Settled
    request: JobRequest
    code: Code
    resources: Resources
    signature: str  # '' of a program: its own words tell what it costs


def variant_of(step: Step, code: Callable[[str, tuple[str, ...]], Code]) -> Variant:
    """Return what a step has in common with others.

    Args:
        step: one of them.
        code: gives the code of an entry function, and of the modules that its kind imports.
    """
    kind, values = step.kind, step.settings.values
    return Variant(
        settings=step.settings,
        request=step.request,
        code=code(kind.entry, roots_of(kind, values)),
        resources=resources_of(step.request, kind.role, has_entry=bool(kind.entry)),
        signature=signature_of(kind, values, step.request.resources.gpus) if kind.entry else "",
    )


def words_of(step: Step, words: Words) -> Words:
    """Return those of the user's words that stand in a job's data, unions written out or not."""
    if not words or step.images is None:
        return NO_WORDS
    images = parse_data(step.images)
    return words.used_by(DataId((*images, *step.kind.elementary(images))))


def files_of(step: Step, draft: Draft) -> JobFiles:
    """Ask a kind which files a job reads and writes, and for its command line."""
    return JobFiles(
        inputs=tuple(step.kind.inputs(draft)),
        outputs=tuple(step.kind.outputs(draft)),
        argv=tuple(step.kind.argv(draft)),
    )


def planned_job(
    step: Step,
    variant: Variant,
    files: JobFiles,
    needs: tuple[str, ...],
    identity: Identity,
    after_any: tuple[str, ...] = (),
) -> PlannedJob:
    """Return a job.

    Args:
        step: what it does.
        variant: what it has in common with others.
        files: what it reads and writes.
        needs: names of the jobs whose files it reads, and of those that must be done before it.
        identity: everything that determines its result.
        after_any: names of jobs that must have ended before it.
    """
    return PlannedJob(
        name=step.name,
        kind=step.kind.name,
        role=step.kind.role,
        model=step.model,
        base=step.base,
        data=step.data,
        images=step.images,
        condition=step.condition,
        settings=step.settings.values,
        words=identity.words,
        needs=needs,
        after_any=after_any,
        resources=variant.resources,
        terms=step.request.terms,
        priority=step.request.priority,
        gpus=step.request.gpus,
        inputs=tuple([file.path for file in files.inputs]),
        outputs=files.outputs,
        argv=files.argv,
        preload=step.kind.preload,
        identity=identity,
        signature=variant.signature or program_cost(step.settings.values, files.argv),
    )


def resources_of(request: JobRequest, role: Role, *, has_entry: bool) -> Resources:
    """Return what a job asks of the machine; a program that asks for a GPU gets one or waits.

    A laboratory's kind knows what to do where there is none; a program got its arguments for the
    GPU that its entry asks for, as that of `launcher add` does.
    """
    resources = request.resources
    if not has_entry and resources.device == "auto" and request.wants_gpu:
        resources = replace(resources, device="cuda")
    return replace(resources, accelerated=role in _LEARNING or request.gpus is not None)
