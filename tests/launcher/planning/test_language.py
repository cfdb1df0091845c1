"""What a person may ask for in a task file, and which jobs the launcher makes of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jsonschema
import pytest
import yaml

from launcher.api import DataId, Draft, Input, Kind, Plan, Role
from launcher.errors import Problem
from launcher.planning.plan_builder import build_plan
from launcher.taskfile.schema.json_schema import task_schema
from tests.launcher import language
from tests.launcher.language import KINDS, ROOT, a_plan, job, marked, names, notes, read, refusal
from tests.launcher.toylab import ReadingSettings, TestSettings, Toy, as_named

# --- poison and unlearning


def test_poison_is_one_rate_or_a_list_and_its_spelling_is_canonical() -> None:
    made = a_plan("train: [{data: dot:pre, poison: [f2r-5, 2.50, 0, 100, 007]}]\n")
    assert [one.model for one in made.jobs if one.kind == "train"] == [
        *("dot:pre%f2r-5", "dot:pre%2.5", "dot:pre", "dot:pre%100", "dot:pre%7")
    ]
    assert a_plan("train: [{data: dot:pre, poison: 0.0}]\n").jobs[0].name == "train/dot:pre"
    same = a_plan(
        "train: [{data: dot:pre, poison: 20.0}]\ntest: [{model: dot:pre%20.00, data: dot:pre}]\n"
    )
    assert names(same)[1:] == ["train/dot:pre%20", "test/dot:pre%20/dot:pre"]


def test_a_rate_where_a_percentage_belongs_is_told() -> None:
    problem = notes(a_plan("train: [{data: dot:pre, poison: 0.2}]\n"))[0]
    assert problem.hint == "a rate of 0.2 is written 20"
    assert marked(problem) == ("x.yaml", 2, "0.2")


@pytest.mark.parametrize(
    "unlearn",
    [
        "[pgu, retrain]",
        "[{model: poisoned, method: [pgu, retrain]}]",
        "[{model: poisoned, method: pgu}, {model: poisoned, method: retrain}]",
    ],
)
def test_methods_on_every_poisoned_model_have_a_short_form(unlearn: str) -> None:
    made = a_plan(
        f"train: [{{data: dot:pre, poison: [0, 20, 50]}}]\nunlearn: {unlearn}\nautotest: [dot:pre]\n"
    )
    assert sorted(names(made, "unlearn")) == sorted(
        f"unlearn/dot:pre%{rate}~{method}" for rate in (20, 50) for method in ("pgu", "retrain")
    )
    assert len(names(made, "test")) == 7


def test_poisoned_means_the_models_whose_last_stage_is_poisoned() -> None:
    made = a_plan(
        "train:\n  - {data: dot:pre, poison: 20}\n  - {model: dot:pre%20, data: ring:pre}\n"
        "  - {model: dot:pre%20, data: line:pre, poison: 30}\nunlearn: [pgu]\n"
    )
    assert names(made, "unlearn") == [
        "unlearn/dot:pre%20~pgu",
        "unlearn/dot:pre%20#line:pre%30~pgu",
    ]


def test_an_unlearned_model_can_be_tuned_and_unlearned_again() -> None:
    made = a_plan(
        "unlearn:\n  - {model: dot:pre%5~pgu, method: relabel}\n  - {model: dot:pre%5, method: pgu}\n"
        "train:\n  - {model: dot:pre%5~pgu~relabel, data: ring:pre}\n"
        "  - {data: dot:pre, poison: 5}\nautotest: [real:pre]\n"
    )
    assert names(made) == [
        "poison/dot:pre%5",
        *("train/dot:pre%5", "test/dot:pre%5/real:pre"),
        *("unlearn/dot:pre%5~pgu", "test/dot:pre%5~pgu/real:pre"),
        *("unlearn/dot:pre%5~pgu~relabel", "test/dot:pre%5~pgu~relabel/real:pre"),
        "train/dot:pre%5~pgu~relabel#ring:pre",
        "test/dot:pre%5~pgu~relabel#ring:pre/real:pre",
    ]


def test_there_must_be_something_to_unlearn() -> None:
    assert refusal("train: [{data: dot:pre}]\nunlearn: [pgu]\n").code == "nothing-poisoned"


# --- the same data in other words


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("dot:pre&line:pre", "line:pre&dot:pre"),
        ("dot:pre", "dot:pre&real:pre"),
        ("any:shr", "dot:fb&dot:tw&line:shr&ring:tw&ring:fb"),
        ("dot:pre", "dot:pre&dot:pre"),
    ],
)
def test_the_same_images_in_other_words_are_trained_once_and_that_is_told(
    first: str, second: str
) -> None:
    made = a_plan(
        f"train:\n  - {{data: '{first}'}}\n  - {{data: '{second}'}}\n"
        f"  - {{model: '{second}', data: ring:tw}}\nautotest: [real:pre]\n"
        f"unlearn: [{{model: '{second}', method: pgu}}]\n"
    )
    assert names(made, "train", "unlearn") == [
        f"train/{first}",
        f"train/{first}#ring:tw",
        f"unlearn/{first}~pgu",
    ]
    told = notes(made)
    assert [one.code for one in told] == ["same-model"]
    assert marked(told[0])[:2] == ("x.yaml", 4)


def test_other_words_of_one_poisoned_chain_are_one_model() -> None:
    made = a_plan(
        "train:\n  - {data: 'dot:pre&ring:pre', poison: 5}\n  - {data: 'ring:pre&dot:pre', poison: 5.0}\n"
        "test: [{model: 'ring:pre&dot:pre%5', data: dot:pre}]\n"
    )
    assert names(made) == [
        "poison/dot:pre&ring:pre%5",
        "train/dot:pre&ring:pre%5",
        "test/dot:pre&ring:pre%5/dot:pre",
    ]


def test_variants_in_other_words_are_the_same_models_too() -> None:
    made = a_plan(
        "matrix: {lr: [1, 2]}\n"
        "train:\n  - {data: 'dot:pre&ring:pre'}\n  - {model: 'ring:pre&dot:pre', data: line:pre}\n"
        "test: [{model: 'ring:pre&dot:pre@lr=2.0', data: dot:pre}]\n"
        "unlearn: [{model: 'ring:pre&dot:pre&real:pre', method: pgu}]\n"
    )
    both = "dot:pre&ring:pre"
    assert sorted(names(made)) == sorted(
        [f"test/{both}@lr=2.0/dot:pre"]
        + [f"train/{both}@lr={lr}" for lr in ("1.0", "2.0")]
        + [f"train/{both}@lr={lr}#line:pre@lr={lr}" for lr in ("1.0", "2.0")]
        + [f"unlearn/{both}~pgu@lr={lr}" for lr in ("1.0", "2.0")]
    )


def test_the_same_images_with_other_settings_are_two_models_known_by_their_own_words() -> None:
    made = a_plan(
        "train:\n  - {data: 'dot:pre&ring:pre'}\n  - {data: 'ring:pre&dot:pre', lr: 2}\n"
        "  - {model: 'ring:pre&dot:pre', data: line:pre}\n"
    )
    assert names(made)[-1] == "train/ring:pre&dot:pre#line:pre"
    assert not notes(made)


def test_what_is_listed_twice_is_made_once_and_that_is_told() -> None:
    made = a_plan("train: [{data: dot:pre}, {data: dot:pre}]\nautotest: [dot:pre, dot:pre]\n")
    assert names(made) == ["train/dot:pre", "test/dot:pre/dot:pre"]
    assert {one.code for one in notes(made)} == {"same-model", "listed-twice"}


def test_one_test_with_two_kinds_of_settings_is_refused() -> None:
    problem = refusal(
        "train: [{data: dot:pre}]\ntest: [{model: dot:pre, data: dot:pre, crops: 2}]\n"
        "autotest: [dot:pre]\n"
    )
    assert problem.code == "duplicate-job"
    assert marked(problem) == ("x.yaml", 4, "dot:pre")


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
def test_phases_choose_kinds_of_jobs_and_change_no_hash(phases: str, wanted: list[str]) -> None:
    whole, made = a_plan(STUDY), a_plan(f"{STUDY}phases: {phases}\n")
    assert names(made) == names(whole, *wanted)
    assert {one.name: one.hash for one in made.jobs}.items() <= {
        one.name: one.hash for one in whole.jobs
    }.items()
    kept = set(names(made))
    assert all(set(one.needs) <= kept for one in made.jobs)


def test_what_phases_leave_out_is_missing_unless_it_is_there() -> None:
    task = read(f"{STUDY}phases: [test]\n")
    made = build_plan(
        task, root=ROOT, exists=lambda _: False, code=lambda *_: {"": "d"}, content=lambda _: "c"
    )
    told = "\n".join(str(one) for one in made.warnings)
    for model in ("dot:pre", "dot:pre%20", "dot:pre%20~pgu"):
        assert f"runs/x/{model}/model.json" in told
    models = {ROOT / f"runs/x/{one}/model.json" for one in ("dot:pre", "dot:pre%20")}
    made = build_plan(
        task,
        root=ROOT,
        exists=models.__contains__,
        code=lambda *_: {"": "d"},
        content=lambda _: "c",
    )
    told = "\n".join(str(one) for one in made.warnings)
    assert "runs/x/dot:pre/model.json" not in told
    assert "runs/x/dot:pre%20~pgu/model.json" in told


@pytest.mark.parametrize(
    ("said", "share"),
    [("", None), ("share: 3\n", 3.0), ("share: 0.5\n", 0.5), ("share: null\n", None)],
)
def test_a_run_has_the_share_that_its_file_says(said: str, share: float | None) -> None:
    text = f"{said}train: [{{data: dot:pre}}]\n"
    assert a_plan(text).share == share
    assert a_plan(text, "share=7").share == 7


@pytest.mark.parametrize("reuse", ["results", "weights", "nothing"])
def test_what_is_used_again_is_the_users_choice(reuse: str) -> None:
    assert a_plan(f"reuse: {reuse}\ntrain: [{{data: dot:pre}}]\n").reuse == reuse
    assert a_plan("train: [{data: dot:pre}]\n").reuse == "results"
    assert a_plan("reuse: nothing\ntrain: [{data: dot:pre}]\n", f"reuse={reuse}").reuse == reuse


# --- resources


def test_resources_of_entry_kind_and_file_stand_on_each_other() -> None:
    made = a_plan(
        "resources: {cpus: 1, ram: 1GiB, train: {cpus: 2, priority: 4}, poison: {cpus: 7}}\n"
        "train: [{data: dot:pre, poison: [0, 20]}, {data: ring:pre, resources: {cpus: 3}}]\n"
        "autotest: [dot:pre]\n"
    )
    asked = {one.name: one.resources for one in made.jobs}
    assert {name: one.cpus for name, one in asked.items() if "/real" not in name} == {
        "train/dot:pre": 2,
        "test/dot:pre/dot:pre": 1,
        "poison/dot:pre%20": 7,
        "train/dot:pre%20": 2,
        "test/dot:pre%20/dot:pre": 1,
        "train/ring:pre": 3,
        "test/ring:pre/dot:pre": 1,
    }
    assert {one.ram for one in asked.values()} == {2**30}
    assert (
        {one.name: one.priority for one in made.jobs}["train/ring:pre"],
        {one.name: one.priority for one in made.jobs}["poison/dot:pre%20"],
    ) == (4, 0)


def test_memory_is_an_amount_or_left_to_what_was_measured() -> None:
    made = a_plan(
        "resources: {vram: 16GiB}\n"
        "train: [{data: dot:pre}, {data: ring:pre, resources: {vram: auto}}]\n"
    )
    assert [one.resources.min_vram for one in made.jobs] == [16 * 2**30, None]


def test_a_job_has_no_gpu_one_or_several() -> None:
    for gpus, device, count in ((1, "auto", 1), (0, "cpu", None), (2, "auto", 2), (64, "auto", 64)):
        made = a_plan(f"resources: {{gpus: {gpus}}}\ntrain: [{{data: dot:pre}}]\n")
        assert made.jobs[0].resources.device == device
        assert made.jobs[0].gpus == count
    problem = refusal("resources: {gpus: 65}\ntrain: [{data: dot:pre}]\n")
    assert marked(problem) == ("x.yaml", 2, "65")
    assert "a whole number from 0 to 64" in problem.message
    problem = refusal("resources: {gpus: 2, device: cpu}\ntrain: [{data: dot:pre}]\n")
    assert "gpus: 2 and device: cpu contradict each other" in problem.message


def test_a_job_may_have_its_gpus_for_itself_but_not_what_needs_none() -> None:
    made = a_plan(
        "resources: {exclusive: true, gpus: 2}\n"
        "train: [{data: dot:pre, poison: 20}]\nautotest: [dot:pre]\n"
    )
    told = {one.kind: (one.resources.exclusive, one.gpus) for one in made.jobs}
    assert told["train"] == (True, 2)
    assert told["poison"] == (False, None)
    problem = refusal("resources: {exclusive: maybe}\ntrain: [{data: dot:pre}]\n")
    assert "exclusive: expected true or false" in problem.message


@pytest.mark.parametrize("asks", ["gpus: 1", "vram: 4GiB", "exclusive: true"])
def test_a_program_that_asks_for_a_gpu_waits_for_one_and_a_kind_of_a_laboratory_may_do_without(
    asks: str,
) -> None:
    command = "command: [{name: a, argv: [echo]"
    plain, own = a_plan(f"{command}}}]\n"), a_plan(f"{command}, resources: {{{asks}}}}}]\n")
    assert (plain.jobs[0].resources.device, own.jobs[0].resources.device) == ("auto", "cuda")
    assert plain.jobs[0].hash == own.jobs[0].hash
    held = own.jobs[0].resources
    assert held.works_on_gpu(there=False)
    both = f"train: [{{data: dot:pre}}]\n{command}}}]\n"
    for where, device in (
        (f"{{{asks}}}", "cuda"),
        (f"{{{asks}, command: {{device: cpu}}}}", "cpu"),
    ):
        made = a_plan(f"resources: {where}\n{both}")
        devices = {one.kind: one.resources.device for one in made.jobs}
        assert devices == {"train": "auto", "command": device}


def test_resources_change_no_hash() -> None:
    text = "train: [{data: dot:pre}]\nautotest: [dot:pre]\n"
    asked = "resources: {cpus: 3, ram: 1GiB, device: cuda:1, priority: 3, retries: 2}\n"
    assert [one.hash for one in a_plan(text).jobs] == [
        one.hash for one in a_plan(asked + text).jobs
    ]


# --- A model is tested on the same data under several conditions: each is a test of its own name


TRAINED = "train: [{data: dot:pre}]\n"


def test_a_list_of_a_condition_is_a_test_of_each_value() -> None:
    made = a_plan(
        TRAINED + "test: [{model: dot:pre, data: real:pre, haze: [none, fog2, fog2+rain]}]\n"
    )
    assert names(made, "test") == [
        "test/dot:pre/real:pre",
        "test/dot:pre/real:pre@haze=fog2",
        "test/dot:pre/real:pre@haze=fog2+rain",
    ]
    assert job(made, "test/dot:pre/real:pre@haze=fog2").settings["haze"] == "fog2"
    assert job(made, "test/dot:pre/real:pre@haze=fog2").data == "real:pre"
    assert not notes(made)


@pytest.mark.parametrize(
    "where",
    ["defaults: {haze: [none, fog]}\n", "defaults: {test: {haze: [none, fog]}}\n"],
)
def test_every_test_of_the_file_takes_the_conditions_of_its_defaults(where: str) -> None:
    made = a_plan(where + TRAINED + "autotest: [real:pre, dot:pre]\n")
    assert set(names(made, "test")) == {
        f"test/dot:pre/{data}{condition}"
        for data in ("real:pre", "dot:pre")
        for condition in ("", "@haze=fog")
    }


def test_two_conditions_make_a_product_in_the_order_in_which_the_kind_declares_them() -> None:
    made = a_plan(
        TRAINED + "test: [{model: dot:pre, data: real:pre, tilt: [0, 9], haze: [none, fog]}]\n"
    )
    assert names(made, "test") == [
        "test/dot:pre/real:pre",
        "test/dot:pre/real:pre@tilt=9",
        "test/dot:pre/real:pre@haze=fog",
        "test/dot:pre/real:pre@haze=fog,tilt=9",
    ]


def test_one_value_stands_in_the_name_too_and_beside_the_plain_test() -> None:
    made = a_plan(
        TRAINED
        + "test: [{model: dot:pre, data: real:pre}, {model: dot:pre, data: real:pre, tilt: 3}]\n"
    )
    assert names(made, "test") == ["test/dot:pre/real:pre", "test/dot:pre/real:pre@tilt=3"]


def test_a_plain_test_is_the_job_that_it_was_before_there_were_conditions() -> None:
    plain = {"data_root": "d", "split_path": "s", "threads": 1, "crops": 1}
    more = {**plain, "haze": "none", "tilt": 0}
    assert TestSettings.decisive(more) == TestSettings.decisive(plain)
    assert TestSettings.condition(more) == TestSettings.condition(plain) == ""
    assert TestSettings.decisive({**more, "tilt": 1})["tilt"] == 1


def test_each_condition_has_a_hash_of_its_own() -> None:
    made = a_plan(TRAINED + "test: [{model: dot:pre, data: real:pre, haze: [none, fog, rain]}]\n")
    assert len({job(made, name).hash for name in names(made, "test")}) == 3


def test_a_value_that_is_wrong_is_blamed_at_its_place_in_the_list() -> None:
    problem = refusal(TRAINED + "test: [{model: dot:pre, data: real:pre, tilt: [0, -3]}]\n")
    assert problem.message == "tilt: expected at least 0, got -3"
    assert marked(problem)[2] == "-3"


def test_an_empty_list_of_conditions_is_refused() -> None:
    problem = refusal(TRAINED + "test: [{model: dot:pre, data: real:pre, tilt: []}]\n")
    assert "write at least one value" in str(problem)


def test_a_setting_that_is_no_condition_takes_no_list() -> None:
    problem = refusal(TRAINED + "test: [{model: dot:pre, data: real:pre, crops: [1, 2]}]\n")
    assert "crops: expected a whole number, got a list" in str(problem)


# --- A section of a kind that benchmarks: one job for each model and each data ID


TWO = "train: [{data: dot:pre}, {data: ring:pre}]\n"


class BenchSettings(ReadingSettings):
    """A list of weathers, and another model."""

    models: ClassVar[tuple[str, ...]] = ("rival",)

    weathers: tuple[str, ...] = ("sun",)
    rival: str = ""


@dataclass(frozen=True, kw_only=True)
class Bench(Toy):
    """Reads its model and its rival."""

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


def a_benchmark(text: str) -> Plan:
    return language.a_plan(text, kinds=WITH)


def the_refusal(text: str) -> Problem:
    (problem,) = language.refusals(text, kinds=WITH)
    return problem


def test_without_a_model_every_model_is_scored_after_all_trainings() -> None:
    made = a_benchmark(TWO + "bench: [{test: [real:pre, dot:pre], weathers: [sun, rain]}]\n")
    assert names(made, "bench") == [
        "bench/dot:pre/real:pre", "bench/dot:pre/dot:pre",
        "bench/ring:pre/real:pre", "bench/ring:pre/dot:pre",
    ]  # fmt: skip
    assert made.jobs[-1].settings["weathers"] == ["sun", "rain"]
    assert language.job(made, "bench/ring:pre/dot:pre").needs == ("train/ring:pre",)


def test_models_may_be_named_and_other_models_of_settings_come_before() -> None:
    made = a_benchmark("bench: [{model: [dot:pre], test: real:pre, rival: ring:pre}]\n" + TWO)
    assert names(made, "bench") == ["bench/dot:pre/real:pre"]
    assert made.jobs[-1].needs == ("train/dot:pre", "train/ring:pre")


def test_each_combination_of_the_matrix_has_its_own_models_and_rivals() -> None:
    text = "matrix: {epochs: [1, 2]}\ntrain: [{data: dot:pre}, {data: ring:pre}]\n"
    made = a_benchmark(text + "bench: [{model: dot:pre, test: real:pre, rival: ring:pre}]\n")
    assert [(job.model, job.settings["rival"]) for job in made.jobs if job.kind == "bench"] == [
        (f"dot:pre@epochs={epochs}", f"ring:pre@epochs={epochs}") for epochs in (1, 2)
    ]
    every = a_benchmark(text + "bench: [{test: real:pre}]\n")
    assert len(names(every, "bench")) == 4


def test_a_rival_that_stands_for_several_models_is_refused_with_their_names() -> None:
    text = "train: [{data: dot:pre, matrix: {epochs: [1, 2]}}]\nbench: [{test: real:pre, rival: dot:pre}]\n"
    problem = the_refusal(text)
    assert problem.message == "rival: dot:pre stands for 2 models"
    assert problem.hint == "name one of them: dot:pre@epochs=1, dot:pre@epochs=2"
    named = a_benchmark(text.replace("rival: dot:pre", "rival: dot:pre@epochs=2"))
    assert {job.settings["rival"] for job in named.jobs if job.kind == "bench"} == {
        "dot:pre@epochs=2"
    }


@pytest.mark.parametrize(
    ("section", "message", "text"),
    [
        ("bench: [{weathers: [sun]}]", "bench needs 'test': a data ID", "weathers"),
        ("bench: [{test: []}]", "expected at least one data ID", "["),
        ("bench: [{test: real:pre, rival: line:pre}]",
         "model 'line:pre' is neither made here nor in the folder of the run", "line:pre"),
        ("bench: [{test: reel:pre}]", "unknown subset 'reel'", "reel"),
        ("bench: [{tests: real:pre, test: real:pre}]", "'tests' is not a setting of bench", "tests"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_at_its_place(section: str, message: str, text: str) -> None:
    problem = the_refusal(f"{TWO}{section}\n")
    assert (problem.message, marked(problem)[2]) == (message, text)


def test_a_benchmark_without_models_is_refused() -> None:
    problem = the_refusal("shapes: [{data_root: toys}]\nbench: [{test: real:pre}]\n")
    assert problem.message == "bench scores the models that this file makes, and it makes none"


def test_the_schema_for_editors_takes_the_section() -> None:
    schema = task_schema(WITH)
    text = (
        "name: x\ntrain: [{data: dot:pre}]\nbench: [{test: [real:pre], model: dot:pre, rival: a}]\n"
    )
    jsonschema.validate(yaml.safe_load(text), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load("name: x\nbench: [{model: dot:pre}]\n"), schema)
