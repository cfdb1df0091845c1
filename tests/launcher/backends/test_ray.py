"""Ray as an engine: the requests to it, and the states that it reports."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.queue.backends.json_line_process import JsonLineProcess
from launcher.queue.backends.pilot_folder import PilotSpec
from launcher.queue.backends.protocol import (
    AllocationEndCause,
    AllocationState,
    EngineError,
    Observation,
    SubmissionRefused,
)
from launcher.queue.backends.ray import Ray
from launcher.queue.backends.ray_states import (
    actor_options,
    node_resources,
    parse_observations,
    why_no_node_fits,
)
from launcher.queue.backends.ray_states import read_nodes as nodes_of
from launcher.queue.backends.settings import BackendSettings
from tests.build import gone, until
from tests.launcher.pilots.desk import a_pilot

ANSWERS = """
import json, os, sys
for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps({"id": request["id"], "pid": os.getpid(), **request["with"]}), flush=True)
    if request["do"] == "die":
        print("no more of this", file=sys.stderr, flush=True)
        sys.exit(7)
"""
SILENT = "import sys; sys.stdin.read()"
WRONG = "input(); print('no JSON', flush=True); input()"
ENDS = "import sys; print('no such cluster', file=sys.stderr); sys.exit(3)"


def a_process(code: str, patience_s: float = 60.0) -> JsonLineProcess:
    argv = [sys.executable, "-P", "-c", code]
    return JsonLineProcess(argv, dict, name="The engine", patience_s=patience_s)


def test_requests_are_answered_by_the_same_process() -> None:
    process = a_process(ANSWERS)
    first = process.call("tell", text="ä\n", pid=0)
    assert process.call("tell") == {"pid": process.call("tell")["pid"]}
    assert first == {"text": "ä\n", "pid": 0}
    process.close()


def test_ended_process_is_restarted() -> None:
    process = a_process(ANSWERS)
    pid = process.call("die")["pid"]
    until(lambda: gone(pid), "it has ended")
    assert process.call("tell")["pid"] != pid
    process.close()


def test_process_that_ends_instead_of_answering_is_quoted() -> None:
    process = a_process(ENDS)
    with pytest.raises(
        EngineError, match=r"The engine: .* ended unexpectedly \(exit code 3\): no such cluster"
    ):
        process.call("tell")
    process.close()


def test_unresponsive_process_is_killed() -> None:
    process = a_process(SILENT, patience_s=0.5)
    with pytest.raises(EngineError, match=r"The engine did not respond within 0\.5 s"):
        process.call("tell")
    assert process._child is None


def test_invalid_answer_is_an_error() -> None:
    process = a_process(WRONG)
    with pytest.raises(EngineError, match="cannot parse its answer 'no JSON"):
        process.call("tell")


def test_closed_process_ends(tmp_path: Path) -> None:
    process = a_process(ANSWERS)
    pid = process.call("tell")["pid"]
    assert process._child is not None
    assert process._child.stdin is not None
    process._child.stdin.close()  # as when the scheduler is killed
    until(lambda: process._child is not None and process._child.poll() is not None, "it ends")
    assert gone(pid)
    process.close()


def test_missing_interpreter_is_named() -> None:
    engine = Ray(BackendSettings(name="ray", kind="ray", python="/no/such/python"))
    with pytest.raises(EngineError, match="cannot run /no/such/python: No such file"):
        engine.observe(["launcher-ab"])


def test_interpreter_without_ray_is_refused_with_an_install_command(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\nexec {sys.executable} -S "$@"\n'
    )  # an interpreter with its own library alone
    python.chmod(0o755)
    engine = Ray(BackendSettings(name="ray", kind="ray", python=str(python)))
    with pytest.raises(
        SubmissionRefused, match=r"\[backends\.ray\]: Ray is not installed in .*-m pip install ray"
    ):
        engine.submit([])
    estimate = engine.estimate(a_pilot())
    assert not estimate.possible
    assert "-m pip install ray" in estimate.why
    engine.close()


def test_observing_no_pilots_sends_no_request() -> None:
    assert Ray(BackendSettings(name="ray", kind="ray", python="/no/such/python")).observe([]) == {}


IMPORTS = """
import importlib, pkgutil, sys
import launcher
from launcher.queue.backends.protocol import load_backend
from launcher.queue.backends.settings import BackendSettings
from launcher.queue.home.paths import Home
from pathlib import Path

for module in pkgutil.walk_packages(launcher.__path__, "launcher."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
load_backend(BackendSettings(name="ray", kind="ray"), Home(Path("/nowhere"))).observe([])
assert "ray" not in sys.modules
"""


def test_neither_command_line_nor_scheduler_imports_ray(tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text("raise AssertionError('Ray is imported')")
    done = subprocess.run(
        [sys.executable, "-P", "-c", IMPORTS],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# --- ray states


ONE_CORE = {"CPU": 1.0}
# as Ray 2.60 prints an actor's death
EXITED = (
    'actor_died_error_context {\n  error_message: "The actor is dead because its worker process has died. '
    "Worker exit type: SYSTEM_ERROR Worker exit detail: Worker exits unexpectedly. "
    'Worker exits with an exit code 3."\n  name: "launcher-ab"\n  reason: WORKER_DIED\n}\n'
)
LEFT = (
    'actor_died_error_context {\n  error_message: "The actor is dead because its worker process has died. '
    "Worker exit type: INTENDED_USER_EXIT Worker exit detail: Worker exits by an user request. "
    'Worker exits with an exit code 0. exit_actor() is called."\n  reason: WORKER_DIED\n}\n'
)
KILLED = (
    'actor_died_error_context {\n  error_message: "The actor is dead because it was killed by `ray.kill`."\n'
    "  reason: RAY_KILL\n}\n"
)
NODE_DIED = (
    'actor_died_error_context {\n  error_message: "The actor died because its node has died. Node Id: 35d0\\n'
    "\\tthe actor\\'s node was terminated unexpectedly: health check failed due to missing too many heartbeats"
    '"\n  reason: NODE_DIED\n}\n'
)
RAISED = (
    'creation_task_failure_context {\n  formatted_exception_string: "Traceback (most recent call last):\\n  File '
    '\\"python/ray/_raylet.pyx\\", line 2198\\nFileNotFoundError: [Errno 2] No such file or directory: '
    "\\'/shared/pilots/launcher-ab/engine.log\\'\\n\"\n}\n"
)


# a process that anybody has killed: among what may have been, Ray names an out-of-memory killer
SIGKILL = (
    'actor_died_error_context { error_message: "The actor died unexpectedly before finishing this task. '
    "There are some potential root causes. (1) The process is killed by SIGKILL by OOM killer due to high memory "
    'usage. (2) ray stop --force is called. (3) The worker is crashed unexpectedly due to SIGSEGV." }'
)
OOM = 'oom_context { error_message: "The actor died because its node was running low on memory." }'


def asked(**shape: Any) -> PilotSpec:
    return PilotSpec(token="launcher-ab", backend="ray", version="1", **shape)


def node(*, alive: bool = True, address: str = "10.0.0.1", end: int = 0, **has: float) -> Any:
    return {
        "alive": alive,
        "name": "vm",
        "address": address,
        "end": end,
        "has": has,
        "free": has if alive else {},
    }


def observed(state: str, death: str = "", **nodes: Any) -> Observation:
    answer = {"pilots": {"t": {"state": state, "node": "a", "death": death}}, "nodes": nodes}
    return parse_observations(answer, ["t"], ONE_CORE)["t"]


@pytest.mark.parametrize(
    ("death", "cause", "reason"),
    [
        (EXITED, AllocationEndCause.FAILED, "exit code 3"),
        (LEFT, AllocationEndCause.COMPLETED, ""),
        (KILLED, AllocationEndCause.CANCELLED, "cancelled"),
        (
            RAISED,
            AllocationEndCause.FAILED,
            "FileNotFoundError: [Errno 2] No such file or directory: "
            "'/shared/pilots/launcher-ab/engine.log'",
        ),
        (
            SIGKILL,
            AllocationEndCause.FAILED,
            "The actor died unexpectedly before finishing this task.",
        ),
        (
            OOM,
            AllocationEndCause.MEMORY,
            "The actor died because its node was running low on memory.",
        ),
        (
            "whatever Ray will say some day",
            AllocationEndCause.FAILED,
            "whatever Ray will say some day",
        ),
        ("", AllocationEndCause.FAILED, ""),
    ],
)
def test_death_is_reported_in_rays_words(
    death: str, cause: AllocationEndCause, reason: str
) -> None:
    observation = observed("DEAD", death, a=node())
    assert observation.stage is AllocationState.ENDED
    assert (observation.cause, observation.reason) == (cause, reason)


def test_pilot_may_still_run_on_a_node_that_fell_silent() -> None:
    observation = observed("DEAD", NODE_DIED, a=node(alive=False, end=2))
    assert observation.cause is AllocationEndCause.NODE_FAILED
    assert "missing too many heartbeats" in observation.reason
    assert not observation.node_answers


def test_node_answers_once_its_machine_has_rejoined() -> None:
    assert observed("DEAD", NODE_DIED, a=node(alive=False, end=2), b=node()).node_answers
    elsewhere = node(address="10.0.0.2")
    assert not observed("DEAD", NODE_DIED, a=node(alive=False, end=2), b=elsewhere).node_answers


def test_no_pilot_runs_on_a_node_that_was_removed() -> None:
    assert observed("DEAD", NODE_DIED, a=node(alive=False, end=1)).node_answers
    preempted = observed("DEAD", NODE_DIED, a=node(alive=False, end=3))
    assert preempted.node_answers
    assert preempted.cause is AllocationEndCause.PREEMPTED


def test_pilot_waits_for_a_node_with_room() -> None:
    waiting = observed("PENDING_CREATION", a=node(GPU=1))
    assert waiting.stage is AllocationState.WAITING
    assert waiting.reason == "no node of the cluster has 1 CPU (a new node may have it)"
    busy = {**node(CPU=4), "free": {"CPU": 0.0}}
    assert observed("PENDING_CREATION", a=busy).reason == "no node has 1 CPU free"
    assert observed("PENDING_CREATION", a=node(CPU=1)).reason == ""


def test_dead_node_has_no_room() -> None:
    dead = {**node(CPU=4, alive=False), "free": {"CPU": 4.0}}
    assert "no node of the cluster" in why_no_node_fits(
        nodes_of({"nodes": {"a": dead}}).values(), ONE_CORE
    )


def test_unlisted_pilot_is_unknown() -> None:
    assert (
        parse_observations({"pilots": {"t": {}}, "nodes": {}}, ["t"], {})["t"].stage
        is AllocationState.UNKNOWN
    )


def test_unknown_state_is_not_an_end() -> None:
    with pytest.raises(EngineError, match="HIBERNATING"):
        observed("HIBERNATING", a=node())


def test_pilot_requests_its_shape_and_the_resources_of_the_site() -> None:
    settings = BackendSettings(name="ray", kind="ray", gpu_type="A100", resources={"fast": 1.0})
    shape = asked(cpus=2, gpus=1, memory=1 << 30)
    assert actor_options(settings, shape) == {
        "num_cpus": 2,
        "num_gpus": 1,
        "memory": 1 << 30,
        "accelerator_type": "A100",
        "resources": {"fast": 1.0},
    }
    assert node_resources(settings, shape) == {
        "CPU": 2.0,
        "GPU": 1.0,
        "memory": float(1 << 30),
        "accelerator_type:A100": 0.001,
        "fast": 1.0,
    }
    assert actor_options(settings, asked(cpus=1)) == {
        "num_cpus": 1,
        "num_gpus": 0,
        "resources": {"fast": 1.0},
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["pilots", "nodes", "t", "state", "node", "death", "alive", "has", "free", "end"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(["pilots", "nodes"]), JSON))
def test_invalid_answer_is_refused(answer: dict[str, Any]) -> None:
    try:
        seen = parse_observations(json.loads(json.dumps(answer)), ["t"], ONE_CORE)
    except EngineError:
        return
    assert list(seen) == ["t"]
