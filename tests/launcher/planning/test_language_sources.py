"""What a task file takes from other files, from the environment and from the command line."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from launcher.planning.load import read_taskfile
from launcher.taskfile.parser import ParseContext
from tests.launcher.language import (
    KINDS,
    a_plan,
    job,
    marked,
    names,
    notes,
    read,
    refusal,
    refusals,
    setting,
)

# --- files that include others


def test_an_included_file_comes_first_and_the_including_one_counts_more() -> None:
    more = "defaults: {lr: 0.5, epochs: 2}\nresources: {cpus: 3}\ntrain: [{data: ring:pre}]\n"
    made = a_plan(
        "train: [{data: dot:pre}]\ninclude: more.yaml\ndefaults: {lr: 0.25}\n",
        files={"more.yaml": more},
    )
    assert names(made) == ["train/ring:pre", "train/dot:pre"]
    assert set(setting(made, "lr").values()) == {0.25}
    assert set(setting(made, "epochs").values()) == {2}
    assert [one.resources.cpus for one in made.jobs] == [3, 3]


def test_included_files_give_name_phases_reuse_and_matrix_unless_these_are_given() -> None:
    base = "name: other\nphases: [train]\nreuse: nothing\nmatrix: {lr: [1, 2]}\n"
    files = {"base.yaml": f"{base}train: [{{data: ring:pre}}]\nautotest: [ring:pre]\n"}
    made = a_plan("name: mine\ninclude: base.yaml\n", files=files)
    assert (made.name, made.reuse) == ("mine", "nothing")
    assert names(made) == ["train/ring:pre@lr=1.0", "train/ring:pre@lr=2.0"]
    made = a_plan("name: mine\ninclude: base.yaml\nreuse: weights\n", files=files)
    assert made.reuse == "weights"


def test_paths_of_included_files_begin_at_the_file_that_names_them() -> None:
    files = {
        "sub/one.yaml": "include: [two.yaml, ../three.yaml]\n",
        "sub/two.yaml": "train: [{data: dot:pre}]\n",
        "three.yaml": "train: [{data: ring:pre}]\n",
    }
    task = read("include: sub/one.yaml\n", files=files)
    assert task.files == ("x.yaml", "sub/one.yaml", "sub/two.yaml", "three.yaml")
    assert names(a_plan("include: sub/one.yaml\n", files=files)) == [
        "train/dot:pre",
        "train/ring:pre",
    ]


def test_a_file_that_is_included_twice_is_read_once() -> None:
    files = {"a.yaml": "train: [{data: dot:pre}]\n", "b.yaml": "include: a.yaml\n"}
    made = a_plan("include: [a.yaml, ./a.yaml, b.yaml]\n", files=files)
    assert names(made) == ["train/dot:pre"]
    assert not notes(made)


@pytest.mark.parametrize(
    ("files", "place", "circle"),
    [
        ({"x.yaml": ""}, ("x.yaml", 2, "x.yaml"), "x.yaml → x.yaml"),
        (
            {"a.yaml": "include: b.yaml\n", "b.yaml": "about: x\ninclude: [a.yaml]\n"},
            ("b.yaml", 2, "a.yaml"),
            "a.yaml → b.yaml → a.yaml",
        ),
    ],
)
def test_a_circle_of_files_is_refused_where_it_closes(
    files: Mapping[str, str], place: tuple[str, int, str], circle: str
) -> None:
    problem = refusal(f"include: {next(iter(files))}\n", files=files)
    assert problem.code == "include-circle"
    assert marked(problem) == place
    assert circle in problem.message


def test_errors_of_all_files_are_told_at_once_each_in_its_own_file() -> None:
    found = refusals(
        "include: [a.yaml, b.yaml]\ntrain: [{data: dto:pre}]\n",
        files={
            "a.yaml": "about: one\ntrain:\n  - {data: dot:pre, lr: fast}\n",
            "b.yaml": "trian: []\n",
        },
    )
    assert [marked(one) for one in found] == [
        ("x.yaml", 3, "dto"),
        ("a.yaml", 3, "fast"),
        ("b.yaml", 1, "trian"),
    ]


def test_what_two_files_list_twice_is_told_with_both_files() -> None:
    made = a_plan(
        "include: a.yaml\ntrain: [{data: ring:pre}]\n",
        files={"a.yaml": "\ntrain: [{data: ring:pre}]\n"},
    )
    told = notes(made)[0]
    assert marked(told) == ("x.yaml", 3, "ring:pre")
    assert told.notes == ("first in a.yaml, line 2",)


def test_a_missing_included_file_is_told_where_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("name: x\ninclude: [here.yaml, hree.yaml]\ntrain: [{data: dto:pre}]\n")
    (tmp_path / "here.yaml").write_text("train: [{data: ring:pre}]\n")
    task = read_taskfile(path.read_text(), str(path), ParseContext(kinds=KINDS))
    places = {marked(one)[1:] for one in task.problems}
    assert places == {(2, "hree.yaml"), (3, "dto")}
    told = "\n".join(str(one) for one in task.problems)
    assert "here.yaml" in told.replace("[here.yaml", "")


def test_files_on_disk_are_included_from_their_own_folders(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.yaml").write_text("include: b.yaml\n")
    (tmp_path / "sub/b.yaml").write_text("train: [{data: dot:pre}]\n")
    text = "name: x\ninclude: sub/a.yaml\n"
    task = read_taskfile(text, str(tmp_path / "x.yaml"), ParseContext(kinds=KINDS))
    assert not task.problems
    assert len(task.entries) == 1


# --- the environment

PLACES = {"ROOT": "/data", "RATE": "20", "NOTHING": "", "WORD": "dot", "NO": "no"}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${ROOT}", "/data"),
        ("${ROOT}/toys", "/data/toys"),
        ("a/${WORD}/${RATE}", "a/dot/20"),
        ("${UNSET:-toys}", "toys"),
        ("${NOTHING:-toys}", "toys"),
        ("${ROOT:-toys}", "/data"),
        ("${UNSET:-a:b/c}", "a:b/c"),
        ("a${UNSET:-}b", "ab"),
        ("$${ROOT}", "${ROOT}"),
        ("$${ROOT}${WORD}", "${ROOT}dot"),
        ("$ROOT", "$ROOT"),
        ("100$", "100$"),
        ("'${ROOT}'", "/data"),
        ('"${ROOT}"', "/data"),
        ("~/${WORD}", "~/dot"),
        ("${NO}", "no"),
    ],
)
def test_values_hold_the_environment(written: str, value: str) -> None:
    text = f"defaults:\n  data_root: {written}\ntrain: [{{data: dot:pre}}]\n"
    assert setting(a_plan(text, environment=PLACES), "data_root") == {"dot:pre": value}


def test_a_variable_is_a_number_a_truth_or_an_id_where_one_belongs() -> None:
    made = a_plan(
        "name: at-${WORD}\nabout: on ${WORD}\nreuse: ${MODE}\n"
        "defaults:\n  lr: ${RATE}\n  frozen: ${NO}\n  scale: [1, '${RATE}']\n"
        "train:\n  - data: ${WORD}:pre\n    poison: ${RATE}\n"
        "    matrix:\n      epochs: ['${RATE}', 3]\n"
        "autotest: ['${WORD}:pre']\n",
        environment={**PLACES, "MODE": "weights"},
    )
    assert (made.name, made.about, made.reuse) == ("at-dot", "on dot", "weights")
    first = job(made, "train/dot:pre%20@epochs=20")
    assert (first.settings["lr"], first.settings["frozen"]) == (20.0, False)
    assert first.settings["scale"] == [1.0, 20.0]
    assert "test/dot:pre%20@epochs=3/dot:pre" in names(made)


def test_a_variable_that_is_not_set_is_told_with_the_nearest_one() -> None:
    text = "command:\n  - {argv: [echo, '${WRD}']}\n"
    problem = refusals(text, environment=PLACES)[0]
    assert problem.message == "the environment has no variable WRD"
    assert marked(problem) == ("x.yaml", 3, "${WRD}")
    assert problem.hint == "did you mean WORD?"


def test_variables_of_comments_and_of_programs_are_left_alone() -> None:
    made = a_plan("# ${UNSET}\ncommand: [{name: a, argv: [sh, -c, 'echo $HOME $${HOME}']}]\n")
    assert made.jobs[0].settings["argv"] == ["sh", "-c", "echo $HOME ${HOME}"]


# --- the command line


@pytest.mark.parametrize(
    ("setting_", "caret"),
    [
        ("lr", "lr"),
        ("=3", "=3"),
        ("lr=", ""),
        ("lrr=3", "lrr"),
        ("train.lrr=3", "lrr"),
        ("lr=fast", "fast"),
        ("train.lr=fast", "fast"),
        ("lr=[1", "["),
        ("phases=[trian]", "trian"),
        ("reuse=all", "all"),
        ("resources.cpus=no", "no"),
        ("resources.cpsu=1", "cpsu"),
        ("matrix.lrr=[1, 2]", "lrr"),
        ("matrix.lr=[1, fast]", "fast"),
        ("name=a/b", "a/b"),
        ("epochs=2.5", "2.5"),
        ("optimizer=adm", "adm"),
    ],
)
def test_a_broken_setting_of_the_command_line_is_told_in_its_own_text(
    setting_: str, caret: str
) -> None:
    problem = refusal("train: [{data: dot:pre}]\n", setting_)
    assert problem.place is not None
    assert (problem.place.file, problem.place.line) == ("--set", 1)
    assert problem.place.text == setting_
    assert setting_[problem.place.column - 1 :].startswith(caret)


def test_all_broken_settings_are_told_together_with_the_file() -> None:
    found = refusals("train: [{data: dto:pre}]\n", "lrr=3", "epochs=x")
    assert {one.place.file for one in found if one.place} == {"x.yaml", "--set"}
    assert len(found) == 3


def test_the_command_line_sets_what_the_file_may_say() -> None:
    made = a_plan(
        "train: [{data: dot:pre, resources: {cpus: 3}}]\nautotest: [dot:pre]\n",
        *("name=other", "about=a b", "phases=[train]", "resources.cpus=2", "test.crops=4"),
        *("fail=a=b", "optimizer=adam", "frozen=yes", "scale=[1, 2]"),
    )
    assert (made.name, made.about) == ("other", "a b")
    assert names(made) == ["train/dot:pre"]
    assert made.jobs[0].resources.cpus == 2
    values = made.jobs[0].settings
    assert [values[key] for key in ("fail", "optimizer", "frozen", "scale")] == [
        *("a=b", "adam", True, [1.0, 2.0])
    ]
