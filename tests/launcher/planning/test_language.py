"""Requests in a task file, and the jobs that the launcher creates for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import yaml
from jsonschema import Draft202012Validator

from launcher.api import DataId, Draft, Input, Kind, Role
from launcher.experiments.taskfile.schema.json_schema import task_schema
from tests.launcher.language import (
    KINDS,
    Made,
    a_plan,
    blamed,
    job,
    marked,
    names,
    notes,
    refusal,
    told,
)
from tests.launcher.toylab import ReadingSettings, TestSettings, Toy, as_named, laboratory

# --- poison and unlearning


ONE = "train: [{data: dot:pre}]\n"
TWO = "train: [{data: dot:pre}, {data: ring:pre}]\n"
TESTED = f"{ONE}test: [{{model: dot:pre, data: real:pre}}, {{model: dot:pre, data: real:pre, "
CHAIN = "dot:pre%5~pgu~relabel"
PLANS: Mapping[str, Made] = {
    "rates in their canonical spelling": Made(
        "train: [{data: dot:pre, poison: [f2r-5, 2.50, 0, 100, 007]}]",
        [f"train/dot:pre{rate}" for rate in ("%f2r-5", "%2.5", "", "%100", "%7")],
        ["train"],
    ),
    "a rate of nothing": Made("train: [{data: dot:pre, poison: 0.0}]", ["train/dot:pre"]),
    "a rate in other figures": Made(
        "train: [{data: dot:pre, poison: 20.0}]\ntest: [{model: dot:pre%20.00, data: dot:pre}]",
        ["poison/dot:pre%20", "train/dot:pre%20", "test/dot:pre%20/dot:pre"],
    ),
    "models whose last stage is poisoned": Made(
        "train: [{data: dot:pre, poison: 20}, {model: dot:pre%20, data: ring:pre},\n"
        "  {model: dot:pre%20, data: line:pre, poison: 30}]\nunlearn: [pgu]",
        ["unlearn/dot:pre%20~pgu", "unlearn/dot:pre%20#line:pre%30~pgu"],
        ["unlearn"],
    ),
    "an unlearned model tuned and unlearned again": Made(
        f"unlearn: [{{model: dot:pre%5~pgu, method: relabel}}, {{model: dot:pre%5, method: pgu}}]\n"
        f"train: [{{model: {CHAIN}, data: ring:pre}}, {{data: dot:pre, poison: 5}}]\n"
        "autotest: [real:pre]",
        [
            *("poison/dot:pre%5", "train/dot:pre%5", "test/dot:pre%5/real:pre"),
            *("unlearn/dot:pre%5~pgu", "test/dot:pre%5~pgu/real:pre"),
            *(f"unlearn/{CHAIN}", f"test/{CHAIN}/real:pre"),
            *(f"train/{CHAIN}#ring:pre", f"test/{CHAIN}#ring:pre/real:pre"),
        ],
    ),
    "one poisoned chain in other words": Made(
        "train: [{data: 'dot:pre&ring:pre', poison: 5}, {data: 'ring:pre&dot:pre', poison: 5.0}]\n"
        "test: [{model: 'ring:pre&dot:pre%5', data: dot:pre}]",
        [f"{kind}/dot:pre&ring:pre%5" for kind in ("poison", "train")]
        + ["test/dot:pre&ring:pre%5/dot:pre"],
        codes=["same-model"],
    ),
    "variants in other words": Made(
        "matrix: {lr: [1, 2]}\n"
        "train: [{data: 'dot:pre&ring:pre'}, {model: 'ring:pre&dot:pre', data: line:pre}]\n"
        "test: [{model: 'ring:pre&dot:pre@lr=2.0', data: dot:pre}]\n"
        "unlearn: [{model: 'ring:pre&dot:pre&real:pre', method: pgu}]",
        [
            *("train/dot:pre&ring:pre@lr=1.0", "train/dot:pre&ring:pre@lr=1.0#line:pre@lr=1.0"),
            *("unlearn/dot:pre&ring:pre~pgu@lr=1.0", "train/dot:pre&ring:pre@lr=2.0"),
            "test/dot:pre&ring:pre@lr=2.0/dot:pre",
            "train/dot:pre&ring:pre@lr=2.0#line:pre@lr=2.0",
            "unlearn/dot:pre&ring:pre~pgu@lr=2.0",
        ],
    ),
    "the same images with other settings": Made(
        "train: [{data: 'dot:pre&ring:pre'}, {data: 'ring:pre&dot:pre', lr: 2},\n"
        "  {model: 'ring:pre&dot:pre', data: line:pre}]",
        [
            f"train/{one}"
            for one in ("dot:pre&ring:pre", "ring:pre&dot:pre", "ring:pre&dot:pre#line:pre")
        ],
    ),
    "what is listed twice": Made(
        "train: [{data: dot:pre}, {data: dot:pre}]\nautotest: [dot:pre, dot:pre]",
        ["train/dot:pre", "test/dot:pre/dot:pre"],
        codes=["same-model", "listed-twice"],
    ),
    "each value of a condition": Made(
        f"{ONE}test: [{{model: dot:pre, data: real:pre, haze: [none, fog2, fog2+rain]}}]",
        [f"test/dot:pre/real:pre{haze}" for haze in ("", "@haze=fog2", "@haze=fog2+rain")],
        ["test"],
    ),
    "conditions in the order in which the kind declares them": Made(
        f"{ONE}test: [{{model: dot:pre, data: real:pre, tilt: [0, 9], haze: [none, fog]}}]",
        [f"test/dot:pre/real:pre{one}" for one in ("", "@tilt=9", "@haze=fog", "@haze=fog,tilt=9")],
        ["test"],
    ),
    "a condition beside the plain test": Made(
        TESTED + "tilt: 3}]", [f"test/dot:pre/real:pre{one}" for one in ("", "@tilt=3")], ["test"]
    ),
    **{
        f"conditions of the defaults {where}": Made(
            f"defaults: {{{where}}}\n{ONE}autotest: [real:pre, dot:pre]",
            [
                f"test/dot:pre/{data}{one}"
                for one in ("", "@haze=fog")
                for data in ("real:pre", "dot:pre")
            ],
            ["test"],
        )
        for where in ("haze: [none, fog]", "test: {haze: [none, fog]}")
    },
}


@pytest.mark.parametrize("case", PLANS.values(), ids=PLANS)
def test_file_expands_to_these_jobs_in_order(case: Made) -> None:
    case.check()


MISTAKES = {
    "nothing to unlearn": (f"{ONE}unlearn: [pgu]", "error[nothing-poisoned]"),
    "one test with two kinds of settings": (
        f"{ONE}test: [{{model: dot:pre, data: dot:pre, crops: 2}}]\nautotest: [dot:pre]",
        *("error[duplicate-job]", "@x.yaml:4 dot:pre\n"),
    ),
    "too many GPUs": (
        f"resources: {{gpus: 65}}\n{ONE}",
        *("a whole number from 0 to 64", "@x.yaml:2 65\n"),
    ),
    "GPUs on the CPU": (
        f"resources: {{gpus: 2, device: cpu}}\n{ONE}",
        "gpus: 2 and device: cpu contradict each other",
    ),
    "neither for itself nor not": (
        f"resources: {{exclusive: maybe}}\n{ONE}",
        "exclusive: expected true or false",
    ),
    "a wrong value in a list of conditions": (
        TESTED + "tilt: [0, -3]}]",
        *("tilt: expected at least 0, got -3\n", " -3\n"),
    ),
    "an empty list of conditions": (TESTED + "tilt: []}]", "write at least one value"),
    "a list of what is no condition": (
        TESTED + "crops: [1, 2]}]",
        "crops: expected a whole number, got a list",
    ),
}


@pytest.mark.parametrize("case", MISTAKES.values(), ids=MISTAKES)
def test_invalid_value_is_reported_at_its_place(case: tuple[str, ...]) -> None:
    said = blamed(case[0])
    assert [piece for piece in case[1:] if piece not in said] == []


def test_rate_instead_of_a_percentage_is_reported() -> None:
    said = told(notes(a_plan("train: [{data: dot:pre, poison: 0.2}]\n"))[0])
    assert said.endswith("^ for a rate of 0.2, write 20\n@x.yaml:2 0.2\n")


# --- phases and reuse

STUDY = """\
name: x
shapes: [{data_root: toys}]
train: [{data: dot:pre, poison: [0, 20]}]
unlearn: [pgu]
autotest: [dot:pre]
command: [{argv: [ls]}]
"""


@pytest.mark.parametrize(
    ("phases", "wanted"),
    [
        ("train", ["shapes", "poison", "train"]),
        ("[train]", ["shapes", "poison", "train"]),
        ("[test]", ["shapes", "test"]),
        ("[unlearn]", ["shapes", "poison", "unlearn"]),
        ("[train, test]", ["shapes", "poison", "train", "test"]),
        ("[command]", ["command"]),
        ("[poison]", ["shapes", "poison"]),
        ("", ["shapes", "poison", "train", "unlearn", "test", "command"]),
    ],
)
def test_phases_select_kinds_and_do_not_change_hashes(phases: str, wanted: list[str]) -> None:
    whole, made = a_plan(STUDY), a_plan(f"{STUDY}phases: {phases}\n")
    assert names(made) == names(whole, *wanted)
    assert {one.name: one.hash for one in made.jobs}.items() <= {
        one.name: one.hash for one in whole.jobs
    }.items()
    kept = set(names(made))
    assert all(set(one.needs) <= kept for one in made.jobs)


@dataclass(frozen=True, kw_only=True)
class Slow(Toy):
    """A kind that warns of its jobs."""

    def warnings(self, draft: Draft) -> tuple[str, ...]:
        """Return a warning about each job of a subset."""
        return (f"slow on {draft.device}",) if draft.data == "dot:pre" else ()


def test_warning_of_a_kind_is_planned_once_at_its_first_job() -> None:
    train = laboratory()["train"]
    assert isinstance(train, Toy)
    slow = Slow(name="train", role=train.role, entry=train.entry, settings=train.settings)
    text = "train: [{data: ring:pre}, {data: dot:pre}, {data: dot:pre, poison: 5}]\n"
    made = a_plan(text, kinds={**laboratory(), "train": slow})
    (warning,) = [one for one in made.warnings if one.code == "kind-warning"]
    assert warning.message == "slow on auto"
    assert warning.place is not None
    assert warning.place.text[warning.place.column - 1 :].startswith("data: dot:pre}")


@pytest.mark.parametrize(
    ("said", "share"),
    [("", None), ("share: 3\n", 3.0), ("share: 0.5\n", 0.5), ("share: null\n", None)],
)
def test_run_has_the_share_of_its_file(said: str, share: float | None) -> None:
    assert a_plan(said + ONE).share == share
    assert a_plan(said + ONE, "share=7").share == 7


# --- resources


def test_resources_of_entry_kind_and_file_are_merged() -> None:
    made = a_plan(
        "resources: {cpus: 1, ram: 1GiB, vram: 16GiB, train: {cpus: 2, priority: 4}, poison: {cpus: 7}}\n"
        "train: [{data: dot:pre, poison: [0, 20]},\n"
        "  {data: ring:pre, resources: {cpus: 3, vram: auto}}]\nautotest: [dot:pre]\n"
    )
    asked = {one.name: one.resources for one in made.jobs}
    assert {name: one.cpus for name, one in asked.items()} == {
        "train/dot:pre": 2,
        "test/dot:pre/dot:pre": 1,
        "poison/dot:pre%20": 7,
        "train/dot:pre%20": 2,
        "test/dot:pre%20/dot:pre": 1,
        "train/ring:pre": 3,
        "test/ring:pre/dot:pre": 1,
    }
    assert {one.ram for one in asked.values()} == {2**30}
    memory = [asked[f"train/{model}"].vram for model in ("dot:pre", "ring:pre")]
    assert memory == [16 * 2**30, None]
    priorities = {one.name: one.priority for one in made.jobs}
    assert (priorities["train/ring:pre"], priorities["poison/dot:pre%20"]) == (4, 0)


def test_exclusive_gpu_needs_a_job_with_a_gpu() -> None:
    made = a_plan("resources: {exclusive: true, gpus: 2}\ntrain: [{data: dot:pre, poison: 20}]\n")
    asked = {one.kind: (one.resources.exclusive, one.gpus) for one in made.jobs}
    assert asked == {"train": (True, 2), "poison": (False, None)}


@pytest.mark.parametrize("asks", ["gpus: 1", "vram: 4GiB", "exclusive: true"])
def test_program_requesting_a_gpu_waits_but_a_kind_can_fall_back_to_cpu(
    asks: str,
) -> None:
    command = "command: [{name: a, argv: [echo]"
    plain, own = a_plan(f"{command}}}]\n"), a_plan(f"{command}, resources: {{{asks}}}}}]\n")
    assert (plain.jobs[0].resources.device, own.jobs[0].resources.device) == ("auto", "cuda")
    assert plain.jobs[0].hash == own.jobs[0].hash
    held = own.jobs[0].resources
    assert held.works_on_gpu(machine_has_gpu=False)
    both = f"train: [{{data: dot:pre}}]\n{command}}}]\n"
    for where, device in (
        (f"{{{asks}}}", "cuda"),
        (f"{{{asks}, command: {{device: cpu}}}}", "cpu"),
    ):
        made = a_plan(f"resources: {where}\n{both}")
        devices = {one.kind: one.resources.device for one in made.jobs}
        assert devices == {"train": "auto", "command": device}


def test_resources_do_not_change_hashes() -> None:
    asked = "resources: {cpus: 3, ram: 1GiB, device: cuda:1, priority: 3, retries: 2}\n"
    plain, more = (a_plan(f"{said}{ONE}autotest: [dot:pre]\n") for said in ("", asked))
    assert [one.hash for one in plain.jobs] == [one.hash for one in more.jobs]


# --- A model is tested on the same data under several conditions: each is a test of its own name


def test_plain_test_keeps_its_hash_from_before_conditions() -> None:
    plain = {"data_root": "d", "split_path": "s", "threads": 1, "crops": 1}
    more = {**plain, "haze": "none", "tilt": 0}
    assert TestSettings.decisive(more) == TestSettings.decisive(plain)
    assert TestSettings.condition(more) == TestSettings.condition(plain) == ""
    assert TestSettings.decisive({**more, "tilt": 1})["tilt"] == 1


# --- A section of a kind that benchmarks: one job for each model and each data ID


class BenchSettings(ReadingSettings):
    """A list of weathers, and another model."""

    models: ClassVar[tuple[str, ...]] = ("rival",)

    weathers: tuple[str, ...] = ("sun",)
    rival: str = ""


@dataclass(frozen=True, kw_only=True)
class Bench(Toy):
    """Reads its model and its rival."""

    # the second one is a setting of this kind, as a plugin package may have one of that name
    constants: ClassVar[Mapping[str, str]] = {
        "fog": "toys.bench.FOG = 0.5", "rival": "toys.bench.RIVAL = 1",
    }  # fmt: skip

    def images(self, data: DataId) -> DataId:
        return as_named(data)

    def inputs(self, draft: Draft) -> tuple[Input, ...]:
        models = [str(draft.model), *filter(None, [draft.settings["rival"]])]
        return tuple(
            Input(path=draft.model_folder(model) / "model.json", what="a model") for model in models
        )

    def outputs(self, draft: Draft) -> tuple[Path, ...]:
        return (draft.model_folder(str(draft.model)) / "bench" / str(draft.data),)


WITH: dict[str, Kind] = {
    **KINDS,
    "bench": Bench(
        name="bench", role=Role.BENCHMARK, entry="tests.launcher.toylab:test",
        settings=BenchSettings,
    ),
}  # fmt: skip


def test_benchmark_without_a_model_scores_every_model_after_training() -> None:
    made = a_plan(TWO + "bench: [{test: [real:pre, dot:pre], weathers: [sun, rain]}]\n", kinds=WITH)
    assert names(made, "bench") == [
        f"bench/{model}/{data}"
        for model in ("dot:pre", "ring:pre")
        for data in ("real:pre", "dot:pre")
    ]
    assert made.jobs[-1].settings["weathers"] == ["sun", "rain"]
    assert job(made, "bench/ring:pre/dot:pre").needs == ("train/ring:pre",)


def test_models_can_be_named_and_others_in_settings_come_before() -> None:
    made = a_plan(
        f"bench: [{{model: [dot:pre], test: real:pre, rival: ring:pre}}]\n{TWO}", kinds=WITH
    )
    assert names(made, "bench") == ["bench/dot:pre/real:pre"]
    assert made.jobs[-1].needs == ("train/dot:pre", "train/ring:pre")


def rivals(text: str) -> list[tuple[str | None, object]]:
    made = a_plan(text, kinds=WITH)
    return [(one.model, one.settings["rival"]) for one in made.jobs if one.kind == "bench"]


def test_rival_matching_several_models_is_refused_with_their_names() -> None:
    text = "train: [{data: dot:pre, matrix: {epochs: [1, 2]}}]\nbench: [{test: real:pre, rival: dot:pre}]\n"
    problem = refusal(text, kinds=WITH)
    assert problem.message == "rival: dot:pre matches 2 models"
    assert problem.hint == "name one of them: dot:pre@epochs=1, dot:pre@epochs=2"
    named = rivals(text.replace("rival: dot:pre", "rival: dot:pre@epochs=2"))
    assert {rival for _, rival in named} == {"dot:pre@epochs=2"}


FOG = "'fog' is no longer a setting: it is the constant toys.bench.FOG = 0.5"


@pytest.mark.parametrize(
    ("section", "message", "text"),
    [
        ("bench: [{weathers: [sun]}]", "bench needs 'test': a data ID", "weathers"),
        ("bench: [{test: []}]", "expected at least one data ID", "["),
        ("bench: [{test: real:pre, rival: line:pre}]",
         "model 'line:pre' is neither made by this file nor in the run folder", "line:pre"),
        ("bench: [{test: reel:pre}]", "unknown subset 'reel'", "reel"),
        ("bench: [{tests: real:pre, test: real:pre}]", "'tests' is not a setting of bench", "tests"),
        ("bench: [{test: real:pre, fog: 1}]", FOG, "fog"),
        ("bench: [{test: real:pre, settings: {fog: 1}}]", FOG, "fog"),
        ("defaults: {fog: 1}\nbench: [{test: real:pre}]", FOG, "fog"),
        ("defaults: {bench: {fog: 1}}\nbench: [{test: real:pre}]", FOG, "fog"),
    ],
)  # fmt: skip
def test_invalid_benchmark_is_reported_at_its_place(section: str, message: str, text: str) -> None:
    problem = refusal(f"{TWO}{section}\n", kinds=WITH)
    assert (problem.message, marked(problem)[2]) == (message, text)


@pytest.mark.parametrize("given", ["fog=1", "bench.fog=1"])
def test_former_setting_on_the_command_line_is_answered_with_its_constant(given: str) -> None:
    assert refusal(f"{TWO}bench: [{{test: real:pre}}]\n", given, kinds=WITH).message == FOG


def test_a_benchmark_without_models_is_refused() -> None:
    said = blamed("shapes: [{data_root: toys}]\nbench: [{test: real:pre}]\n", kinds=WITH)
    assert ": bench scores the models of this file, but the file makes none\n" in said


def test_editor_schema_accepts_the_section() -> None:
    schema = task_schema(WITH)
    text = (
        "name: x\ntrain: [{data: dot:pre}]\nbench: [{test: [real:pre], model: dot:pre, rival: a}]\n"
    )
    # another test checks that the schema itself is valid
    validator = Draft202012Validator(schema)
    assert validator.is_valid(yaml.safe_load(text))
    assert not validator.is_valid(yaml.safe_load("name: x\nbench: [{model: dot:pre}]\n"))
