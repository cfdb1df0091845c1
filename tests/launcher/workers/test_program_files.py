"""What a supervisor finds in the files of a program, and what becomes of those that it makes."""

from pathlib import Path

import pytest

from launcher.context import named_files
from launcher.states import Done
from launcher.system.file_digests import CHANGED, FileDigests
from launcher.system.paths import Home
from launcher.workers.fork_server_pool import ForkServer
from tests.build import a_context, a_spec, run_attempt, shell

SEEN = "seen"  # its content, as it is


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "sub").mkdir(parents=True)
    (folder / "runs").mkdir()
    for name in ("train.py", "log.txt", "in.txt", "sub/in.txt", "runs/model", "../outside.py"):
        (folder / name).write_text(name)
    return folder


@pytest.mark.parametrize(
    ("words", "settings", "script", "found"),
    [
        ("train.py 0.1 absent", {}, ":", {"train.py": SEEN}),
        ("./train.py --log=log.txt", {}, ":", {"./train.py": SEEN, "log.txt": SEEN}),
        ("../outside.py runs/model sub .", {}, ":", {}),  # no files of the project
        ("{}/train.py", {}, ":", {"{}/train.py": SEEN}),
        ("in.txt", {"cwd": "sub"}, ":", {"in.txt": SEEN}),
        ("../train.py", {"cwd": "sub"}, ":", {"../train.py": SEEN}),
        ("", {"inputs": ["in.txt", "../outside.py"]}, ":", {"in.txt": SEEN, "../outside.py": SEEN}),
        ("in.txt ./out.txt", {"inputs": ["in.txt"], "outputs": ["out.txt"]}, ":", {"in.txt": SEEN}),
        ("train.py", {}, "echo more >>train.py", {"train.py": CHANGED}),
        ("train.py", {"inputs": ["in.txt"]}, "rm in.txt", {"in.txt": CHANGED, "train.py": SEEN}),
        # what it writes itself would make it run for ever
        ("train.py log.txt", {}, "echo more >>log.txt", {"train.py": SEEN}),
        ("train.py new.txt", {}, "echo more >>new.txt", {"train.py": SEEN}),
        ("train.py log.txt", {}, "rm train.py", {"log.txt": SEEN}),
    ],
)
def test_the_files_that_a_program_reads_are_known_by_their_content(
    fork_server: ForkServer,
    home: Home,
    project: Path,
    words: str,
    settings: dict[str, object],
    script: str,
    found: dict[str, str],
) -> None:
    argv = (*shell(f"cd {project}; {script}"), *words.format(project).split())
    spec = a_spec(*argv, settings=settings)
    digests, folder = FileDigests(), project / str(settings.get("cwd", ""))
    before = {name: digests.found(str(folder / name)) for name in named_files(spec) if name}
    _, outcome = run_attempt(fork_server, home, spec, context=a_context(project))
    assert isinstance(outcome, Done)
    known = {
        name: digest
        for name, digest in zip(named_files(spec), outcome.files, strict=False)
        if digest
    }
    wanted = {name.format(project): digest for name, digest in found.items()}
    assert known == {name: before[name] if of == SEEN else of for name, of in wanted.items()}
