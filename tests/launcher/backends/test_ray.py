import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.backends.protocol import EngineError, Refused
from launcher.backends.ray import AskedProcess, Ray
from launcher.backends.settings import BackendSettings
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


def a_process(code: str, patience_s: float = 60.0) -> AskedProcess:
    argv = [sys.executable, "-P", "-c", code]
    return AskedProcess(argv, dict, name="The engine", patience_s=patience_s)


def test_questions_are_answered_by_the_same_process() -> None:
    process = a_process(ANSWERS)
    first = process.ask("tell", text="ä\n", pid=0)
    assert process.ask("tell") == {"pid": process.ask("tell")["pid"]}
    assert first == {"text": "ä\n", "pid": 0}
    process.close()


def test_a_process_that_has_ended_is_started_again() -> None:
    process = a_process(ANSWERS)
    pid = process.ask("die")["pid"]
    until(lambda: gone(pid), "it has ended")
    assert process.ask("tell")["pid"] != pid
    process.close()


def test_a_process_that_ends_instead_of_an_answer_is_quoted() -> None:
    process = a_process(ENDS)
    with pytest.raises(
        EngineError, match=r"The engine: .* ended by itself, exit code 3: no such cluster"
    ):
        process.ask("tell")
    process.close()


def test_a_process_that_does_not_answer_is_killed() -> None:
    process = a_process(SILENT, patience_s=0.5)
    with pytest.raises(EngineError, match=r"The engine did not answer within 0\.5 s"):
        process.ask("tell")
    assert process._child is None


def test_an_answer_that_is_none_is_an_error() -> None:
    process = a_process(WRONG)
    with pytest.raises(EngineError, match="an answer is not understood: no JSON"):
        process.ask("tell")


def test_who_is_not_asked_any_more_ends(tmp_path: Path) -> None:
    process = a_process(ANSWERS)
    pid = process.ask("tell")["pid"]
    assert process._child is not None
    assert process._child.stdin is not None
    process._child.stdin.close()  # as when the scheduler is killed
    until(lambda: process._child is not None and process._child.poll() is not None, "it ends")
    assert gone(pid)
    process.close()


def test_an_interpreter_that_is_not_there_is_named() -> None:
    engine = Ray(BackendSettings(name="ray", kind="ray", python="/no/such/python"))
    with pytest.raises(EngineError, match="cannot run /no/such/python: No such file"):
        engine.observe(["launcher-ab"])


def test_an_interpreter_without_ray_is_refused_and_says_what_to_install(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # of its own library alone
    python.chmod(0o755)
    engine = Ray(BackendSettings(name="ray", kind="ray", python=str(python)))
    with pytest.raises(
        Refused, match=r"\[backends\.ray\]: Ray is not installed in .*launcher-truef"
    ):
        engine.submit([])
    estimate = engine.estimate(a_pilot())
    assert not estimate.possible
    assert "pip install 'launcher-trueface[ray]'" in estimate.why
    engine.close()


def test_no_pilots_are_no_question() -> None:
    assert Ray(BackendSettings(name="ray", kind="ray", python="/no/such/python")).observe([]) == {}


IMPORTS = """
import importlib, pkgutil, sys
import launcher
from launcher.backends.protocol import backend_of
from launcher.backends.settings import BackendSettings
from launcher.system.paths import Home
from pathlib import Path

for module in pkgutil.walk_packages(launcher.__path__, "launcher."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
backend_of(BackendSettings(name="ray", kind="ray"), Home(Path("/nowhere"))).observe([])
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
