"""The digest of what determines a job's result: stored runs stay done only while it stays what it was."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import pytest

from launcher.experiments.kind_interface import Role
from launcher.experiments.planning.plan import JobCode, JobIdentity, Plan
from launcher.ids import NO_WORDS, Words
from launcher.system.errors import TaskFileError
from tests.launcher import language
from tests.launcher.language import ROOT, job, names


def a_plan(text: str, *, there: Iterable[str] = (), **digests: Any) -> Plan:
    """Plan a task file; `there` names the paths below the root that exist."""
    found = {ROOT / one for one in there}
    return language.a_plan(text, exists=found.__contains__, **digests)


def test_job_has_its_model_base_and_inputs() -> None:
    made = a_plan(
        "train: [{data: any:pre}, {model: any:pre, data: any:shr}]\nautotest: [real:shr]\n"
    )
    tuned = job(made, "train/any:pre#any:shr")
    assert (tuned.model, tuned.base, tuned.data) == ("any:pre#any:shr", "any:pre", "any:shr")
    assert tuned.images == "any:shr&real:shr"
    assert tuned.needs == ("train/any:pre",)
    tested = job(made, "test/any:pre#any:shr/real:shr")
    assert (tested.model, tested.base, tested.images) == ("any:pre#any:shr", None, "real:shr")
    assert tested.needs == ("train/any:pre#any:shr",)
    assert tested.outputs == (ROOT / "runs/x/any:pre#any:shr/scores/real:shr.json",)


def test_poisoned_stage_of_a_chain_has_its_own_record() -> None:
    made = a_plan("train:\n  - {data: dot:pre}\n  - {model: dot:pre, data: ring:pre, poison: 50}\n")
    assert names(made) == [
        "train/dot:pre",
        "poison/dot:pre#ring:pre%50",
        "train/dot:pre#ring:pre%50",
    ]
    poisoned = job(made, "poison/dot:pre#ring:pre%50")
    assert (poisoned.role, poisoned.images) == (Role.LABELS, "ring:pre&real:pre")


def test_poison_settings_merge_defaults_and_training() -> None:
    made = a_plan(
        "defaults: {poison_seed: 3}\n"
        "train:\n  - {data: dot:pre, poison: 20}\n  - {data: dot:fb, poison: 20, poison_seed: 4}\n"
    )
    assert job(made, "poison/dot:pre%20").settings["poison_seed"] == 3
    assert job(made, "poison/dot:fb%20").settings["poison_seed"] == 4


def test_model_of_an_earlier_run_can_be_tuned_unlearned_and_tested() -> None:
    text = (
        "train: [{model: dot:pre, data: ring:pre}]\nunlearn: [{model: dot:pre, method: pgu}]\n"
        "test: [{model: dot:pre, data: real:pre}]\n"
    )
    with pytest.raises(TaskFileError, match="neither made by this file nor in the run folder"):
        a_plan(text)
    made = a_plan(text, there=["runs/x/dot:pre", "runs/x/dot:pre/model.json"])
    assert names(made) == ["train/dot:pre#ring:pre", "unlearn/dot:pre~pgu", "test/dot:pre/real:pre"]
    assert not any("the model" in one.message for one in made.missing)


@pytest.mark.parametrize(
    ("text", "codes", "said"),
    [
        (
            "unlearn: [{model: moon:pre, method: pgu}]",  # the method is there
            ["unknown-name"],
            "unknown subset 'moon'\n --> x.yaml:2:19\n",
        ),
        (
            f"train: [{{data: dot:pre}}]\ntest: [{{model: dot:pre, data: '{'&'.join(['dot:pre'] * 32)}'}}]",
            ["long-name"],
            "would write a file whose name has 260 characters",
        ),
        (
            "train: [{data: dot:pre}]\ntest: [{model: dot:fb, data: dot:pre, crop: 1}]",
            ["unknown-model", "unknown-key"],
            "",
        ),
        (
            "train:\n  - {data: dto:pre}\n  - {model: dto:pre, data: ring:pre}",
            ["unknown-name"],
            "",
        ),
    ],
    ids=["strange words", "long name", "file and plan", "not blamed again"],
)
def test_planning_error_is_reported_once(text: str, codes: list[str], said: str) -> None:
    with pytest.raises(TaskFileError) as caught:
        a_plan(text, there=["runs/x/moon:pre"])
    assert [one.code for one in caught.value.problems] == codes
    assert said in str(caught.value)


def test_missing_input_is_a_warning_at_its_setting() -> None:
    made = a_plan(
        "defaults:\n  data_root: my/toys\ntrain: [{data: dot:pre}]\nautotest: [real:pre]\n"
    )
    assert [one.code for one in made.warnings] == ["missing-input"]
    assert str(made.missing[0]) == (
        "error[missing-input]: 2 inputs are missing, and no job makes them\n"
        " --> x.yaml:3:14\n"
        "  |\n"
        "3 |   data_root: my/toys\n"
        "  |              ^^^^^^^\n"
        "  = the toys dot:pre: my/toys/pre-dot.txt\n"
        "  = the toys real:pre: my/toys/pre-real.txt"
    )


def test_existing_or_produced_inputs_are_not_missing() -> None:
    text = "train: [{data: dot:pre}]\n"
    assert not a_plan(text, there=["toys/pre-dot.txt", "toys/pre-real.txt"]).warnings
    assert not a_plan(f"shapes: [{{data_root: ./toys/../toys}}]\n{text}").warnings


def test_job_reading_a_folder_depends_on_the_job_writing_into_it() -> None:
    made = a_plan(
        "shapes: [{data_root: toys/deep}]\ntrain: [{data: dot:pre, data_root: toys/deep}]\n"
    )
    assert job(made, "train/dot:pre").needs == ("shapes/deep",)


def test_unnamed_jobs_are_named_after_their_settings() -> None:
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


def hashes(text: str, **options: Any) -> list[str]:
    return [one.hash for one in a_plan(text, **options).jobs]


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
def test_hash_covers_everything_that_determines_the_result(
    before: str, after: str, same: bool
) -> None:
    text = "train: [{{data: dot:pre, {}}}]\nautotest: [dot:pre]\n"
    first, second = hashes(text.format(before)), hashes(text.format(after))
    assert [a == b for a, b in zip(first, second, strict=True)] == [same] * 2


def test_hash_covers_the_code_and_all_dependencies() -> None:
    text = "train: [{data: dot:pre, poison: 20}]\nautotest: [dot:pre]\n"
    old, new = hashes(text), hashes(text, code=lambda *_: {"": "e"})
    other = hashes(f"defaults: {{poison: {{poison_seed: 1}}}}\n{text}")
    assert len({*old, *new, *other}) == 9


def test_hash_covers_given_files_but_not_produced_files() -> None:
    text = "train: [{data: dot:pre}]\nautotest: [dot:pre]\n"
    there = ["toys/pre-dot.txt", "toys/pre-real.txt"]
    for made, same in (("", 0), ("shapes: [{data_root: toys}]\n", 3)):
        old, new = (
            hashes(made + text, there=there, content=lambda _, said=said: said)
            for said in ("c", "edited")
        )
        assert len({*old} & {*new}) == same


def test_hash_does_not_depend_on_folder_or_name_of_the_run() -> None:
    text = "train: [{data: dot:pre}]\n"
    assert hashes(f"name: a\n{text}") == hashes(f"name: b\n{text}")


ENTRY = "lab.work:train"


SOURCES = {"": "2" * 32, "lab.work": "0" * 16, "lab": "1" * 16}


WORDS = Words(subsets={"mine": ("MyGAN", "Ä-*")})


def identity(**changes: object) -> JobIdentity:
    values: dict[str, object] = {
        "job": "train/a:pre",
        "kind": "train",
        "model": "a:pre",
        "base": None,
        "images": "a:pre&real:pre",
        "settings": '{"about": "\\"ü\\"", "lr": 0.1}',
        "dependencies": (),
        "code": JobCode(ENTRY, SOURCES),
        "input_digests": ("d1", "d2"),
    }
    return JobIdentity(**values | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("words", [NO_WORDS, WORDS])
@pytest.mark.parametrize("base", [None, 'b:pre "quoted" \\ \x00 ü'])
def test_hash_is_sha256_of_the_sorted_json_of_all_fields(base: str | None, words: Words) -> None:
    needs = tuple(identity(model=f"m{number}") for number in range(3))
    made = identity(base=base, words=words, dependencies=needs)
    record = {
        "kind": "train",
        "entry": "",
        "model": "a:pre",
        "base": base,
        "images": "a:pre&real:pre",
        "settings": made.settings,
        "needs": sorted(need.hash for need in needs),
        "sources": SOURCES[""],
        "given": ["d1", "d2"],
    } | ({"words": words.to_json()} if words else {})
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    assert made.hash == hashlib.sha256(text.encode()).hexdigest()


def test_hash_contains_one_digest_of_all_code_without_modules_and_entry_point() -> None:
    moved = JobCode("lab.deep.work:train", {"": "2" * 32, "lab.deep": "1" * 8})
    other = JobCode(ENTRY, {**SOURCES, "": "3" * 32})
    assert identity(code=moved).hash == identity().hash
    assert (
        len({identity().hash, identity(code=other).hash, identity(code=JobCode("", {})).hash}) == 3
    )


def test_hash_does_not_depend_on_the_job_name() -> None:
    assert identity(job="train/other").hash == identity().hash
