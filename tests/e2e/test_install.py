"""The wheel in an environment of its own: the queue without the laboratory's packages, then with them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.conftest import Project, a_project

pytestmark = pytest.mark.night
ROOT = Path(__file__).parents[2]
PARTS = (
    "launcher", "trueface", "docs", "contributing", ".ci", "setup.cfg", "setup.py", "pyproject.toml", "README.md",
    "LICENSE",
)  # fmt: skip
LABORATORY = "name: x\nsample: [{data_root: made}]\n"
PROGRAMS = "name: y\ncommand: [{name: a, argv: [echo, hello]}]\n"


def pip(*words: str | Path) -> subprocess.CompletedProcess[str]:
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input")
    return subprocess.run(
        [sys.executable, "-m", "pip", *quiet, *words], capture_output=True, text=True, check=False
    )


def check_success(said: subprocess.CompletedProcess[str], folder: Path) -> None:
    """Fail with what pip says; skip where it reaches no index."""
    if said.returncode == 0:
        return
    if pip("download", "--no-deps", "--dest", folder / "reached", "click").returncode:
        pytest.skip(f"no package index is reachable: {said.stderr[-300:]}")
    pytest.fail(said.stderr)


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the built wheel and its requirements only."""
    folder = tmp_path_factory.mktemp("install")
    source = folder / "source"
    source.mkdir()
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, source / part)
    check_success(pip("wheel", "--no-deps", "--wheel-dir", folder, source), folder)
    (wheel,) = folder.glob("*.whl")
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    check_success(pip("--python", environment, "install", "--no-compile", wheel), folder)
    return environment


@pytest.fixture
def base_installation(light: Path, tmp_path: Path) -> Iterator[Project]:
    """A project whose commands are those of that environment."""
    with a_project(tmp_path) as project:
        environment = dict(project.environment)
        environment.pop("PYTHONPATH", None)
        yield replace(project, environment=environment, commands=light / "bin")


def test_base_installation_contains_only_the_queue_and_names_the_lab_extra(
    base_installation: Project, light: Path
) -> None:
    base_installation.write("programs.yaml", PROGRAMS)
    base_installation.write("laboratory.yaml", LABORATORY)
    heavy = ("torch", "torchvision", "numpy", "scipy", "sklearn", "PIL", "matplotlib")
    (packages,) = light.glob("lib/python*/site-packages")
    assert not [name for name in heavy if (packages / name).exists()]

    added = base_installation.call("launcher", "add", "--name", "one", "--", "true")
    assert added.returncode == 0, added.stderr
    assert base_installation.call("launcher", "wait", "command/one").returncode == 0
    assert base_installation.call("launcher", "run", "programs.yaml", "--dry-run").returncode == 0
    assert base_installation.call("launcher", "gpus").returncode == 0
    for path in (
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "contributing").glob("*.md"),
    ):  # the pages are in the wheel
        printed = base_installation.call("launcher", "help", path.stem)
        assert printed.returncode == 0, printed.stderr
        assert path.read_text(encoding="utf-8").splitlines()[0] in printed.stdout

    (wheel,) = light.parent.glob("*.whl")
    command = f"{light / 'bin' / 'python'} -m pip install '{wheel}[lab]'"
    refused = base_installation.call("launcher", "run", "laboratory.yaml")
    assert refused.returncode == 3
    assert refused.stderr == (
        "error: sample needs torch, torchvision, numpy, PIL, simplejpeg and sklearn, which are "
        f"not installed. Install them with `{command}`. Nothing was queued.\n"
    )
    listed = base_installation.call("launcher", "kinds")
    assert listed.returncode == 0
    assert "\ntrain\t" in listed.stdout
    assert command in listed.stderr
    for words in (("trueface",), ("trueface", "audit", "--help"), ("python", "-m", "trueface")):
        completed = base_installation.call(*words)
        assert completed.returncode == 3, words
        assert completed.stdout == ""
        assert completed.stderr.startswith(
            "error: packages are not installed: jinja2, markupsafe, numpy, PIL,"
        )
        assert completed.stderr.count("\n") == 1
        assert command in completed.stderr
    assert base_installation.call("trueface", "--help").returncode == 0
    page = base_installation.call("trueface", "pretrain", "--help")
    assert page.stdout.startswith("Usage: trueface pretrain ["), page.stderr


def test_installation_prints_its_version_and_runs_programs(base_installation: Project) -> None:
    setup = ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    version = base_installation.call("launcher", "--version")
    line = f"launcher, version {setup['metadata']['version']}"
    assert version.stdout.partition(" (commit ")[0].rstrip() == line
    base_installation.write("commands.txt", "echo 'a b'\nfalse\n")
    added = base_installation.call("launcher", "add", "--from", "commands.txt")
    assert (added.stdout, added.stderr) == ("1\tcommand/1\n2\tcommand/2\n", "")
    assert base_installation.call("launcher", "wait", "1", "2").returncode == 1
    listed = base_installation.call("launcher", "status", "--all")
    assert listed.returncode == 0, listed.stderr
    states = {line.split("\t")[2]: line.split("\t")[3] for line in listed.stdout.splitlines()}
    assert states == {"command/1": "done", "command/2": "failed"}
    script = (
        "import sys, launcher.api; print(launcher.api.submit(pow, 2, 5).result(60), sys.prefix)"
    )
    called = base_installation.call("python", "-c", script)
    assert called.stdout.split()[0] == "32", called.stderr


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
def test_man_shows_the_pages_of_an_installation(base_installation: Project, light: Path) -> None:
    page = light / "share" / "man" / "man1" / "launcher-add.1"
    environment = base_installation.environment | {
        "PATH": os.pathsep.join([str(light / "bin"), base_installation.environment["PATH"]]),
        "MANPAGER": "cat",
        "MANWIDTH": "80",
        "LANG": "C.UTF-8",
    }
    environment.pop("MANPATH", None)
    for words in (("-l", str(page)), ("launcher-add",)):
        shown = subprocess.run(
            ["man", *words], env=environment, capture_output=True, text=True, check=False
        )
        assert shown.returncode == 0, shown.stderr
        assert not shown.stderr
        assert "launcher add --from commands.txt" in shown.stdout


def test_installation_with_the_lab_extra_works(base_installation: Project, light: Path) -> None:
    (packages,) = light.glob("lib/python*/site-packages")
    # the packages that run this test replace those of the extra, 5 GB of them
    others = [path for path in sys.path if path.endswith("-packages") and Path(path).is_dir()]
    (packages / "laboratory.pth").write_text("".join(f"{path}{os.linesep}" for path in others))
    base_installation.write("laboratory.yaml", LABORATORY)
    try:
        assert base_installation.call("launcher", "kinds").stderr == ""
        planned = base_installation.call("launcher", "run", "laboratory.yaml", "--dry-run")
        assert planned.returncode == 0, planned.stderr
        completed = base_installation.call("trueface", "audit", "--help")
        assert (completed.returncode, completed.stderr) == (0, "")
    finally:
        (packages / "laboratory.pth").unlink()
