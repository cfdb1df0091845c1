"""Entries that name the jobs which they follow: matching jobs, order, and changes of hashes."""

from collections.abc import Mapping

import pytest

from launcher.experiments.planning import dependencies
from launcher.experiments.planning.comparison import Action
from launcher.experiments.planning.plan import Plan
from launcher.experiments.planning.submit import submit
from launcher.queue.store.queue import Store
from launcher.system.errors import Severity, TaskFileError
from tests.build import a_context, job_row
from tests.launcher.folder_toys import KINDS as FOLDER_KINDS
from tests.launcher.language import (
    KINDS,
    ROOT,
    a_plan,
    blamed,
    compared,
    finish,
    job,
    marked,
    names,
    queue,
    refusals,
)

STUDY = """\
train:
  - {data: dot:pre, after: prepare, poison: [0, 20]}
  - {data: line:pre}
autotest: [real:pre]
command:
  - {name: export, argv: [tar, out], after: dot:pre}
  - {name: prepare, argv: [make, data]}
  - {name: mail, argv: [mail, me], after_any: "*"}
"""


def on_disk(text: str, *paths: str, content: str = "c") -> Plan:
    """Return the plan where some paths are there, and toys; those that end with / are folders."""
    there = {ROOT / path for path in paths}
    return a_plan(
        text,
        exists=there.__contains__,
        code=lambda _, roots: {"": "d"} if roots else {},
        content=lambda _: content,
        is_folder={ROOT / path for path in paths if path.endswith("/")}.__contains__,
    )


def actions(store: Store, made: Plan) -> dict[str, Action]:
    """Queue a plan, and return the action for each job."""
    comparison = compared(store, made)
    submit(store, ROOT, comparison, a_context(), 1.0)
    return {one.job.name: one.action for one in comparison.jobs}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("train/dot:pre@lr=0.1", {"train/dot:pre@lr=0.1"}),
        ("train/dot:pre", {"train/dot:pre@lr=0.1", "train/dot:pre@lr=0.2"}),
        ("dot:pre", {"train/dot:pre@lr=0.1", "train/dot:pre@lr=0.2"}),
        ("dot:pre@lr=0.2", {"train/dot:pre@lr=0.2"}),
        ("real:pre&line:pre", {"train/line:pre&real:pre"}),
        ("line:pre&real:pre~pgu", {"unlearn/line:pre&real:pre~pgu"}),
        ("test/dot*", {"test/dot:pre@lr=0.1/real:pre", "test/dot:pre@lr=0.2/real:pre"}),
        ("[first, 'command/second']", {"command/first", "command/second"}),
        ("toys", {"shapes/toys"}),
    ],
)
def test_jobs_are_named_by_name_glob_entry_or_model(name: str, meant: set[str]) -> None:
    text = (
        "shapes: [{data_root: toys}]\n"
        "train:\n"
        "  - {data: dot:pre, matrix: {lr: [0.1, 0.2]}}\n"
        '  - {data: "line:pre&real:pre"}\n'
        'unlearn: [{model: "line:pre&real:pre", method: pgu}]\n'
        "test: [{model: dot:pre, data: real:pre}]\n"
        "command:\n  - {name: first, argv: [a]}\n  - {name: second, argv: [b]}\n"
        f"  - {{name: last, argv: [c], after: {name if name[0] == '[' else repr(name)}}}\n"
    )
    assert {*job(a_plan(text), "command/last").needs} == meant


def test_folder_is_named_with_or_without_its_swept_values() -> None:
    text = (
        "shapes: [{data_root: toys}]\ntrain: [{data: dot:pre, data_root: toys}]\n"
        "bend: [{name: bent, source: toys, model: dot:pre, matrix: {by: [left, right]}}]\n"
        "command: [{name: both, argv: [a], after: bent}, {name: one, argv: [b], after: bent@by=left}]\n"
    )
    made = a_plan(text, kinds={**KINDS, **FOLDER_KINDS})
    assert job(made, "command/both").needs == ("bend/bent@by=left", "bend/bent@by=right")
    assert job(made, "command/one").needs == ("bend/bent@by=left",)


@pytest.mark.parametrize(
    ("words", "said", "hint", "mark"),
    [
        ("after: prp", "no job of this file is named 'prp'", "^ did you mean 'prep'?\n", "prp"),
        ("after_any: [prep, 'x*']", "no job of this file matches 'x*'", "^^\n", "'x*'"),
        ("after: last", "'last' matches only command/last itself", "^ name another job", "last"),
        ("after: 'l*'", "no job of this file matches 'l*'", "^^\n", "'l*'"),
        (
            "after: '*/last'",
            "'*/last' matches only command/last itself",
            "^ name another job",
            "'*/last'",
        ),
        ("after: 7", "no job of this file is named '7'", "launcher add --after JOB", "7"),
        ("after: {prep: 1}", "after: expected the name of a job", "that the dry run lists", "prep"),
        ("after: ['']", "after: expected the name of a job", "that the dry run lists", "''"),
    ],
)
def test_name_without_a_job_is_reported_at_its_place(
    words: str, said: str, hint: str, mark: str
) -> None:
    heard = blamed(
        f"command:\n  - {{name: prep, argv: [a]}}\n  - {{name: last, argv: [b], {words}}}\n"
    )
    assert said in heard
    assert hint in heard
    assert heard.endswith(f"\n@x.yaml:4 {mark}\n")


def test_every_unknown_name_is_reported() -> None:
    entries = [f"  - {{name: a{at}, argv: [a], after: other{at}}}\n" for at in range(30)]
    assert len(refusals("command:\n" + "".join(entries))) == 30


@pytest.mark.parametrize("word", ["after", "after_any"])
def test_circular_dependencies_are_an_error_with_their_names(word: str) -> None:
    said = blamed(
        f"train: [{{data: dot:pre, {word}: export}}]\n"
        "command: [{name: export, argv: [a], after: dot:pre}]\n"
    )
    assert "error[cycle]" in said
    circle = ("train/dot:pre", "command/export")
    assert any(f"{' → '.join((a, b, a))}\n" in said for a, b in (circle, circle[::-1]))
    assert said.endswith((" export\n", " dot:pre\n"))


def test_test_of_a_model_cannot_precede_the_model() -> None:
    said = blamed("train: [{data: dot:pre, after: 'test/*'}]\nautotest: [real:pre]\n")
    assert "error[cycle]" in said
    assert said.endswith("@x.yaml:2 'test/*'\n")


def test_entry_with_errors_is_not_an_unknown_job() -> None:
    entries = "  - {name: a, argv: [], cwd: x}\n  - {name: b, argv: [b], after: a, cwd: y}\n"
    assert "@x.yaml:3 " in blamed(f"command:\n{entries}")


UNREAD = "  - {name: b, argv: [b], time_limit: 3}\n"
UNKNOWN = "  - {name: c, argv: [c], outputs: [made], after: zz}\n"
ABSENT = "  - {name: g, argv: [g], inputs: [no.csv]}\n"
BEHIND = "  - {name: h, argv: [h], inputs: [made, other.csv]}\n"


@pytest.mark.parametrize(
    ("entries", "codes"),
    [
        (UNREAD + UNKNOWN, ["resources", "unknown-job"]),
        (UNREAD + ABSENT, ["resources", "missing-input"]),
        (UNKNOWN + ABSENT, ["unknown-job", "missing-input"]),
        (UNREAD + UNKNOWN + ABSENT, ["resources", "unknown-job", "missing-input"]),
        (UNKNOWN + BEHIND, ["unknown-job"]),  # a job for zz may make other.csv
        ("  - {name: c, argv: [c]}\ntrain: [{data: dot:pre, after: zz}]\n", ["unknown-job"]),
        (UNKNOWN.replace("after", "inputs: [no.csv], after"), ["unknown-job"]),
        (UNREAD + "  - {name: 3, argv: []}\n" + UNKNOWN + ABSENT, ["resources", "setting"]),
        ("  - {name: b, argv: [b], after: [c, zz]}\n  - {name: c, argv: [c], after: b}\n" + ABSENT,
         ["cycle", "unknown-job"]),
    ],
)  # fmt: skip
def test_key_name_and_file_errors_are_reported_together(entries: str, codes: list[str]) -> None:
    assert [one.code for one in refusals(f"command:\n{entries}")] == codes


def test_program_without_new_keys_keeps_its_hash() -> None:
    made = a_plan("command: [{name: a, argv: [echo, hello]}]\n")
    assert made.jobs[0].identity.settings == '{"argv": ["echo", "hello"]}'
    others = [
        a_plan(f"command: [{{name: a, argv: [echo, hello], {word}}}]\n", "name=x").jobs[0].hash
        for word in ("env: {A: b}", "group: night", "tensorboard: logs", "not_before: 18:00")
    ]
    assert [text == made.jobs[0].hash for text in others] == [False, True, True, True]


def test_possible_outputs_of_a_program_are_expected_by_identity() -> None:
    text = (
        "train:\n  - {data: dot:pre, after: prepare}\n"
        "autotest: [real:pre]\n"
        "command: [{name: prepare, argv: [make]}]\n"
    )
    empty = on_disk(text)
    assert not empty.missing
    expected = [problem for problem in empty.warnings if problem.code == "expected-input"]
    assert expected
    assert all(problem.severity is Severity.WARNING for problem in expected)
    assert "command/prepare runs first and must make them" in expected[0].message
    files = {str(path.relative_to(ROOT)) for each in empty.jobs for path in each.inputs}
    full = on_disk(text, *files)
    assert not full.warnings
    other = on_disk(text, *files, content="other")
    assert [each.hash for each in empty.jobs] == [each.hash for each in full.jobs]
    assert [each.hash for each in empty.jobs] == [each.hash for each in other.jobs]


def test_models_share_a_selection_only_after_the_same_jobs() -> None:
    text = (
        "train:\n"
        "  - {data: dot:pre, poison: 20, matrix: {lr: [0.1, 0.2]}, after: one}\n"
        "  - {data: dot:pre, poison: 20, lr: 0.3, after: two}\n"
        "command:\n  - {name: one, argv: [a]}\n  - {name: two, argv: [b]}\n"
        "  - {name: last, argv: [c], after: 'poison/*'}\n"
    )
    made = a_plan(text)
    poisons = names(made, "poison")
    assert poisons == ["poison/dot:pre%20@lr=0.1", "poison/dot:pre%20"]
    assert [job(made, name).needs for name in poisons] == [("command/one",), ("command/two",)]
    assert job(made, "command/last").needs == tuple(poisons)


def test_phases_keep_programs_that_their_jobs_depend_on() -> None:
    made = a_plan(STUDY, "phases=[train]")
    assert set(names(made)) == {
        "command/prepare",
        "train/dot:pre",
        "poison/dot:pre%20",
        "train/dot:pre%20",
        "train/line:pre",
    }
    made = a_plan(STUDY, "phases=[command]")
    assert names(made) == ["command/prepare", "command/export", "command/mail"]
    assert job(made, "command/mail").after_any == ("command/prepare", "command/export")


def test_duplicate_job_cannot_have_two_different_dependencies() -> None:
    test = "model: dot:pre, data: real:pre"
    text = f"command: [{{name: a, argv: [a]}}]\ntest: [{{{test}, after: a}}, {{{test}}}]\n"
    assert "error[duplicate-job]" in blamed(f"{text}train: [{{data: dot:pre}}]\n")


def test_queue_stores_the_order_and_changes_rerun_dependents(store: Store) -> None:
    text = (
        "command:\n"
        "  - {name: last, argv: [c], after: mid}\n"
        "  - {name: mail, argv: [d], after_any: last}\n"
        "  - {name: first, argv: [a]}\n"
        "  - {name: mid, argv: [b], after: first, env: {A: x}, cwd: toys/}\n"
    )
    actions(store, on_disk(text, "toys/"))
    rows = store.read.jobs_of(ROOT, "x")
    mid, last, mail = (rows[f"command/{name}"] for name in ("mid", "last", "mail"))
    assert store.read.dependency_names(last.id) == ["command/mid"]
    assert [row.name for row in store.read.awaited_jobs_of(mail.id)] == ["command/last"]
    assert mail.spec.after_any == ("command/last",)
    finish(store)
    assert {*actions(store, on_disk(text, "toys/")).values()} == {Action.CACHED}
    again = actions(store, on_disk(text.replace("A: x", "A: z"), "toys/"))
    changed = [name for name, action in again.items() if action is Action.RUN]
    assert changed == ["command/mid", "command/last"]
    finish(store)
    assert job_row(store, mid.id).spec.settings["env"] == {"A": "z"}
    assert store.read.dependency_names(last.id) == ["command/mid"]


def test_waiting_job_with_new_dependencies_keeps_its_order_and_is_reported(store: Store) -> None:
    text = "command:\n  - {name: a, argv: [a]}\n  - {name: b, argv: [b]MORE}\n"
    for more, options in (("", ()), (", after_any: a", ("after_any",))):
        made = a_plan(text.replace("MORE", more))
        assert compared(store, made).jobs[-1].options == options
        queue(store, made)


@pytest.mark.parametrize(
    ("entry", "message", "mark"),
    [
        ("cwd: file", "'file' is a file", "file"),
        ("cwd: nowhere", "the folder 'nowhere' does not exist", "nowhere"),
        (
            "cwd: ~nobody-has-this-name/x",
            "home folder that does not exist",
            "~nobody-has-this-name/x",
        ),
        ("cwd: [a]", "cwd", "["),
        ("env: {A: 1}", "the value of A is not a string", "1"),
        ("env: {A: yes}", "the value of A is not a string", "yes"),
        ("env: {A: No}", "the value of A is not a string", "No"),
        ("env: {A: 1.5}", "the value of A is not a string", "1.5"),
        ("env: {A: null}", "the value of A is not a string", "null"),
        ("env: {A: [x]}", "the value of A is not a string", "["),
        ("env: {1A: x}", "'1A' is not a valid variable name", "1A"),
        ("env: x", "env", "x"),
        ("group: 1, resources: {group: b}", "'group' is given here and below resources", "group"),
        ("tensorboard: 1, grup: a", "'grup' is not a setting", "grup"),
        ("cpus: none", "cpus", "none"),
    ],
)
def test_invalid_program_entry_is_reported(entry: str, message: str, mark: str) -> None:
    with pytest.raises(TaskFileError) as caught:
        on_disk(f"command: [{{name: a, argv: [a], {entry}}}]\n", "file")
    problem = caught.value.problems[0]
    assert message in problem.message
    assert marked(problem)[2].startswith(mark)


def test_all_errors_in_variables_are_reported_together() -> None:
    variables = 'A: 1, "C=D": x, "": y, A-B: 2, E: fine'
    found = refusals(f"command: [{{name: a, argv: [a], env: {{{variables}}}}}]\n")
    messages = "\n".join(problem.message for problem in found)
    assert messages.count("is not a valid variable name") == 3
    assert messages.count("is not a string") == 2


def test_folder_made_by_an_earlier_job_need_not_exist() -> None:
    text = "command:\n  - {name: a, argv: [a]}\n  - {name: b, argv: [b], cwd: later, after: a}\n"
    made = on_disk(text)
    assert job(made, "command/b").settings["cwd"] == "later"


def test_options_can_be_in_a_program_entry_or_below_resources() -> None:
    options = "group: night, cpus: 3, retries: 2, tensorboard: logs, vram: 2GiB"
    beside = a_plan(f"command: [{{name: a, argv: [a], {options}}}]\n").jobs[0]
    below = a_plan(f"command: [{{name: a, argv: [a], resources: {{{options}}}}}]\n").jobs[0]
    assert (beside.resources, beside.terms) == (below.resources, below.terms)
    assert (beside.terms.group, beside.terms.tensorboard) == ("night", "logs")
    mixed = "command: [{name: a, argv: [a], cpus: 2, resources: {retries: 1}}]\n"
    assert a_plan(mixed, "resources.cpus=4").jobs[0].resources.cpus == 4
    assert (a_plan(mixed).jobs[0].resources.cpus, a_plan(mixed).jobs[0].terms.retries) == (2, 1)


def test_defaults_apply_to_folder_and_variables_of_programs() -> None:
    text = (
        "defaults: {command: {cwd: toys/, env: {A: x}}}\n"
        "command:\n  - {name: a, argv: [a]}\n  - {name: b, argv: [b], env: {B: y}}\n"
    )
    made = on_disk(text, "toys/")
    assert [each.settings["cwd"] for each in made.jobs] == ["toys/", "toys/"]
    assert [each.settings["env"] for each in made.jobs] == [{"A": "x"}, {"B": "y"}]


def test_too_many_dependency_pairs_are_refused_with_advice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dependencies, "MOST_PAIRS", 10)
    entries = [
        f"  - {{name: {name}{at}, argv: [a]{after}}}\n"
        for name, after in (("a", ""), ("b", ", after: '*/a*'"))
        for at in range(4)
    ]
    said = blamed("command:\n" + "".join(entries))
    assert "more than 10 dependencies" in said
    assert "^ let one program wait for all of them" in said


SWEPT = """\
train:
  - {data: dot:pre, matrix: {epochs: [1, 2]}, after: prep}
command:
  - {name: prep, argv: [a, "{sweep}"], matrix: {epochs: [1, 2], size: [8]}}
  - {name: fit, argv: [b, "{sweep}"], matrix: {epochs: [1, 2], lr: [0.1, 1.0]}, after: prep}
"""


@pytest.mark.parametrize(
    ("entry", "needs"),
    [
        (  # equal values of what both sweep
            'name: x, argv: [c, "{sweep}"], matrix: {lr: [1, 0.1]}, after: fit',
            {
                "x@lr=1": {"command/fit@epochs=1,lr=1.0", "command/fit@epochs=2,lr=1.0"},
                "x@lr=0.1": {"command/fit@epochs=1,lr=0.1", "command/fit@epochs=2,lr=0.1"},
            },
        ),
        (
            'name: x, argv: [c, "{sweep}"], matrix: {lr: 1, epochs: 2}, after: [fit, prep]',
            {"x@lr=1,epochs=2": {"command/fit@epochs=2,lr=1.0", "command/prep@epochs=2,size=8"}},
        ),
        (  # a training of the same epochs
            'name: x, argv: [c, "{sweep}"], matrix: {epochs: [1, 2]}, after: dot:pre',
            {
                "x@epochs=1": {"train/dot:pre@epochs=1"},
                "x@epochs=2": {"train/dot:pre@epochs=2"},
            },
        ),
        (  # nothing in common: all of them
            'name: x, argv: [c, "{sweep}"], matrix: {other: 1}, after: prep',
            {"x@other=1": {"command/prep@epochs=1,size=8", "command/prep@epochs=2,size=8"}},
        ),
        (  # nothing swept: all of them
            "name: x, argv: [c], after: prep",
            {"x": {"command/prep@epochs=1,size=8", "command/prep@epochs=2,size=8"}},
        ),
        (  # chosen by a value, or by the whole name, whatever is swept
            "name: x, argv: [c], after: prep@epochs=2",
            {"x": {"command/prep@epochs=2,size=8"}},
        ),
        (
            'name: x, argv: [c, "{sweep}"], matrix: {epochs: [1]}, after: "prep@epochs=2,size=8"',
            {"x@epochs=1": {"command/prep@epochs=2,size=8"}},
        ),
        (
            'name: x, argv: [c, "{sweep}"], matrix: {epochs: [1]}, after: "*/prep*"',
            {"x@epochs=1": {"command/prep@epochs=1,size=8", "command/prep@epochs=2,size=8"}},
        ),
    ],
)
def test_swept_programs_are_joined_on_equal_values(
    entry: str, needs: Mapping[str, set[str]]
) -> None:
    made = a_plan(f"{SWEPT}  - {{{entry}}}\n")
    followed = {
        each.name.partition("/")[2]: {*each.needs} for each in made.jobs if "/x" in each.name
    }
    assert followed == needs


def test_swept_program_without_a_match_is_reported() -> None:
    said = blamed(
        f'{SWEPT}  - {{name: x, argv: [c, "{{lr}}"], matrix: {{lr: [0.1, 5]}}, after: fit}}\n'
    )
    assert "error[no-partner]" in said
    assert "no job of 'fit' has the values of command/x@lr=5" in said
    assert said.endswith(" fit\n")
    itself = blamed('command: [{name: x, argv: [c, "{a}"], matrix: {a: 1}, after: x}]')
    assert "matches only command/x@a=1 itself" in itself
