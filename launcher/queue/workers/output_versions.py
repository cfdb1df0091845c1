"""The outputs of a plugin package's job, with their digests.

The attempt's supervisor reads the files after the program's end, where they are, and before its scheduler accepts them.
"""

import contextlib
import os

from launcher.provenance.file_digests import FileDigests, HashingStopped
from launcher.queue.home.paths import Attempt
from launcher.queue.jobs.states import Done
from launcher.queue.staging.stages import stage_of
from launcher.queue.workers.attempt_spec import AttemptSpec
from launcher.system.files import FileVersion


def with_output_versions(
    outcome: Done, order: AttemptSpec, attempt: Attempt, digests: FileDigests
) -> Done:
    """Return the end of a job that is done, with its outputs as they are in its staging folder, or in its run."""
    if not order.spec.outputs:
        return outcome
    run_folder = order.spec.run_folder
    above, stage = f"{run_folder}/", None
    with contextlib.suppress(OSError):
        stage = stage_of(attempt, run_folder)
    versions: list[FileVersion | None] = []
    with contextlib.suppress(HashingStopped):  # files not known then are compared by their stamps
        for path in order.spec.outputs:
            staged = path
            if stage is not None and path.startswith(above):
                staged = f"{stage.output_folder}/{path.removeprefix(above)}"
            # a file that is not in the staging folder was written in place
            versions.append(digests.read_file_version(staged if os.path.lexists(staged) else path))
    return outcome._replace(outputs=versions)
