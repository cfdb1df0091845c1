"""submitit's executor: each submission is a job of the queue, an array is queued at once.

Each process of a job imports this module, too, to find the environment of its job. So it imports no queue.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from submitit.core.core import PicklingExecutor
from submitit.core.utils import DelayedSubmission

from launcher.frontends.plugins.submitit.job import LauncherJob
from launcher.system.errors import UnknownName


class LauncherExecutor(PicklingExecutor):  # type: ignore[misc]  # submitit is optional
    """The queue as a cluster of submitit.

    Args:
        folder: folder of pickles and logs. %j in it is the number of the job.
        max_num_timeout: how often a function with a checkpoint runs again.
        max_pickle_size_gb: the most GB that a submission may have.
        python: the interpreter of the jobs; that of this process if it is not given.
    """

    job_class = LauncherJob

    def __init__(
        self,
        folder: str | Path,
        max_num_timeout: int = 3,
        max_pickle_size_gb: float = 1.0,
        python: str | None = None,
    ) -> None:
        super().__init__(folder, max_num_timeout, max_pickle_size_gb)
        self.python = python or sys.executable
        self._noted: set[str] = set()  # parameters of Slurm of which a note was printed
        self._note_dropped_parameters()

    @classmethod
    def affinity(cls) -> int:
        """Return 0: submitit takes this cluster only if it is named."""
        return 0

    @classmethod
    def _valid_parameters(cls) -> set[str]:
        from launcher.frontends.plugins.submitit.parameters import parameter_names

        return parameter_names()

    def _internal_update_parameters(self, **kwargs: Any) -> None:
        from launcher.frontends.plugins.submitit.parameters import GENERIC, read_options

        known = (*GENERIC, *self._valid_parameters())
        for name in kwargs:
            if name not in known:
                raise UnknownName("parameter", name, known)
        parameters = {**self.parameters, **kwargs}
        read_options(parameters)  # `read_options` reports mistakes here
        self.parameters.update(kwargs)
        self._note_dropped_parameters()

    def _note_dropped_parameters(self) -> None:
        """Print which parameters of Slurm have no effect, each once."""
        from launcher.frontends.plugins.submitit.ignored_parameters import (
            find_dropped_parameters,
            ignored_parameters_note,
        )
        from launcher.system.terminal import print_stderr

        dropped = set(find_dropped_parameters()) - self._noted
        self._noted |= dropped
        if note := ignored_parameters_note(dropped):
            print_stderr(note)

    def _num_tasks(self) -> int:
        from launcher.frontends.plugins.submitit.parameters import read_options

        return read_options(self.parameters).tasks

    def _internal_process_submissions(
        self, delayed_submissions: Sequence[DelayedSubmission]
    ) -> list[LauncherJob]:
        """Queue submissions, all of them or none."""
        from launcher.frontends.plugins.submitit.parameters import read_options
        from launcher.frontends.plugins.submitit.submission import submit

        options = read_options(self.parameters)
        numbers = submit(
            delayed_submissions,
            options,
            self.folder,
            python=self.python,
            max_num_timeout=self.max_num_timeout,
            max_pickle_size_gb=self.max_pickle_size_gb,
        )
        return [LauncherJob(self.folder, str(number), range(options.tasks)) for number in numbers]

    # submitit's own way to submit a command, which is not used

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        raise NotImplementedError

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        raise NotImplementedError

    @staticmethod
    def _get_job_id_from_submission_command(string: bytes | str) -> str:
        raise NotImplementedError
