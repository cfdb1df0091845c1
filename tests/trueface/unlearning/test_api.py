import copy
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from launcher.api import JobError, UnknownName, UsageError
from tests.trueface.unlearning.build import Problem, flipped, network, one_class, perceptron
from trueface import unlearning
from trueface.data.examples import Examples, ExampleSource, examples
from trueface.runtime.progress import Watch
from trueface.unlearning.api import Unlearned
from trueface.unlearning.registry import METHODS

FLIPS = [name for name, facts in METHODS.items() if "flips" in facts.goals]
CLASS = [name for name, facts in METHODS.items() if "class" in facts.goals]
# so that each takes a second; the methods' own tests look at what they reach
SHORT: dict[str, dict[str, Any]] = {
    "pgu": {"epochs": 2}, "iwu": {"epochs": 2, "attack_steps": 3, "adversarial": 2},
    "salun": {"epochs": 2}, "lau": {"epochs": 2}, "potion": {"trials": 5}, "shrink": {"epochs": 2},
    "expand": {"epochs": 2}, "fisher": {"samples": 16}, "exact": {"steps": 5},
    **{name: {"epochs": 2} for name in ("retrain", "finetune", "relabel", "corrected", "restart")},
}  # fmt: skip


@dataclass
class Spy:
    """A source that remembers what was asked for."""

    source: ExampleSource
    learned: set[int] = field(default_factory=set)
    read: list[int] = field(default_factory=list)
    torn: set[int] = field(default_factory=set)  # what cannot be read

    @property
    def identity(self) -> str:
        return self.source.identity

    def __call__(
        self, positions: Sequence[int], *, epoch: int | None, batch_size: int | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        positions = [one for one in positions if one not in self.torn]
        self.read += positions
        self.learned |= set(positions) if epoch is not None else set()
        return self.source(positions, epoch=epoch, batch_size=batch_size)


def spied(problem: Problem) -> tuple[Problem, Spy]:
    spy = Spy(problem.forget.source)
    return replace(
        problem,
        forget=replace(problem.forget, source=spy),
        retain=replace(problem.retain, source=spy),
    ), spy


def finite(done: Unlearned) -> bool:
    return all(bool(value.isfinite().all()) for value in done.model.state_dict().values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("pictures", [False, True])
@pytest.mark.parametrize("method", FLIPS)
def test_every_method_works_on_a_single_logit(method: str, pictures: bool, precision: str) -> None:
    problem = flipped(pictures=pictures, epochs=5)
    done = problem.run(
        method, options=SHORT.get(method, {}), force=True, watch=Watch(precision=precision)
    )
    assert finite(done)
    assert done.log[0].step == 0
    assert [one.step for one in done.log] == sorted({one.step for one in done.log})
    assert done.log[-1].metrics["val_accuracy"] is not None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("pictures", [False, True])
@pytest.mark.parametrize("method", CLASS)
def test_every_method_works_on_several_logits(method: str, pictures: bool, precision: str) -> None:
    problem = one_class(pictures=pictures, epochs=5)
    done = problem.run(
        method, options=SHORT.get(method, {}), force=True, watch=Watch(precision=precision)
    )
    assert finite(done)
    names = [name for name, _ in problem.model.named_parameters()]
    assert [name for name, _ in done.model.named_parameters()] == names


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_is_stopped_by_its_watch(method: str) -> None:
    problem = one_class() if method in CLASS else flipped()
    watch = Watch()
    watch.stop.set()
    with pytest.raises(JobError, match="stopped"):
        problem.run(method, watch=watch, force=True)


@pytest.mark.parametrize("method", ["retrain", "finetune"])
def test_what_shall_be_forgotten_is_never_learned_from(method: str) -> None:
    problem, spy = spied(flipped(pictures=True))
    problem.run(method)
    assert spy.learned == set(problem.retain.positions)


def test_retrain_starts_from_a_fresh_model_and_not_from_the_one_at_hand() -> None:
    problem = flipped(pictures=True)
    problem.model[-1].bias.data.fill_(99.0)  # type: ignore[index]  # a Sequential
    done = problem.run("retrain", options={"epochs": 1, "lr": 1e-9})
    assert done.model is not problem.model
    assert abs(done.model[-1].bias.item()) < 1  # type: ignore[index]  # as above


@pytest.mark.parametrize("method", ["relabel", "corrected", "restart"])
def test_wrong_labels_are_put_right_and_all_images_read(method: str) -> None:
    problem, spy = spied(flipped(rate=0.4))
    done = problem.run(method)
    assert spy.learned == {*problem.forget.positions, *problem.retain.positions}
    assert done.log[-1].metrics["forget_accuracy_true"] == 1.0
    assert done.log[-1].metrics["forget_accuracy_trained"] == 0.0


def test_relabel_without_the_retained_images_reads_the_forget_set_alone() -> None:
    problem, spy = spied(flipped())
    problem.run("relabel", retain=None)
    assert set(spy.read) == set(problem.forget.positions)


def test_a_method_that_needs_the_retained_images_says_so() -> None:
    with pytest.raises(UsageError, match="retrain reads the images that are to be kept"):
        flipped().run("retrain", retain=None)


def test_what_was_read_is_counted() -> None:
    problem = flipped()
    done = problem.run("relabel", options={"epochs": 3})
    assert done.samples_read == 3 * (len(problem.forget) + len(problem.retain))
    assert done.seconds > 0


def test_the_same_seed_gives_the_same_bits() -> None:
    first, second = (flipped().run("finetune", seed=3).model.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_empty_forget_set_is_refused() -> None:
    problem = flipped()
    with pytest.raises(JobError, match="nothing to forget"):
        problem.run("retrain", forget=problem.forget.subset([]))


def test_forgetting_everything_is_refused() -> None:
    problem = flipped()
    with pytest.raises(JobError, match="everything would be forgotten"):
        problem.run("retrain", retain=problem.retain.subset([]))


def test_without_validation_no_result_is_chosen() -> None:
    problem = flipped()
    with pytest.raises(JobError, match="no validation sample"):
        problem.run("retrain", validation=problem.validation.subset([]))


def test_a_class_that_the_model_does_not_know_is_refused() -> None:
    problem = one_class()
    odd = problem.forget.relabelled([7] * len(problem.forget))
    with pytest.raises(JobError, match="class 7, and the model tells 3 classes apart"):
        problem.run("ng", forget=odd)


def test_an_unknown_method_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UnknownName, match="did you mean scrub"):
        flipped().run("scrubb")


def test_an_unknown_option_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=r"options of scrub: alfa.*it has .*alpha"):
        flipped().run("scrub", options={"alfa": 1})


def test_options_of_another_method_are_refused() -> None:
    with pytest.raises(UsageError, match="these are ScrubOptions, not NgOptions"):
        flipped().run("ng", options=METHODS["scrub"].hyperparameters())


def test_a_broken_model_is_refused_before_anything_is_done() -> None:
    problem = flipped()
    next(problem.model.parameters()).data.fill_(torch.nan)
    with pytest.raises(JobError, match="no finite numbers"):
        problem.run("finetune")


@pytest.mark.parametrize(
    ("build", "goal"), [(flipped, "flips"), (one_class, "class")], ids=["flips", "class"]
)
def test_what_shall_be_forgotten_is_told_by_the_labels(build: Any, goal: str) -> None:
    problem = build()
    other = {"flips": "expand", "class": "relabel"}[goal]
    with pytest.raises(UsageError):  # a method for the other goal
        problem.run(other)


def test_several_classes_that_are_not_kept_are_a_class_unlearning() -> None:
    problem = one_class(classes=4)
    everything = problem.forget + problem.retain
    gone = [row for row, label in enumerate(everything.trained) if label >= 2]
    kept = [row for row, label in enumerate(everything.trained) if label < 2]
    with pytest.raises(UsageError, match="no label is flipped"):
        problem.run("relabel", forget=everything.subset(gone), retain=everything.subset(kept))
    done = problem.run("retrain", forget=everything.subset(gone), retain=everything.subset(kept))
    assert done.log[-1].metrics["val_accuracy"] == 1.0  # of the two that are kept


def test_a_sample_that_is_forgotten_and_kept_at_once_is_refused() -> None:
    problem = flipped(rate=0.4)
    count = len(problem.forget)
    with pytest.raises(JobError, match=f"{count} of {count} samples .* are among those .* kept"):
        problem.run("relabel", retain=problem.forget + problem.retain)


def test_a_first_sample_that_cannot_be_read_is_left_out() -> None:
    problem, spy = spied(flipped())
    spy.torn = {problem.forget.positions[0]}
    assert problem.run("relabel", options={"epochs": 1}).log[-1].metrics["val_accuracy"]
    spy.torn = set(problem.forget.positions)
    with pytest.raises(JobError, match=r"not one of .* to forget could be read"):
        problem.run("relabel")


@pytest.mark.parametrize("frozen", ["body", "head"])
@pytest.mark.parametrize("method", sorted(METHODS))
def test_what_is_frozen_stays_as_it_is_batch_statistics_too(method: str, frozen: str) -> None:
    problem = (one_class if method in CLASS else flipped)(pictures=True, epochs=5)
    *body, head = problem.model.children()
    for part in body if frozen == "body" else [head]:
        part.requires_grad_(False)
    names = {name for name, one in problem.model.named_parameters() if not one.requires_grad}
    if frozen == "body":
        names |= {name for name, _ in problem.model.named_buffers()}
    before = {name: one.clone() for name, one in problem.model.state_dict().items()}
    again = copy.deepcopy(problem.model)
    if frozen == "head" and method in ("exact", "lau"):
        with pytest.raises(JobError, match=r"is frozen|no parameter .* may learn"):
            problem.run(method, force=True)
        return
    done = problem.run(method, options=SHORT.get(method, {}), force=True, fresh=lambda: again)
    after = done.model.state_dict()
    assert [name for name in sorted(names) if not torch.equal(before[name], after[name])] == []
    assert {name for name, one in done.model.named_parameters() if not one.requires_grad} <= names


def test_a_refused_method_is_applied_by_force_and_says_so() -> None:
    problem = flipped(pictures=True)
    with pytest.raises(UsageError, match="force"):
        problem.run("pgu")
    done = problem.run("pgu", force=True, options={"epochs": 1})
    assert done.notes[0].startswith("forced: pgu protects")


def test_validation_of_a_class_that_shall_go_is_left_out() -> None:
    problem = one_class()
    done = problem.run("retrain", options={"epochs": 20, "lr": 0.1})
    assert done.log[-1].metrics["val_accuracy"] == 1.0  # of the two that are kept


def test_any_torch_model_and_tensors_will_do(tmp_path: Path) -> None:
    inputs, labels = torch.randn(40, 5), torch.arange(40) % 4
    model = torch.nn.Linear(5, 4)
    kept = labels != 3
    done = unlearning.run(
        "ng",
        model,
        forget=examples(inputs[~kept], labels[~kept]),
        retain=examples(inputs[kept], labels[kept]),
        validation=examples(inputs[kept], labels[kept]),
        cache=tmp_path,
    )
    assert json.dumps([dict(step.metrics) for step in done.log])


def test_naming_methods_loads_no_torch() -> None:
    code = (
        "import sys, trueface.unlearning, trueface.unlearning.settings, trueface.unlearning.registry;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_perceptron_and_a_network_are_what_the_tests_take_them_for() -> None:
    assert perceptron(1)(torch.zeros(2, 2)).shape == (2, 1)
    assert network(4)(torch.zeros(2, 3, 8, 8)).shape == (2, 4)
    with pytest.raises(ValueError, match="needs its labels"):
        Examples(source=flipped().forget.source, positions=(0, 1), trained=(1,), true=(0, 1))


def test_half_precision_without_scaled_gradients_is_refused() -> None:
    with pytest.raises(UsageError, match="take bf16 or fp32"):
        flipped().run("scrub", watch=Watch(precision="fp16"))


def test_what_only_the_log_asks_for_is_not_counted() -> None:
    problem = flipped()
    done = problem.run("rl", options={"epochs": 3})
    assert done.samples_read == 3 * len(problem.forget)
    assert "val_accuracy" in done.log[1].metrics


def test_weights_that_are_no_numbers_are_refused_though_no_answer_shows_it() -> None:
    problem = one_class()
    problem.model.register_parameter("idle", nn.Parameter(torch.tensor([1.0, float("nan")])))
    with pytest.raises(JobError, match="1 of 2 values of idle are no finite numbers"):
        problem.run("finetune")
