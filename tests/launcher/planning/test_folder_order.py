"""Jobs that make folders: in which order they run, what they need, what changes their hash."""

from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from launcher.draft import Draft, Input
from launcher.errors import Place, Problem
from launcher.job_options.registry import JobRequest
from launcher.planning.dependencies import Dependencies, Disk, PreparedStep
from launcher.planning.expansion import Step
from launcher.planning.plan import Plan
from launcher.taskfile.settings import Settled
from tests.launcher.folder_toys import KINDS
from tests.launcher.language import ROOT, job, marked, names, refusals
from tests.launcher.language import a_plan as plan_of

CIRCLE = """\
train: [{model: null, data: dot:pre, data_root: runs/x/made/bent}]
bend: [{name: bent, model: dot:pre}]
"""


def a_plan(text: str, *settings: str) -> Plan:
    return plan_of(text, *settings, kinds=KINDS)


def test_a_training_on_a_made_folder_waits_for_it() -> None:
    made = a_plan(
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
    before = names(a_plan(text))
    after = names(a_plan(f"{text}bend: [{{source: toys}}]\n"))
    assert after == [*before, "bend/bend"]


def test_where_a_made_folder_is_named_wrongly_those_that_are_made_are_listed() -> None:
    made = a_plan(
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
    before = a_plan(text)
    for changed in (a_plan(text, "bend.by=right"), a_plan(text, "train.lr=0.5")):
        assert job(changed, "blend/mended").hash != job(before, "blend/mended").hash
        assert job(changed, "blend/apart").hash == job(before, "blend/apart").hash
    assert job(a_plan(text, "bend.threads=2"), "blend/mended").hash == (
        job(before, "blend/mended").hash
    )


def test_a_phase_of_folders_alone_lacks_what_they_start_from() -> None:
    made = a_plan(
        "phases: [blend]\nbend: [{name: bent, source: data/toys}]\nblend: [{source: bent}]\n"
    )
    assert names(made) == ["blend/blend"]
    assert any("bend/bent makes" in problem.message for problem in made.missing)
