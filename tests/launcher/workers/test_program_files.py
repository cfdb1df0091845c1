"""What a supervisor finds in the files of a program, and what becomes of those that it makes."""

from pathlib import Path

import pytest

from launcher.context import named_files
from launcher.states import Done, Failed
from launcher.system.file_digests import CHANGED, FileDigests
from launcher.system.files import stamp
from launcher.system.paths import Home
from launcher.workers.fork_server_pool import ForkServer
from launcher.workers.order import Order
from launcher.workers.program_files import put_aside, settle
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
        ("in.txt ./o", {"inputs": ["in.txt"], "outputs": ["o"]}, "echo >o", {"in.txt": SEEN}),
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


@pytest.mark.parametrize(
    ("stood", "script", "is_done", "left"),
    [
        (None, "echo new >out.txt", True, "new\n"),
        ("old", "[ ! -e out.txt ] && echo new >out.txt", True, "new\n"),
        ("old", "echo part >out.txt; exit 3", False, "old"),
        ("old", "echo part >out.txt; kill -9 $$", False, "old"),
        ("old", ":", False, "old"),
        (None, "echo part >out.txt; exit 3", False, "part\n"),  # for its owner to look at
        (None, "mkdir out.txt", False, None),
        (None, ":", False, None),
    ],
)
def test_what_stood_in_an_output_is_put_aside_and_put_back_unless_the_program_is_done(
    fork_server: ForkServer,
    home: Home,
    project: Path,
    stood: str | None,
    script: str,
    is_done: bool,
    left: str | None,
) -> None:
    output = project / "out.txt"
    if stood is not None:
        output.write_text(stood)
    spec = a_spec(*shell(script), settings={"outputs": ["out.txt"]}, outputs=(str(output),))
    _, outcome = run_attempt(fork_server, home, spec, context=a_context(project))
    assert isinstance(outcome, Done) is is_done
    if isinstance(outcome, Done):
        assert [*outcome.outputs] == [stamp(str(output))]
    for _ in range(2):  # a scheduler that was killed does it once more
        settle(spec.outputs, 1, done=is_done)
        assert (output.read_text() if output.is_file() else None) == left
        assert not [*project.glob(".*")]


@pytest.mark.parametrize(
    ("outputs", "script", "error"),
    [
        (["never.txt"], ":", "ended with exit code 0, and has not made its output never.txt"),
        (["in.txt", "a", "b"], ":", "ended with exit code 0, and has not made its output in.txt"),
        (["sub"], ":", "cannot start '/bin/sh': what stands in its output sub cannot be put aside"),
    ],
)
def test_a_program_that_does_not_make_its_output_fails_with_a_sentence(
    fork_server: ForkServer,
    home: Home,
    project: Path,
    outputs: list[str],
    script: str,
    error: str,
) -> None:
    spec = a_spec(*shell(script), settings={"outputs": outputs})
    _, outcome = run_attempt(fork_server, home, spec, context=a_context(project))
    assert isinstance(outcome, Failed)
    assert outcome.error.startswith(error)


def test_what_an_undecided_attempt_has_put_aside_makes_place(tmp_path: Path) -> None:
    order = Order(
        spec=a_spec(settings={"outputs": ["out.txt"]}),
        context=a_context(tmp_path),
        job=7,
        number=2,
        device="cpu",
        cpus=1,
    )
    output = tmp_path / "out.txt"
    for text in ("first", "second"):
        output.write_text(text)
        put_aside(order)
    settle([str(output)], 7, done=False)
    assert output.read_text() == "second"
