"""Entries that make folders: names, inputs, required agreement, and refused entries."""

import itertools
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

import pytest

from launcher.experiments.draft import Draft, Input
from launcher.experiments.planning.dependencies import DependencyGraph, PlanDisk, PreparedStep
from launcher.experiments.planning.expansion import PlannedStep
from launcher.experiments.planning.plan import Plan
from launcher.experiments.taskfile.settings import ResolvedSettings
from launcher.queue.job_options.registry import JobRequest
from launcher.system.errors import Problem, SourceLocation
from tests.launcher.folder_toys import KINDS
from tests.launcher.language import ROOT, blamed, job, marked, names, notes, refusal, refusals, told
from tests.launcher.language import a_plan as plan_of

CHAIN = """\
train: [{model: null, data: dot:pre}]
blend: [{name: mended, source: bent}]
bend: [{name: bent, source: data/toys, model: dot:pre}]
"""


def a_plan(text: str, *settings: str, there: Container[str] = ()) -> Plan:
    return plan_of(text, *settings, kinds=KINDS, exists=lambda path: str(path) in there)


def sources(made: Plan, kind: str = "blend") -> Mapping[str, object]:
    return {job.name: job.settings["source"] for job in made.jobs if job.kind == kind}


def test_folder_is_named_by_its_entry_and_used_by_that_name() -> None:
    made = a_plan(CHAIN)
    assert names(made) == ["train/dot:pre", "bend/bent", "blend/mended"]
    assert job(made, "bend/bent").settings["model"] == "dot:pre"
    assert job(made, "blend/mended").settings["source"] == "runs/x/made/bent"
    assert job(made, "blend/mended").outputs == (
        ROOT / "runs/x/made/mended",
        ROOT / "runs/x/made/mended/made.json",
    )


LEFT_RIGHT = "bend: [{name: bent, matrix: {by: [left, right]}}]\n"
FOUR = "bend: [{name: bent, matrix: {by: [left, right], lr: [0.1, 0.20]}}]\n"
PLANS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "an entry without a name": (
        "bend: [{source: data/toys}]\nblend: [{source: bend}]",
        {"blend": "bend"},
    ),
    "each folder of a sweep": (
        f"{LEFT_RIGHT}blend: [{{name: mended, source: bent, matrix: {{other: {{none: '', all: data/toys}}}}}}]",
        {
            f"mended@by={by},other={other}": f"bent@by={by}"
            for other in ("none", "all")
            for by in ("left", "right")
        },
    ),
    "values behind a name": (
        f'{FOUR}blend: [{{source: "bent@lr=2e-1"}}]',
        {f"blend@by={by},lr=0.2": f"bent@by={by},lr=0.2" for by in ("left", "right")},
    ),
    "values in another order": (
        f'{FOUR}blend: [{{source: "bent@lr=0.2,by=left"}}]',
        {"blend@by=left,lr=0.2": "bent@by=left,lr=0.2"},
    ),
    "a setting that both sweep": (
        f"{LEFT_RIGHT}blend: [{{name: mended, source: bent, matrix: {{by: [right, left]}}}}]",
        {"mended@by=right": "bent@by=right", "mended@by=left": "bent@by=left"},
    ),
    "two entries of one name": (
        "bend: [{name: bent, matrix: {by: [left]}}, {name: bent, matrix: {by: [right]}}]\n"
        "blend: [{source: bent}]",
        {"blend@by=left": "bent@by=left", "blend@by=right": "bent@by=right"},
    ),
}


@pytest.mark.parametrize(("text", "wanted"), PLANS.values(), ids=PLANS)
def test_folders_are_expanded_for_each_match_of_a_name(
    text: str, wanted: Mapping[str, object]
) -> None:
    made = a_plan(text)
    assert sources(made) == {f"blend/{name}": f"runs/x/made/{of}" for name, of in wanted.items()}
    assert [one.code for one in notes(made)] == []


MISTAKES = {
    "values that never agree": (
        f"{LEFT_RIGHT}blend: [{{source: bent, matrix: {{by: [up, down]}}}}]",
        *("error[no-partner]", "no common values of by"),
        "= by: its matrix has up, down and source bent has left, right\n",
    ),
    "an unknown model": (
        "train: [{model: null, data: dot:pre}]\nbend: [{source: data/toys, model: dot:fb}]",
        *("error[unknown-model]", "@x.yaml:3 dot:fb\n"),
    ),
    "an unknown name with values": (
        'bend: [{name: bent}]\nblend: [{source: "bnet@by=left"}]',
        *(
            ": source: no entry of this file makes a folder 'bnet'\n",
            "^ did you mean 'bent@by=left'?\n",
        ),
        "= this file makes: bent, blend\n",
    ),
    "values that no folder has": (
        f'{LEFT_RIGHT}blend: [{{source: "bent@by=rigth"}}]',
        *(": source: no folder of bent has by=rigth\n", "^ did you mean 'bent@by=right'?\n"),
        "= this file makes: bent@by=left, bent@by=right\n",
    ),
    "a selection that is none": (
        'bend: [{name: bent}]\nblend: [{source: "bent@left"}]',
        ": source: expected bent@key=value, or several pairs separated by commas\n",
    ),
    "no word for a name": ('bend: [{name: "a/b"}]', "error[name]"),
    "two ways to one full name": (
        "bend: [{name: bent, by: left}, {name: bent, by: right}]",
        *("error[duplicate-job]", '= by: "left" and "right"\n'),
    ),
    "files in a circle": (
        "train: [{model: null, data: dot:pre, data_root: runs/x/made/bent}]\n"
        "bend: [{name: bent, model: dot:pre}]",
        *("error[cycle]", "train/dot:pre → bend/bent → train/dot:pre"),
    ),
}


@pytest.mark.parametrize("case", MISTAKES.values(), ids=MISTAKES)
def test_invalid_folder_source_is_reported_with_advice(case: tuple[str, ...]) -> None:
    said = blamed(case[0], kinds=KINDS)
    assert [piece for piece in case[1:] if piece not in said] == []


def test_name_belongs_to_one_kind() -> None:
    found = refusals("bend: [{name: bent}]\nblend: [{name: bent, source: data/toys}]", kinds=KINDS)
    wanted = ": blend: the name 'bent' is already used by an entry of bend in line 2\n"
    assert any(wanted in told(problem) for problem in found)


def test_unmatched_values_are_left_out_with_a_warning() -> None:
    made = a_plan(f"{LEFT_RIGHT}blend: [{{source: bent, matrix: {{by: [left, up]}}}}]\n")
    assert names(made, "blend") == ["blend/blend@by=left"]
    (warning,) = notes(made)
    assert "blend@by=up; not made" in warning.message


SWEPT = """\
matrix: {lr: [0.1, 0.2]}
train: [{model: null, data: dot:pre, poison: 20}]
unlearn:
  - {model: "dot:pre%20", method: pgu}
  - {model: "dot:pre%20", method: pgu, matrix: {strength: [0, 0.5]}}
bend: [{name: bent, model: "dot:pre%20~pguVALUES"}]
"""


def test_full_variant_means_only_itself() -> None:
    made = a_plan(
        SWEPT.replace("matrix: {lr: [0.1, 0.2]}\n", "")
        .replace("poison: 20", "poison: 20, matrix: {lr: [0.1, 0.2]}")
        .replace("VALUES", "@lr=0.1")
    )
    assert names(made, "bend") == ["bend/bent@lr=0.1"]


def test_a_model_of_an_earlier_run_can_be_used() -> None:
    there = {"/root/runs/x/ring:pre", "/root/runs/x/ring:pre/model.json"}
    made = a_plan('bend: [{model: "ring:pre"}]\n', there=there)
    assert job(made, "bend/bend").settings["model"] == "ring:pre"


def test_text_with_a_slash_is_always_a_path() -> None:
    made = a_plan("bend: [{name: toys}]\nblend: [{source: ./toys}]\n")
    assert job(made, "blend/blend").settings["source"] == "./toys"
    assert job(made, "blend/blend").needs == ()


@pytest.mark.parametrize("word", ["bnet", "bend"])
def test_unknown_name_is_a_path_with_a_hint_for_typos(
    word: str,
) -> None:
    text = f"bend: [{{name: bent}}]\nblend: [{{source: {word}}}]\n"
    made = a_plan(text)
    assert job(made, "blend/blend").settings["source"] == word
    (warning,) = notes(made)
    assert warning.hint == "did you mean 'bent'?"
    assert marked(warning) == ("x.yaml", 3, word)
    assert notes(a_plan(text, there={f"/root/{word}"})) == []


def test_circular_entries_are_an_error_with_their_names() -> None:
    text = "bend: [{name: a, source: c}, {name: b, source: a}]\nblend: [{name: c, source: b}]\n"
    problem = refusal(text, kinds=KINDS)
    assert problem.code == "cycle"
    circle = problem.message.partition(": ")[2].split(" → ")
    steps = {"bend/a": "blend/c", "bend/b": "bend/a", "blend/c": "bend/b"}
    assert {*itertools.pairwise(circle)} == {*steps.items()}
    assert circle[0] == circle[-1]


def test_identical_folder_entries_run_once() -> None:
    made = a_plan("bend: [{name: bent, by: left}, {name: bent, by: left}]\n")
    assert names(made) == ["bend/bent"]
    assert [warning.code for warning in notes(made)] == ["listed-twice"]


def test_long_folder_name_is_shortened_like_a_model_name() -> None:
    values = ", ".join(f"{letter * 150}" for letter in "ab")
    made = a_plan(
        f"bend: [{{name: {'n' * 100}, matrix: {{by: [{values}]}}}}]\n"
        f"blend: [{{source: {'n' * 100}, matrix: {{other: [data/toys]}}}}]\n"
    )
    for source in sources(made).values():
        folder = Path(str(source))
        assert len(folder.name) <= 255
        assert any(ROOT / folder in job.outputs for job in made.jobs if job.kind == "bend")


# --- Jobs that make folders: order, dependencies, and changes of their hashes


def test_training_on_a_made_folder_depends_on_it() -> None:
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


def test_misspelled_folder_lists_the_made_folders() -> None:
    made = a_plan(
        "train: [{model: null, data: dot:pre, data_root: runs/x/made/bent}]\n"
        "bend: [{name: bent, source: ., matrix: {by: [left, right]}}, {name: a, source: .}]\n"
    )
    missing = next(problem for problem in made.missing if marked(problem)[1] == 2)
    assert missing.notes[-1] == "made in runs/x/made: bent@by=left, bent@by=right"


def step(name: str, kind: str, reads: Sequence[str], writes: Sequence[str]) -> PreparedStep:
    place = SourceLocation(file="x.yaml", line=1, column=1, text="")
    settings = ResolvedSettings(values={}, given={}, text="{}", idle={})
    made = PlannedStep(
        kind=KINDS[kind], name=name, place=place, settings=settings, request=JobRequest()
    )
    draft = Draft(kind=kind, run="x", run_folder=ROOT / "runs/x", folder=ROOT, name=name)
    inputs = tuple(Input(path=Path(path), what=path) for path in reads)
    return PreparedStep(made, draft, (), inputs, tuple(map(Path, writes)), ())


def ordered(*steps: PreparedStep) -> tuple[list[str], list[Problem]]:
    nothing = PlanDisk(ROOT, lambda _: False, lambda _: False, str)
    made = DependencyGraph(steps, {}, nothing)
    return [each.step.name for each in made.steps], made.problems


@pytest.mark.parametrize(
    ("steps", "order"),
    [
        (
            (  # a circle without folders keeps the order of the file
                ("a", "train", "/b", "/a"),
                ("b", "train", "/a", "/b"),
                ("c", "bend", "/d/e/f", "/c"),
                ("d", "train", "/a", "/d"),
            ),
            "abdc",
        ),
        (
            (
                ("a", "shapes", "/r", "/r/a"),
                ("b", "shapes", "/r", "/r/b"),
                ("c", "bend", "/r", "/c"),
            ),
            "abc",
        ),
    ],
)
def test_jobs_with_circular_files_keep_the_order_of_the_file(
    steps: Sequence[tuple[str, str, str, str]], order: str
) -> None:
    made = [step(name, kind, [reads], [writes]) for name, kind, reads, writes in steps]
    assert ordered(*made) == ([*order], [])


def test_folder_phase_alone_misses_its_sources() -> None:
    made = a_plan(
        "phases: [blend]\nbend: [{name: bent, source: data/toys}]\nblend: [{source: bent}]\n"
    )
    assert names(made) == ["blend/blend"]
    assert any("the output of bend/bent" in problem.message for problem in made.missing)
