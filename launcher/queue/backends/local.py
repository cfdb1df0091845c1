"""The engine `local`: a pilot is a plain process of this machine, in a session of its own.

It needs no cluster. Like the other engines, it starts pilots, observes whether they live, and ends them.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from launcher.queue.backends.node_gpus import WrongGpus, resolve_visible_gpus
from launcher.queue.backends.pilot_folder import PilotFolder, PilotSpec
from launcher.queue.backends.pilot_messages import Deregistered, decode_message
from launcher.queue.backends.pilot_processes import find_pids, kill_all, process_of
from launcher.queue.backends.protocol import (
    NO_NODES,
    AllocationEndCause,
    AllocationState,
    EngineError,
    Estimate,
    Observation,
)
from launcher.queue.backends.settings import BackendSettings, with_prologue
from launcher.queue.gpu.monitor import query_gpus_once
from launcher.queue.gpu.nvml import Nvml
from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.home.paths import Home
from launcher.system.child_process import spawn_child
from launcher.system.environment import owners_environment
from launcher.system.errors import MachineError, pluralize
from launcher.system.files import Json, read_bytes, read_json, write_json
from launcher.system.log_files import last_lines
from launcher.system.process_trees import ATTEMPT_VARIABLE
from launcher.system.processes import Identity, boot_id, identity, identity_from_record, is_alive
from launcher.system.remembered_variables import is_likely_secret

LOG_LINES = 20
DRIVER_TIMEOUT_S = 30.0
TAIL_BYTES = 4096
VISIBLE = "CUDA_VISIBLE_DEVICES"


def make(settings: BackendSettings, home: Home) -> "Local":
    """Return the engine of a table of config.toml."""
    return Local(settings, home)


class Local:
    """Pilots as processes of this machine."""

    def __init__(self, settings: BackendSettings, home: Home) -> None:
        """Begin.

        Args:
            settings: its table of config.toml.
            home: the queue folder, which contains the pilots' folders by default.
        """
        self._settings = settings
        self._root = settings.folder or home.folder / "pilots"
        self._children: dict[str, subprocess.Popen[bytes]] = {}  # by token

    def submit(self, pilots: Sequence[tuple[PilotFolder, PilotSpec]]) -> None:
        """Start pilots.

        Raises:
            EngineError: one cannot be started; the others before it are.
        """
        for folder, spec in pilots:
            gpus = self._free_gpus(spec.gpus)
            try:
                self._start(folder, gpus)
            except OSError as error:
                raise EngineError(f"cannot start a pilot: {error}") from error

    def observe(
        self,
        tokens: Collection[str],
        nodes: Mapping[str, str] = NO_NODES,  # noqa: ARG002  # as all engines are asked
    ) -> Mapping[str, Observation]:
        """Return which pilots live, and how the others ended, if known."""
        return {token: self._observe(token) for token in tokens}

    def cancel(self, tokens: Collection[str]) -> None:
        """Kill pilots, their fork servers, supervisors and programs.

        Raises:
            EngineError: something does not end.
        """
        for token in tokens:
            folder = self._folder(token)
            record = read_json(folder.process_file)
            if record is not None:
                with contextlib.suppress(OSError):
                    write_json(folder.process_file, {**record, "cancelled": True}, mode=0o600)
            kill_all(folder, identity_from_record(record))
            self._collect_child(token)

    def collect(self, pilot: PilotFolder) -> str:
        """Return the last lines that a pilot printed."""
        try:
            return "\n".join(last_lines(pilot.log, LOG_LINES))
        except OSError:
            return ""

    def estimate(self, spec: PilotSpec) -> Estimate:
        """Return whether this machine has the GPUs of a pilot. Such a pilot starts at once."""
        try:
            self._free_gpus(spec.gpus)
        except EngineError as error:
            return Estimate(possible=False, why=str(error))
        return Estimate(possible=True, starts_at=time.time())

    def _folder(self, token: str) -> PilotFolder:
        return PilotFolder(self._root / token)

    def _start(self, folder: PilotFolder, gpus: Sequence[str]) -> None:
        argv = [self._settings.python or sys.executable, "-P", "-m", "launcher.pilots"]
        argv = with_prologue(self._settings, *self._settings.wrap, *argv, str(folder.folder))
        with folder.log.open("ab") as log:
            child = spawn_child(argv, _environment(gpus), stdout=log, stderr=log)
        self._children[folder.token] = child
        who = identity(child.pid)
        # a pilot without a process has ended already, and its exit status shows how
        if who is not None:
            record: dict[str, Json] = {"schema": 1, **who.to_json(), "gpus": list(gpus)}
            write_json(folder.process_file, record, mode=0o600)

    def _observe(self, token: str) -> Observation:
        folder = self._folder(token)
        status = self._collect_child(token)
        record = read_json(folder.process_file)
        who = identity_from_record(record)
        node = os.uname().nodename
        if who is None:
            who = process_of(folder)  # the scheduler died before it had recorded the process
        if who is not None and is_alive(who):
            return Observation(stage=AllocationState.RUNNING, node=node)
        if who is None and status is None:
            return Observation(stage=AllocationState.UNKNOWN)
        cause, reason = _end_cause(folder, record or {}, who, status)
        return Observation(
            stage=AllocationState.ENDED,
            cause=cause,
            reason=reason,
            node=node,
            emptied=not find_pids(folder, who),
        )

    def _collect_child(self, token: str) -> int | None:
        """Return the exit status of a pilot. None if it lives or was not our child."""
        child = self._children.get(token)
        return None if child is None else child.poll()

    def _free_gpus(self, requested_gpus: int) -> list[str]:
        """Return the UUIDs of GPUs for a pilot: of those that we see, the ones that no other pilot has.

        Raises:
            EngineError: this machine has too few.
        """
        if not requested_gpus:
            return []
        try:
            seen = _visible_gpus()
        except (WrongGpus, MachineError) as error:
            raise EngineError(str(error)) from error
        taken = set(_used_gpus(self._root))
        free = [gpu.uuid for gpu in seen if gpu.uuid not in taken]
        if len(free) < requested_gpus:
            table = f"[backends.{self._settings.name}]"
            asks = f"a pilot of {table} requests {pluralize(requested_gpus, 'GPU')}"
            others = f", {len(seen) - len(free)} used by other pilots" if taken else ""
            raise EngineError(f"{asks}; this machine has {len(seen)}{others}")
        return free[:requested_gpus]


def _environment(gpus: Sequence[str]) -> dict[str, str]:
    """Return the environment of a pilot: ours, without secrets and variables of a job."""
    own = owners_environment(os.environ)
    own.pop(ATTEMPT_VARIABLE, None)
    plain = {name: text for name, text in own.items() if not is_likely_secret(name, text)}
    return {**plain, VISIBLE: ",".join(gpus)}


def _visible_gpus() -> Sequence[GpuSnapshot]:
    listed = query_gpus_once(Nvml().snapshot, timeout_s=DRIVER_TIMEOUT_S)
    visible = os.environ.get(VISIBLE)
    return listed if visible is None else resolve_visible_gpus(visible, listed)


def _used_gpus(root: Path) -> Iterator[str]:
    """Yield the GPUs of the pilots that live."""
    for file in root.glob(f"*/{PilotFolder(root).process_file.name}"):
        with contextlib.suppress(OSError):
            record = read_json(file)
            who = identity_from_record(record)
            gpus = (record or {}).get("gpus")
            if who is not None and is_alive(who) and isinstance(gpus, list):
                yield from map(str, gpus)


def _end_cause(
    folder: PilotFolder,
    record: Mapping[str, Json],
    process_identity: Identity | None,
    status: int | None,
) -> tuple[AllocationEndCause, str]:
    """Return why a pilot ended, with the known details."""
    if record.get("cancelled"):
        return AllocationEndCause.CANCELLED, "cancelled"
    if process_identity is not None and process_identity.boot != boot_id():
        return AllocationEndCause.NODE_FAILED, "the machine was restarted"
    if status is not None and status < 0:
        return AllocationEndCause.FAILED, f"ended by {signal.Signals(-status).name}"
    if status:
        return AllocationEndCause.FAILED, f"ended with exit code {status}"
    if status == 0 or _has_deregistered(folder):
        return AllocationEndCause.COMPLETED, ""
    return AllocationEndCause.FAILED, "its exit status is unknown"


def _has_deregistered(folder: PilotFolder) -> bool:
    try:
        lines = read_bytes(folder.messages_file)[-TAIL_BYTES:].splitlines()
    except OSError:
        return False
    return bool(lines) and isinstance(decode_message(lines[-1]), Deregistered)
