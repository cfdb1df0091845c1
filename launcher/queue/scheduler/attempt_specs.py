"""The specifications of attempts as JSON. A supervisor reads one to start its attempt, here or on a node."""

import os
from collections.abc import Mapping, Sequence
from functools import partial

from launcher.queue.backends.node_paths import NodePaths
from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.home.paths import Home
from launcher.queue.jobs.context import uses_job_folder
from launcher.queue.jobs.job import NUMBERS
from launcher.queue.scheduler.started_attempts import spec_text_of
from launcher.queue.staging.earlier_stages import take_earlier_stage
from launcher.queue.store.rows import Claim
from launcher.queue.workers.attempt_spec import attempt_spec_text
from launcher.system.answering import run_with_timeout
from launcher.system.config import WatchedConfig, read_table
from launcher.system.environment import queue_variables
from launcher.system.log_setting import LOG_LIMIT


class AttemptSpecs:
    """Makes the specifications of the attempts of one queue."""

    def __init__(self, home: Home) -> None:
        """Begin with the environment of this process."""
        self._home = home
        self._variables = queue_variables(home.folder, os.environ)
        # the scheduler already warns about a mistake in the file
        self._log_limit = WatchedConfig(
            os.environ, partial(read_table, LOG_LIMIT), lambda _: None, LOG_LIMIT.default
        )

    def local_text(self, claim: Claim, gpus: Sequence[GpuSnapshot]) -> str:
        """Return the specification of an attempt on this machine.

        Args:
            claim: The attempt.
            gpus: GPUs of this machine.

        Raises:
            OSError: The staging folder of earlier attempts cannot be taken over now.
        """
        return make_attempt_spec(
            self._home,
            claim,
            claim.spec_text,
            claim.context_text,
            variables=self._variables,
            machine_gpus=gpus,
            log_limit=self._log_limit(),
        )

    def node_text(self, claim: Claim, gpus: Sequence[GpuSnapshot], paths: NodePaths) -> str:
        """Return the specification of an attempt on a node.

        Args:
            claim: The attempt.
            gpus: GPUs of its pilot.
            paths: Paths of this machine as the node sees them.

        Raises:
            OSError: As `local_text`.
        """
        return make_attempt_spec(
            self._home,
            claim,
            paths.spec(spec_text_of(claim)),
            paths.context(claim.context_text),
            variables={name: paths.path(text) for name, text in self._variables.items()},
            machine_gpus=gpus,
            log_limit=self._log_limit(),
        )


def make_attempt_spec(
    home: Home,
    claim: Claim,
    spec_text: str,
    context_text: str,
    *,
    variables: Mapping[str, str],
    machine_gpus: Sequence[GpuSnapshot],
    log_limit: int,
) -> str:
    """Return the order of an attempt. It resumes from the staging folder of earlier attempts.

    Args:
        home: The queue folder.
        claim: The attempt.
        spec_text: Spec of the job as JSON.
        context_text: Its context as JSON.
        variables: Variables by which `launcher` in the job finds this queue.
        machine_gpus: GPUs of the machine on which it runs.
        log_limit: Size limit of its log in bytes, 0 for none.

    Raises:
        OSError: The earlier staging folder cannot be taken over now.
    """
    run_folder = claim.spec.run_folder
    goes_on = claim.number > 1 and (claim.spec.entry or uses_job_folder(claim.spec))
    return attempt_spec_text(
        job=claim.job,
        attempt_number=claim.number,
        device=claim.device,
        cpus=claim.cpus,
        vram=claim.vram,
        earlier_stage=run_with_timeout(
            run_folder, partial(take_earlier_stage, home, *claim.key, run_folder)
        )
        if goes_on
        else "",
        queue_variables=variables,
        gpu_numbers=gpu_numbers_of(claim.gpus, machine_gpus)
        if claim.spec.resources.gpu_ids == NUMBERS
        else (),
        log_limit=log_limit,
        spec_text=spec_text,
        context_text=context_text,
    )


def gpu_numbers_of(gpus: Sequence[str], machine_gpus: Sequence[GpuSnapshot]) -> tuple[int, ...]:
    """Return the numbers of GPUs in PCI bus order; none if one is unknown, or MIG makes them ambiguous.

    Args:
        gpus: their UUIDs.
        machine_gpus: all GPUs that a process there can see.
    """
    numbers = {gpu.uuid: gpu.index for gpu in machine_gpus}
    if any(gpu.mig is not None for gpu in machine_gpus) or not numbers.keys() >= {*gpus}:
        return ()
    return tuple(numbers[uuid] for uuid in gpus)
