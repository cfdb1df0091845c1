"""Projects of people who use the queue through another tool."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.queue.home.paths import make_home
from launcher.queue.store.queue import Store
from tests.documents import TREE, blocks
from tests.e2e.conftest import Project, a_project
from tests.launcher.functions.conftest import alone, home, one_queue, queue

__all__ = ["alone", "home", "one_queue", "queue"]
SEARCH_PATH = (
    TREE / "launcher" / "frontends" / "plugins" / "search_path"
)  # as an installation has it
PEERS = Path(__file__).parent / "peers"
DEADLINE_S = 240.0


@pytest.fixture(scope="module")
def tool_project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project in which the tools find their plugins; its queue serves all tests of a file."""
    with a_project(tmp_path_factory.mktemp("tool")) as project:
        make_home(project.home)
        Store(project.home).close()
        path = [str(SEARCH_PATH), *filter(None, [os.environ.get("PYTHONPATH")])]
        yield replace(
            project, environment=project.environment | {"PYTHONPATH": os.pathsep.join(path)}
        )


def page_block(page: str, language: str, beginning: str) -> str:
    """Return a block of a page by its beginning."""
    texts = [block.text for block in blocks(TREE / "docs" / page, language)]
    return next(text for text in texts if text.startswith(beginning))


def run_peer_suite(
    project: Project, file: str, *words: str, python: Sequence[str | Path] = (sys.executable,)
) -> subprocess.CompletedProcess[str]:
    """Run tests of another tool in a process of their own, without the configuration of ours."""
    (project.folder / file).write_bytes((PEERS / file).read_bytes())
    quiet = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore")
    basetemp = project.folder / f"{file}-temporary"
    return subprocess.run(
        [*python, "-m", "pytest", *quiet, f"--basetemp={basetemp}", file, *words],
        cwd=project.folder,
        env=project.environment,
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE_S,
        check=False,
    )
