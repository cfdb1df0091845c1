"""The wheel in an environment of its own: the queue without the laboratory's packages, then with them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.conftest import Project, a_project

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
PARTS = ("launcher", "trueface", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
LABORATORY = "name: x\nsample: [{data_root: made}]\n"
PROGRAMS = "name: y\ncommand: [{name: a, argv: [echo, hello]}]\n"


def pip(*words: str | Path) -> subprocess.CompletedProcess[str]:
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input")
    return subprocess.run(
        [sys.executable, "-m", "pip", *quiet, *words], capture_output=True, text=True, check=False
    )


def must(said: subprocess.CompletedProcess[str], folder: Path) -> None:
    """Fail with what pip says; skip where it reaches no index."""
    if said.returncode == 0:
        return
    if pip("download", "--no-deps", "--dest", folder / "reached", "click").returncode:
        pytest.skip(f"no package index is reachable: {said.stderr[-300:]}")
    pytest.fail(said.stderr)


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment into which the built wheel was installed, and nothing but what it requires."""
    folder = tmp_path_factory.mktemp("install")
    source = folder / "source"
    source.mkdir()
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, source / part)
    must(pip("wheel", "--no-deps", "--wheel-dir", folder, source), folder)
    (wheel,) = folder.glob("*.whl")
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    must(pip("--python", environment, "install", "--no-compile", wheel), folder)
    return environment


@pytest.fixture
def bare(light: Path, tmp_path: Path) -> Iterator[Project]:
    """A project whose commands are those of that environment."""
    with a_project(tmp_path) as project:
        environment = dict(project.environment)
        environment.pop("PYTHONPATH", None)
        yield replace(project, environment=environment, commands=light / "bin")


def test_the_base_installs_the_queue_alone_and_says_how_to_get_the_laboratory(
    bare: Project, light: Path
) -> None:
    bare.write("programs.yaml", PROGRAMS)
    bare.write("laboratory.yaml", LABORATORY)
    heavy = ("torch", "torchvision", "numpy", "scipy", "sklearn", "PIL", "matplotlib")
    (packages,) = light.glob("lib/python*/site-packages")
    assert not [name for name in heavy if (packages / name).exists()]

    added = bare.call("launcher", "add", "--name", "one", "--", "true")
    assert added.returncode == 0, added.stderr
    assert bare.call("launcher", "wait", "command/one").returncode == 0
    assert bare.call("launcher", "run", "programs.yaml", "--dry-run").returncode == 0
    assert bare.call("launcher", "gpus").returncode == 0

    refused = bare.call("launcher", "run", "laboratory.yaml")
    assert refused.returncode == 3
    assert refused.stderr == (
        "error: sample needs torch, torchvision, numpy, PIL, simplejpeg and sklearn, not installed "
        "here; install them with `pip install 'launcher-trueface[lab]'`; nothing is queued\n"
    )
    listed = bare.call("launcher", "kinds")
    assert listed.returncode == 0
    assert "\ntrain\t" in listed.stdout
    assert "pip install 'launcher-trueface[lab]'" in listed.stderr
    for words in (("trueface",), ("trueface", "audit", "--help"), ("python", "-m", "trueface")):
        completed = bare.call(*words)
        assert completed.returncode == 3, words
        assert completed.stdout == ""
        assert completed.stderr.startswith("error: trueface needs jinja2, markupsafe, numpy, PIL,")
        assert completed.stderr.count("\n") == 1
        assert "pip install 'launcher-trueface[lab]'" in completed.stderr
    assert bare.call("trueface", "--help").returncode == 0


def test_with_the_packages_of_the_laboratory_all_of_it_works(bare: Project, light: Path) -> None:
    (packages,) = light.glob("lib/python*/site-packages")
    # the packages that run this test stand in for those that the extra would bring, 5 GB of them
    others = [path for path in sys.path if path.endswith("-packages") and Path(path).is_dir()]
    (packages / "laboratory.pth").write_text("".join(f"{path}{os.linesep}" for path in others))
    bare.write("laboratory.yaml", LABORATORY)
    try:
        assert bare.call("launcher", "kinds").stderr == ""
        planned = bare.call("launcher", "run", "laboratory.yaml", "--dry-run")
        assert planned.returncode == 0, planned.stderr
        completed = bare.call("trueface", "audit", "--help")
        assert (completed.returncode, completed.stderr) == (0, "")
    finally:
        (packages / "laboratory.pth").unlink()
