"""Pilots as jobs of Slurm, by its own programs: sbatch, squeue, sinfo, scontrol and scancel.

A pilot is identified by its token, which is its job's name. If a program fails, hangs or prints unknown output,
nothing is known, and no pilot counts as gone. `slurm_states` parses the output of these programs about jobs and nodes.
"""

import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from launcher.queue.backends.node_paths import NodePaths
from launcher.queue.backends.pilot_folder import PilotFolder, PilotSpec
from launcher.queue.backends.protocol import (
    NO_NODES,
    AllocationEndCause,
    AllocationState,
    EngineError,
    Estimate,
    Observation,
    SubmissionRefused,
)
from launcher.queue.backends.settings import BackendSettings
from launcher.queue.backends.slurm_batches import (
    SubmissionBatch,
    batch_script,
    group_into_batches,
    is_permanent_error,
    parse_estimated_start,
    sbatch_arguments,
    sbatch_options,
)
from launcher.queue.backends.slurm_commands import SlurmCommandResult, SlurmCommands
from launcher.queue.backends.slurm_states import (
    RUNNING,
    SINFO_FORMAT,
    SQUEUE_FORMAT,
    SqueueRow,
    format_array_ranges,
    live_elements,
    observe_rows,
    parse_squeue,
    silent_node_timeout_s,
    silent_nodes,
    split_token,
    unsure_nodes,
)
from launcher.queue.home.paths import Home
from launcher.system.log_files import last_lines
from launcher.system.text import sanitize_terminal

_PARTITION = re.compile(r"invalid partition", re.IGNORECASE)
LOG_LINES = 20
# longer than a kernel takes as one argument, 128 KiB; all jobs of the user are read then
_MOST_NAMES_BYTES = 100_000
_JOBS_AT_ONCE = 200  # jobs per scancel call
CGROUP_TRACKING = "proctrack/cgroup"
NO_LOG = "no output (check that the node sees the pilot's folder {}, see `folder` in: launcher help clusters)"
# Slurm waits two seconds for processes that a killed job leaves
_KILL_POLLS_S = 0.1, 0.2, 0.4, 0.8, 1.6, 3.2


def make(settings: BackendSettings, home: Home) -> "Slurm":  # noqa: ARG001  # as all engines are made
    """Return the Slurm that SLURM_CONF, or the machine's own configuration, points to."""
    return Slurm(settings, SlurmCommands(os.environ))


class Slurm:
    """A Slurm that starts pilots."""

    def __init__(
        self,
        settings: BackendSettings,
        commands: SlurmCommands,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin without a request."""
        self._settings, self._commands, self._clock = settings, commands, clock
        self._config_text = ""  # Slurm's configuration; '' before the first query
        # nodes that may not respond → since when
        self._unsure: dict[str, float] = {}

    def submit(self, pilots: Sequence[tuple[PilotFolder, PilotSpec]]) -> None:
        """Submit pilots, those of an array with one call.

        Raises:
            SubmissionRefused: Slurm refuses such pilots. The message contains its reason.
            EngineError: Slurm did not accept all pilots, or did not respond.
        """
        for number, batch in enumerate(group_into_batches(pilots)):
            answer = self._commands.run(
                "sbatch",
                *sbatch_arguments(self._settings, batch),
                stdin=batch_script(self._settings, batch),
            )
            if answer.code and number:  # the first ones were accepted
                raise EngineError(str(self._error_from_result(answer)))
            if answer.code:
                raise self._error_from_result(answer)

    def observe(
        self, tokens: Collection[str], nodes: Mapping[str, str] = NO_NODES
    ) -> Mapping[str, Observation]:
        """Query squeue once for all pilots. If one has ended without a message, also query its node.

        Raises:
            EngineError: nothing is known.
        """
        if not tokens:
            return {}
        seen = observe_rows(self._rows(tokens), tokens, nodes)
        ended = {
            token: item._replace(node=node)
            for token, item in seen.items()
            if item.stage in {AllocationState.ENDED, AllocationState.UNKNOWN}
            and item.cause is not AllocationEndCause.COMPLETED
            and (node := item.node or nodes.get(token, ""))
        }
        silent = self._find_silent_nodes({item.node for item in ended.values()})
        for token, item in ended.items():
            seen[token] = item._replace(node_answers=item.node not in silent)
            seen[token] = seen[token]._replace(emptied=self._is_verified_empty(seen[token]))
        return seen

    def cancel(self, tokens: Collection[str]) -> None:
        """Cancel pilots with all that runs in them.

        A plain scancel sends SIGCONT first, so a frozen job runs for a moment, even if the signal is SIGKILL.
        If Slurm tracks processes by control groups, killing only the pilot ends everything, and nothing wakes.
        Without control groups, that would leave processes in sessions of their own.

        Raises:
            EngineError: Slurm did not accept it.
        """
        elements = {token for token in tokens if split_token(token)[1]}
        chosen = {name: ("--me", f"--name={name}") for name in sorted(set(tokens) - elements)}
        self._kill(chosen, chosen.values(), lambda row: row.name in chosen)
        for words in chosen.values():
            self._commands.require("scancel", *words)
        if elements:
            self._cancel_elements(elements)

    def collect(self, pilot: PilotFolder) -> str:
        """Return the last lines of a pilot's log, or a text on what to check if it is empty."""
        lines = [*map(sanitize_terminal, last_lines(pilot.log, LOG_LINES))]
        return "\n".join(lines) or NO_LOG.format(NodePaths(self._settings).path(pilot.folder))

    def estimate(self, spec: PilotSpec) -> Estimate:
        """Query sbatch for the start time of such a pilot.

        Raises:
            EngineError: Slurm does not respond.
        """
        alone = SubmissionBatch(name=spec.token, spec=spec, folder=Path("/"))
        answer = self._commands.run(
            "sbatch",
            "--test-only",
            *sbatch_options(self._settings, spec),
            stdin=batch_script(self._settings, alone),
            epoch=True,
        )
        if not answer.code:
            return Estimate(
                possible=True, starts_at=parse_estimated_start(answer.stderr + answer.stdout)
            )
        refusal = self._error_from_result(answer)
        if not isinstance(refusal, SubmissionRefused):
            raise refusal
        return Estimate(possible=False, why=str(refusal))

    def _error_from_result(self, answer: SlurmCommandResult) -> EngineError:
        complaint = answer.complaint
        if not is_permanent_error(complaint):
            return EngineError(f"sbatch failed: {complaint}")
        more = self._partitions() if _PARTITION.search(complaint) else ""
        return SubmissionRefused(
            f"Slurm refuses pilots of [backends.{self._settings.name}]: {complaint}{more}"
        )

    def _partitions(self) -> str:
        try:
            listed = self._commands.require("sinfo", "-h", "-o", "%R").split()
        except EngineError:
            return ""
        return (
            f"; its partitions: {sanitize_terminal(', '.join(dict.fromkeys(listed)))}"
            if listed
            else ""
        )

    def _rows(self, tokens: Iterable[str]) -> list[SqueueRow]:
        """Return squeue's rows of jobs with our names.

        Raises:
            EngineError: nothing is known.
        """
        names = {split_token(token)[0] for token in tokens}
        listed = ",".join(sorted(names))
        words = [
            "squeue",
            "--noheader",
            "--me",
            "--states=all",
            "--array",
            f"--format={SQUEUE_FORMAT}",
        ]
        if len(listed) < _MOST_NAMES_BYTES:
            words.append(f"--name={listed}")
        printed = self._commands.require(*words, epoch=True)
        try:
            return [row for row in parse_squeue(printed) if row.name in names]
        except ValueError as error:
            raise EngineError(f"cannot parse the output of squeue: {error}") from error

    def _find_silent_nodes(self, nodes: Collection[str]) -> set[str]:
        """Return which of these nodes do not respond, or may not respond. Attempts there may still run.

        Raises:
            EngineError: nothing is known.
        """
        if not nodes:
            return set()
        listed = ",".join(sorted(nodes))
        printed = self._commands.require(
            "sinfo", "--noheader", "--Node", f"--nodes={listed}", f"--format={SINFO_FORMAT}"
        )
        try:
            return silent_nodes(printed) | self._still_unsure(unsure_nodes(printed))
        except ValueError as error:
            raise EngineError(f"cannot parse the output of sinfo: {error}") from error

    def _is_verified_empty(self, observation: Observation) -> bool:
        """Return whether Slurm has seen the last process of an ended job die. It does not wait for a node that is down.

        Raises:
            EngineError: Slurm does not report how it tracks processes.
        """
        waited = (
            observation.stage is AllocationState.ENDED
            and observation.cause is not AllocationEndCause.NODE_FAILED
        )
        return waited and observation.node_answers and self._tracks_by_cgroups()

    def _cancel_elements(self, tokens: Collection[str]) -> None:
        """Cancel elements of arrays, by their numbers as they are just now.

        A scancel with an option that chooses jobs, such as --name, cancels all elements that wait.
        """
        live = live_elements(self._rows(tokens), tokens)
        running = [row.job for row in live if row.state in RUNNING]
        starts = range(0, len(running), _JOBS_AT_ONCE)
        calls = [running[start : start + _JOBS_AT_ONCE] for start in starts]
        self._kill(tokens, calls, lambda row: row.job in running)
        by_array: dict[str, list[int]] = {}
        for row in live:
            by_array.setdefault(row.job.partition("_")[0], []).append(int(row.element))
        for array, numbers in by_array.items():
            self._commands.require("scancel", f"{array}_[{format_array_ranges(numbers)}]")

    def _kill(
        self,
        tokens: Collection[str],
        calls: Collection[Sequence[str]],
        is_chosen: Callable[[SqueueRow], bool],
    ) -> None:
        """Kill pilots if that also ends all of their processes, and wait for a moment until they have ended.

        Args:
            tokens: tokens that include theirs.
            calls: arguments that select them for scancel, for one call after the other.
            is_chosen: returns whether a row belongs to one of them.
        """
        if not calls or not self._tracks_by_cgroups():
            return
        for words in calls:
            # this fails for jobs that wait or have ended, which is harmless
            self._commands.run("scancel", "--batch", "--signal=KILL", *words)
        for pause_s in _KILL_POLLS_S:
            if not any(row.state in RUNNING and is_chosen(row) for row in self._rows(tokens)):
                return
            time.sleep(pause_s)

    def _still_unsure(self, nodes: Collection[str]) -> set[str]:
        """Return which of these nodes have been in their states too briefly to conclude that they respond.

        Raises:
            EngineError: Slurm does not report how long it waits for nodes.
        """
        now = self._clock()
        self._unsure = {node: self._unsure.get(node, now) for node in nodes}
        if not nodes:
            return set()
        marked_s = silent_node_timeout_s(self._read_config())
        return {node for node, since in self._unsure.items() if now < since + marked_s}

    def _tracks_by_cgroups(self) -> bool:
        """Return whether Slurm finds all processes of a job, even those that tried to escape."""
        return CGROUP_TRACKING in self._read_config()

    def _read_config(self) -> str:
        if not self._config_text:
            self._config_text = self._commands.require("scontrol", "show", "config")
        return self._config_text
