"""`launcher edit` and `launcher retry --set` with an editor that is a program."""

import re
import shlex
import stat
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from launcher.frontends.cli.commands.edit import editor_argv
from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import Spec
from launcher.queue.jobs.states import ReasonCode, State
from launcher.queue.store.queue import Store
from tests.build import job_row, reaches, shell
from tests.launcher.conftest import Launcher
from tests.terminal import in_a_terminal

Editor = Callable[[str], Path]


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Editor:
    """Have an editor that does what a shell script says; $1 is the file. Returns where it leaves a copy."""

    def make(script: str) -> Path:
        program, copy = tmp_path / "my editor", tmp_path / "copy.yaml"
        program.write_text(f'#!/bin/sh\ncp "$1" "{copy}"\nstat -c %a "$(dirname "$1")"\n{script}\n')
        program.chmod(0o700)
        monkeypatch.setenv("VISUAL", f"'{program}'")
        return copy

    return make


def a_held_job(launcher: Launcher, store: Store, *words: str) -> Spec:
    """Queue a job that waits, in a stopped queue: no scheduler comes that would have nothing to do."""
    launcher("stop")
    launcher("add", "--name", "mine", "--hold", *words, "--", "sleep", "300")
    return job_row(store, 1).spec


def test_edited_text_changes_the_waiting_job(
    launcher: Launcher, store: Store, editor: Editor
) -> None:
    a_held_job(launcher, store, "--cpus", "2", "--time-limit", "1h30m")
    copy = editor('sed -i \'s/"300"/"400"/; s/cpus: 2/cpus: 1/; s/1h30m/90s/\' "$1"')
    answer = launcher.well("edit", "mine")
    assert "cpus 2 → 1" in answer.out
    row = job_row(store, 1)
    assert row.spec.argv == ("sleep", "400")
    assert (row.spec.resources.cpus, row.spec.terms.time_limit_s) == (1, 90.0)
    assert row.state is State.HELD
    shown = copy.read_text()
    assert 'argv: [sleep, "300"]  # Program and its arguments' in shown
    assert "# vram: …  GPU memory to reserve" in shown
    _, state, reason = store.read.events_of(1)[-1]
    assert (state, reason.code) == (State.HELD, ReasonCode.EDITED)
    assert "time_limit 1h30m → 1m30s" in reason.text


def test_later_priority_is_kept_when_settings_change(
    launcher: Launcher, store: Store, editor: Editor
) -> None:
    a_held_job(launcher, store)
    launcher("priority", "5", "mine")
    launcher.well("edit", "mine", "--set", "argv=[sleep, '400']")
    row = job_row(store, 1)
    assert (row.spec.argv, row.priority, row.spec.priority) == (("sleep", "400"), 5, 5)
    program = Path(sys.executable).parent / "launcher"
    editor(f'{program} priority 7 mine >&2; sed -i \'s/"400"/"500"/\' "$1"')
    launcher.well("edit", "mine")
    row = job_row(store, 1)
    assert (row.spec.argv, row.priority) == (("sleep", "500"), 7)


@pytest.mark.parametrize(
    ("script", "code", "text"),
    [
        ("exit 3", 3, "failed (exit code 3). The job is unchanged."),
        ("kill -9 $$", 3, "failed (SIGKILL). The job is unchanged."),
        (": >\"$1\"", 0, "job 1 is unchanged"),
        ("rm \"$1\"", 0, "job 1 is unchanged"),
        ("sed -i 's/cpus: 2/cpus:  2/' \"$1\"", 0, "job 1 is unchanged"),
        ("printf '\\377' >\"$1\"", 2, "is not valid UTF-8"),
    ],
)  # fmt: skip
def test_failed_editor_or_unchanged_text_changes_nothing(
    launcher: Launcher, store: Store, editor: Editor, script: str, code: int, text: str
) -> None:
    before = a_held_job(launcher, store, "--cpus", "2")
    editor(script)
    answer = launcher("edit", "mine")
    assert (answer.code, text in answer.err) == (code, True), answer
    assert job_row(store, 1).spec == before
    assert len(store.read.events_of(1)) == 1


@pytest.mark.parametrize(
    ("environment", "argv"),
    [
        ({"EDITOR": "nano -w", "VISUAL": "emacs 'a b'"}, ["emacs", "a b"]),
        ({"EDITOR": "nano -w", "VISUAL": " "}, ["nano", "-w"]),
        ({"EDITOR": "nano -w"}, ["nano", "-w"]),
    ],
)
def test_visual_is_preferred_to_editor(environment: dict[str, str], argv: list[str]) -> None:
    assert editor_argv(environment) == argv


def test_unusable_editor_is_named(
    launcher: Launcher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_held_job(launcher, store)
    monkeypatch.setenv("VISUAL", "no-such-editor --wait")
    answer = launcher("edit", "mine")
    assert (answer.code, "no-such-editor" in answer.err) == (3, True), answer
    monkeypatch.setenv("VISUAL", "vi 'x")
    assert 'VISUAL is "vi \'x", which is not a command line' in launcher("edit", "mine").err
    monkeypatch.setenv("VISUAL", '"" -w')
    assert "which does not name a program" in launcher("edit", "mine").err


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("resources.cpus=1000", "this machine can never run it: needs 1,000 CPU cores"),
        ("resources.ram=900TiB", "this machine can never run it: needs 900 TiB of main memory"),
        (
            "resources.group=nights",
            "group 'nights' does not exist. Create it: launcher group nights --limit N",
        ),
        ("resources.on=slurm", "'slurm' is not a backend of the configuration"),
        ("resources.not_before=2020-01-01T00:00", "is in the past and delays nothing"),
    ],
)
def test_unsatisfiable_edit_is_refused_like_a_new_job(
    launcher: Launcher, store: Store, editor: Editor, value: str, text: str
) -> None:
    before = a_held_job(launcher, store)
    answers = [launcher("edit", "mine", "--set", value)]
    name, wanted = value.removeprefix("resources.").split("=")
    if name != "not_before":
        editor(f"printf '  {name}: {wanted}\\n' >> \"$1\"")
        answers.append(launcher("edit", "mine"))
    launcher("cancel", "mine")
    answers.append(launcher("retry", "mine", "--set", value))
    for answer in answers:
        assert answer.code == 2, answer
        assert text in answer.err
        assert "nothing was changed" in answer.err
    row = job_row(store, 1)
    assert (row.spec, row.state) == (before, State.CANCELLED)


def test_options_that_are_set_together_and_contradict_each_other_are_refused(
    launcher: Launcher, store: Store
) -> None:
    before = a_held_job(launcher, store)
    sets = ("--set", "resources.device=cpu", "--set", "resources.gpus=2")
    answer = launcher("edit", "mine", *sets)
    assert "gpus: 2 and device: cpu contradict each other" in answer.err
    assert job_row(store, 1).spec == before


def test_mistake_is_shown_at_its_location_and_the_text_is_kept(
    launcher: Launcher, store: Store, editor: Editor
) -> None:
    before = a_held_job(launcher, store, "--cpus", "2")
    editor("sed -i 's/cpus: 2/cpu: 3/' \"$1\"")
    answer = launcher("edit", "mine")
    assert answer.code == 2
    assert "error[unknown-key]: 'cpu' is not a resource" in answer.err
    assert "--> job-1.yaml:8:3" in answer.err
    assert "^^^ did you mean 'cpus'?" in answer.err
    kept = Path(answer.err.rstrip().rpartition(" ")[2])
    assert "cpu: 3" in kept.read_text()
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    kept.unlink()
    kept.parent.rmdir()
    assert job_row(store, 1).spec == before


def test_job_that_started_during_the_edit_is_not_changed(
    launcher: Launcher, store: Store, editor: Editor
) -> None:
    before = a_held_job(launcher, store)
    launcher("start")
    release = Path(sys.executable).parent / "launcher"
    editor(f'{release} release 1 >&2; sed -i \'s/"300"/"400"/\' "$1"')
    answer = launcher("edit", "mine")
    assert answer.code == 2, answer
    assert re.search("job 1 is (queued|running) now, nothing was changed", answer.err)
    assert job_row(store, 1).spec == before


def test_edit_of_a_running_job_is_refused_with_a_remedy(launcher: Launcher, store: Store) -> None:
    launcher("add", "--name", "mine", "--", "sleep", "300")
    reaches(store, 1, State.RUNNING)
    assert "launcher cancel 1" in launcher.refused("edit", "mine", "--set", "resources.cpus=1")


def test_edited_failed_job_is_queued_again(
    launcher: Launcher, store: Store, tmp_path: Path
) -> None:
    launcher("add", "--name", "mine", "--", *shell(f"echo $1 >>{tmp_path}/out; exit $1", "3"))
    reaches(store, 1, State.FAILED)
    words = ", ".join(f'"{word}"' for word in shell(f"echo $1 >>{tmp_path}/out; exit $1", "0"))
    dry = launcher("retry", "mine", "--set", f"argv=[{words}]", "--dry-run")
    assert "would be queued again, changed: argv" in dry.out
    assert (
        "retries 0 → 1"
        in launcher.well(
            "retry", "mine", "--set", f"argv=[{words}]", "--set", "resources.retries=1"
        ).out
    )
    reaches(store, 1, State.DONE)
    assert (tmp_path / "out").read_text().split() == ["3", "0"]


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("lr=0.1", "'lr' is not an option of a program"),
        ("cpus=2", "write --set resources.cpus=…"),
        ("name=other", "'name' is a key of task files"),
        ("argv=[]", "argv: expected at least 1 value"),
        ("resources.warn=5m", "warn needs time_limit"),
        ("lr", "expected KEY=VALUE"),
        ("env={A: 1}", "env: the value of A is not a string"),
        ("env={A: null}", "env: the value of A is not a string"),
    ],
)
def test_invalid_setting_is_refused_like_in_a_task_file(
    launcher: Launcher, store: Store, word: str, text: str
) -> None:
    before = a_held_job(launcher, store)
    answer = launcher.refused("edit", "mine", "--set", word)
    assert text in answer
    assert "nothing was queued" not in answer
    assert job_row(store, 1).spec == before


SWEEP = ("add", "--run", "sw", "--name", "s{n}", "--sweep", "lr=0.1,0.5", "--sweep", "n=1..2")


def a_sweep(launcher: Launcher, state: str, *words: str) -> None:
    """Queue a sweep of four jobs: the jobs are held, failed or done."""
    program = ("sh", "-c", "[ $1 = 0.1 ] || exit $2", "-", "{lr}")
    held = ("--hold",) if state == "held" else ()
    launcher.well(*SWEEP, *held, *words, "--", *program, "0" if state == "done" else "3")
    if state != "held":
        launcher("wait")


@pytest.mark.parametrize("state", ["held", "failed"])
def test_swept_value_of_an_open_or_failed_job_is_changed(
    launcher: Launcher, store: Store, state: str
) -> None:
    a_sweep(launcher, state)
    before = job_row(store, 3)
    verb = "edit" if state == "held" else "retry"
    answer = launcher.well(verb, "s1@lr=0.5", "--set", "lr=0.1", "--set", "n=9")
    assert "changed: lr 0.5 → 0.1, n 1 → 9\n" in answer.out
    after = job_row(store, 3)
    assert (before.name, after.name) == ("command/s1@lr=0.5", "command/s9@lr=0.1")
    assert after.spec.argv[-2:] == ("0.1", "3")
    assert after.spec.params == {"lr": 0.1, "n": 9}
    assert len(store.read.jobs()) == 4
    if state == "failed":
        reaches(store, 3, State.DONE)


def test_done_job_keeps_its_result_and_a_new_job_gets_the_value(
    launcher: Launcher, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("--metrics", "o{lr}", "--", "sh", "-c", "echo $0 >$1", "{lr}", "o{lr}")
    launcher.well("add", "--name", "s", "--sweep", "lr=1,2", "--output", "o{lr}", *words)
    launcher.well("wait")
    planned = launcher.well("retry", "s@lr=2", "--set", "lr=3", "--dry-run").out
    assert "would be left unchanged, and a new job queued: lr 2 → 3" in planned
    answer = launcher.well("retry", "s@lr=2", "--set", "lr=3", "--set", "resources.cpus=1")
    assert answer.out == (
        "3\tcommand/s@lr=3\tqueued with lr 2 → 3, metrics o2 → o3. Job 2 command/s@lr=2 is unchanged\n"
    )
    launcher.well("wait")
    assert [Path(f"o{n}").read_text() for n in (1, 2, 3)] == ["1\n", "2\n", "3\n"]
    assert job_row(store, 2).attempts == 1
    launcher.well("retry", "s@lr=3", "--set", "lr=4")  # a changed value can be changed again
    launcher.well("wait")
    assert Path("o4").read_text() == "4\n"
    launcher.well("retry", "s@lr=4", "--set", "lr=5", "--set", "resources.metrics=mine.csv")
    assert [job_row(store, job).spec.terms.metrics for job in (4, 5)] == ["o4", "mine.csv"]


def test_unnamed_done_job_is_changed(launcher: Launcher, store: Store) -> None:
    launcher.well("add", "--sweep", "lr=1", "--", "true", "{lr}")
    launcher.well("wait")
    assert launcher.well("retry", "1", "--set", "lr=2").out.startswith("2\tcommand/2\tqueued")
    assert job_row(store, 2).spec.argv == ("true", "2")


def test_swept_flag_is_changed(launcher: Launcher, store: Store) -> None:
    launcher.well("add", "--hold", "--name", "f", "--sweep-flag", "amp", "--", "true", "{amp}")
    assert "a flag: expected true or false" in launcher.refused("edit", "1", "--set", "amp=on")
    launcher.well("cancel", "2")
    assert "exists already" in launcher.refused("edit", "1", "--set", "amp=false")
    launcher.well("clean", "2", "--yes")
    launcher.well("edit", "1", "--set", "amp=false")
    row = job_row(store, 1)
    assert (row.name, row.spec.argv) == ("command/f@amp=false", ("true",))


def test_swept_value_of_a_task_file_is_changed(
    launcher: Launcher, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = "[sh, -c, 'test $0 != b', '{x}', '{d}']"
    Path("t.yaml").write_text(
        f"name: t\ncommand: [{{argv: {argv}, matrix: {{x: [a, b], d: {{small: data/x}}}}}}]\n"
    )
    assert launcher("run", "t.yaml").code == 1
    launcher.well("retry", "--failed", "run:t", "--set", "x=c")
    launcher.well("wait", "run:t")
    row = job_row(store, 2)
    assert row.name.endswith("@x=c,d=small")
    assert row.spec.argv[-2:] == ("c", "data/x")
    before = job_row(store, 1).hash
    launcher("run", "t.yaml")  # has no value c, and b is new again
    assert job_row(store, 1).hash == before
    assert [row.name.partition("@")[2] for row in store.read.jobs()] == [
        "x=a,d=small",
        "x=c,d=small",
        "x=b,d=small",
    ]
    assert job_row(store, 1).attempts == 1


INVALID = (
    (("s1@lr=0.5", "--set", "lr=0.1"), "job 1 command/s1@lr=0.1 exists already (done)"),
    (("s1@lr=0.5", "--set", "lr=0.5"), "job 3 already has these values"),
    (("s1@lr=0.5", "--set", "lt=1"), "'lt' is not an option of a program or a value"),
    (("s1@lr=0.5", "--set", "lrr=1"), "did you mean 'lr'?\n  = values of the sweep: lr"),
    (("s1@lr=0.5", "--set", "=1"), "expected KEY=VALUE"),
    (("s1@lr=0.5", "--set", "name=x"), "'name' is a key of task files"),
    (("s1@lr=0.5", "--set", "env.A=1"), "'env' can only be set as a whole"),
    (
        ("s1@lr=0.5", "--set", "resources.cpus=2"),
        "job 3 is done. To run it again: launcher retry s1@lr=0.5 --set resources.cpus=2 --force",
    ),
    (("s1@lr=0.5", "--set", "lr="), "must be a number or a string"),
    (("s1@lr=0.5", "--set", 'lr=""'), "lr has no value"),
    (("s1@lr=0.5", "--set", "lr=a:b"), "cannot be part of a job name"),
    (("s1@lr=0.5", "--set", "lr=[1, 2]"), "must be a number or a string"),
    (("s1@lr=0.5", "--set", "lr=1..3"), "is text here, not a range"),
    (("s1@lr=0.5", "--set", "lr"), "expected KEY=VALUE"),
    (("s1@*", "--set", "lr=7"), "jobs 1 and 3 would both be named command/s1@lr=7"),
    (("s1@lr=0.5", "--set", "lr=1", "--set", "lt=2"), "'lt' is not an option of a program"),
    (("s1@lr=0.5", "--set", "lr={a: 1}"), "number or a string\n --> --set:1:5"),
)


def test_invalid_swept_value_is_refused(launcher: Launcher, store: Store) -> None:
    a_sweep(launcher, "done")
    names = [row.name for row in store.read.jobs()]
    for words, message in INVALID:
        assert message in launcher.refused("retry", *words), words
        assert [row.name for row in store.read.jobs()] == names


@pytest.mark.parametrize(
    ("state", "advice"),
    [
        ("held", "launcher release 1"),
        ("queued", "launcher wait 1"),
        ("cancelled", "launcher retry 1"),
    ],
)
def test_taken_name_is_refused_with_a_command_that_the_other_job_accepts(
    launcher: Launcher, state: str, advice: str
) -> None:
    first = ["--hold"] if state == "held" else ["--not-before", "+1h"]
    for value, options in (("1", first), ("2", ["--hold"])):
        launcher.well(
            "add", "--name", "s", *options, "--sweep", f"lr={value}", "--", "true", "{lr}"
        )
    if state == "cancelled":
        launcher.well("cancel", "s@lr=1", "--yes")
    answer = launcher.refused("edit", "s@lr=2", "--set", "lr=1")
    assert f"exists already ({state}). " in answer
    assert answer.endswith(f"{advice}\n")


def test_new_value_does_not_overwrite_the_output_of_a_done_job(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = ("--sweep", "lr=1", "--output", "out", "--", "touch", "out", "{lr}")
    launcher.well("add", "--name", "s", *sweep)
    launcher.well("wait")
    answer = launcher.refused("retry", "s@lr=1", "--set", "lr=2")
    assert f"would overwrite its output {tmp_path}/out" in answer


def test_job_that_another_one_needs_keeps_its_values(launcher: Launcher) -> None:
    launcher.well("add", "--hold", "--name", "s", "--sweep", "lr=1", "--", "true", "{lr}")
    launcher.well("add", "--after", "s@lr=1", "--", "true")
    answer = launcher.refused("edit", "s@lr=1", "--set", "lr=2")
    assert "job 1 cannot get other values, because job 2 needs it" in answer


def test_a_value_of_a_command_line_is_refused_with_the_command_line_that_sets_it(
    launcher: Launcher, store: Store
) -> None:
    launcher("stop")
    words = ("python", "train.py", "--epochs=4", "--sleep", "0.3", "--seed", "{seed}")
    launcher("add", "--name", "s", "--hold", "--sweep", "seed=6,7", "--", *words)
    store.database.execute("UPDATE jobs SET spec = json_remove(spec, '$.settings.template')")
    answer = launcher.refused("edit", "1", "--set", "seed=9")
    assert "'seed' is part of the command line of job 1" in answer
    line = " ".join(answer.split())
    assert "launcher add --sweep seed=9" in line
    command = 'argv=[python, train.py, "--epochs=4", "--sleep", "0.3", "--seed", "9"]'
    assert f"--set '{command}'" in line
    changed = launcher.well("edit", "1", "--set", command).out
    assert '"--seed", "6"] → …' in changed
    assert changed.endswith('"--seed", "9"]\n')
    assert job_row(store, 1).spec.argv[-1] == "9"
    line = " ".join(launcher.refused("edit", "2", "--set", "epochs=5").split())
    assert '"--epochs=5"' in line
    assert "launcher add --sweep" not in line
    line = " ".join(launcher.refused("edit", "2", "--set", "zzz=5").split())
    assert "options: argv, cwd, env, inputs, outputs, resources.cpus," in line


def test_a_value_of_a_command_line_is_named_although_a_setting_has_a_similar_name(
    launcher: Launcher, store: Store
) -> None:
    a_held_job(launcher, store)
    words = 'argv=[python, train.py, "--amp", "--ragv", "2", "--cpus", "3"]'
    launcher.well("edit", "1", "--set", words)
    for name in ("amp", "ragv"):
        answer = launcher.refused("edit", "1", "--set", f"{name}=7")
        assert f"{name!r} is part of the command line of job 1" in answer
        assert "did you mean" not in answer
    assert "did you mean 'argv'?" in launcher.refused("edit", "1", "--set", "agrv=7")
    assert "write --set resources.cpus=…" in launcher.refused("edit", "1", "--set", "cpus=7")


def test_program_with_non_utf8_arguments_is_not_edited(launcher: Launcher) -> None:
    launcher("add", "--hold", "--", "echo", "\udcff")
    assert "cannot be edited as text" in launcher.refused("edit", "1", "--set", "resources.cpus=1")


def test_changed_resources_move_the_job_to_another_lane(
    launcher: Launcher, store: Store, home: Home
) -> None:
    a_held_job(launcher, store)
    launcher("group", "few", "--limit", "1")
    before = store.ready_jobs.lane_of_job(1)
    launcher.well("edit", "mine", "--set", "resources.group=few")
    with closing(Store(home, reading=True)) as changed:
        after = changed.ready_jobs.lane_of_job(1)
    assert (before.group, after.group) == ("", "few")


def test_folder_and_variables_of_a_waiting_program_are_edited(
    launcher: Launcher, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path)
    a_held_job(launcher, store)
    launcher.well("edit", "mine", "--set", "cwd=work", "--set", 'env={A: "1", B: x y}')
    shown = launcher("show", "mine").out
    assert f"cwd      {tmp_path}/work\n" in shown
    assert "env      A=1 'B=x y'\n" in shown
    line = launcher("show", "mine", "--command").out
    assert line == f"cd {tmp_path}/work && env A=1 'B=x y' sleep 300\n"
    launcher.well("edit", "mine", "--set", "env={}", "--set", 'cwd=""')
    assert job_row(store, 1).spec.settings == {}
    assert f"cwd      {tmp_path}\n" in launcher("show", "mine").out


def test_edited_text_of_a_program_round_trips(
    launcher: Launcher, store: Store, editor: Editor
) -> None:
    a_held_job(launcher, store)
    words = 'env={A: "yes", B: "1", C: "null", D: "a: b"}'
    launcher.well("edit", "mine", "--set", words)
    before = job_row(store, 1).spec
    copy = editor("true")
    assert "job 1 is unchanged" in launcher("edit", "mine").err
    assert 'env: {A: "yes", B: "1", C: "null", D: "a: b"}' in copy.read_text()
    assert job_row(store, 1).spec == before


# --- The editor opened again on what was wrong, in a terminal


# wrong at first, right when it is opened again
MENDED = """#!/bin/sh
if grep -q 'cpu: 1' "$1"; then sed -i 's/cpu: 1/cpus: 1/' "$1"; else sed -i 's/cpus: 2/cpu: 1/' "$1"; fi
"""


@pytest.mark.parametrize(("typed", "cpus", "code"), [("\n", 1, 0), ("n\n", 2, 130)])
def test_faulty_text_can_be_corrected_or_discarded(
    launcher: Launcher,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    typed: str,
    cpus: int,
    code: int,
) -> None:
    launcher("add", "--name", "mine", "--hold", "--cpus", "2", "--", "true")
    editor = tmp_path / "editor"
    editor.write_text(MENDED)
    editor.chmod(0o700)
    monkeypatch.setenv("VISUAL", str(editor))
    drawn = in_a_terminal("edit", "mine", typed=typed, code=code)
    assert "did you mean 'cpus'?" in drawn
    assert "edit again? [Y/n]" in drawn
    assert job_row(store, 1).spec.resources.cpus == cpus
    if code:
        kept = Path(drawn.rstrip().rpartition(" ")[2])
        assert "cpu: 1" in kept.read_text()
        kept.unlink()
        kept.parent.rmdir()


def test_remedy_for_a_done_job_keeps_the_given_values(launcher: Launcher, store: Store) -> None:
    launcher.well("add", "--wait", "--", "true")
    sets = ("--set", "resources.cpus=2", "--set", "argv=[sleep, '0']")
    told = launcher.refused("edit", "1", *sets)
    words = shlex.split(told.rpartition(": launcher ")[2])
    assert words == ["edit", "1", *sets, "--force"]
    assert "cpus 1 → 2" in launcher.well(*words, "--dry-run").out
