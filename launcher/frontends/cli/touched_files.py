"""The files of ended programs as they are now, for `launcher touch`."""

import os
import shlex
from collections.abc import Iterator, Sequence

from launcher.provenance.file_digests import FileDigests
from launcher.provenance.folder_contents import FOLDER_END
from launcher.queue.jobs.context import (
    Context,
    job_folder,
    named_files,
    output_folders,
    start_folder,
    substitute_folders,
    uses_job_folder,
)
from launcher.queue.jobs.job import PROGRAM
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.queue.store.steering import AcceptedFiles
from launcher.queue.texts import format_job_names
from launcher.queue.workers.program_files import read_files, stamp_of_output, with_absent_inputs
from launcher.system.errors import UsageError, pluralize
from launcher.system.files import FileVersion

MOST_NAMED = 5  # missing outputs in one message


def with_outputs(jobs: Sequence[JobRow]) -> tuple[list[JobRow], list[JobRow]]:
    """Return the programs that have outputs, and the other jobs.

    Raises:
        UsageError: no job has outputs.
    """
    chosen: list[JobRow] = []
    others: list[JobRow] = []
    for job in jobs:
        accepted = job.kind == PROGRAM and job.spec_without_sources.outputs
        (chosen if accepted else others).append(job)
    if not chosen:
        raise UsageError(
            f"nothing to accept. Only programs with outputs can be accepted, not {format_job_names(others)}. "
            "To list outputs: launcher help files"
        )
    return chosen, others


def check_outputs(jobs: Sequence[JobRow]) -> None:
    """Refuse programs without one of their outputs.

    Raises:
        UsageError: names the first missing outputs.
    """
    missing = [
        (job, f"{path} (job {job.id}{', a folder' if path.endswith(FOLDER_END) else ''})")
        for job in jobs
        for path in _output_paths(job)
        if stamp_of_output(path) is None
    ]
    if missing:
        shown = missing[:MOST_NAMED]
        more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
        again = [str(number) for number in sorted({job.id for job, _ in shown})]
        options = ["--force"] if any(job.state is State.DONE for job, _ in shown) else []
        raise UsageError(
            f"{pluralize(len(missing), 'output')} missing: {', '.join(text for _, text in shown)}{more}. "
            f"Make the files, or run the {'jobs' if len(again) > 1 else 'job'} again: "
            f"{shlex.join(['launcher', 'retry', *options, *again])}"
        )


def read_accepted_files(store: Store, job: JobRow, digests: FileDigests) -> AcceptedFiles:
    """Read the outputs and inputs of an ended program.

    Raises:
        UsageError: an output is gone.
    """
    spec, project = job.spec_without_sources, store.read.working_folder(job.id)
    own_folder = job_folder(spec, job.id)
    context = Context(start_folder(spec, project), 0, "", {}, ())
    filled, context = substitute_folders(spec, context, lambda: own_folder)
    contents = with_absent_inputs(
        filled, context.folder, read_files(filled, context.folder, project, digests)
    )
    outputs = {}
    for path in _output_paths(job):
        version = digests.read_file_version(path)
        if version is None:
            raise UsageError(f"the output {path} of job {job.id} is gone. Nothing was changed.")
        outputs[path.rstrip(FOLDER_END)] = version
    if uses_job_folder(spec) and (folder := digests.read_file_version(str(own_folder))):
        outputs[str(own_folder)] = FileVersion(*folder.stamp)
    named = zip(named_files(spec), contents, strict=True)
    return AcceptedFiles(job, outputs, {name: digest for name, digest in named if digest})


def _output_paths(job: JobRow) -> Iterator[str]:
    """Yield the paths of a program's outputs; folders end with a slash."""
    spec = job.spec_without_sources
    folders = output_folders(spec)
    for path in map(os.path.normpath, spec.outputs):
        yield path + FOLDER_END if path in folders else path
