"""A section of a kind that benchmarks: one job for each model and each data ID."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jsonschema
import pytest
import yaml

from launcher.api import DataId, Draft, Input, Kind, Plan, Role
from launcher.errors import Problem
from launcher.taskfile.schema.json_schema import task_schema
from tests.launcher import language
from tests.launcher.language import KINDS, marked, names
from tests.launcher.toylab import ReadingSettings, Toy, as_named

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


def a_plan(text: str) -> Plan:
    return language.a_plan(text, kinds=WITH)


def refusal(text: str) -> Problem:
    (problem,) = language.refusals(text, kinds=WITH)
    return problem


def test_without_a_model_every_model_is_scored_after_all_trainings() -> None:
    made = a_plan(TWO + "bench: [{test: [real:pre, dot:pre], weathers: [sun, rain]}]\n")
    assert names(made, "bench") == [
        "bench/dot:pre/real:pre", "bench/dot:pre/dot:pre",
        "bench/ring:pre/real:pre", "bench/ring:pre/dot:pre",
    ]  # fmt: skip
    assert made.jobs[-1].settings["weathers"] == ["sun", "rain"]
    assert language.job(made, "bench/ring:pre/dot:pre").needs == ("train/ring:pre",)


def test_models_may_be_named_and_other_models_of_settings_come_before() -> None:
    made = a_plan("bench: [{model: [dot:pre], test: real:pre, rival: ring:pre}]\n" + TWO)
    assert names(made, "bench") == ["bench/dot:pre/real:pre"]
    assert made.jobs[-1].needs == ("train/dot:pre", "train/ring:pre")


def test_each_combination_of_the_matrix_has_its_own_models_and_rivals() -> None:
    text = "matrix: {epochs: [1, 2]}\ntrain: [{data: dot:pre}, {data: ring:pre}]\n"
    made = a_plan(text + "bench: [{model: dot:pre, test: real:pre, rival: ring:pre}]\n")
    assert [(job.model, job.settings["rival"]) for job in made.jobs if job.kind == "bench"] == [
        (f"dot:pre@epochs={epochs}", f"ring:pre@epochs={epochs}") for epochs in (1, 2)
    ]
    every = a_plan(text + "bench: [{test: real:pre}]\n")
    assert len(names(every, "bench")) == 4


def test_a_rival_that_stands_for_several_models_is_refused_with_their_names() -> None:
    text = "train: [{data: dot:pre, matrix: {epochs: [1, 2]}}]\nbench: [{test: real:pre, rival: dot:pre}]\n"
    problem = refusal(text)
    assert problem.message == "rival: dot:pre stands for 2 models"
    assert problem.hint == "name one of them: dot:pre@epochs=1, dot:pre@epochs=2"
    named = a_plan(text.replace("rival: dot:pre", "rival: dot:pre@epochs=2"))
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
    problem = refusal(f"{TWO}{section}\n")
    assert (problem.message, marked(problem)[2]) == (message, text)


def test_a_benchmark_without_models_is_refused() -> None:
    problem = refusal("shapes: [{data_root: toys}]\nbench: [{test: real:pre}]\n")
    assert problem.message == "bench scores the models that this file makes, and it makes none"


def test_the_schema_for_editors_takes_the_section() -> None:
    schema = task_schema(WITH)
    text = (
        "name: x\ntrain: [{data: dot:pre}]\nbench: [{test: [real:pre], model: dot:pre, rival: a}]\n"
    )
    jsonschema.validate(yaml.safe_load(text), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load("name: x\nbench: [{model: dot:pre}]\n"), schema)
