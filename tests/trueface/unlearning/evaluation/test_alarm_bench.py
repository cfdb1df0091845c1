"""The alarm bench in small: models of a second, ruined in every way and degree, and honest ones."""

import copy
from collections.abc import Iterator, Sequence

import pytest
import torch

from benchmarks.alarms import Honest, census
from tests.trueface.unlearning.build import perceptron, points
from trueface.data.examples import Examples, examples
from trueface.evaluation.forward import predict_examples
from trueface.runtime.progress import RunContext
from trueface.unlearning.api import run
from trueface.unlearning.evaluation.measures import PredictionsBySplit
from trueface.unlearning.hyperparameters import TrainingOptions
from trueface.unlearning.optimization import default_training
from trueface.unlearning.registry import Goal

TRAINED, TESTED = 40, 120  # points of a class
LEARNING = TrainingOptions(epochs=10, lr=0.1)
KINDS = {
    "constant", "chance", "labels permuted", "kept accuracy lost", "not finite", "untouched",
}  # fmt: skip


def unlearn_with_each_method(
    goal: Goal, classes: int, seed: int, methods: Sequence[str]
) -> Iterator[Honest]:
    """Train a model, unlearn with each method, and yield the predictions of all."""
    inputs, true = points(classes, TRAINED, seed)
    gone = true == classes - 1
    trained = true
    if goal == "flips":
        gone = torch.rand(len(true), generator=torch.Generator().manual_seed(seed)) < 0.2
        trained = torch.where(gone, 1 - true, true)
    everything = examples(inputs, trained, true)
    rows = torch.arange(len(true))
    some = {
        "forget": everything.subset(rows[gone].tolist()),
        "retain": everything.subset(rows[~gone].tolist()),
        "validation": examples(*points(classes, TESTED // 2, seed + 100)),
    }
    test = examples(*points(classes, TESTED, seed + 200))
    base = perceptron(classes, seed)
    default_training(
        base,
        everything,
        "trained",
        validation=some["validation"],
        options=LEARNING,
        watch=RunContext(),
    )
    before, retrained = _predict_splits(base, {**some, "test": test}), None
    forgotten = (classes - 1,) if goal == "class" else ()
    for method in ("retrain", *methods):
        done = run(
            method, copy.deepcopy(base), forget=some["forget"], retain=some["retain"],
            validation=some["validation"], goal=goal, fresh=lambda: perceptron(classes, seed + 7),
            options=LEARNING if method == "retrain" else None, seed=seed,
        )  # fmt: skip
        parts = _predict_splits(done.model, {**some, "test": test})
        retrained = retrained or parts
        yield Honest(
            name=f"{goal}~{method}", seed=seed, goal=goal, forgotten=forgotten, parts=parts,
            before=before, retrained=retrained, anew=method == "retrain",
        )  # fmt: skip


def _predict_splits(model: torch.nn.Module, some: dict[str, Examples]) -> PredictionsBySplit:
    return {name: predict_examples(model, part, RunContext()) for name, part in some.items()}


@pytest.mark.parametrize(
    ("goal", "classes", "methods"),
    [("flips", 2, ("relabel", "finetune")), ("class", 6, ("lau", "salun"))],
)
def test_every_ruined_model_raises_an_alarm_and_no_sound_one_does(
    goal: Goal, classes: int, methods: tuple[str, ...]
) -> None:
    models = [
        one for seed in (1, 2) for one in unlearn_with_each_method(goal, classes, seed, methods)
    ]
    by_kind, accused = census(models)
    assert {kind for kind, _ in by_kind} == KINDS | ({"few classes"} if classes > 3 else set())
    assert {place: tally.missed for place, tally in by_kind.items() if tally.missed} == {}
    assert all(tally.total >= 2 for tally in by_kind.values())
    assert (accused.hits, accused.total) == (0, len(models))
