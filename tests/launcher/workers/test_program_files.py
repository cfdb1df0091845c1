"""The files of a program as a supervisor reads them, and attempts that cannot be started."""

import errno
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from launcher.provenance.file_digests import ABSENT_DIGEST, CHANGED_DIGEST, MOST_READ, FileDigests
from launcher.queue.home.daemon_control import wake
from launcher.queue.home.paths import Home
from launcher.queue.jobs.context import LONGEST_OUTPUT_NAME, named_files
from launcher.queue.jobs.states import Done, Failed, NeverStarted, State, Stopped
from launcher.queue.store.queue import Store
from launcher.queue.store.transitions import REQUEUE_LIMIT
from launcher.queue.workers.attempt_handles import SupervisedAttempt, record_pause
from launcher.queue.workers.attempt_spec import AttemptSpec
from launcher.queue.workers.fork_server_handles import ForkServer
from launcher.queue.workers.program_files import (
    NotDeletedError,
    move_outputs_aside,
    restore_or_delete_outputs,
)
from launcher.queue.workers.progress.hashing import read_hashing_report
from launcher.queue.workers.start_pauses import (
    FIRST_BACKOFF_S,
    LONGEST_BACKOFF_S,
    SUCCESS_AFTER_S,
    StartBackoff,
)
from launcher.queue.workers.supervisor import CONTROL_SIGNAL
from launcher.system.files import FileVersion, file_stamp
from launcher.system.processes import state_of
from tests.build import (
    a_context,
    a_spec,
    an_attempt,
    endings,
    enqueue,
    job_row,
    on_record,
    outcome_of,
    program_of,
    run_attempt,
    shell,
    started,
    supervisor_of,
    until,
)
from tests.chaos.nospawn import shimmed, starve
from tests.launcher.queued import end, one, until_done
from tests.launcher.users import NOBODY, as_user, root_only, said_by, shared_folder

# --- what a supervisor finds in the files of a program, and what becomes of those that it makes


SEEN = "seen"  # its content, as it is


def restore_or_delete(outputs: Sequence[str], job: int = 7, number: int = 2, *, done: bool) -> None:
    restore_or_delete_outputs(outputs, job, number, is_done=done)


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
        ("train.py", {}, "echo more >>train.py", {"train.py": CHANGED_DIGEST}),
        (
            "train.py",
            {"inputs": ["in.txt"]},
            "rm in.txt",
            {"in.txt": CHANGED_DIGEST, "train.py": SEEN},
        ),
        # its own output would make it run for ever
        ("train.py log.txt", {}, "echo more >>log.txt", {"train.py": SEEN}),
        ("train.py new.txt", {}, "echo more >>new.txt", {"train.py": SEEN}),
        ("train.py log.txt", {}, "rm train.py", {"log.txt": SEEN}),
        ("train.py extra.cfg", {}, ":", {"train.py": SEEN, "extra.cfg": ABSENT_DIGEST}),
        ("train.py extra.cfg ../no.cfg runs/no.cfg", {}, "echo >extra.cfg", {"train.py": SEEN}),
    ],
)
def test_files_read_by_a_program_are_identified_by_content(
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
    before = {
        name: digests.digest_or_missing(str(folder / name)) for name in named_files(spec) if name
    }
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
def test_existing_output_is_set_aside_and_restored_unless_the_program_is_done(
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
        assert [*outcome.outputs] == [FileDigests().read_file_version(str(output))]
    for _ in range(2):  # a scheduler that was killed does it once more
        restore_or_delete(spec.outputs, 1, 1, done=is_done)
        assert (output.read_text() if output.is_file() else None) == left
        assert not [*project.glob(".*")]


@pytest.mark.parametrize(
    ("stood", "script", "is_done", "left"),
    [
        (None, "mkdir out; echo new >out/a", True, {"a": "new\n"}),
        (None, "mkdir out", True, {}),
        ("old", "[ ! -e out ] && mkdir -p out/in && echo new >out/in/a", True, {"in/a": "new\n"}),
        ("old", "mkdir -p out/in; echo part >out/in/b; exit 3", False, {"a": "old"}),
        ("old", "mkdir out; echo part >out/a; kill -9 $$", False, {"a": "old"}),
        ("old", "mkdir out; touch out/a; chmod 500 out; exit 3", False, {"a": "old"}),
        ("old", ":", False, {"a": "old"}),
        ("old", "echo file >out", False, {"a": "old"}),
        ("old", "ln -s sub out", False, {"a": "old"}),
        (None, "mkdir out; echo part >out/b; exit 3", False, {"b": "part\n"}),  # to look at
        (None, ":", False, None),
    ],
)
def test_existing_output_folder_is_set_aside_and_restored_unless_the_program_is_done(
    fork_server: ForkServer,
    home: Home,
    project: Path,
    stood: str | None,
    script: str,
    is_done: bool,
    left: dict[str, str] | None,
) -> None:
    output = project / "out"
    if stood is not None:
        output.mkdir()
        (output / "a").write_text(stood)
        (project / "sub" / "keep").touch()
    spec = a_spec(*shell(script), settings={"outputs": ["out/"]}, outputs=(str(output),))
    _, outcome = run_attempt(fork_server, home, spec, context=a_context(project))
    assert isinstance(outcome, Done) is is_done
    if isinstance(outcome, Done):
        assert [*outcome.outputs] == [FileDigests().read_file_version(f"{output}/")]
    for _ in range(2):  # a scheduler that was killed does it once more
        restore_or_delete(spec.outputs, 1, 1, done=is_done)
        files = {
            str(path.relative_to(output)): path.read_text()
            for path in output.rglob("*")
            if path.is_file()
        }
        assert (files if output.is_dir() else None) == left
        assert not [*project.glob(".*")]
    assert (project / "sub" / "in.txt").exists()  # a link is not followed


def an_order(folder: Path, *outputs: str, cwd: str = "", number: int = 2) -> AttemptSpec:
    return AttemptSpec(
        spec=a_spec(settings={"outputs": [*outputs]}),
        context=a_context(folder / cwd),
        job=7,
        number=number,
        device="cpu",
        cpus=1,
    )


def restore_until_killed(project: Path, calls: int, *, is_done: bool) -> str:
    """Restore or delete outputs in a process that gets SIGKILL before one of the calls that change the disk."""

    def counted(function: Callable[..., object]) -> Callable[..., object]:
        def call(*words: object, **more: object) -> object:
            nonlocal calls
            calls -= 1
            if not calls:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*words, **more)

        return call

    def work() -> str:
        for name in ("rename", "replace", "unlink", "rmdir"):
            setattr(os, name, counted(getattr(os, name)))
        restore_or_delete([f"{project}/out"], done=is_done)
        return "ended"

    return said_by(as_user(os.geteuid(), work))


@pytest.mark.parametrize("is_done", [True, False])
def test_folder_is_whole_after_a_kill_at_any_moment(tmp_path: Path, is_done: bool) -> None:
    """The work that was interrupted is repeated by the next scheduler."""
    ended = False
    for stop_at in range(1, 50):
        project = tmp_path / str(stop_at)
        (project / "out" / "in").mkdir(parents=True)
        for name in ("a", "in/b"):
            (project / "out" / name).write_text("old")
        move_outputs_aside(an_order(project, "out/"))
        (project / "out" / "in").mkdir(parents=True)
        for name in ("a", "in/c"):
            (project / "out" / name).write_text("new")
        said = restore_until_killed(project, stop_at, is_done=is_done)
        assert said in {"", "ended"}
        ended = said == "ended"
        restore_or_delete([f"{project}/out"], done=is_done)
        found = {
            str(path.relative_to(project)): path.read_text()
            for path in project.rglob("*")
            if path.is_file()
        }
        wanted = (
            {"out/a": "new", "out/in/c": "new"} if is_done else {"out/a": "old", "out/in/b": "old"}
        )
        assert found == wanted
        if ended:
            break
    assert ended
    assert stop_at > 3  # it was killed several times


@pytest.mark.parametrize("name", ["./", "../", "{}/", "{}/../"])
def test_folder_in_which_the_program_starts_is_not_moved(tmp_path: Path, name: str) -> None:
    (tmp_path / "here").mkdir()
    output = name.format(tmp_path / "here")
    with pytest.raises(OSError, match="the program starts in it") as caught:
        move_outputs_aside(an_order(tmp_path, output, cwd="here"))
    assert caught.value.filename == output


def make_folder(folder: Path, *names: str) -> None:
    folder.mkdir()
    for name in names:
        (folder / name).touch()


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def make_undeletable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the deletion of any folder that contains one fail, as for files of another user."""
    (folder / "stuck").touch()
    rmtree = shutil.rmtree

    def refuse(path: str) -> None:
        if Path(path, "stuck").exists():
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        rmtree(path)

    monkeypatch.setattr(shutil, "rmtree", refuse)


def test_result_survives_a_later_attempt_if_an_earlier_one_could_not_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    make_folder(out, "first")
    make_undeletable(out, monkeypatch)
    move_outputs_aside(an_order(tmp_path, "out/", number=2))
    make_folder(out, "second")
    with pytest.raises(NotDeletedError) as caught:
        restore_or_delete([f"{out}"], number=2, done=True)
    assert files_below(Path(caught.value.filename)) == ["first", "stuck"]
    restore_or_delete([f"{out}"], number=3, done=False)  # it failed before it renamed anything
    assert files_below(out) == ["second"]
    move_outputs_aside(an_order(tmp_path, "out/", number=4))
    make_folder(out, "part")
    restore_or_delete([f"{out}"], number=4, done=False)
    assert files_below(out) == ["second"]


def test_original_is_restored_if_an_incomplete_output_cannot_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    make_folder(out, "original")
    for number in (1, 2):
        move_outputs_aside(an_order(tmp_path, "out/", number=number))
        make_folder(out, "part")
        make_undeletable(out, monkeypatch)
        for _ in range(2):  # the scheduler tries again
            with pytest.raises(NotDeletedError) as caught:
                restore_or_delete([f"{out}"], number=number, done=False)
            assert caught.value.filename == f"{tmp_path}/.out.launcher-7-{number}.trash"
            assert files_below(out) == ["original"]


def test_start_deletes_nothing_that_an_earlier_attempt_renamed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for number, name in ((1, "original"), (1, "repeated"), (2, "part")):
        make_folder(out, name)
        move_outputs_aside(an_order(tmp_path, "out/", number=number))
    assert {Path(name).name for name in files_below(tmp_path)} == {"original", "repeated", "part"}
    restore_or_delete([f"{out}"], number=1, done=False)
    assert files_below(out) == ["original"]


def test_output_that_cannot_be_restored_does_not_prevent_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        make_folder(tmp_path / name, "old")
    move_outputs_aside(an_order(tmp_path, "a/", "b/"))
    for name in ("a", "b"):
        make_folder(tmp_path / name, "new")
    replace = os.replace

    def refuse(source: str, target: str) -> None:
        if target.endswith("/a"):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="busy") as caught:
        restore_or_delete([f"{tmp_path}/a", f"{tmp_path}/b"], done=False)
    assert (caught.value.filename, caught.value.filename2) == (
        f"{tmp_path}/.a.launcher-7-2",
        f"{tmp_path}/a",
    )
    found = [".a.launcher-7-2/old", "a/new", "b/old"]
    assert files_below(tmp_path) == found  # the content of `a` is still there
    monkeypatch.undo()
    restore_or_delete([f"{tmp_path}/a", f"{tmp_path}/b"], done=False)
    assert files_below(tmp_path) == ["a/old", "b/old"]


@pytest.mark.parametrize("is_link", [False, True])
@pytest.mark.parametrize("name", ["out", "out/"])
def test_earlier_file_or_link_is_restored_where_the_attempt_made_a_folder(
    tmp_path: Path, is_link: bool, name: str
) -> None:
    out = tmp_path / "out"
    if is_link:
        (tmp_path / "elsewhere").write_text("precious")
        out.symlink_to("elsewhere")
    else:
        out.write_text("precious")
    move_outputs_aside(an_order(tmp_path, name))
    make_folder(out, "part")
    restore_or_delete([f"{out}"], done=False)
    assert out.read_text() == "precious"
    assert out.is_symlink() is is_link
    assert not [*tmp_path.glob(".*")]


def test_output_with_the_longest_name_is_renamed_and_restored(tmp_path: Path) -> None:
    out = tmp_path / ("x" * LONGEST_OUTPUT_NAME)
    make_folder(out, "old")
    move_outputs_aside(an_order(tmp_path, f"{out.name}/", number=10**9))
    make_folder(out, "new")
    restore_or_delete([f"{out}"], number=10**9, done=False)
    assert files_below(tmp_path) == [f"{out.name}/old"]


@root_only
def test_read_only_folders_are_deleted() -> None:
    with shared_folder() as shared:

        def work() -> list[str]:
            inner = shared / "project" / "out" / "read-only"
            inner.mkdir(parents=True)
            (inner / "file").touch()
            inner.chmod(0o500)
            inner.parent.chmod(0)
            move_outputs_aside(an_order(shared / "project", "out/"))
            (shared / "project" / "out").mkdir()
            restore_or_delete([f"{shared}/project/out"], done=True)
            return [path.name for path in (shared / "project").iterdir()]

        assert said_by(as_user(NOBODY, work)) == "['out']"


@pytest.mark.parametrize(
    ("script", "is_read"),
    [(":", True), ("touch large.bin", False)],  # then it may be another than at the start
)
@pytest.mark.parametrize("is_planned", [True, False])
def test_large_file_of_the_command_line_is_hashed_at_the_end_if_it_is_ever_compared(
    fork_server: ForkServer,
    home: Home,
    project: Path,
    script: str,
    is_read: bool,
    is_planned: bool,
) -> None:
    large = project / "large.bin"
    with large.open("wb") as file:
        file.truncate(MOST_READ + 1)
    os.utime(large, ns=(1, 1))
    spec = a_spec(*shell(script), "large.bin", hash="planned" if is_planned else "")
    _, outcome = run_attempt(fork_server, home, spec, context=a_context(project))
    assert isinstance(outcome, Done)
    found = outcome.files[-1] if outcome.files else ""
    if is_planned and is_read:
        assert found == FileDigests().digest_file(large)
    else:
        assert found == (f"{MOST_READ + 1} 1" if is_read else "")


def request_end(one: SupervisedAttempt) -> None:
    one.supervisor.stop(one.attempt)


def end_supervisor(one: SupervisedAttempt) -> None:
    os.kill(supervisor_of(one.attempt), signal.SIGTERM)


def kill_without_channel(one: SupervisedAttempt) -> None:
    one.attempt.kill_request.touch()
    os.kill(supervisor_of(one.attempt), CONTROL_SIGNAL)


@pytest.mark.parametrize(
    ("request_it", "by"),
    [(request_end, ""), (end_supervisor, "SIGTERM"), (kill_without_channel, "")],
)
@pytest.mark.parametrize("name", ["huge.bin", "huge/"])
def test_attempt_that_hashes_its_inputs_can_be_ended_before_its_start(
    fork_server: ForkServer,
    home: Home,
    project: Path,
    request_it: Callable[[SupervisedAttempt], None],
    by: str,
    name: str,
) -> None:
    huge, output = project / name, project / "out.txt"
    if name.endswith("/"):
        huge.mkdir()
        huge /= "a"
    with huge.open("w") as file:
        file.truncate(1 << 36)  # takes a minute to read
    output.write_text("old")
    spec = a_spec(
        *shell("echo new >out.txt"),
        settings={"inputs": [name], "outputs": ["out.txt"]},
        outputs=(str(output),),
    )
    attempt = an_attempt(home, spec, context=a_context(project))
    one = started(fork_server, attempt)
    until(lambda: read_hashing_report(attempt), "the supervisor reads the input")
    request_it(one)
    until(lambda: not read_hashing_report(attempt), "the supervisor does not read any more", 5.0)
    outcome = outcome_of(one)
    assert isinstance(outcome, Stopped)
    assert outcome.by == by
    assert len(on_record(attempt)) == 1  # no program
    restore_or_delete_outputs(spec.outputs, 1, 1, is_done=False)
    assert output.read_text() == "old"
    assert not [*project.glob(".*")]


def test_paused_attempt_that_hashes_its_inputs_is_paused_after_its_start(
    fork_server: ForkServer, home: Home, project: Path
) -> None:
    with (project / "large.bin").open("w") as file:
        file.truncate(2 << 30)
    spec = a_spec("sleep", "60", settings={"inputs": ["large.bin"]})
    attempt = an_attempt(home, spec, context=a_context(project))
    one = started(fork_server, attempt)
    until(lambda: read_hashing_report(attempt), "the supervisor reads the input")
    record_pause(attempt, is_paused=True)
    os.kill(supervisor_of(attempt), CONTROL_SIGNAL)
    program = program_of(attempt)
    until(lambda: state_of(program) == "T", "the program is paused")
    request_end(one)
    assert isinstance(outcome_of(one), Stopped)


def test_hashing_reports_progress_and_ends_when_its_supervisor_exits(
    fork_server: ForkServer, home: Home, project: Path
) -> None:
    script = f"truncate -s {1 << 36} out.bin"  # takes a minute to read
    spec = a_spec(*shell(script), settings={"outputs": ["out.bin"]})
    limit_s = 2.0  # long enough for the program on a busy machine
    attempt = an_attempt(home, spec, context=a_context(project), time_limit_s=limit_s)
    one = started(fork_server, attempt)
    until(lambda: read_hashing_report(attempt), "the supervisor reads the output")
    assert read_hashing_report(attempt).startswith("hashing out.bin: ")
    assert read_hashing_report(attempt).endswith(" of 64 GiB")
    os.kill(supervisor_of(attempt), signal.SIGSTOP)  # so that no core is busy meanwhile
    time.sleep(limit_s)
    for number in (signal.SIGTERM, signal.SIGCONT):
        os.kill(supervisor_of(attempt), number)
    outcome = outcome_of(one)
    assert isinstance(outcome, Done)  # its time limit is over
    assert [*outcome.outputs] == [FileVersion(*(file_stamp(str(project / "out.bin")) or (0, 0)))]
    assert read_hashing_report(attempt) == ""


@pytest.mark.parametrize(
    ("outputs", "script", "error"),
    [
        (["never.txt"], ":", "the output never.txt is missing (exit code 0)"),
        (["in.txt", "a", "b"], ":", "the output in.txt is missing (exit code 0)"),
        (
            ["new"],
            "mkdir new",
            "the output new is a folder, not a file (exit code 0). Write folders to",
        ),
        (["never/"], ":", "the output never/ is missing (exit code 0)"),
        (["new/"], "touch new", "the output new/ is a file, not a folder (exit code 0). Remove"),
        (["new/"], "ln -s sub new", "the output new/ is a link, not a folder (exit code 0). Let"),
        (["sub"], ":", "cannot start '/bin/sh': cannot rename the earlier output sub"),
    ],
)
def test_program_that_does_not_create_its_output_fails_with_a_message(
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


@pytest.mark.parametrize(
    ("name", "is_missing"),
    [
        ("in.txt", False),
        ("sub/", False),
        ("sub", False),
        ("gone.txt", True),
        ("gone/", True),
        ("link", True),
        ("../outside.txt", True),
    ],
)
def test_program_whose_input_is_missing_does_not_start(
    fork_server: ForkServer, home: Home, project: Path, name: str, is_missing: bool
) -> None:
    (project / "link").symlink_to("gone.txt")
    (project / "out.txt").write_text("earlier")
    script = f"cd {project}; echo new >out.txt"
    spec = a_spec(*shell(script), settings={"inputs": ["in.txt", name], "outputs": ["out.txt"]})
    _, outcome = run_attempt(fork_server, home, spec, context=a_context(project))
    assert (project / "out.txt").read_text() == ("earlier" if is_missing else "new\n")
    if is_missing:
        assert isinstance(outcome, Failed)
        assert outcome.error == f"cannot start '/bin/sh': its input {name} is missing"
    else:
        assert isinstance(outcome, Done)


# --- attempts that cannot be started: for a lack of the machine's, or a passing trouble of the program's


NEEDS_CC = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


def test_failed_start_is_retried_once_at_growing_intervals() -> None:
    outage, now, pauses = StartBackoff(), 100.0, []
    assert outage.allows_start(now)
    assert outage.wait_s(now) == 0
    for _ in range(8):
        outage.record_start(now)
        outage.record_failure("no process", now)
        outage.record_failure("no process", now)  # another of the same volley
        pauses.append(outage.wait_s(now))
        assert not outage.allows_start(now + pauses[-1] - 0.01)
        now += pauses[-1]
        assert outage.allows_start(now)
        assert outage.wait_s(now + 0.5) == 0
        outage.record_start(now)
        assert not outage.allows_start(now), "one is tried, not two"
    assert pauses == [FIRST_BACKOFF_S * 2**n for n in range(6)] + [LONGEST_BACKOFF_S] * 2


def test_start_that_did_not_come_back_ends_the_outage() -> None:
    outage = StartBackoff()
    outage.record_failure("no process", 100.0)
    assert "no process" in str(outage)
    outage.record_start(101.0)
    assert not outage.allows_start(101.0 + SUCCESS_AFTER_S / 2)
    assert outage.allows_start(101.0 + SUCCESS_AFTER_S)
    outage.record_start(102.0)
    assert outage.allows_start(102.0)
    outage.record_failure("no process", 102.0)
    assert outage.wait_s(102.0) == FIRST_BACKOFF_S


def test_attempt_that_the_machine_cannot_start_leaves_no_record(store: Store) -> None:
    job = one(store)
    void = NeverStarted(at=2.0, why="no process", blamed_on="machine")
    for _ in range(3):
        state = end(store, job, void)
        assert state is State.QUEUED
    assert job_row(store, job).attempts == 0
    assert store.read.attempts([job]) == []
    assert [state for _, state, _ in store.read.events_of(job)] == ["queued", "queued"]
    assert end(store, job, void)


@NEEDS_CC
def test_nothing_accumulates_while_no_process_can_be_created(home: Home, tmp_path: Path) -> None:
    grown = starve(tmp_path, home, jobs=60, seconds=2.5)
    assert grown.rows <= 3
    assert grown.folders <= 1
    assert grown.log_bytes < 4000


@NEEDS_CC
@pytest.mark.parametrize("shift_s", [7200, -7200])
def test_clock_that_is_set_during_a_run_does_not_change_its_duration(
    home: Home, tmp_path: Path, shift_s: int
) -> None:
    flag, gate = tmp_path / "set", tmp_path / "gate"
    script = f"touch {gate}.open; until [ -e {gate} ]; do sleep 0.05; done"
    store = Store(home, durable=False)
    with shimmed(tmp_path, home, CLOCK_IS_SET=str(flag), CLOCK_SHIFT_S=str(shift_s)):
        (job,) = enqueue(store, a_spec(*shell(script)))
        wake(home)
        until(Path(f"{gate}.open").exists, "the program runs")
        flag.touch()
        gate.touch()
        until_done(store, job)
    (attempt,) = store.read.attempts([job])
    assert attempt.ended is not None
    assert abs(attempt.ended - time.time() - shift_s) < 600, "the end is that of the new clock"
    assert 0 <= attempt.ended - attempt.claimed < 600, "not two hours more or less"
    (run,) = store.database.execute("SELECT used FROM runs").fetchone()
    assert 0 < run < 600
    store.close()


@NEEDS_CC
def test_program_being_written_is_retried_and_delays_no_other(home: Home, tmp_path: Path) -> None:
    flag, program = tmp_path / "busy", tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    flag.touch()
    store = Store(home, durable=False)
    with shimmed(tmp_path, home, BUSY=str(flag), BUSY_PROGRAM=str(program)):
        (busy,) = enqueue(store, a_spec(str(program)))
        other = one(store, "2")
        wake(home)
        until_done(store, other)
        until(lambda: "Text file busy" in job_row(store, busy).reason, "it is told")
        flag.unlink()
        until_done(store, busy)
        before = endings(store, busy)[:-1]
        assert set(before) == {"void"}
        assert len(before) < REQUEUE_LIMIT
    store.close()
