"""Programs and scripts that cannot be started as they are written."""

import os
from pathlib import Path

import pytest

from launcher.provenance.project_imports import missing_module
from launcher.system.executables import (
    missing_program,
    program_of,
    script_of,
)


@pytest.mark.parametrize(
    ("line", "script"),
    [
        ("python train.py", "train.py"),
        ("/opt/bin/python3.11 -u -W ignore train.py --lr 1", "train.py"),
        ("env A=1 nice bash -e run.sh x", "run.sh"),
        ("Rscript fit.R", "fit.R"),
        ("perl -I lib fit.pl", "fit.pl"),
        ("python -- odd", "odd"),
        ("python -c pass x.py", ""),
        ("python -uc pass x.py", ""),
        ("python -m pkg.train x.py", ""),
        ("python - x.py", ""),
        ("python --version", ""),
        ("bash -lc ls x.sh", ""),
        ("sh -o pipefail x.sh", "x.sh"),
        ("cp a.py b.py", ""),
        ("./train.py data.csv", ""),
        ("nice -n 5 python x.py", ""),
        ("env", ""),
    ],
)
def test_script_of_an_interpreter_is_found(line: str, script: str) -> None:
    assert script_of(line.split()) == script


LONG = "import torch; " * 9


@pytest.mark.parametrize(
    ("argv", "program"),
    [
        (["./train", "--lr", "1"], "./train"),
        (["python", "-u", "train.py", "--lr", "1"], "python train.py"),
        (["env", "A=1", "nice", "python", "train.py"], "python train.py"),
        (["SEED=3", "./train"], "./train"),
        (["bash", "-e", "run.sh", "x"], "bash run.sh"),
        (["python", "-m", "pkg.train", "x.py"], "python pkg.train"),
        (["python", "-um", "pkg.train"], "python pkg.train"),
        (["torchrun", "-m", "pkg.train"], "torchrun pkg.train"),
        (["python", "-c", "pass"], "python pass"),
        (["bash", "-lc", "ls x.sh"], "bash ls x.sh"),
        (["python", "-c"], "python"),
        (["python"], "python"),
        (["env"], ""),
        ([], ""),
    ],
)
def test_program_of_a_command_line_is_its_first_word_and_script(
    argv: list[str], program: str
) -> None:
    assert program_of(argv) == program


def test_long_inline_code_is_shown_with_a_short_digest() -> None:
    one, other = (program_of(["python", "-c", LONG + end]) for end in ("", "pass"))
    assert one != other
    assert len(one) < len(LONG)
    assert program_of(["python", "-c", "\udcff" * 99]).startswith("python ")


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        (b"#!/bin/sh\n", ""),
        (b"#! /bin/sh -e\n", ""),
        (b"\x7fELF", ""),
        (b"MZ\0\0", ""),
        (
            b"#!/bin/sh\r\nls\r\n",
            "'./run' has Windows line ends, so its interpreter is '/bin/sh\\r'",
        ),
        (b"#!/no/such/python\n", "names the interpreter '/no/such/python', which does not exist"),
        (b"echo\n", "'./run' has no interpreter line. Write #!/bin/sh as its first line"),
    ],
)
def test_interpreter_line_of_a_program_is_checked(
    tmp_path: Path, content: bytes, reported: str
) -> None:
    (tmp_path / "run").write_bytes(content)
    (tmp_path / "run").chmod(0o755)
    fault = missing_program("./run", tmp_path, os.environ)
    assert reported in fault
    assert bool(reported) == bool(fault)


def test_module_that_neither_the_project_nor_python_has_is_missing(tmp_path: Path) -> None:
    python = tmp_path / "env/bin/python"
    packages = tmp_path / "env/lib/python3.11/site-packages"
    for path in (python, packages / "thing/__init__.py", packages / "fast.cpython-311.so"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name in ("pkg/train.py", "lib/other.py"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (packages / "x.pth").write_text(f"{tmp_path}/lib\n")

    def missing(module: str, program: str = str(python)) -> bool:
        variables = {"PYTHONPATH": str(tmp_path / "pkg")}
        return missing_module((program, "-um", module), tmp_path, variables) != ""

    found = ("pkg.train", "train", "other", "thing.x", "fast", "http.server", "{module}")
    assert not any(map(missing, found))
    assert missing("pkg.test")
    assert missing("nothing.train")
    assert not missing("nothing", "/no/such/python")
    (packages / "hook.pth").write_text("import hook\n")
    (packages / "hook.py").write_text("import sys; sys.meta_path.append(None)")
    assert not missing("nothing")
    assert missing_module(("python", "x.py"), tmp_path, {}) == ""
