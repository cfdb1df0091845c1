"""Pilots as actors of a running Ray cluster, and what it means for them what Ray says of actors and nodes.

Ray itself is never imported here: a child process in the cluster's interpreter speaks with it (`ray_desk`).
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
from launcher.backends.settings import BackendSettings, NodePaths, after_prologue
from launcher.system.environment import looks_secret
from launcher.system.files import last_lines
from launcher.system.paths import Home
from launcher.system.text import harmless
from launcher.units import format_bytes, format_seconds

_WAITING = frozenset({"DEPENDENCIES_UNREADY", "PENDING_CREATION", "RESTARTING"})
_ALIVE, _DEAD = "ALIVE", "DEAD"
# how a node ended: NodeDeathInfo in Ray's gcs.proto
_ASKED_TO_END, _PREEMPTED, _IDLE = 1, 3, 4
# what Ray prints of an actor's death, in the order to look; its texts are kept from one version to the next
_CAUSES: Sequence[tuple[re.Pattern[str], Cause]] = (
    (re.compile(r"its node has died|NODE_DIED"), Cause.NODE_FAILED),
    (re.compile(r"killed by `?ray\.kill|RAY_KILL"), Cause.CANCELLED),
    (re.compile(r"OUT_OF_MEMORY|memory pressure|running low on memory"), Cause.MEMORY),
    (re.compile(r"INTENDED_USER_EXIT|exit_actor\(\) is called"), Cause.COMPLETED),
)
# behind the end of any process that a signal has killed: what may have been, an out-of-memory killer among others
_GUESSES = "There are some potential root causes"
_MESSAGE = re.compile(r'(?:error_message|formatted_exception_string): "(?P<text>(?:[^"\\]|\\.)*)"')
_CODE = re.compile(r"exit code (?P<code>[0-9]+)")
_ESCAPED = re.compile(r"\\(['\"\\])")
_TRACEBACK = "Traceback"
_MOST_TEXT = 400  # characters of what Ray says that a message shows


class Node(NamedTuple):
    """A node as Ray knows it, alive or dead."""

    alive: bool
    name: str
    address: str
    end: int
    has: Mapping[str, float]
    free: Mapping[str, float]


def asks(settings: BackendSettings, spec: PilotSpec | BackendSettings) -> dict[str, Any]:
    """Return what is asked of Ray for a pilot of a spec."""
    options: dict[str, Any] = {"num_cpus": spec.cpus, "num_gpus": spec.gpus}
    if spec.memory is not None:
        options["memory"] = spec.memory
    if settings.gpu_type and spec.gpus:
        options["accelerator_type"] = settings.gpu_type
    if settings.resources:
        options["resources"] = dict(settings.resources)
    return options


def resources(settings: BackendSettings, spec: PilotSpec | BackendSettings) -> dict[str, float]:
    """Return the same by the names under which Ray counts it on nodes."""
    wanted: dict[str, float] = {"CPU": float(spec.cpus), "GPU": float(spec.gpus)}
    if spec.memory is not None:
        wanted["memory"] = float(spec.memory)
    if settings.gpu_type and spec.gpus:
        wanted[f"accelerator_type:{settings.gpu_type}"] = 0.001
    return {name: amount for name, amount in {**wanted, **settings.resources}.items() if amount}


def read_nodes(answer: Mapping[str, Any]) -> Mapping[str, Node]:
    """Return the nodes of an answer, by Ray's IDs.

    Raises:
        EngineError: it is none.
    """
    try:
        return {
            str(key): Node(
                alive=bool(record["alive"]),
                name=str(record["name"]),
                address=str(record["address"]),
                end=int(record["end"]),
                has=_amounts(record["has"]),
                free=_amounts(record["free"]),
            )
            for key, record in answer["nodes"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _not_understood(f"Ray's nodes: {error!r}") from error


def observations(
    answer: Mapping[str, Any], tokens: Iterable[str], wanted: Mapping[str, float]
) -> dict[str, Observation]:
    """Return what an answer says of pilots.

    Args:
        answer: of the process that speaks with Ray.
        tokens: the pilots that were asked for.
        wanted: what a pilot asks for.

    Raises:
        EngineError: it is none.
    """
    nodes = read_nodes(answer)
    try:
        return {
            token: _observation(answer["pilots"][token], nodes, wanted) for token in set(tokens)
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise _not_understood(f"Ray's actors: {error!r}") from error


def why_not(nodes: Iterable[Node], wanted: Mapping[str, float]) -> str:
    """Return why no node takes a pilot now; '' where one does."""
    alive = [node for node in nodes if node.alive]
    if any(_fits(node.free, wanted) for node in alive):
        return ""
    listed = _listed(wanted)
    if any(_fits(node.has, wanted) for node in alive):
        return f"no node has {listed} free"
    return f"no node of the cluster has {listed} (a new node may have it)"


def could_fit(nodes: Iterable[Node], wanted: Mapping[str, float]) -> bool:
    """Tell whether a node that is there would take a pilot if nothing else ran."""
    return any(_fits(node.has, wanted) for node in nodes if node.alive)


def _not_understood(what: str) -> EngineError:
    return EngineError(f"cannot parse Ray's answer: {what}")


def _observation(
    record: Mapping[str, Any], nodes: Mapping[str, Node], wanted: Mapping[str, float]
) -> Observation:
    if not record:
        return Observation(stage=Stage.UNKNOWN)
    node = nodes.get(str(record["node"]))
    name = harmless(node.name) if node else ""
    state = record["state"]
    if state in _WAITING:
        return Observation(stage=Stage.WAITING, reason=why_not(nodes.values(), wanted))
    if state == _ALIVE:
        return Observation(stage=Stage.RUNNING, node=name)
    if state != _DEAD:
        raise _not_understood(f"the state of an actor, {state!r}")
    cause, reason = _end(str(record["death"]))
    answers = True
    if cause is Cause.NODE_FAILED and node is not None:
        cause = Cause.PREEMPTED if node.end == _PREEMPTED else cause
        answers = _answers(node, nodes.values())
    return Observation(
        stage=Stage.ENDED,
        cause=cause,
        reason=reason,
        node=name,
        node_answers=answers,
        emptied=cause is Cause.COMPLETED,  # a guard has its actor exit when nothing lives
    )


def _answers(node: Node, nodes: Iterable[Node]) -> bool:
    """Tell whether a dead node's machine is there again, or was taken down in an orderly way.

    Else it may be cut off only, and what ran there may run on until it hears of its own death.
    """
    if node.end in {_ASKED_TO_END, _PREEMPTED, _IDLE}:
        return True
    return any(other.alive and other.address == node.address for other in nodes)


def _end(death: str) -> tuple[Cause, str]:
    """Return why an actor died, and how Ray puts it."""
    match = _MESSAGE.search(death)
    text = match["text"] if match else death
    lines = text.replace("\\t", " ").split("\\n")
    if lines[0].startswith(_TRACEBACK):  # its last line tells what went wrong
        lines = [line for line in lines if line.strip()][-1:]
    words = " ".join(_ESCAPED.sub(r"\1", " ".join(lines)).split())
    text = harmless(words.partition(_GUESSES)[0].rstrip())
    cause = next((cause for pattern, cause in _CAUSES if pattern.search(death)), Cause.FAILED)
    if cause is Cause.COMPLETED:
        return cause, ""
    if cause is Cause.CANCELLED:
        return cause, "cancelled"
    code = _CODE.search(death)
    if cause is Cause.FAILED and code and code["code"] != "0":
        return cause, f"exit code {code['code']}"
    return cause, text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT] + "…"


def _fits(there: Mapping[str, float], wanted: Mapping[str, float]) -> bool:
    return all(there.get(name, 0.0) >= amount for name, amount in wanted.items())


def _listed(wanted: Mapping[str, float]) -> str:
    words = [
        format_bytes(int(amount)) if name == "memory" else f"{amount:g} {name}"
        for name, amount in wanted.items()
    ]
    return harmless(", ".join(words))


def _amounts(record: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): float(amount) for name, amount in record.items()}


_LINES_KEPT = 10  # of what it prints for people
_SHOWN = 3
_LONGEST = 1 << 16  # bytes of such a line
_END_S = 5.0  # for a process that has closed its output to be gone
_MOST_ANSWER = 1 << 28  # bytes


class AskedProcess:
    """A child process that answers questions over a pipe, a JSON line each; it is started when there is one.

    Where it does not answer in time it is killed, and the next question starts another. Used by one thread at a time.
    """

    def __init__(
        self,
        argv: Sequence[str],
        environment: Callable[[], Mapping[str, str]],
        *,
        name: str,
        patience_s: float,
    ) -> None:
        """Begin without a process.

        Args:
            argv: its command.
            environment: of what it is started with.
            name: whom it speaks for, in messages.
            patience_s: for each answer.
        """
        self._argv, self._environment = tuple(argv), environment
        self._name, self._patience_s = name, patience_s
        self._child: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None
        self._printed: deque[str] = deque(maxlen=_LINES_KEPT)
        self._number = 0

    def ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Return the answer to a question.

        Raises:
            EngineError: it cannot be started, ended, or did not answer in time.
        """
        self._number += 1
        line = json.dumps({"id": self._number, "do": what, "with": arguments}).encode() + b"\n"
        try:
            child = self._started()
            return self._read(child, self._told(child, line))
        except EngineError:
            self.close()
            raise

    def close(self) -> None:
        """Kill the process; the next question starts another."""
        child, self._child = self._child, None
        if child is None:
            return
        _kill(child)
        child.wait()
        for end in (child.stdin, child.stdout):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.close()

    def _started(self) -> "subprocess.Popen[bytes]":
        """Return the process; started where there is none, or where it has ended since.

        Raises:
            EngineError: it cannot be started.
        """
        if self._child is not None and self._child.poll() is None:
            return self._child
        self.close()
        self._printed.clear()
        try:
            self._child = child = subprocess.Popen(
                self._argv,
                env=self._environment(),
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            why = error.strerror or str(error)
            raise EngineError(f"{self._name}: cannot run {self._argv[0]}: {why}") from error
        self._listener = threading.Thread(target=self._listen, args=(child,), daemon=True)
        self._listener.start()
        return child

    def _listen(self, child: "subprocess.Popen[bytes]") -> None:
        """Keep the last lines that the process prints for people."""
        assert child.stderr is not None
        with child.stderr as lines, contextlib.suppress(OSError, ValueError):
            for line in lines:
                text = harmless(line[:_LONGEST].decode(errors="replace").strip())
                if text:
                    self._printed.append(text)

    def _told(self, child: "subprocess.Popen[bytes]", line: bytes) -> bytes:
        """Return the line that the process answers; not whole where it has ended.

        Raises:
            EngineError: it did not answer in time; it is killed then, which ends what waits for it.
        """
        assert child.stdin is not None
        assert child.stdout is not None
        late = threading.Event()

        def kill() -> None:
            late.set()
            _kill(child)

        timer = threading.Timer(self._patience_s, kill)
        timer.daemon = True
        timer.start()
        answer = b""
        with contextlib.suppress(OSError):
            child.stdin.write(line)
            child.stdin.flush()
            answer = child.stdout.readline(_MOST_ANSWER)
        timer.cancel()
        if late.is_set():
            span = format_seconds(self._patience_s)
            raise EngineError(f"{self._name} did not respond within {span}")
        return answer

    def _read(self, child: "subprocess.Popen[bytes]", line: bytes) -> dict[str, Any]:
        if not line.endswith(b"\n"):
            raise self._ended(child)
        try:
            answer = json.loads(line)
            if isinstance(answer, dict) and answer.pop("id") == self._number:
                return answer
        except (ValueError, KeyError, RecursionError):
            pass
        text = harmless(line[:200].decode(errors="replace").strip())
        raise EngineError(f"{self._name}: cannot parse its answer {text!r}")

    def _ended(self, child: "subprocess.Popen[bytes]") -> EngineError:
        try:
            code = child.wait(_END_S)
        except subprocess.TimeoutExpired:
            code = 0
        if self._listener is not None:
            self._listener.join(_END_S)
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        printed = "; ".join(list(self._printed)[-_SHOWN:])
        more = f": {printed}" if printed else ""
        return EngineError(f"{self._name}: {self._argv[0]} ended unexpectedly ({how}){more}")


def _kill(child: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


PATIENCE_S = 60.0  # joining a cluster takes seconds, on a busy machine many
LOG_LINES = 20
MOST_TEXT = 600  # characters of what Ray said that a message shows
DESK = Path(__file__).with_name("ray_desk.py")
_FIND = "auto"  # RAY_ADDRESS, or the cluster of this machine


def make(settings: BackendSettings, home: Home) -> "Ray":  # noqa: ARG001  # as all engines are made
    """Return the Ray cluster of a table of config.toml."""
    return Ray(settings)


class Ray:
    """A Ray cluster that runs pilots."""

    def __init__(self, settings: BackendSettings, patience_s: float = PATIENCE_S) -> None:
        """Begin; nothing is asked yet.

        Args:
            settings: its table of config.toml.
            patience_s: for each of Ray's answers.
        """
        self._settings = settings
        python = settings.python or sys.executable
        self._desk = AskedProcess(
            [python, "-P", str(DESK), settings.address or _FIND],
            _environment,
            name="Ray",
            patience_s=patience_s,
        )

    def submit(self, pilots: Sequence[tuple[PilotFolder, PilotSpec]]) -> None:
        """Create an actor for each pilot.

        Raises:
            Refused: there is no Ray here, or it is of another version than the cluster.
            EngineError: Ray did not take all of them, or did not answer.
        """
        self._ask(
            "submit",
            pilots=[
                {
                    "token": folder.token,
                    "asks": asks(self._settings, spec),
                    "argv": self._command(folder),
                    "log": NodePaths(self._settings).path(folder.log),
                }
                for folder, spec in pilots
            ],
        )

    def observe(
        self,
        tokens: Collection[str],
        nodes: Mapping[str, str] = NOWHERE,  # noqa: ARG002  # as all engines are asked
    ) -> Mapping[str, Observation]:
        """Ask Ray once for all pilots and nodes.

        Raises:
            EngineError: nothing is known.
        """
        if not tokens:
            return {}
        answer = self._ask("observe", tokens=sorted(tokens))
        return observations(answer, tokens, resources(self._settings, self._settings))

    def cancel(self, tokens: Collection[str]) -> None:
        """Kill actors; their guards kill what runs in the pilots.

        Raises:
            EngineError: Ray does not answer.
        """
        self._ask("cancel", tokens=sorted(tokens))

    def collect(self, pilot: PilotFolder) -> str:
        """Return the last lines of a pilot's log."""
        return "\n".join(map(harmless, last_lines(pilot.log, LOG_LINES)))

    def estimate(self, spec: PilotSpec) -> Estimate:
        """Tell whether a node of the cluster has room for such a pilot.

        Raises:
            EngineError: Ray does not answer.
        """
        try:
            nodes = read_nodes(self._ask("observe", tokens=[])).values()
        except Refused as error:
            return Estimate(possible=False, why=str(error))
        wanted = resources(self._settings, spec)
        why = why_not(nodes, wanted)
        starts_at = None if why else time.time()
        return Estimate(possible=could_fit(nodes, wanted), why=why, starts_at=starts_at)

    def close(self) -> None:
        """End the process that speaks with Ray; pilots live on."""
        self._desk.close()

    def _command(self, folder: PilotFolder) -> list[str]:
        """Return what an actor runs: the guard of a pilot, in the site's container and after its prologue."""
        node = NodePaths(self._settings)
        guard = (node.interpreter(), "-P", "-m", "launcher.backends.ray_guard")
        words = (*self._settings.wrap, *guard, node.path(folder.folder))
        return after_prologue(self._settings, *words)

    def _ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        answer = self._desk.ask(what, **arguments)
        error = answer.get("error")
        if error is None:
            return answer
        text = harmless(" ".join(str(error).split()))[:MOST_TEXT]
        if answer.get("for_good"):
            raise Refused(f"Ray refuses pilots of [backends.{self._settings.name}]: {text}")
        raise EngineError(f"Ray: {text}")


def _environment() -> dict[str, str]:
    """Return what the process that speaks with Ray begins with: ours, without secrets."""
    return {name: text for name, text in os.environ.items() if not looks_secret(name, text)}
