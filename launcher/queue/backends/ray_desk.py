"""A child process that calls a Ray cluster: requests arrive as JSON lines, and each response is one line.

It runs in the cluster's interpreter, which need not have more than Ray: this file is run by its path. Nothing else in
the launcher imports Ray, which takes seconds and 60 MiB.

A pilot is a detached, named actor, which runs a guard (`ray_guard`), which runs the pilot.
"""

import json
import logging
import os
import queue
import shlex
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

NAMESPACE = "launcher"
WAITING = ("DEPENDENCIES_UNREADY", "PENDING_CREATION")  # states of actors
# seconds without a request after which this process ends; the next request starts a new one
IDLE_S = 600.0
# seconds for actors; the response has to arrive before the caller's timeout
CREATE_TIMEOUT_S = 45.0
CONNECT_TIMEOUT_S = 10.0
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "error"}


def main(argv: list[str]) -> int:
    """Serve requests for a cluster's address; return after `IDLE_S` without a request."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # the output of libraries must not mix with responses
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    cluster: Cluster | None = None
    while True:
        try:
            line = requests.get(timeout=IDLE_S)
        except queue.Empty:
            return 0
        request = json.loads(line)
        try:
            cluster = cluster or Cluster(argv[0])
            answer = cluster.handle_request(request)
        except Exception as error:  # noqa: BLE001  # the caller gets any error of Ray
            answer = {"error": _error_text(error), "for_good": _is_permanent(error)}
        answers.write(json.dumps({"id": request["id"], **answer}) + "\n")
        answers.flush()


class Cluster:
    """A running Ray cluster, joined as a driver."""

    def __init__(self, address: str) -> None:
        """Join it.

        Args:
            address: address of the cluster's head, or "auto": that of RAY_ADDRESS, or the cluster of this machine.

        Raises:
            ImportError: Ray is not installed here.
            ConnectionError: there is no such cluster.
            RuntimeError: it is of another version of Ray or Python.
        """
        import ray  # importing Ray takes seconds; and interpreters without Ray read this file

        if address == "auto":
            address = os.environ.get("RAY_ADDRESS", address)
        _check_reachable(address)
        # without an address of a cluster, Ray would start one
        ray.init(
            address=address,
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        self._ray: Any = ray
        self._actors: dict[str, str] = {}  # token → Ray's ID of the actor
        # token → its record when it was dead
        self._dead_records: dict[str, dict[str, Any]] = {}

    def handle_request(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Execute a request."""
        does: Mapping[str, Callable[..., dict[str, Any]]] = {
            "submit": self._submit,
            "observe": self._observe,
            "cancel": self._cancel,
        }
        return does[request["do"]](**request["with"])

    def _submit(self, pilots: list[dict[str, Any]]) -> dict[str, Any]:
        """Create the actors of pilots; one that is there is not created again.

        An actor that waits dies with who created it, even a detached one. So an actor creates them that stays until
        none of them waits any more.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = self._ray.get_runtime_context().get_node_id()
        keeper_class, pilot_class = _actor_classes()
        keeper = self._ray.remote(keeper_class).options(
            name=f"keeper-{uuid.uuid4().hex}",
            namespace=NAMESPACE,
            lifetime="detached",
            max_restarts=0,
            num_cpus=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=True),
        )
        created = keeper.remote().create.remote(pilot_class, NAMESPACE, pilots)
        self._actors.update(self._ray.get(created, timeout=CREATE_TIMEOUT_S))
        return {}

    def _observe(self, tokens: list[str]) -> dict[str, Any]:
        """Return Ray's records of actors and nodes."""
        seen = {token: self._find_actor_record(token) for token in tokens}
        unknown = [token for token, record in seen.items() if not record]
        # actors of earlier processes, or dead actors: the table of all actors contains them
        if unknown:
            listed = sorted(
                self._read_actor_table().values(), key=lambda record: record["State"] != "DEAD"
            )
            names = {record["Name"]: record for record in listed}  # a living actor has precedence
            for token in unknown:
                seen[token] = names.get(token, {})
        return {
            "pilots": {token: self._actor_answer(token, record) for token, record in seen.items()},
            "nodes": self._nodes(),
        }

    def _cancel(self, tokens: list[str]) -> dict[str, Any]:
        """Kill actors. Their guards end the processes there."""
        for token in tokens:
            try:
                handle = self._ray.get_actor(token, namespace=NAMESPACE)
            except ValueError:  # the actor is dead, or was never there
                continue
            self._ray.kill(handle, no_restart=True)
        return {}

    def _find_actor_record(self, token: str) -> dict[str, Any]:
        """Return Ray's record of a pilot whose actor we know or find by its name; empty otherwise."""
        if token in self._dead_records:
            return self._dead_records[token]
        actor = self._actors.get(token)
        if actor is None:
            try:
                handle = self._ray.get_actor(token, namespace=NAMESPACE)
            except ValueError:
                return {}
            actor = self._actors[token] = handle._actor_id.hex()  # noqa: SLF001  # Ray has no other way
        return self._read_actor_table(actor)

    def _read_actor_table(self, actor: str | None = None) -> dict[str, Any]:
        """Return Ray's record of an actor, or of all; its state API would need a dashboard."""
        from ray._private import state

        records: dict[str, Any] = state.actors(actor)
        return records

    def _actor_answer(self, token: str, record: dict[str, Any]) -> dict[str, Any]:
        if not record:
            return {}
        if record["State"] == "DEAD":
            self._dead_records[token] = record
        return {
            "state": record["State"],
            "node": record.get("Address", {}).get("NodeID", ""),
            "death": str(record.get("DeathCause") or ""),
        }

    def _nodes(self) -> dict[str, Any]:
        from ray._private import state

        free = state.available_resources_per_node()
        return {
            node["NodeID"]: {
                "alive": node["Alive"],
                "name": node.get("NodeManagerHostname", ""),
                "address": node.get("NodeManagerAddress", ""),
                "end": node.get("DeathReason", 0),
                "has": node.get("Resources", {}),
                "free": free.get(node["NodeID"], {}),
            }
            for node in self._ray.nodes()
        }


def _actor_classes() -> tuple[type, type]:
    """Return the classes of the actors; they are sent to the nodes by value, with all that they use."""
    import ray

    class PilotCreator:
        """Creates pilots, and stays as long as one of them waits."""

        def create(
            self, pilot_class: type, namespace: str, pilots: list[dict[str, Any]]
        ) -> dict[str, str]:
            actor: Any = ray.remote(pilot_class)
            self._actors = {}
            try:
                for pilot in pilots:
                    handle = actor.options(
                        name=pilot["token"],
                        namespace=namespace,
                        lifetime="detached",
                        get_if_exists=True,
                        max_restarts=0,
                        max_task_retries=0,
                        **pilot["asks"],
                    ).remote(pilot["argv"], pilot["log"])
                    self._actors[pilot["token"]] = handle._actor_id.hex()  # noqa: SLF001  # Ray has no other way
            finally:
                ray.get_runtime_context().current_actor.exit_when_created.remote()
            return self._actors

        def exit_when_created(self) -> None:
            for actor in self._actors.values():
                while self._waits(actor):
                    time.sleep(1.0)
            ray.actor.exit_actor()

        def _waits(self, actor: str) -> bool:
            from ray._private import state

            try:
                return state.actors(actor).get("State") in WAITING
            except Exception:  # noqa: BLE001  # Ray is busy, and is queried again
                return True

    class PilotActor:
        """Runs a guard, and dies with the guard. The guard ends when this process is gone."""

        def __init__(self, argv: list[str], log: str) -> None:
            others = ("LAUNCHER_", "RAY_", "PYTHONBREAKPOINT")  # Ray's own, which no job shall have
            own = {k: text for k, text in os.environ.items() if not k.startswith(others)}
            own["LAUNCHER_RAYLET"] = str(os.getppid())
            self._socket, other = socket.socketpair()
            with open(log, "ab") as opened, other:  # noqa: PTH123
                self._child = subprocess.Popen(
                    argv,
                    env=own,
                    cwd="/",
                    # the end of file on standard input shows the guard that we are gone
                    stdin=other.fileno(),
                    stdout=opened,
                    stderr=opened,
                    start_new_session=True,
                )
            ray.get_runtime_context().current_actor.serve.remote()

        def serve(self) -> None:
            """Wait for the end of the guard, and end."""
            code = self._child.wait()  # the guard has left the folder, or never began
            word = self._socket.recv(16)
            code = int(word) if word else code or 1
            if code:
                sys.exit(code if code > 0 else 128 - code)
            ray.actor.exit_actor()

    return PilotCreator, PilotActor


def _check_reachable(address: str) -> None:
    """Try an address such as 10.0.0.1:6379: where nobody listens, Ray itself would try for minutes.

    Raises:
        ConnectionError: nobody listens there.
        ValueError: the text is not an address.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"expected an address such as 10.0.0.1:6379, not '{address}'")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"no Ray cluster at {address}: {error}") from error


def _read_requests(requests: "queue.SimpleQueue[bytes]") -> None:
    """Read requests. When the input is closed, end at once, even during a call to Ray."""
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)


def _error_text(error: Exception) -> str:
    if isinstance(error, ImportError):
        # the cluster's interpreter may lack launcher, and with it `install_command`
        command = f"{shlex.quote(sys.executable)} -m pip install ray"
        return f"Ray is not installed in {sys.executable} ({error}; to install it: {command})"
    return str(getattr(error, "cause", None) or error) or type(error).__name__


def _is_permanent(error: Exception) -> bool:
    """Return whether the error repeats until something is configured or installed."""
    text = str(error)
    return isinstance(error, ImportError | ValueError) or "ersion mismatch" in text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
