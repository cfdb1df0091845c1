"""Tries the wheel in dist/ with each Python that is there: `make matrix`, after `make release`.

Each Python gets an empty environment, in which the first sweep of README.md, all pages of `launcher help` and
`launcher doctor` run. The newest one also gets every extra. For the others, pip only resolves the extras.
"""

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from pip_reports import (
    CONSTRAINTS,
    ROOT,
    WHEELS,
    PipError,
    make_environment,
    make_tools,
    requirement,
    resolve,
    run_pip,
)

MINORS = range(11, 20)  # of Python 3; those that are not found are not tried
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def main() -> None:
    """Print the table of Pythons, then that of extras; exit with 1 if anything failed."""
    wheels = sorted((ROOT / "dist").glob("*.whl"), key=lambda path: path.stat().st_mtime)
    if not wheels:
        sys.exit("error: dist/ contains no wheel. Build it first: make release")
    pythons = find_pythons()
    failed = False
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="matrix-", dir=ROOT / "build") as name:
        folder = Path(name)
        tools = make_tools(folder / "tools", ["pipx"])
        print("| Python | seconds | MB | sweep | help | doctor |\n|---|---:|---:|---|---|---|")
        for version, python in pythons.items():
            row = _try_python(tools, python, folder / version, wheels[-1])
            failed |= any(cell.startswith("failed") for cell in row)
            print(f"| {version} | {' | '.join(row)} |", flush=True)
        print(f"\npipx: {_try_pipx(tools, folder / 'pipx', wheels[-1])}\n", flush=True)
        *others, newest = pythons
        print(
            f"| extra | seconds | MB | {' | '.join(others)} |\n|---|---:|---:|{'---|' * len(others)}"
        )
        for extra in extras(wheels[-1]):
            row = [*_install(tools, folder / newest, wheels[-1], extra)]
            row += [_resolve(tools, folder / version, wheels[-1], extra) for version in others]
            failed |= any(cell.startswith("failed") for cell in row)
            print(f"| {extra} | {' | '.join(row)} |", flush=True)
    sys.exit(1 if failed else 0)


def find_pythons() -> dict[str, str]:
    """Return a program for each supported Python that is there, by its version, oldest first."""
    found = {}
    for minor in MINORS:
        inner = Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python")
        for program in (*map(str, inner), f"python3.{minor}"):
            command = [
                program,
                "-c",
                "import ensurepip, platform; print(platform.python_version())",
            ]
            try:
                done = subprocess.run(command, capture_output=True, text=True)
            except OSError:
                continue
            if done.returncode == 0:
                found[done.stdout.strip()] = program
                break
    return found


def extras(wheel: Path) -> list[str]:
    """Return the extras of a wheel."""
    with zipfile.ZipFile(wheel) as files:
        (name,) = (each for each in files.namelist() if each.endswith(".dist-info/METADATA"))
        text = files.read(name).decode()
    return re.findall(r"^Provides-Extra: (\S+)$", text, re.MULTILINE)


def _pages(wheel: Path) -> list[str]:
    """Return the names of the pages in a wheel."""
    with zipfile.ZipFile(wheel) as files:
        return re.findall(r"launcher/pages/(\S+)\.md", " ".join(files.namelist()))


def first_sweep(readme: str) -> tuple[str, str]:
    """Return the commands of the first sweep in README.md, and the table that they print.

    The numbers of the queued jobs are left out: in README, the queue has jobs before the sweep.

    Raises:
        ValueError: There is none.
    """
    blocks: list[tuple[str, str]] = BLOCK.findall(readme)
    for (language, commands), (_, output) in pairwise(blocks):
        if language == "sh" and "--sweep" in commands:
            return commands, "".join(
                line for line in output.splitlines(keepends=True) if " queued: " not in line
            )
    raise ValueError("README.md has no sweep")


def _try_python(tools: Path, program: str, folder: Path, wheel: Path) -> list[str]:
    """Return seconds and size of the installation, and whether each trial succeeded."""
    python = make_environment(program, folder)
    try:
        seconds = run_pip(tools, python, "install", *WHEELS, wheel)
    except PipError as error:
        return ["", "", f"failed: {error}", "", ""]
    size = _megabytes(folder)
    place = folder / "place"
    place.mkdir()
    environment = _variables(folder, place)
    commands, output = first_sweep((ROOT / "README.md").read_text(encoding="utf-8"))
    pages = " ".join(_pages(wheel))
    trials = (
        (commands, output),
        (f"for page in {pages}; do launcher help $page > page && grep -q . page || exit; done", ""),
        ("launcher doctor", ""),
    )
    try:
        cells = [_try(words, output, place, environment) for words, output in trials]
    finally:
        _try("launcher stop --now", "", place, environment)
    return [f"{seconds:.0f}", f"{size:.0f}", *cells]


def _variables(environment: Path, place: Path) -> dict[str, str]:
    """Return the variables of a shell in an environment, with a queue of its own."""
    return {
        **{name: text for name, text in os.environ.items() if not name.startswith("PYTHON")},
        "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(place),
        "LAUNCHER_HOME": str(place / "home"),
        "LAUNCHER_CLAIMS": str(place / "claims"),
        "PAGER": "cat",
        "NO_COLOR": "1",
        "SHELL": "/bin/bash",
    }


def _try(commands: str, output: str, folder: Path, environment: Mapping[str, str]) -> str:
    """Run commands in a terminal, and return whether they succeed and print the output."""
    terminal = ["script", "--quiet", "--return", "--command", commands, os.devnull]
    done = subprocess.run(terminal, cwd=folder, env=environment, capture_output=True, text=True)
    printed = done.stdout.replace("\r\n", "\n")
    if done.returncode or output not in printed:
        lines = [line for line in (done.stderr + printed).splitlines() if line.strip()]
        return f"failed: {lines[-1] if lines else done.returncode}"
    return "ok"


def _try_pipx(tools: Path, folder: Path, wheel: Path) -> str:
    """Return whether `pipx install` of the wheel works, and what the installed program prints."""
    (folder / "place").mkdir(parents=True)
    environment = {
        **_variables(folder, folder / "place"),
        "PIPX_HOME": str(folder),
        "PIPX_BIN_DIR": str(folder / "bin"),
    }
    commands = f"{tools} -m pipx install {wheel} && launcher --version && trueface --version"
    return _try(commands, "trueface, version ", folder, environment)


def _install(tools: Path, folder: Path, wheel: Path, extra: str) -> list[str]:
    """Install an extra beside those before it; return its seconds and the growth in MB."""
    before = _megabytes(folder)
    try:
        words = ("install", *WHEELS, *CONSTRAINTS, requirement(wheel, extra))
        seconds = run_pip(tools, folder / "bin" / "python", *words)
    except PipError as error:
        return [f"failed: {error}", ""]
    return [f"{seconds:.0f}", f"{_megabytes(folder) - before:.0f}"]


def _resolve(tools: Path, folder: Path, wheel: Path, extra: str) -> str:
    try:
        report = resolve(tools, folder / "bin" / "python", wheel, extra, folder / "report.json")
    except PipError as error:
        return f"failed: {error}"
    return f"{len(report['install']) - 1} packages"


def _megabytes(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*")) / 1e6


if __name__ == "__main__":
    main()
