"""Entries that make folders: their names, what they read, what must agree, what is refused."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.draft import Draft, Input
from launcher.errors import Place, Problem, Severity, TaskFileError
from launcher.job_options.registry import JobRequest
from launcher.planning.dependencies import Dependencies, Disk, PreparedStep
from launcher.planning.expansion import Step
from launcher.planning.plan import Plan
from launcher.planning.plan_builder import build_plan
from launcher.taskfile.settings import Settled
from tests.launcher.folder_toys import KINDS
from tests.launcher.language import ROOT, job, marked, names, notes, read, refusals
from tests.launcher.language import a_plan as plan_of

CHAIN = """\
train: [{model: null, data: dot:pre}]
blend: [{name: mended, source: bent}]
bend: [{name: bent, source: data/toys, model: dot:pre}]
"""


def a_plan(text: str, *settings: str, there: frozenset[str] = frozenset()) -> Plan:
    return build_plan(
        read(text, *settings, kinds=KINDS),
        root=ROOT,
        exists=lambda path: str(path) in there,
        code=lambda *_: {"": "d"},
        content=lambda _: "c",
    )


def refusal(text: str, *settings: str) -> Problem:
    problems = refusals(text, *settings, kinds=KINDS)
    assert len(problems) == 1, [str(problem) for problem in problems]
    return problems[0]


def sources(made: Plan, kind: str = "blend") -> Mapping[str, object]:
    return {job.name: job.settings["source"] for job in made.jobs if job.kind == kind}


def test_a_folder_is_named_by_its_entry_and_read_by_that_name() -> None:
    made = a_plan(CHAIN)
    assert names(made) == ["train/dot:pre", "bend/bent", "blend/mended"]
    assert job(made, "bend/bent").settings["model"] == "dot:pre"
    assert job(made, "blend/mended").settings["source"] == "runs/x/made/bent"
    assert job(made, "blend/mended").outputs == (
        ROOT / "runs/x/made/mended",
        ROOT / "runs/x/made/mended/made.json",
    )


def test_without_a_name_the_folder_has_that_of_its_kind() -> None:
    assert names(a_plan("bend: [{source: data/toys}]\nblend: [{source: bend}]\n")) == (
        ["bend/bend", "blend/blend"]
    )


def test_each_folder_of_a_sweep_is_read_and_their_names_go_on() -> None:
    made = a_plan(
        "bend: [{name: bent, source: data/toys, matrix: {by: [left, right]}}]\n"
        "blend: [{name: mended, source: bent, matrix: {other: {none: '', all: data/toys}}}]\n"
    )
    assert names(made, "bend") == ["bend/bent@by=left", "bend/bent@by=right"]
    assert sources(made) == {
        "blend/mended@by=left,other=none": "runs/x/made/bent@by=left",
        "blend/mended@by=right,other=none": "runs/x/made/bent@by=right",
        "blend/mended@by=left,other=all": "runs/x/made/bent@by=left",
        "blend/mended@by=right,other=all": "runs/x/made/bent@by=right",
    }


def test_values_behind_a_name_choose_among_its_folders() -> None:
    bent = "bend: [{name: bent, matrix: {by: [left, right], lr: [0.1, 0.2]}}]\n"
    made = a_plan(f'{bent}blend: [{{source: "bent@lr=0.2"}}]\n')
    assert [*sources(made)] == ["blend/blend@by=left,lr=0.2", "blend/blend@by=right,lr=0.2"]
    made = a_plan(f'{bent}blend: [{{source: "bent@lr=0.2,by=left"}}]\n')
    assert [*sources(made).values()] == ["runs/x/made/bent@by=left,lr=0.2"]


def test_a_setting_that_both_sweep_must_have_one_value() -> None:
    made = a_plan(
        "bend: [{name: bent, matrix: {by: [left, right]}}]\n"
        "blend: [{name: mended, source: bent, matrix: {by: [right, left]}}]\n"
    )
    assert sources(made) == {
        "blend/mended@by=right": "runs/x/made/bent@by=right",
        "blend/mended@by=left": "runs/x/made/bent@by=left",
    }
    assert job(made, "blend/mended@by=left").settings["by"] == "left"


def test_two_sources_that_share_a_sweep_meet_where_it_agrees() -> None:
    made = a_plan(
        "bend: [{name: bent, matrix: {by: [left, right]}}, {name: lean, matrix: {by: [right, up]}}]\n"
        "blend: [{source: bent, other: lean}]\n"
    )
    assert sources(made) == {"blend/blend@by=right": "runs/x/made/bent@by=right"}
    assert job(made, "blend/blend@by=right").settings["other"] == "runs/x/made/lean@by=right"


def test_what_never_agrees_is_an_error_with_the_values_of_both() -> None:
    problem = refusal(
        "bend: [{name: bent, matrix: {by: [left, right]}}]\n"
        "blend: [{source: bent, matrix: {by: [up, down]}}]\n"
    )
    assert problem.code == "no-partner"
    assert "must agree in by" in problem.message
    assert problem.notes == ("by: its matrix has up, down and source bent has left, right",)


def test_values_that_meet_nothing_are_left_out_with_a_warning() -> None:
    made = a_plan(
        "bend: [{name: bent, matrix: {by: [left, right]}}]\n"
        "blend: [{source: bent, matrix: {by: [left, up]}}]\n"
    )
    assert names(made, "blend") == ["blend/blend@by=left"]
    (warning,) = notes(made)
    assert "blend@by=up: not made" in warning.message


def test_models_are_found_in_all_their_variants_and_tie_like_folders() -> None:
    made = a_plan(
        "train: [{model: null, data: dot:pre, matrix: {lr: [0.1, 0.2]}}]\n"
        "bend:\n"
        "  - {name: bent, model: dot:pre}\n"
        "  - {name: tied, source: bent, model: dot:pre, matrix: {lr: [0.2]}}\n"
    )
    assert names(made, "bend") == ["bend/bent@lr=0.1", "bend/bent@lr=0.2", "bend/tied@lr=0.2"]
    tied = job(made, "bend/tied@lr=0.2")
    assert tied.settings["model"] == "dot:pre@lr=0.2"
    assert tied.settings["source"] == "runs/x/made/bent@lr=0.2"
    assert tied.needs == ("train/dot:pre@lr=0.2", "bend/bent@lr=0.2")


def test_models_may_be_swept_by_their_ids_or_by_labels() -> None:
    text = (
        'train: [{model: null, data: dot:pre, poison: 20}]\nunlearn: [{model: "dot:pre%20", method: pgu}]\n'
        "bend: [{name: bent, matrix: {model: MODELS}}]\n"
    )
    ids = '["dot:pre%20", "dot:pre%20~pgu"]'
    assert names(a_plan(text.replace("MODELS", ids)), "bend") == (
        ["bend/bent@model=dot-pre-20", "bend/bent@model=dot-pre-20-pgu"]
    )
    made = a_plan(text.replace("MODELS", '{wrong: "dot:pre%20", mended: "dot:pre%20~pgu"}'))
    assert job(made, "bend/bent@model=mended").settings["model"] == "dot:pre%20~pgu"
    assert job(made, "bend/bent@model=mended").needs == ("unlearn/dot:pre%20~pgu",)


SWEPT = """\
matrix: {lr: [0.1, 0.2]}
train: [{model: null, data: dot:pre, poison: 20}]
unlearn:
  - {model: "dot:pre%20", method: pgu}
  - {model: "dot:pre%20", method: pgu, matrix: {strength: [0, 0.5]}}
bend: [{name: bent, model: "dot:pre%20~pguVALUES"}]
"""


def test_an_id_without_variant_means_all_variants_and_values_in_it_choose_among_them() -> None:
    made = a_plan(SWEPT.replace("VALUES", ""))
    assert names(made, "bend") == [
        f"bend/bent@lr={lr}{strength}"
        for lr in (0.1, 0.2)
        for strength in ("", ",strength=0.0", ",strength=0.5")
    ]
    assert job(made, "bend/bent@lr=0.1").settings["model"] == "dot:pre%20~pgu@lr=0.1"
    made = a_plan(SWEPT.replace("VALUES", "@strength=0"))
    assert names(made, "bend") == (
        ["bend/bent@lr=0.1,strength=0.0", "bend/bent@lr=0.2,strength=0.0"]
    )


def test_a_variant_that_is_given_in_full_is_meant_alone() -> None:
    made = a_plan(
        SWEPT.replace("matrix: {lr: [0.1, 0.2]}\n", "")
        .replace("poison: 20", "poison: 20, matrix: {lr: [0.1, 0.2]}")
        .replace("VALUES", "@lr=0.1")
    )
    assert names(made, "bend") == ["bend/bent@lr=0.1"]


def test_numbers_are_one_value_however_they_are_written() -> None:
    bent = "bend: [{name: bent, matrix: {lr: [0.1, 0.20]}}]\n"
    assert [*sources(a_plan(f'{bent}blend: [{{source: "bent@lr=2e-1"}}]\n')).values()] == (
        ["runs/x/made/bent@lr=0.2"]
    )


def test_each_combination_of_the_files_matrix_makes_its_own_folders_of_its_own_models() -> None:
    made = a_plan(
        "matrix: {lr: [0.1, 0.2]}\n"
        "train: [{model: null, data: dot:pre}]\n"
        "bend: [{name: bent, model: dot:pre}]\n"
        "blend: [{source: bent}]\n"
    )
    assert sources(made) == {
        "blend/blend@lr=0.1": "runs/x/made/bent@lr=0.1",
        "blend/blend@lr=0.2": "runs/x/made/bent@lr=0.2",
    }
    assert job(made, "bend/bent@lr=0.2").settings["model"] == "dot:pre@lr=0.2"


def test_a_sweep_of_the_file_that_no_folder_takes_part_in_makes_it_once() -> None:
    made = a_plan(
        "matrix: {lr: [0.1, 0.2]}\n"
        "train: [{model: null, data: dot:pre}]\n"
        "blend: [{source: data/toys}]\n"
    )
    assert names(made, "blend") == ["blend/blend"]
    assert notes(made) == []


def test_a_model_of_an_earlier_run_can_be_used() -> None:
    there = frozenset({"/root/runs/x/ring:pre", "/root/runs/x/ring:pre/model.json"})
    made = a_plan('bend: [{model: "ring:pre"}]\n', there=there)
    assert job(made, "bend/bend").settings["model"] == "ring:pre"


def test_an_unknown_model_is_an_error_at_its_place() -> None:
    problem = refusal(
        "train: [{model: null, data: dot:pre}]\nbend: [{source: data/toys, model: dot:fb}]\n"
    )
    assert problem.code == "unknown-model"
    assert marked(problem) == ("x.yaml", 3, "dot:fb")


def test_a_text_with_a_slash_is_a_path_whatever_has_that_name() -> None:
    made = a_plan("bend: [{name: toys}]\nblend: [{source: ./toys}]\n")
    assert job(made, "blend/blend").settings["source"] == "./toys"
    assert job(made, "blend/blend").needs == ()


def test_a_word_that_nothing_is_named_is_a_path_with_a_hint_where_it_may_be_a_slip() -> None:
    text = "bend: [{name: bent}]\nblend: [{source: bnet}]\n"
    made = a_plan(text)
    assert job(made, "blend/blend").settings["source"] == "bnet"
    (warning,) = notes(made)
    assert warning.hint == "did you mean 'bent'?"
    assert marked(warning) == ("x.yaml", 3, "bnet")
    assert notes(a_plan(text, there=frozenset({"/root/bnet"}))) == []


def test_the_name_of_a_kind_in_place_of_that_of_its_entry_is_hinted_at() -> None:
    (warning,) = notes(a_plan("bend: [{name: bent}]\nblend: [{source: bend}]\n"))
    assert warning.hint == "did you mean 'bent'?"


def test_an_unknown_name_with_values_is_an_error_that_lists_the_names() -> None:
    problem = refusal('bend: [{name: bent}]\nblend: [{source: "bnet@by=left"}]\n')
    assert problem.message == "source: no entry here makes a folder 'bnet'"
    assert problem.hint == "did you mean 'bent@by=left'?"
    assert problem.notes == ("made here: bent, blend",)


def test_values_that_no_folder_has_are_an_error_that_lists_the_folders() -> None:
    problem = refusal(
        'bend: [{name: bent, matrix: {by: [left, right]}}]\nblend: [{source: "bent@by=rigth"}]\n'
    )
    assert problem.message == "source: no folder of bent has by=rigth"
    assert problem.hint == "did you mean 'bent@by=right'?"
    assert problem.notes == ("made here: bent@by=left, bent@by=right",)


def test_a_selection_that_is_none_is_an_error() -> None:
    problem = refusal('bend: [{name: bent}]\nblend: [{source: "bent@left"}]\n')
    assert problem.message == "source: expected bent@key=value, with commas between several"


def test_entries_that_need_one_another_are_an_error_that_names_them() -> None:
    problem = refusal(
        "bend: [{name: a, source: c}, {name: b, source: a}]\nblend: [{name: c, source: b}]\n"
    )
    assert problem.code == "cycle"
    circle = problem.message.partition(": ")[2].split(" → ")
    assert set(circle) == {"bend/a", "bend/b", "blend/c"}
    assert circle[0] == circle[-1]
    steps = {"bend/a": "blend/c", "bend/b": "bend/a", "blend/c": "bend/b"}
    assert all(steps[first] == second for first, second in itertools.pairwise(circle))


def test_one_name_may_be_that_of_several_entries_whose_folders_differ() -> None:
    made = a_plan(
        "bend:\n"
        "  - {name: bent, matrix: {by: [left]}}\n"
        "  - {name: bent, matrix: {by: [right]}}\n"
        "blend: [{source: bent}]\n"
    )
    assert [*sources(made)] == ["blend/blend@by=left", "blend/blend@by=right"]


def test_one_full_name_for_two_ways_is_an_error_and_for_one_way_runs_once() -> None:
    problem = refusal("bend: [{name: bent, by: left}, {name: bent, by: right}]\n")
    assert problem.code == "duplicate-job"
    assert 'by: "left" and "right"' in problem.notes
    made = a_plan("bend: [{name: bent, by: left}, {name: bent, by: left}]\n")
    assert names(made) == ["bend/bent"]
    assert [warning.code for warning in notes(made)] == ["listed-twice"]


def test_a_name_belongs_to_entries_of_one_kind() -> None:
    with pytest.raises(TaskFileError) as caught:
        a_plan("bend: [{name: bent}]\nblend: [{name: bent, source: data/toys}]\n")
    messages = [
        problem.message for problem in caught.value.problems if problem.severity is Severity.ERROR
    ]
    assert "blend: the name 'bent' is that of an entry of bend in line 2" in messages


def test_a_name_must_be_a_word() -> None:
    problem = refusal('bend: [{name: "a/b"}]\n')
    assert problem.code == "name"


def test_a_long_name_is_shortened_as_a_models_is() -> None:
    values = ", ".join(f"{letter * 150}" for letter in "ab")
    made = a_plan(
        f"bend: [{{name: {'n' * 100}, matrix: {{by: [{values}]}}}}]\n"
        f"blend: [{{source: {'n' * 100}, matrix: {{other: [data/toys]}}}}]\n"
    )
    for source in sources(made).values():
        folder = Path(str(source))
        assert len(folder.name) <= 255
        assert any(ROOT / folder in job.outputs for job in made.jobs if job.kind == "bend")


# --- Jobs that make folders: in which order they run, what they need, what changes their hash


CIRCLE = """\
train: [{model: null, data: dot:pre, data_root: runs/x/made/bent}]
bend: [{name: bent, model: dot:pre}]
"""


def an_order(text: str, *settings: str) -> Plan:
    return plan_of(text, *settings, kinds=KINDS)


def test_a_training_on_a_made_folder_waits_for_it() -> None:
    made = an_order(
        "shapes: [{data_root: data/toys}]\n"
        "train:\n"
        "  - {model: null, data: line:pre, data_root: runs/x/made/bent/inside}\n"
        "  - {model: null, data: dot:pre, data_root: data/toys}\n"
        "bend: [{name: bent, source: data/toys, model: dot:pre}]\n"
    )
    assert names(made) == ["shapes/toys", "train/dot:pre", "bend/bent", "train/line:pre"]
    assert job(made, "bend/bent").needs == ("shapes/toys", "train/dot:pre")
    assert job(made, "train/line:pre").needs == ("bend/bent",)
    assert not made.missing


def test_what_reads_no_made_folder_keeps_its_order() -> None:
    text = (
        "shapes: [{data_root: toys}]\n"
        "train: [{model: null, data: dot:pre, poison: [0, 20]}, {model: dot:pre, data: line:pre}]\n"
        'unlearn: [{model: "dot:pre%20", method: pgu}]\n'
        "autotest: [real:pre]\n"
    )
    before = names(an_order(text))
    after = names(an_order(f"{text}bend: [{{source: toys}}]\n"))
    assert after == [*before, "bend/bend"]


def test_where_a_made_folder_is_named_wrongly_those_that_are_made_are_listed() -> None:
    made = an_order(
        "train: [{model: null, data: dot:pre, data_root: runs/x/made/bent}]\n"
        "bend: [{name: bent, source: ., matrix: {by: [left, right]}}, {name: a, source: .}]\n"
    )
    missing = next(problem for problem in made.missing if marked(problem)[1] == 2)
    assert missing.notes[-1] == "made in runs/x/made: bent@by=left, bent@by=right"


def test_jobs_whose_files_need_one_another_are_an_error_that_names_them() -> None:
    (problem,) = refusals(CIRCLE, kinds=KINDS)
    assert problem.code == "cycle"
    assert "train/dot:pre → bend/bent → train/dot:pre" in problem.message


def step(name: str, kind: str, reads: Sequence[str], writes: Sequence[str]) -> PreparedStep:
    place = Place(file="x.yaml", line=1, column=1, text="")
    settings = Settled(values={}, given={}, text="{}")
    made = Step(kind=KINDS[kind], name=name, place=place, settings=settings, request=JobRequest())
    draft = Draft(kind=kind, run="x", run_folder=ROOT / "runs/x", folder=ROOT, name=name)
    inputs = tuple(Input(path=Path(path), what=path) for path in reads)
    return PreparedStep(made, draft, (), inputs, tuple(map(Path, writes)), ())


def ordered(*steps: PreparedStep) -> tuple[list[str], list[Problem]]:
    nothing = Disk(ROOT, lambda _: False, lambda _: False, str)
    made = Dependencies(steps, {}, nothing)
    return [each.step.name for each in made.steps], made.problems


def test_a_circle_without_folders_keeps_the_order_of_the_file() -> None:
    assert ordered(
        step("a", "train", ["/b"], ["/a"]),
        step("b", "train", ["/a"], ["/b"]),
        step("c", "bend", ["/d/e/f"], ["/c"]),
        step("d", "train", ["/a"], ["/d"]),
    ) == (["a", "b", "d", "c"], [])


def test_jobs_that_fill_one_folder_and_read_it_stay_one_behind_another() -> None:
    assert ordered(
        step("a", "shapes", ["/r"], ["/r/a"]),
        step("b", "shapes", ["/r"], ["/r/b"]),
        step("c", "bend", ["/r"], ["/c"]),
    ) == (["a", "b", "c"], [])


@given(st.lists(st.sets(st.integers(0, 11), max_size=3), max_size=12))
def test_each_job_comes_behind_those_that_make_what_it_reads_unless_they_go_in_a_circle(
    needs: list[set[int]],
) -> None:
    steps = [
        step(str(at), "bend", [f"/{need}/x" for need in reads], [f"/{at}"])
        for at, reads in enumerate(needs)
    ]
    order, problems = ordered(*steps)
    assert sorted(order) == sorted(str(at) for at in range(len(needs)))
    if not problems:
        place = {name: at for at, name in enumerate(order)}
        for at, reads in enumerate(needs):
            before = [place[str(need)] for need in reads if need < len(needs) and need != at]
            assert all(other < place[str(at)] for other in before)


def test_a_change_of_a_source_changes_the_hash_of_what_is_made_of_it() -> None:
    text = (
        "train: [{model: null, data: dot:pre}]\n"
        "bend: [{name: bent, model: dot:pre, by: left}]\n"
        "blend: [{name: mended, source: bent}, {name: apart, source: data/toys}]\n"
    )
    before = an_order(text)
    for changed in (
        an_order(text, "bend.by=right"),
        an_order(text, "train.lr=0.5"),
    ):
        assert job(changed, "blend/mended").hash != job(before, "blend/mended").hash
        assert job(changed, "blend/apart").hash == job(before, "blend/apart").hash
    assert job(an_order(text, "bend.threads=2"), "blend/mended").hash == (
        job(before, "blend/mended").hash
    )


def test_a_phase_of_folders_alone_lacks_what_they_start_from() -> None:
    made = an_order(
        "phases: [blend]\nbend: [{name: bent, source: data/toys}]\nblend: [{source: bent}]\n"
    )
    assert names(made) == ["blend/blend"]
    assert any("bend/bent makes" in problem.message for problem in made.missing)
