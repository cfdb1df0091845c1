"""The Dockerfile is true: its steps are done in a folder, without docker.

Steps of root (packages of Debian, the user) would change the machine, so they are only read. `make .venv/…` runs
with its own recipe, but pip installs only the project. The packages of this environment replace the
gigabytes that it would fetch. The image's command runs without the trainings: the recipe of `make demo`
runs with --dry-run. No step needs a network.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.e2e.conftest import a_project
from tests.packaging.dockerfile import instructions, sent_files

TREE = Path(__file__).parents[2]
FILE = TREE / ".ci" / "Dockerfile"
IGNORE = FILE.with_name("Dockerfile.dockerignore").read_text(encoding="utf-8").split()
PIP = (
    ".venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps "
    "--no-build-isolation"
)
STEPS = instructions(FILE)


def texts(name: str) -> list[str]:
    return [step.text for step in STEPS if step.name == name]


def test_base_image_has_a_supported_python_version() -> None:
    setup = ConfigParser(interpolation=None)
    setup.read(TREE / "setup.cfg")
    (image,) = texts("FROM")
    version = re.fullmatch(r"python:(3\.\d+)-slim", image)
    assert version is not None
    assert f"Programming Language :: Python :: {version[1]}" in setup["metadata"]["classifiers"]


def test_programs_do_not_run_as_root() -> None:
    (user,), (folder,) = texts("USER"), texts("WORKDIR")
    (made,) = (text for text in texts("RUN") if text.startswith("useradd"))
    assert user != "root"
    assert made.split()[-1] == user
    assert folder.startswith(f"/home/{user}/")
    copies = [step.text for step in STEPS if step.name == "COPY"]
    assert all(text.startswith(f"--chown={user} ") for text in copies)
    names = [step.name for step in STEPS]
    assert names.index("USER") < names.index("COPY")


def test_code_change_does_not_reinstall_dependencies() -> None:
    installs = [step.text.startswith("make .venv/") for step in STEPS]
    last = len(installs) - 1 - installs[::-1].index(True)
    before = [step for step in STEPS[:last] if step.name == "COPY"]
    assert [step.words[:-1] for step in before] == [
        ["Makefile", "setup.cfg", "constraints.txt", "pyproject.toml", "README.md", "LICENSE"],
        [".ci/install"],
    ]


def test_commands_in_comment_and_manual_exist() -> None:
    head = "".join(re.findall(r"^#.*\n", FILE.read_text(encoding="utf-8"), re.MULTILINE))
    manual = (TREE / "docs" / "installing.md").read_text(encoding="utf-8")
    makefile = (TREE / "Makefile").read_text(encoding="utf-8")
    for text in (head, manual):
        assert f"docker build -f {FILE.relative_to(TREE)} -t launcher ." in text
        for target in re.findall(r"launcher make (\w+)", text):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_generated_files_are_not_in_the_build_context() -> None:
    sent = {path.as_posix() for path in sent_files(TREE, IGNORE, ["."])}
    assert {"Makefile", "launcher/api.py", "tasks/quickstart.yaml", "tests/build.py"} <= sent
    tops = {path.partition("/")[0] for path in sent}
    made = (TREE / ".gitignore").read_text(encoding="utf-8").split()
    tops_made = {name.strip("/") for name in made if "*" not in name and name.count("/") < 2}
    assert not tops & (tops_made | {".git"})
    assert not [path for path in sent if "__pycache__" in path or ".egg-info" in path]


@pytest.mark.night
@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_build_steps_install_both_commands_of_the_readme(
    tmp_path: Path,
) -> None:
    with a_project(tmp_path) as project:
        others = [path for path in sys.path if path.endswith("-packages") and Path(path).is_dir()]
        environment = project.environment | {"PYTHONPATH": os.pathsep.join(others)}
        for name in (
            "MAKEFLAGS",
            "MAKELEVEL",
            "MFLAGS",
        ):  # variables of the make that runs this test
            environment.pop(name, None)

        def run(*words: str) -> str:
            done = subprocess.run(
                words,
                cwd=project.folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
            return done.stdout

        def here(text: str) -> str:
            text = text.replace(texts("WORKDIR")[0], str(project.folder))
            return re.sub(r"/home/user\b", str(tmp_path), text)

        as_root = True
        for step in STEPS:
            if step.name == "USER":
                as_root = False
            elif step.name == "COPY":
                *sources, target = step.words
                for path in sent_files(TREE, IGNORE, sources):
                    # a file alone is copied without its folder
                    place = project.folder / target / (path if sources == ["."] else path.name)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(TREE / path, place)
            elif step.name == "RUN" and not as_root:
                more = [f"PIP={PIP}", f"PYTHON={sys.executable}"]
                run(*here(step.text).split(), *(more if step.words[0] == "make" else []))
            elif step.name == "ENV":
                name, _, value = step.text.partition("=")
                environment[name] = here(value).replace("$PATH", environment["PATH"])
        assert run("which", "launcher").strip() == str(project.folder / ".venv/bin/launcher")
        module = "import launcher, trueface; print(launcher.__file__, trueface.__file__)"
        assert run("python", "-c", module).count(str(project.folder)) == 2

        # a finder of the same name in the environment of this test would answer the import, too
        (packages,) = (project.folder / ".venv").glob("lib/python*/site-packages")
        finder = "".join(path.read_text() for path in packages.glob("__editable__*"))
        for package in ("launcher", "trueface"):
            assert str(project.folder / package) in finder

        (command,) = (json.loads(step.text) for step in STEPS if step.name == "CMD")
        recipe = run(*command, "--dry-run").splitlines()
        assert recipe == [".venv/bin/launcher run tasks/quickstart.yaml"], (
            "nothing is installed again"
        )
        assert " jobs" in run(*recipe[0].split(), "--dry-run")
        tests = run("make", "test", "--dry-run")
        assert ".venv/bin/python -m pytest" in tests
        assert "pip install" not in tests
