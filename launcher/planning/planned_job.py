"""One job of a plan, made from its step: its files, the code of its kind, its hash."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.ids import NO_WORDS, DataId, Words, parse_data
from launcher.job import Resources, program_signature
from launcher.kinds import Draft, Input, Role, signature_of
from launcher.planning.expansion import Step
from launcher.planning.plan import PlannedJob
from launcher.system.files import Json

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), check_circular=False).encode


_LEARNING = frozenset({Role.TRAIN, Role.UNLEARN, Role.TEST})


@dataclass(frozen=True, slots=True)
class JobSources:
    """The modules whose code decides the results of a job, and a digest of each."""

    digests: Mapping[str, str]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFiles:
    """What a kind says of one job."""

    inputs: tuple[Input, ...]
    outputs: tuple[Path, ...]
    argv: tuple[str, ...]


def sources_of(
    closure: Callable[[tuple[str, ...]], Collection[str]],
    digest: Callable[[str], str],
    roots: tuple[str, ...],
) -> JobSources:
    """Return the modules that decide what a job's work does, from those that its kind imports.

    Args:
        closure: gives modules with all those of their laboratory that they import.
        digest: gives a digest of the code of a module.
        roots: the modules that the kind imports.
    """
    digests = {module: digest(module) for module in closure(roots)}
    return JobSources(digests, json.dumps(digests, sort_keys=True))


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
    files: JobFiles,
    words: Words,
    needs: Sequence[PlannedJob],
    *,
    sources: JobSources,
    given: Sequence[str],
) -> PlannedJob:
    """Return a job with its hash.

    Args:
        step: what it does.
        files: what it reads and writes.
        words: the user's own in its data.
        needs: the jobs whose files it reads.
        sources: the code that decides its result.
        given: digests of what it reads and no job makes.
    """
    return PlannedJob(
        name=step.name,
        kind=step.kind.name,
        role=step.kind.role,
        model=step.model,
        base=step.base,
        data=step.data,
        images=step.images,
        settings=step.settings.values,
        words=words,
        needs=tuple(need.name for need in needs),
        resources=_resources(step),
        terms=step.request.terms,
        priority=step.request.priority,
        gpus=step.request.gpus,
        inputs=tuple(file.path for file in files.inputs),
        outputs=files.outputs,
        argv=files.argv,
        entry=step.kind.entry,
        preload=step.kind.preload,
        sources=sources.digests,
        hash=_hash(step, words, needs, sources, given),
        signature=signature_of(step.kind, step.settings.values)
        if step.kind.entry
        else program_signature(files.argv),
    )


def _resources(step: Step) -> Resources:
    """Return what a step asks of the machine; a program that asks for a GPU gets one or waits.

    A laboratory's kind knows what to do where there is none; a program got its arguments for the
    GPU that its entry asks for, as that of `launcher add` does.
    """
    request = step.request
    resources = request.resources
    if not step.kind.entry and resources.device == "auto" and request.wants_gpu:
        resources = replace(resources, device="cuda")
    accelerated = step.kind.role in _LEARNING or request.gpus is not None
    return replace(resources, accelerated=accelerated)


def _hash(
    step: Step,
    words: Words,
    needs: Iterable[PlannedJob],
    sources: JobSources,
    given: Sequence[str],
) -> str:
    """Return a digest of everything that determines the job's result."""
    record: dict[str, Json] = {
        "kind": step.kind.name,
        "entry": step.kind.entry,
        "model": step.model,
        "base": step.base,
        "images": step.images,
        "settings": step.settings.text,
        "needs": [*sorted(need.hash for need in needs)],
        "sources": sources.text,
        "given": list(given),
    }
    if words:
        record["words"] = words.record()
    text = _encode(record)
    return hashlib.sha256(text.encode()).hexdigest()
