"""Pilots as jobs of Slurm, by its own programs: sbatch, squeue, sinfo, scontrol and scancel.

A pilot is known by its token, which is its job's name. Where a program fails, hangs or prints what is not understood,
nothing is known, and nothing is taken for gone. What these programs print of jobs and nodes is read in `slurm_states`.
"""

import atexit
import contextlib
import math
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from launcher.backends.channel import PilotFolder, PilotSpec
from launcher.backends.protocol import (
    NOWHERE,
    Cause,
    EngineError,
    Estimate,
    Observation,
    Refused,
    Stage,
)
from launcher.backends.settings import BackendSettings, NodePaths
from launcher.backends.slurm_states import (
    FORMAT,
    NODE_FORMAT,
    RUNNING,
    Row,
    live_elements,
    marked_after_s,
    name_and_index,
    observations,
    ranges,
    read_rows,
    silent_nodes,
    unsure_nodes,
)
from launcher.system.environment import prologue_lines
from launcher.system.files import last_lines
from launcher.system.paths import Home
from launcher.system.text import harmless
from launcher.units import format_seconds

MIB = 1 << 20
WARNING_S = 120  # so long before its end a pilot is told, in which trainings save
# what Slurm will say again however often it is asked, until somebody changes a configuration
_FOR_GOOD = re.compile(
    r"invalid|unrecognized option|node configuration is not available|can ?not be satisfied"
    r"|not permitted|permission denied|more processors requested",
    re.IGNORECASE,
)
_PARTITION = re.compile(r"invalid partition", re.IGNORECASE)
_START = re.compile(r"\bto start at (?P<at>[0-9]{9,11})\b")


class Batch(NamedTuple):
    """Pilots that are submitted with one call: one alone, or the elements of an array."""

    name: str  # of Slurm's job
    spec: PilotSpec  # of one of them: what they ask for is the same
    folder: Path  # the pilot's, or the one above those of all
    elements: tuple[int, ...] = ()


def batches(pilots: Iterable[tuple[PilotFolder, PilotSpec]]) -> list[Batch]:
    """Return how pilots are submitted: those with names such as `launcher-ab_17` together, by arrays."""
    arrays: dict[tuple[str, Path], list[tuple[PilotSpec, int]]] = {}
    alone: list[Batch] = []
    for folder, spec in pilots:
        name, index = name_and_index(folder.token)
        if index:
            arrays.setdefault((name, folder.folder.parent), []).append((spec, int(index)))
        else:
            alone.append(Batch(name=name, spec=spec, folder=folder.folder))
    return alone + [
        Batch(name, array[0][0], parent, tuple(sorted(index for _, index in array)))
        for (name, parent), array in arrays.items()
    ]


def arguments(settings: BackendSettings, spec: PilotSpec) -> list[str]:
    """Return what is asked of Slurm for such a pilot; the site's own options come first, ours count."""
    named = {
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "constraint": settings.constraint,
        "reservation": settings.reservation,
        "gres": _gres(settings, spec),
        "mem": "" if spec.memory is None else f"{math.ceil(spec.memory / MIB)}M",
        "time": "" if spec.time_s is None else str(_minutes(spec.time_s)),
        "cpus-per-task": str(spec.cpus),
        "nodes": "1",
        "ntasks": "1",
        # a pilot that is gone is replaced by another one, never run twice
        "signal": f"B:USR1@{_warning_s(spec)}",
        # limits of a login node are not those of a node
        "propagate": "NONE",
        "export": "ALL",  # of an environment that holds next to nothing
    }
    words = [f"--{name}={value}" for name, value in named.items() if value]
    return [*settings.options, *words, "--no-requeue", *["--exclusive"] * settings.exclusive]


def submission(settings: BackendSettings, batch: Batch) -> list[str]:
    """Return the arguments of sbatch for pilots whose folders are made; the script is its input."""
    folder = NodePaths(settings).path(batch.folder)
    escaped = folder.replace("%", "%%")
    if batch.elements:
        log = f"{escaped}/{batch.name}_%a/{PilotFolder(batch.folder).log.name}"
        array = [f"--array={ranges(batch.elements)}"]
    else:
        log, array = f"{escaped}/{PilotFolder(batch.folder).log.name}", []
    words = ["--parsable", f"--job-name={batch.name}", f"--chdir={folder}", "--open-mode=append"]
    return [*arguments(settings, batch.spec), *words, f"--output={log}", *array]


def script(settings: BackendSettings, batch: Batch) -> str:
    """Return the script of a pilot, which becomes the pilot: Slurm's signals reach it, not a shell."""
    folder = shlex.quote(NodePaths(settings).path(batch.folder))
    if batch.elements:
        folder = f'{folder}/{shlex.quote(batch.name)}_"$SLURM_ARRAY_TASK_ID"'
    # `module` and conda are defined by what a login shell reads
    shell = "#!/bin/bash -l" if settings.prologue else "#!/bin/bash"
    start = [*settings.wrap, NodePaths(settings).interpreter(), "-P", "-m", "launcher.pilots"]
    lines = [
        shell,
        # an administrator may requeue what we asked not to: its attempts have been given up by then
        '[ "${SLURM_RESTART_COUNT:-0}" = 0 ] || exit 0',
        *prologue_lines(settings.prologue),
        f"exec {shlex.join(start)} {folder}",
    ]
    return "\n".join(lines) + "\n"


def for_good(complaint: str) -> bool:
    """Tell whether Slurm will refuse such a pilot again until a configuration changes."""
    return _FOR_GOOD.search(complaint) is not None


def estimated_start(printed: str) -> float | None:
    """Return when `sbatch --test-only` expects the start, in seconds since 1970."""
    match = _START.search(printed)
    return None if match is None else float(match["at"])


def _gres(settings: BackendSettings, spec: PilotSpec) -> str:
    if not spec.gpus:
        return ""
    kind = f"{settings.gpu_type}:" if settings.gpu_type else ""
    return f"gpu:{kind}{spec.gpus}"


def _minutes(time_s: float) -> int:
    return max(1, math.ceil(time_s / 60))


def _warning_s(spec: PilotSpec) -> int:
    """Return how long before its end a pilot is told: of a short one, a quarter of its time at most."""
    if spec.time_s is None:
        return WARNING_S
    return min(WARNING_S, 15 * _minutes(spec.time_s))


# what reaches sbatch reaches the job, too: no secrets, and no SBATCH_… or SLURM_… of an enclosing job
_PASSED = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "SLURM_CONF")
_PREFIX_WORDS = ("error", "fatal", "warning")
_MOST_TEXT = 600  # characters of what a program printed that a message shows
_CHANGES = {"sbatch", "scancel"}  # they go on when this process ends; the others only ask
PATIENCE_S = 60.0  # while its controller restarts, Slurm's own programs try for half a minute


class Answer(NamedTuple):
    """How one of Slurm's programs ended."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """What it complains of, on one line, without the program's name: "Invalid partition name specified"."""
        lines = [_without_prefix(line) for line in (self.err or self.out).splitlines()]
        text = "; ".join(dict.fromkeys(line for line in lines if line))
        text = harmless(text) or f"exit code {self.code}"
        return text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT] + "…"


class SlurmCommands:
    """Runs Slurm's programs, one at a time."""

    def __init__(self, environ: Mapping[str, str], patience_s: float = PATIENCE_S) -> None:
        """Begin.

        Args:
            environ: where PATH and SLURM_CONF stand.
            patience_s: for each program.
        """
        self._environment = {name: environ[name] for name in _PASSED if name in environ}
        self._patience_s = patience_s

    def run(self, *argv: str, stdin: str = "", epoch: bool = False) -> Answer:
        """Run a program to its end.

        Args:
            argv: its name, looked up in PATH, and its arguments.
            stdin: what it reads.
            epoch: it prints times as seconds since 1970; never for what submits, as jobs inherit it.

        Raises:
            EngineError: it is not installed, or did not end in time.
        """
        environment = self._environment | ({"SLURM_TIME_FORMAT": "%s"} if epoch else {})
        try:
            child = subprocess.Popen(  # found by the PATH of its own environment
                argv,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            why = error.strerror or str(error)
            raise EngineError(
                f"cannot run {argv[0]}: {why} (install Slurm's client programs on this host, in PATH)"
            ) from error
        if argv[0] not in _CHANGES:
            _questions.add(child)
        with child:
            try:
                out, err = child.communicate(stdin.encode(), timeout=self._patience_s)
            except subprocess.TimeoutExpired:
                wait = format_seconds(self._patience_s)
                raise EngineError(f"{argv[0]} did not respond within {wait}") from None
            finally:
                _end_group(child)
                _questions.discard(child)
        return Answer(
            code=child.returncode,
            out=out.decode(errors="replace"),
            err=err.decode(errors="replace"),
        )

    def require(self, *argv: str, stdin: str = "", epoch: bool = False) -> str:
        """Run a program to its end, and return what it prints.

        Raises:
            EngineError: it failed, is not installed, or did not end in time.
        """
        answer = self.run(*argv, stdin=stdin, epoch=epoch)
        if answer.code:
            raise EngineError(f"{argv[0]} failed: {answer.complaint}")
        return answer.out


_questions: set[subprocess.Popen[bytes]] = set()


@atexit.register
def _end_questions() -> None:
    """End the questions under way when this process ends: nobody takes in an answer, and one may never come."""
    for child in [*_questions]:
        _end_group(child)


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """End a program that hangs, with what it has started; of one that has ended nothing is left to end."""
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def _without_prefix(line: str) -> str:
    """Return a line of `sbatch: error: what is wrong` without what stands before the last colons."""
    program, colon, rest = line.strip().partition(": ")
    if not colon or " " in program:
        return line.strip()
    word, colon, text = rest.partition(": ")
    return text if colon and word in _PREFIX_WORDS else rest


LOG_LINES = 20
# longer than a kernel takes as one argument, 128 KiB; all jobs of the user are read then
_MOST_NAMES_BYTES = 100_000
_JOBS_AT_ONCE = 200  # that one scancel is given
CGROUPS = "proctrack/cgroup"
NO_LOG = "no output (check that the node sees the pilot's folder {}, see `folder` in: launcher help clusters)"
_PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # Slurm waits two seconds for what a killed job leaves


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
        """Begin; nothing is asked yet."""
        self._settings, self._commands, self._clock = settings, commands, clock
        self._shown = ""  # its configuration; not asked yet
        self._unsure: dict[
            str, float
        ] = {}  # nodes of which it is not known whether they answer → since when

    def submit(self, pilots: Sequence[tuple[PilotFolder, PilotSpec]]) -> None:
        """Submit pilots, those of an array with one call.

        Raises:
            Refused: Slurm takes no such pilots; what it said.
            EngineError: Slurm did not take all of them, or did not answer.
        """
        for number, batch in enumerate(batches(pilots)):
            answer = self._commands.run(
                "sbatch",
                *submission(self._settings, batch),
                stdin=script(self._settings, batch),
            )
            if answer.code and number:  # the first ones are taken
                raise EngineError(str(self._refusal(answer)))
            if answer.code:
                raise self._refusal(answer)

    def observe(
        self, tokens: Collection[str], nodes: Mapping[str, str] = NOWHERE
    ) -> Mapping[str, Observation]:
        """Ask squeue once for all pilots; where one has ended without a word, also for its node.

        Raises:
            EngineError: nothing is known.
        """
        if not tokens:
            return {}
        seen = observations(self._rows(tokens), tokens, nodes)
        ended = {
            token: item._replace(node=node)
            for token, item in seen.items()
            if item.stage in {Stage.ENDED, Stage.UNKNOWN}
            and item.cause is not Cause.COMPLETED
            and (node := item.node or nodes.get(token, ""))
        }
        silent = self._silent({item.node for item in ended.values()})
        for token, item in ended.items():
            seen[token] = item._replace(node_answers=item.node not in silent)
            seen[token] = seen[token]._replace(emptied=self._is_emptied(seen[token]))
        return seen

    def cancel(self, tokens: Collection[str]) -> None:
        """Cancel pilots with all that runs in them.

        A plain scancel sends SIGCONT first, upon which a frozen job runs on for a moment, even where it is told
        to send SIGKILL. Where Slurm tracks processes by control groups, everything goes when the pilot is
        killed alone, and nothing wakes; elsewhere what is in a session of its own would be left.

        Raises:
            EngineError: Slurm did not take it.
        """
        elements = {token for token in tokens if name_and_index(token)[1]}
        chosen = {name: ("--me", f"--name={name}") for name in sorted(set(tokens) - elements)}
        self._kill(chosen, chosen.values(), lambda row: row.name in chosen)
        for words in chosen.values():
            self._commands.require("scancel", *words)
        if elements:
            self._cancel_elements(elements)

    def collect(self, pilot: PilotFolder) -> str:
        """Return the last lines of a pilot's log; what to look at where Slurm could not even open that."""
        lines = [*map(harmless, last_lines(pilot.log, LOG_LINES))]
        return "\n".join(lines) or NO_LOG.format(NodePaths(self._settings).path(pilot.folder))

    def estimate(self, spec: PilotSpec) -> Estimate:
        """Ask sbatch when such a pilot would start.

        Raises:
            EngineError: Slurm does not answer.
        """
        alone = Batch(name=spec.token, spec=spec, folder=Path("/"))
        answer = self._commands.run(
            "sbatch",
            "--test-only",
            *arguments(self._settings, spec),
            stdin=script(self._settings, alone),
            epoch=True,
        )
        if not answer.code:
            return Estimate(possible=True, starts_at=estimated_start(answer.err + answer.out))
        refusal = self._refusal(answer)
        if not isinstance(refusal, Refused):
            raise refusal
        return Estimate(possible=False, why=str(refusal))

    def _refusal(self, answer: Answer) -> EngineError:
        complaint = answer.complaint
        if not for_good(complaint):
            return EngineError(f"sbatch failed: {complaint}")
        more = self._partitions() if _PARTITION.search(complaint) else ""
        return Refused(
            f"Slurm refuses pilots of [backends.{self._settings.name}]: {complaint}{more}"
        )

    def _partitions(self) -> str:
        try:
            listed = self._commands.require("sinfo", "-h", "-o", "%R").split()
        except EngineError:
            return ""
        return f"; its partitions: {harmless(', '.join(dict.fromkeys(listed)))}" if listed else ""

    def _rows(self, tokens: Iterable[str]) -> list[Row]:
        """Return what squeue says of jobs with our names.

        Raises:
            EngineError: nothing is known.
        """
        names = {name_and_index(token)[0] for token in tokens}
        listed = ",".join(sorted(names))
        words = ["squeue", "--noheader", "--me", "--states=all", "--array", f"--format={FORMAT}"]
        if len(listed) < _MOST_NAMES_BYTES:
            words.append(f"--name={listed}")
        printed = self._commands.require(*words, epoch=True)
        try:
            return [row for row in read_rows(printed) if row.name in names]
        except ValueError as error:
            raise EngineError(f"cannot parse the output of squeue: {error}") from error

    def _silent(self, nodes: Collection[str]) -> set[str]:
        """Return which of these nodes do not answer, or may not: what ran there may run on.

        Raises:
            EngineError: nothing is known.
        """
        if not nodes:
            return set()
        listed = ",".join(sorted(nodes))
        printed = self._commands.require(
            "sinfo", "--noheader", "--Node", f"--nodes={listed}", f"--format={NODE_FORMAT}"
        )
        try:
            return silent_nodes(printed) | self._still_unsure(unsure_nodes(printed))
        except ValueError as error:
            raise EngineError(f"cannot parse the output of sinfo: {error}") from error

    def _is_emptied(self, observation: Observation) -> bool:
        """Tell whether Slurm has seen the last process of an ended job die; of a node that is down it does not wait.

        Raises:
            EngineError: it does not say how it tracks processes.
        """
        waited = observation.stage is Stage.ENDED and observation.cause is not Cause.NODE_FAILED
        return waited and observation.node_answers and self._by_cgroups()

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
            self._commands.require("scancel", f"{array}_[{ranges(numbers)}]")

    def _kill(
        self,
        tokens: Collection[str],
        calls: Collection[Sequence[str]],
        is_chosen: Callable[[Row], bool],
    ) -> None:
        """Kill pilots, where that ends all that runs in them, too, and wait for a moment until they have ended.

        Args:
            tokens: among which they are.
            calls: words that choose them for scancel, for one call after the other.
            is_chosen: tells whether a row is of one of them.
        """
        if not calls or not self._by_cgroups():
            return
        for words in calls:
            # of what waits or has ended this fails, which is no reason to leave it
            self._commands.run("scancel", "--batch", "--signal=KILL", *words)
        for pause_s in _PAUSES_S:
            if not any(row.state in RUNNING and is_chosen(row) for row in self._rows(tokens)):
                return
            time.sleep(pause_s)

    def _still_unsure(self, nodes: Collection[str]) -> set[str]:
        """Return which of these nodes have not been in their states for long enough to be known to answer.

        Raises:
            EngineError: Slurm does not say how long it waits for nodes.
        """
        now = self._clock()
        self._unsure = {node: self._unsure.get(node, now) for node in nodes}
        if not nodes:
            return set()
        marked_s = marked_after_s(self._configuration())
        return {node for node, since in self._unsure.items() if now < since + marked_s}

    def _by_cgroups(self) -> bool:
        """Tell whether Slurm finds all processes of a job, whatever they have done to escape."""
        return CGROUPS in self._configuration()

    def _configuration(self) -> str:
        if not self._shown:
            self._shown = self._commands.require("scontrol", "show", "config")
        return self._shown
