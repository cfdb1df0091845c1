"""The digest of what determines a job's result: stored runs stay done only while it stays what it was."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.errors import TaskFileError
from launcher.ids import NO_WORDS, Words
from launcher.kind_interface import Kind, Role
from launcher.kinds import COMMAND
from launcher.planning.plan import Code, Identity, Plan, PlannedJob
from launcher.planning.plan_builder import build_plan
from launcher.taskfile.parser import ParseContext, parse
from tests.launcher.toylab import laboratory

KINDS: Mapping[str, Kind] = {**laboratory(), "command": COMMAND}


ROOT = Path("/project")


SEED = """\
name: seed
train:
  - {model: null, data: "any:pre"}
  - {model: null, data: "any:pre&any:shr"}
  - {model: "any:pre", data: "any:shr"}
  - {model: "any:pre", data: "dot:pre"}
  - {model: "any:pre&any:shr", data: "dot:pre"}
  - {model: "any:pre#any:shr", data: "dot:pre"}
autotest: ["real:pre", "any:pre", "real:shr", "any:shr"]
"""


def a_plan(
    text: str,
    *,
    there: Iterable[str] = (),
    digest: str = "d",
    content: str = "c",
    kinds: Mapping[str, Kind] = KINDS,
) -> Plan:
    """Plan a task file; `there` names the paths below the root that exist."""
    found = {ROOT / one for one in there}
    return build_plan(
        parse(
            f"name: x\n{text}" if not text.startswith("name") else text,
            file="x.yaml",
            context=ParseContext(kinds=kinds),
        ),
        root=ROOT,
        exists=lambda path: path in found,
        code=lambda *_: {"": digest},
        content=lambda _: content,
    )


def names(made: Plan) -> list[str]:
    return [job.name for job in made.jobs]


def job(made: Plan, name: str) -> PlannedJob:
    return next(one for one in made.jobs if one.name == name)


def test_the_seeds_six_trainings_and_four_test_sets_keep_their_order() -> None:
    models = [
        "any:pre",
        "any:pre&any:shr",
        "any:pre#any:shr",
        "any:pre#dot:pre",
        "any:pre&any:shr#dot:pre",
        "any:pre#any:shr#dot:pre",
    ]
    wanted = []
    for model in models:
        wanted.append(f"train/{model}")
        wanted += [f"test/{model}/{d}" for d in ("real:pre", "any:pre", "real:shr", "any:shr")]
    assert names(a_plan(SEED)) == wanted


def test_a_job_tells_its_model_its_base_and_what_it_reads() -> None:
    made = a_plan(SEED)
    tuned = job(made, "train/any:pre#any:shr")
    assert (tuned.model, tuned.base, tuned.data) == ("any:pre#any:shr", "any:pre", "any:shr")
    assert tuned.images == "any:shr&real:shr"
    assert tuned.needs == ("train/any:pre",)
    tested = job(made, "test/any:pre#any:shr/real:shr")
    assert (tested.model, tested.base, tested.images) == ("any:pre#any:shr", None, "real:shr")
    assert tested.needs == ("train/any:pre#any:shr",)
    assert tested.outputs == (ROOT / "runs/seed/any:pre#any:shr/scores/real:shr.json",)


def test_data_comes_first_then_each_training_between_its_poison_and_its_tests() -> None:
    made = a_plan(
        "unlearn: [{model: dot:pre%20, method: [retrain, pgu]}]\n"
        "train: [{model: null, data: dot:pre, poison: [0, 20]}]\n"
        "autotest: [real:pre]\n"
        "shapes: [{data_root: toys}]\n"
        "command: [{argv: [echo, done]}]\n"
    )
    assert names(made) == [
        "shapes/toys",
        "train/dot:pre",
        "test/dot:pre/real:pre",
        "poison/dot:pre%20",
        "train/dot:pre%20",
        "test/dot:pre%20/real:pre",
        "unlearn/dot:pre%20~retrain",
        "test/dot:pre%20~retrain/real:pre",
        "unlearn/dot:pre%20~pgu",
        "test/dot:pre%20~pgu/real:pre",
        "command/echo-done",
    ]
    assert job(made, "train/dot:pre%20").needs == ("shapes/toys", "poison/dot:pre%20")
    assert job(made, "unlearn/dot:pre%20~pgu").needs == (
        "shapes/toys",
        "poison/dot:pre%20",
        "train/dot:pre%20",
    )
    assert job(made, "unlearn/dot:pre%20~pgu").settings["method"] == "pgu"
    assert not made.warnings


def test_a_model_that_is_needed_early_is_made_early() -> None:
    made = a_plan(
        "train:\n"
        "  - {model: dot:pre%20~pgu, data: ring:pre}\n"
        "  - {model: null, data: dot:pre, poison: 20}\n"
        "unlearn: [{model: dot:pre%20, method: pgu}]\n"
    )
    assert names(made) == [
        "poison/dot:pre%20",
        "train/dot:pre%20",
        "unlearn/dot:pre%20~pgu",
        "train/dot:pre%20~pgu#ring:pre",
    ]


def test_a_poisoned_stage_of_a_chain_has_its_own_record() -> None:
    made = a_plan("train:\n  - {data: dot:pre}\n  - {model: dot:pre, data: ring:pre, poison: 50}\n")
    assert names(made) == [
        "train/dot:pre",
        "poison/dot:pre#ring:pre%50",
        "train/dot:pre#ring:pre%50",
    ]
    poisoned = job(made, "poison/dot:pre#ring:pre%50")
    assert (poisoned.role, poisoned.images) == (Role.LABELS, "ring:pre&real:pre")


def test_poison_settings_come_from_defaults_and_from_the_training() -> None:
    made = a_plan(
        "defaults: {poison_seed: 3}\n"
        "train:\n  - {data: dot:pre, poison: 20}\n  - {data: dot:fb, poison: 20, poison_seed: 4}\n"
    )
    assert job(made, "poison/dot:pre%20").settings["poison_seed"] == 3
    assert job(made, "poison/dot:fb%20").settings["poison_seed"] == 4


def test_the_same_images_are_trained_once_whatever_their_spelling() -> None:
    made = a_plan(
        "train:\n"
        "  - {data: 'dot:pre&line:pre'}\n"
        "  - {data: 'real:pre&line:pre&dot:pre'}\n"
        "  - {model: 'real:pre&line:pre&dot:pre', data: ring:pre}\n"
        "test: [{model: 'line:pre&dot:pre#ring:pre', data: dot:pre}]\n"
    )
    assert names(made) == [
        "train/dot:pre&line:pre",
        "train/dot:pre&line:pre#ring:pre",
        "test/dot:pre&line:pre#ring:pre/dot:pre",
    ]
    warning = next(one for one in made.warnings if one.code == "same-model")
    assert warning.message == (
        "real:pre&line:pre&dot:pre is the same model as dot:pre&line:pre: "
        "it is made once, under that name"
    )


def test_a_union_is_the_same_as_its_members_written_out() -> None:
    made = a_plan("train:\n  - {data: any:shr}\n  - {data: 'dot:fb&any:tw&line:fb&ring:fb'}\n")
    assert names(made) == ["train/any:shr"]


def test_other_settings_on_the_same_images_under_another_name_are_another_model() -> None:
    made = a_plan(
        "train:\n  - {data: 'dot:pre&line:pre'}\n  - {data: 'line:pre&dot:pre', lr: 0.5}\n"
    )
    assert names(made) == ["train/dot:pre&line:pre", "train/line:pre&dot:pre"]


def test_a_model_of_an_earlier_run_can_be_tuned_unlearned_and_tested() -> None:
    text = (
        "train: [{model: dot:pre, data: ring:pre}]\n"
        "unlearn: [{model: dot:pre, method: pgu}]\n"
        "test: [{model: dot:pre, data: real:pre}]\n"
    )
    with pytest.raises(TaskFileError, match="neither made here nor in the folder of the run"):
        a_plan(text)
    made = a_plan(text, there=["runs/x/dot:pre", "runs/x/dot:pre/model.json"])
    assert names(made) == [
        "train/dot:pre#ring:pre",
        "unlearn/dot:pre~pgu",
        "test/dot:pre/real:pre",
    ]
    assert not any("the model" in one.message for one in made.missing)


def test_a_model_of_an_earlier_run_with_strange_words_cannot_be_unlearned() -> None:
    with pytest.raises(TaskFileError) as caught:
        a_plan("unlearn: [{model: moon:pre, method: pgu}]\n", there=["runs/x/moon:pre"])
    problem = caught.value.problems[0]
    assert problem.message == "unknown subset 'moon'"
    assert problem.place is not None
    assert (problem.place.line, problem.place.column, problem.place.length) == (2, 19, 4)


def test_what_nobody_makes_is_a_warning_at_the_setting_that_names_it() -> None:
    made = a_plan(
        "defaults:\n  data_root: my/toys\ntrain: [{data: dot:pre}]\nautotest: [real:pre]\n"
    )
    assert [one.code for one in made.warnings] == ["missing-input"]
    assert str(made.missing[0]) == (
        "error[missing-input]: 2 inputs are not there, and no job makes them\n"
        " --> x.yaml:3:14\n"
        "  |\n"
        "3 |   data_root: my/toys\n"
        "  |              ^^^^^^^\n"
        "  = the toys dot:pre: my/toys/pre-dot.txt\n"
        "  = the toys real:pre: my/toys/pre-real.txt"
    )


def test_nothing_is_missing_when_it_is_there_or_a_job_makes_it() -> None:
    text = "train: [{data: dot:pre}]\n"
    assert not a_plan(text, there=["toys/pre-dot.txt", "toys/pre-real.txt"]).warnings
    assert not a_plan(f"shapes: [{{data_root: ./toys/../toys}}]\n{text}").warnings


def test_a_job_that_reads_a_folder_waits_for_the_data_job_that_writes_in_it() -> None:
    made = a_plan(
        "shapes: [{data_root: toys/deep}]\ntrain: [{data: dot:pre, data_root: toys/deep}]\n"
    )
    assert job(made, "train/dot:pre").needs == ("shapes/deep",)


def test_jobs_without_a_name_get_one_from_their_settings() -> None:
    made = a_plan(
        "shapes: [{data_root: /data/toys 1}, {data_root: /data/toys/1, size: 2}]\n"
        "command:\n"
        "  - {argv: [python, -m, tool, --flag=x/y]}\n"
        "  - {argv: [python, -m, tool, --flag=x/y]}\n"
        "  - {name: mine, argv: [ls]}\n"
        "  - {argv: ['&&']}\n"
    )
    assert names(made) == [
        "shapes/toys-1",
        "shapes/1",
        "command/python-m-tool-y",
        "command/python-m-tool-y-2",
        "command/mine",
        "command/1",
    ]


def test_a_test_that_is_asked_for_twice_runs_once() -> None:
    made = a_plan(
        "train: [{data: dot:pre}]\nautotest: [dot:pre]\ntest: [{model: dot:pre, data: dot:pre}]\n"
    )
    assert names(made) == ["train/dot:pre", "test/dot:pre/dot:pre"]
    assert "listed-twice" in [one.code for one in made.warnings]


def test_tests_stand_in_the_order_of_the_file() -> None:
    by_hand = "test: [{model: dot:pre, data: ring:pre, crops: 2}]\n"
    automatic = "autotest: [line:pre]\n"
    train = "train: [{data: dot:pre}]\n"
    first = ["test/dot:pre/ring:pre", "test/dot:pre/line:pre"]
    assert names(a_plan(train + by_hand + automatic))[1:] == first
    assert names(a_plan(automatic + train + by_hand))[1:] == first[::-1]


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("lr: 0.1", "lr: 0.1", True),
        ("lr: 0.1", "lr: 1e-1", True),
        ("lr: 0.1", "lr: 0.2", False),
        ("threads: 1", "threads: 2", True),
        ("frozen: no", "frozen: false", True),
    ],
)
def test_the_hash_covers_what_determines_the_result(before: str, after: str, same: bool) -> None:
    first, second = (
        a_plan(f"train: [{{data: dot:pre, {one}}}]\nautotest: [dot:pre]\n")
        for one in (before, after)
    )
    assert [a.hash == b.hash for a, b in zip(first.jobs, second.jobs, strict=True)] == [same] * 2


def test_the_hash_covers_the_code_and_all_that_came_before() -> None:
    text = "train: [{data: dot:pre, poison: 20}]\nautotest: [dot:pre]\n"
    old, new = a_plan(text), a_plan(text, digest="e")
    assert not {one.hash for one in old.jobs} & {one.hash for one in new.jobs}
    other = a_plan(f"defaults: {{poison: {{poison_seed: 1}}}}\n{text}")
    assert not {one.hash for one in old.jobs} & {one.hash for one in other.jobs}
    assert len({one.hash for one in old.jobs}) == 3


def test_the_hash_covers_the_files_that_are_given_and_not_those_that_jobs_make() -> None:
    text = "train: [{data: dot:pre}]\nautotest: [dot:pre]\n"
    there = ["toys/pre-dot.txt", "toys/pre-real.txt"]
    old, new = (a_plan(text, there=there, content=one) for one in ("c", "edited"))
    assert not {one.hash for one in old.jobs} & {one.hash for one in new.jobs}
    text = f"shapes: [{{data_root: toys}}]\n{text}"
    old, new = (a_plan(text, there=there, content=one) for one in ("c", "edited"))
    assert [one.hash for one in old.jobs] == [one.hash for one in new.jobs]


def test_the_hash_does_not_depend_on_where_or_under_which_name_a_run_is() -> None:
    text = "train: [{data: dot:pre}]\n"
    assert a_plan(f"name: a\n{text}").jobs[0].hash == a_plan(f"name: b\n{text}").jobs[0].hash


def test_an_output_whose_name_no_folder_can_hold_is_refused() -> None:
    data = "&".join(["dot:pre"] * 32)
    with pytest.raises(TaskFileError, match="would write a file with a name of 260 characters"):
        a_plan(f"train: [{{data: dot:pre}}]\ntest: [{{model: dot:pre, data: '{data}'}}]\n")


def test_errors_of_the_file_and_of_the_plan_are_told_together() -> None:
    with pytest.raises(TaskFileError) as caught:
        a_plan("train: [{data: dot:pre}]\ntest: [{model: dot:fb, data: dot:pre, crop: 1}]\n")
    assert [one.code for one in caught.value.problems] == ["unknown-model", "unknown-key"]


def test_a_broken_training_is_not_blamed_again_on_those_that_build_on_it() -> None:
    with pytest.raises(TaskFileError) as caught:
        a_plan("train:\n  - {data: dto:pre}\n  - {model: dto:pre, data: ring:pre}\n")
    assert [one.code for one in caught.value.problems] == ["unknown-name"]


elements = st.sampled_from(
    [f"{s}:{m}" for s in ("dot", "line", "ring", "any") for m in ("pre", "fb")]
)


@st.composite
def train_lists(draw: st.DrawFn) -> list[tuple[str | None, str]]:
    """Trainings as in the original: new models, and chains on models that come before them."""
    found: list[tuple[str | None, str]] = []
    models: list[str] = []
    for _ in range(draw(st.integers(1, 6))):
        base = draw(st.sampled_from([None, *models]))
        data = draw(elements)
        model = data if base is None else f"{base}#{data}"
        if model not in models:
            models.append(model)
            found.append((base, data))
    return found


@settings(max_examples=150, deadline=None)
@given(train_lists(), st.lists(elements, min_size=1, max_size=3, unique=True), st.data())
def test_the_order_of_the_original_is_kept_and_every_need_comes_before_its_user(
    trainings: list[tuple[str | None, str]], tests: list[str], data: st.DataObject
) -> None:
    entries = "".join(
        f"  - {{model: '{base}', data: '{one}'}}\n"
        if base
        else f"  - {{model: null, data: '{one}'}}\n"
        for base, one in trainings
    )
    text = f"train:\n{entries}autotest: [{', '.join(tests)}]\n"
    wanted = []
    for base, one in trainings:
        model = one if base is None else f"{base}#{one}"
        wanted += [f"train/{model}", *(f"test/{model}/{d}" for d in tests)]
    assert names(a_plan(text)) == wanted
    shuffled = data.draw(st.permutations(entries.splitlines(keepends=True)))
    made = a_plan(f"shapes: [{{data_root: toys}}]\ntrain:\n{''.join(shuffled)}")
    seen: set[str] = set()
    for step in made.jobs:
        assert step.name not in seen
        assert set(step.needs) <= seen
        seen.add(step.name)
    assert {n for n in seen if n.startswith("train/")} == {n for n in wanted if n[:6] == "train/"}


ENTRY = "lab.work:train"


SOURCES = {"lab.work": "0" * 16, "lab": "1" * 16}


WORDS = Words(subsets={"mine": ("MyGAN", "Ä-*")})


def identity(**changes: object) -> Identity:
    values: dict[str, object] = {
        "job": "train/a:pre",
        "kind": "train",
        "model": "a:pre",
        "base": None,
        "images": "a:pre&real:pre",
        "settings": '{"about": "\\"ü\\"", "lr": 0.1}',
        "needs": (),
        "code": Code(ENTRY, SOURCES),
        "given": ("d1", "d2"),
    }
    return Identity(**values | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("words", [NO_WORDS, WORDS])
@pytest.mark.parametrize("base", [None, 'b:pre "quoted" \\ \x00 ü'])
def test_a_hash_is_that_of_the_sorted_json_of_all_fields(base: str | None, words: Words) -> None:
    needs = tuple(identity(model=f"m{number}") for number in range(3))
    made = identity(base=base, words=words, needs=needs)
    record = {
        "kind": "train",
        "entry": ENTRY,
        "model": "a:pre",
        "base": base,
        "images": "a:pre&real:pre",
        "settings": made.settings,
        "needs": sorted(need.hash for need in needs),
        "sources": json.dumps(SOURCES, sort_keys=True),
        "given": ["d1", "d2"],
    } | ({"words": words.record()} if words else {})
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    assert made.hash == hashlib.sha256(text.encode()).hexdigest()


def test_of_code_with_a_digest_of_all_of_it_neither_modules_nor_the_entry_s_place_count() -> None:
    code = Code(ENTRY, {"": "2" * 32, **SOURCES})
    moved = Code("lab.deep.work:train", {"": "2" * 32, "lab.deep": "1" * 8})
    other = Code(ENTRY, {"": "3" * 32, **SOURCES})
    assert identity(code=code).hash == identity(code=moved).hash
    assert len({identity(code=each).hash for each in (code, other, Code(ENTRY, SOURCES))}) == 3


def test_a_job_s_name_is_no_part_of_its_hash() -> None:
    assert identity(job="train/other").hash == identity().hash
