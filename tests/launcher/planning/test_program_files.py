"""Programs whose files are other than when they were done, and those whose files say in which order they run."""

import json
import os
from math import inf
from pathlib import Path
from typing import Any

import pytest

from launcher.experiments.kinds import COMMAND
from launcher.experiments.planning.comparison import Action, ComparedJob, Comparison
from launcher.experiments.planning.plan import Plan
from launcher.experiments.planning.queue_comparison import compare_with_queue
from launcher.experiments.planning.submit import SubmittedRun, submit
from launcher.provenance.file_digests import ABSENT_DIGEST, MOST_READ, FileDigests
from launcher.queue.jobs.context import named_files, output_folders
from launcher.queue.jobs.states import Done
from launcher.queue.store.queue import Store
from launcher.system.errors import TaskFileError
from launcher.system.files import file_stamp
from tests.build import a_context, claimed, finished
from tests.launcher import language

TRAIN = "{name: t, argv: [python3, train.py, --config=conf.yaml, --lr, '0.1']}"
COPY = "{name: t, argv: [cp, in.txt, out.txt], inputs: [in.txt], outputs: [out.txt]}"
BELOW = "{name: t, argv: [cp, in.txt, out.txt], inputs: [in.txt], outputs: [out.txt], cwd: sub}"
INTO = "{name: t, argv: [make], outputs: [sub/]}"
FROM = "{name: t, argv: [cp, -r, sub/, x], inputs: [sub/]}"
BOTH = "{name: t, argv: [python3, train.py], inputs: [in.txt]}"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for name in ("train.py", "conf.yaml", "in.txt", "out.txt", "sub/in.txt", "sub/out.txt"):
        (tmp_path / name).write_text(name)
    return tmp_path


def a_plan(project: Path, *entries: str) -> Plan:
    text = "name: x\ncommand:\n" + "".join(f"  - {entry}\n" for entry in entries)
    return language.a_plan(
        text,
        root=project,
        exists=Path.exists,
        code=lambda *_: {},
        content=FileDigests().digest_file,
        kinds={"command": COMMAND},
    )


def comparison(store: Store, made: Plan, **options: Any) -> Comparison:
    rows = store.read.jobs_of(made.run_folder.parents[1], made.name)
    return compare_with_queue(made, rows, file_stamp, **options)


def compared(store: Store, made: Plan, **options: bool) -> list[ComparedJob]:
    return [*comparison(store, made, **options).jobs]


def queue(store: Store, made: Plan, **options: bool) -> SubmittedRun:
    root = made.run_folder.parents[1]
    return submit(store, root, comparison(store, made, **options), a_context(root), 1.0)


def finish(store: Store, project: Path, **files: str) -> None:
    """Have every job done, with the files as they are now, or as they are said to have been."""
    digests = FileDigests()
    while ready := store.ready_jobs.read_ready(100):
        for one in ready:
            claim = claimed(store, one.id)
            folder = project / str(claim.spec.settings.get("cwd", ""))
            names = named_files(claim.spec)
            known = [
                files.get(name, digests.digest_or_missing(f"{folder}/{name}")) if name else ""
                for name in names
            ]
            folders = output_folders(claim.spec)
            outputs = {
                path: version.to_json()
                for path in claim.spec.outputs
                if (version := digests.read_file_version(f"{path}/" if path in folders else path))
            }
            done = Done(at=1.0, files=known)
            store.transitions.finish_attempt(claim, done, outputs=outputs, now=1.0)


@pytest.mark.parametrize(
    ("read", "after"),
    [
        ("link/x.csv", True),
        ("sub/x.csv", True),
        ("link/*.csv", True),
        ("link/", True),
        ("x.csv", True),
        ("link/in.txt", False),
    ],
)
def test_program_follows_the_writer_of_a_file_in_a_linked_folder(
    project: Path, read: str, after: bool
) -> None:
    (project / "link").symlink_to("sub")
    (project / "x.csv").symlink_to("link/x.csv")
    (project / "sub/x.csv").write_text("old")
    writer = f"{{name: prep, argv: [touch], outputs: ['{project}/sub/x.csv']}}"
    reader = f"{{name: fit, argv: [cat], inputs: ['{read}']}}"
    for entries in ((writer, reader), (reader, writer)):
        needs = {job.name: job.needs for job in a_plan(project, *entries).jobs}
        assert needs["command/fit"] == (("command/prep",) if after else ())


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("sub/x.csv", "link/x.csv", "would write the same files"),
        ("sub/made/", "link/made/x.csv", "would write sub/made/x.csv, and command/a would write"),
    ],
)
def test_two_programs_cannot_write_one_file_through_a_linked_folder(
    project: Path, first: str, second: str, message: str
) -> None:
    (project / "link").symlink_to("sub")
    entries = (
        f"{{name: {n}, argv: [go], outputs: ['{o}']}}"
        for n, o in zip("ab", (first, second), strict=True)
    )
    with pytest.raises(TaskFileError) as caught:
        a_plan(project, *entries)
    assert any(message in problem.message for problem in caught.value.problems)


@pytest.mark.parametrize("missing", ["in.txt", "conf.yaml"])
def test_file_that_was_missing_runs_its_program_again_once_it_exists(
    store: Store, project: Path, missing: str
) -> None:
    entry = "{name: t, argv: [python3, train.py, conf.yaml], inputs: [in.txt]}"
    queue(store, a_plan(project, entry))
    content = (project / missing).read_text()
    (project / missing).unlink()
    finish(store, project, **{missing: ABSENT_DIGEST})
    (same,) = compared(store, a_plan(project, entry))
    assert same.action is Action.CACHED
    (project / missing).write_text(content)
    (changed,) = compared(store, a_plan(project, entry))
    assert (changed.action, changed.reason) == (Action.RUN, f"{missing} was missing before")


CHANGES = [  # entry, written files, reason, whether --accept-code keeps the job
    (TRAIN, {}, "", False),
    (TRAIN, {"in.txt": "other"}, "", False),  # nothing names it
    (TRAIN, {"train.py": "other"}, "train.py changed", True),
    (TRAIN, {"conf.yaml": "other"}, "conf.yaml changed", True),
    (TRAIN, {"train.py": "1", "conf.yaml": "1"}, "train.py changed, conf.yaml changed", True),
    (TRAIN, {"train.py": None}, "train.py is gone", True),
    (COPY, {"in.txt": "in.txt"}, "", False),  # the same content again
    (COPY, {"in.txt": "other"}, "in.txt changed", False),
    (COPY, {"out.txt": None}, "out.txt is gone", False),
    (COPY, {"out.txt": "by hand"}, "out.txt was changed", False),
    (BELOW, {"in.txt": "other", "out.txt": None}, "", False),  # not those of its folder
    (BELOW, {"sub/in.txt": "other"}, "in.txt changed", False),
    (BELOW, {"sub/out.txt": None}, "out.txt is gone", False),
    (INTO, {}, "", False),
    (INTO, {"in.txt": "other"}, "", False),  # not in the folder
    (INTO, {"sub/in.txt": "in the folder"}, "sub/ was changed", False),
    (INTO, {"sub/out.txt": None}, "sub/ was changed", False),
    (INTO, {"sub/out.txt": None, "sub/in.txt": None, "sub": None}, "sub/ is gone", False),
    (FROM, {}, "", False),
    (FROM, {"sub/in.txt": "other"}, "sub/ changed", False),
    (FROM, {"sub/out.txt": None, "sub/in.txt": None, "sub": None}, "sub/ is gone", False),
    (BOTH, {"train.py": "other"}, "train.py changed", True),
    (BOTH, {"train.py": "1", "in.txt": "1"}, "in.txt changed, train.py changed", False),
]


@pytest.mark.parametrize(("entry", "written", "reason", "is_code"), CHANGES)
def test_program_runs_again_if_a_file_changes(
    store: Store,
    project: Path,
    entry: str,
    written: dict[str, str | None],
    reason: str,
    is_code: bool,
) -> None:
    queue(store, a_plan(project, entry))
    finish(store, project)
    for name, text in written.items():
        if text is None:
            (project / name).rmdir() if (project / name).is_dir() else (project / name).unlink()
        else:
            before = (project / name).read_text()
            if text != before:
                (project / name).write_text(text)
    (one,) = compared(store, a_plan(project, entry))
    assert one.action is (Action.RUN if reason else Action.CACHED)
    assert reason in {"", one.reason}
    assert one.is_other_code is is_code
    (kept,) = compared(store, a_plan(project, entry), accept_code=True)
    assert kept.action is (Action.RUN if reason and not is_code else Action.CACHED)


MAKE = "{name: make, argv: [make], outputs: [out.txt]}"


def test_file_is_read_only_if_just_its_time_differs(store: Store, project: Path) -> None:
    asked: list[str] = []

    class Counting(FileDigests):
        def digest_or_missing(self, path: str, most_bytes: float = inf) -> str:
            asked.append(path)
            return super().digest_or_missing(path, most_bytes)

    def action() -> Action:
        (one,) = comparison(store, a_plan(project, MAKE), digests=Counting()).jobs
        return one.action

    queue(store, a_plan(project, MAKE))
    finish(store, project)
    out = project / "out.txt"
    assert (action(), asked) == (Action.CACHED, [])
    os.utime(out, ns=(1, 1))
    assert (action(), asked) == (Action.CACHED, [str(out)])
    out.write_text("of another size")
    assert (action(), asked) == (Action.RUN, [str(out)])


@pytest.mark.parametrize(
    ("recorded", "action"),
    [
        ("{digest}", Action.CACHED),
        ("{size} {time}", Action.RUN),  # hashing was stopped there
        ("0123456789abcdef", Action.RUN),
    ],
)
def test_large_command_line_file_is_compared_by_known_content(
    store: Store, project: Path, recorded: str, action: Action
) -> None:
    entry = "{name: t, argv: [python3, large.bin]}"
    large = project / "large.bin"
    with large.open("wb") as file:
        file.truncate(MOST_READ + 1)
    size, time = file_stamp(str(large)) or (0, 0)
    digest = FileDigests().digest_file(large)
    queue(store, a_plan(project, entry))
    known = recorded.format(digest=digest, size=size, time=time)
    finish(store, project, **{"large.bin": known})
    os.utime(large, ns=(1, 1))
    assert compared(store, a_plan(project, entry))[0].action is action


def test_accepted_code_stays_accepted(store: Store, project: Path) -> None:
    queue(store, a_plan(project, TRAIN))
    finish(store, project)
    (project / "train.py").write_text("other")
    assert queue(store, a_plan(project, TRAIN), accept_code=True).cached == 1
    assert compared(store, a_plan(project, TRAIN))[0].action is Action.CACHED
    (project / "train.py").write_text("yet another")
    assert compared(store, a_plan(project, TRAIN))[0].reason == "train.py changed"


def test_file_changed_during_its_program_causes_one_more_run(store: Store, project: Path) -> None:
    queue(store, a_plan(project, COPY))
    finish(store, project, **{"in.txt": "changed"})
    (one,) = compared(store, a_plan(project, COPY))
    assert (one.action, one.reason) == (Action.RUN, "in.txt changed while it ran")
    queue(store, a_plan(project, COPY))
    finish(store, project)
    assert compared(store, a_plan(project, COPY))[0].action is Action.CACHED


def test_results_of_an_earlier_version_stay_valid(store: Store, project: Path) -> None:
    queue(store, a_plan(project, TRAIN))
    for one in store.ready_jobs.read_ready(1):
        finished(store, one.id, Done(at=1.0))
    (project / "train.py").write_text("other")
    assert compared(store, a_plan(project, TRAIN))[0].action is Action.CACHED


def test_dependents_of_a_program_that_runs_again_run_again(store: Store, project: Path) -> None:
    entries = (TRAIN, "{name: next, argv: [echo], after: t}")
    queue(store, a_plan(project, *entries))
    finish(store, project)
    (project / "train.py").write_text("other")
    first, second = compared(store, a_plan(project, *entries))
    assert (first.reason, second.reason) == ("train.py changed", "command/t runs again")


def test_file_settings_are_stored_and_change_no_hash_without_them(project: Path) -> None:
    plain, copy = a_plan(project, "{name: t, argv: [cp]}", COPY.replace("t,", "c,")).jobs
    decisive = [json.loads(job.identity.settings) for job in (plain, copy)]
    assert decisive[0] == {"argv": ["cp"]}
    assert decisive[1].items() >= {"inputs": ["in.txt"], "outputs": ["out.txt"]}.items()
    assert copy.outputs == (project / "out.txt",)


def in_and_out(name: str, inputs: str = "", outputs: str = "", more: str = "") -> str:
    return f"{{name: {name}, argv: [x], inputs: [{inputs}], outputs: [{outputs}]{more}}}"


@pytest.mark.parametrize(
    ("entries", "order", "needs"),
    [
        (
            [in_and_out("b", "mid"), in_and_out("a", "in.txt", "mid")],
            ["a", "b"],
            {"b": ["a"]},
        ),
        (
            [in_and_out("c", "m, n"), in_and_out("b", "m", "n"), in_and_out("a", "", "./sub/../m")],
            ["a", "b", "c"],
            {"b": ["a"], "c": ["a", "b"]},
        ),
        (
            [in_and_out("b", "sub/mid"), in_and_out("a", "", "mid", ", cwd: sub")],
            ["a", "b"],
            {"b": ["a"]},
        ),
        (
            [in_and_out("b", '"{run_folder}/m"'), in_and_out("a", "", '"{run_folder}/m"')],
            ["a", "b"],
            {"b": ["a"]},
        ),
        (
            [in_and_out("b", "runs/x/jobs/a/m"), in_and_out("a", "", '"{job_folder}/m"')],
            ["a", "b"],
            {"b": ["a"]},
        ),
        ([in_and_out("b", "in.txt"), in_and_out("a", "", "mid")], ["b", "a"], {}),
        (
            [in_and_out("b", "mid/"), in_and_out("a", "", "mid/")],
            ["a", "b"],
            {"b": ["a"]},
        ),
        (
            [in_and_out("b", "mid/in/last.pt"), in_and_out("a", "", "mid/")],
            ["a", "b"],
            {"b": ["a"]},
        ),
        (
            [in_and_out("c", "mid/"), in_and_out("b", "", "mid/b"), in_and_out("a", "", "mid/in/")],
            ["b", "a", "c"],
            {"c": ["b", "a"]},
        ),
        (
            [in_and_out("b", '"outputs:a"'), in_and_out("a", "", "mid/, x.txt")],
            ["a", "b"],
            {"b": ["a"]},
        ),
        (
            [in_and_out("b", '"m-*/last.pt"'), in_and_out("a", "", "m-1/")],
            ["a", "b"],
            {"b": ["a"]},
        ),
        ([in_and_out("b", '"s*/"'), in_and_out("a", "", "s.txt")], ["b", "a"], {}),
    ],
)
def test_programs_follow_the_programs_that_make_their_inputs(
    project: Path, entries: list[str], order: list[str], needs: dict[str, list[str]]
) -> None:
    made = a_plan(project, *entries)
    assert [job.name.removeprefix("command/") for job in made.jobs] == order
    behind = {job.name: [*job.needs] for job in made.jobs if job.needs}
    assert behind == {
        f"command/{name}": [f"command/{need}" for need in of] for name, of in needs.items()
    }
    assert not made.warnings


@pytest.mark.parametrize(
    ("entries", "place", "message"),
    [
        ([in_and_out("a", "", "../out")], "3:48", "/out' is outside of the project"),
        ([in_and_out("a", "", "ok, /tmp/out")], "3:52", "outputs: '/tmp/out' is outside of"),
        ([in_and_out("a", "", "sub")], "3:48", "outputs: 'sub' is a folder"),
        ([in_and_out("a", "", ".")], "3:48", "is a folder"),
        ([in_and_out("a", "", "ok, in.txt/")], "3:52", "outputs: 'in.txt' is a file, not a folder"),
        ([in_and_out("a", "", "./")], "3:48", "is the folder of the project"),
        ([in_and_out("a", "", "../")], "3:48", "contains the folder in which the program starts"),
        ([in_and_out("a", "", "./", ", cwd: sub")], "3:48", "contains the folder in which the"),
        ([in_and_out("a", "", "/tmp/out/")], "3:48", "outputs: '/tmp/out' is outside of"),
        ([in_and_out("a", "", "link/")], "3:48", "outputs: 'link' is a link"),
        ([in_and_out("a", "", "runs/x/")], "3:48", "contains the results of other jobs"),
        (
            [in_and_out("a", "", '"{run_folder}/jobs/"')],
            "3:48",
            "contains the results of other jobs",
        ),
        ([in_and_out("a", "", '"{job_folder}/"')], "3:48", "has more content than this program"),
        ([in_and_out("a", "in.txt/")], "3:35", "inputs: 'in.txt' is a file, not a folder"),
        ([in_and_out("a", "absent/")], "3:35", "an input is missing, and no job makes it: absent"),
        ([in_and_out("a", "sub/", "sub/")], "3:52", "is an input and an output of one program"),
        ([in_and_out("a", "sub/in.txt", "sub/")], "3:58", "contains the input sub/in.txt of the"),
        ([in_and_out("a", "sub/", "sub/new")], "3:52", "is in the input sub/ of the same program"),
        ([in_and_out("a", "", "new/, new/a")], "3:54", "command/a lists new/a and new/"),
        (
            [in_and_out("a", "", "new/"), in_and_out("b", "", "new/in/b")],
            "4:48",
            "command/b would write new/in/b, and command/a would write new/",
        ),
        (
            [in_and_out("a", "", "new/"), in_and_out("b", "new")],
            "4:35",
            "inputs: 'new' is a folder that command/a makes",
        ),
        (
            [in_and_out("a", "", "new"), in_and_out("b", "new/")],
            "4:35",
            "inputs: 'new' is a file that command/a makes",
        ),
        (
            [in_and_out("a", "", "new/"), in_and_out("b", '"new/*.pt"')],
            "4:35",
            "inputs: 'new/*.pt' matches files in 'new/', which a job makes",
        ),
        (
            [in_and_out("a", "", "new/"), in_and_out("b", '"n*w"')],
            "4:35",
            "inputs: no file and no output of a job matches 'n*w'",  # a file
        ),
        ([in_and_out("a", "", "link")], "3:48", "outputs: 'link' is a link"),
        ([in_and_out("a", "sub")], "3:35", "inputs: 'sub' is a folder"),
        ([in_and_out("a", "in.txt", "in.txt")], "3:54", "is an input and an output of one program"),
        (
            [in_and_out("a", "", "m"), in_and_out("b", "", "n, m")],
            "4:51",
            "command/b and command/a would write the same files",
        ),
        (
            [in_and_out("a", "in.txt, n", "m"), in_and_out("b", "m", "n")],
            "3:43",
            "these jobs read each other's output, so none can start: command/a → command/b → command/a",
        ),
        (
            [in_and_out("a", "in.txt", "m"), in_and_out("b", "in.txt, typo")],
            "4:43",
            "an input is missing, and no job makes it: typo",
        ),
        (
            [in_and_out("a", "", "m"), in_and_out("b", "m, typo")],
            "4:38",
            "an input is missing, and no job makes it: typo",
        ),
    ],
)
def test_impossible_files_are_reported_at_their_place(
    project: Path, entries: list[str], place: str, message: str
) -> None:
    (project / "link").symlink_to("in.txt")
    try:
        problems = a_plan(project, *entries).missing
    except TaskFileError as error:
        problems = tuple(error.problems)
    (problem,) = problems
    assert problem.place is not None
    assert f"{problem.place.line}:{problem.place.column}" == place
    assert message in problem.message
