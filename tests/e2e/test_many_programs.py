"""Thousands of commands from a pipe: really queued, really run."""

import subprocess

import pytest

from launcher.states import State
from launcher.system.processes import cores
from tests.e2e.conftest import Project, reading

LINES = 100_000


def add_from_pipe(project: Project, text: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [project.commands / "launcher", "add", *words, "--from", "-"],
        cwd=project.folder,
        env=project.environment,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.night)])
def test_commands_of_a_pipe_run_in_the_order_of_their_lines(project: Project, count: int) -> None:
    lines = "".join(f"sh -c 'echo {number} >> order'\n" for number in range(count))
    added = add_from_pipe(project, lines, "--cpus", str(cores()))  # thus one at a time
    assert (added.returncode, added.stderr) == (0, "")
    numbers = range(1, count + 1)
    assert added.stdout.splitlines() == [f"{number}\tcommand/{number}" for number in numbers]
    waited = project.call("launcher", "wait")
    assert waited.returncode == 0, waited.stderr
    with reading(project.home) as store:
        assert store.read.counts()[State.DONE] == count
    ran = (project.folder / "order").read_text().split()
    assert ran == [str(number) for number in range(count)]


@pytest.mark.night
def test_a_hundred_thousand_commands_are_one_transaction(project: Project) -> None:
    lines = "".join(f"true --seed {number} 'a b'\n" for number in range(LINES))
    refused = add_from_pipe(project, f"{lines}true 'a b\n", "--hold")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"--> <stdin>:{LINES + 1}:6\n" in refused.stderr
    assert not project.home.database.exists()
    added = add_from_pipe(project, lines, "--hold", "--name", "seed")
    assert (added.returncode, added.stderr) == (0, "")
    with reading(project.home) as store:
        assert store.read.counts()[State.HELD] == LINES
        (last,) = store.read.named(f"seed-{LINES}")
        assert last.id == LINES
        assert last.spec.argv == ("true", "--seed", str(LINES - 1), "a b")
