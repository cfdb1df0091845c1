"""Fisher forgetting."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.trueface.unlearning.build import (
    SmallTask,
    make_class_task,
    make_flip_task,
    make_request,
    split_task,
)
from tests.trueface.unlearning.checks import (
    points_and_pictures,
)
from trueface.data.examples import examples
from trueface.models.logits import as_multiclass_logits
from trueface.unlearning.methods.fisher import (
    MORE,
    MOST,
    MOST_LAST,
    ROW_VARIANCE,
    FisherOptions,
    _importances,
    variance,
)


def exact_fisher_diagonal(task: SmallTask) -> dict[str, Tensor]:
    """Return the exact diagonal of the Fisher information, computed per image and class."""
    named = dict(task.model.named_parameters())
    sums = {name: torch.zeros_like(one) for name, one in named.items()}
    inputs = torch.cat([batch.inputs for batch in task.retain.batches("trained", epoch=None)])
    for image in inputs:
        logs = as_multiclass_logits(task.model(image[None])).log_softmax(1)[0]
        for log in logs:
            found = torch.autograd.grad(log, tuple(named.values()), retain_graph=True)
            for name, one in zip(named, found, strict=True):
                sums[name] += log.exp().detach() * one.square()
    return {name: one / len(inputs) for name, one in sums.items()}


class Branching(nn.Module):
    """A model that branches on its values and cannot be vectorized."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the inner model's logits."""
        logits: Tensor = self.inner(inputs)
        return logits if float(logits.detach().sum()) < 1e9 else -logits


class Striped(nn.Module):
    """A model that asks for a memory format."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the inner model's logits."""
        logits: Tensor = self.inner(inputs.contiguous(memory_format=torch.channels_last))
        return logits


@points_and_pictures
def test_weighting_all_classes_gives_the_exact_information(pictures: bool) -> None:
    task = make_class_task(pictures=pictures, epochs=2)
    notes: list[str] = []
    found, _ = _importances(make_request(task, FisherOptions(exact=True)), task.retain, notes)
    for name, one in exact_fisher_diagonal(task).items():
        torch.testing.assert_close(found[name], one, rtol=1e-3, atol=1e-6)
    assert notes == []


def test_one_drawn_class_per_image_gives_the_same_mean() -> None:
    task = make_flip_task(epochs=2)
    notes: list[str] = []
    exact, _ = _importances(make_request(task, FisherOptions(exact=True)), task.retain, notes)
    drawn = [
        _importances(make_request(task, FisherOptions(), seed=seed), task.retain, notes)[0]
        for seed in range(40)
    ]
    mean = torch.stack([one["2.weight"] for one in drawn]).mean(0)
    torch.testing.assert_close(mean, exact["2.weight"], rtol=0.25, atol=0.02)


def test_model_that_cannot_be_vectorized_is_read_image_by_image() -> None:
    task = make_flip_task(pictures=True, epochs=2)
    branching = replace(task, model=Branching(task.model))
    notes: list[str] = []
    quick, loss = _importances(make_request(task, FisherOptions()), task.retain, notes)
    assert notes == []
    slow, same = _importances(make_request(branching, FisherOptions()), task.retain, notes)
    assert "image by image" in notes[0]
    assert len(notes) == 1
    assert loss == pytest.approx(same)
    for name, one in quick.items():
        torch.testing.assert_close(slow[f"inner.{name}"], one, rtol=1e-3, atol=1e-7)


def test_memory_format_does_not_prevent_vectorization() -> None:
    task = make_flip_task(pictures=True, epochs=2)
    notes: list[str] = []
    striped = replace(task, model=Striped(task.model))
    found, _ = _importances(make_request(striped, FisherOptions()), task.retain, notes)
    plain, _ = _importances(make_request(task, FisherOptions()), task.retain, notes)
    assert notes == []
    for name, one in plain.items():
        torch.testing.assert_close(found[f"inner.{name}"], one, rtol=1e-3, atol=1e-7)


def spread_of(importance: torch.Tensor, options: FisherOptions, *, last: bool) -> torch.Tensor:
    """Return the variance of the noise if a class is forgotten."""
    return variance(importance, options, last=last, forgets_class=True)


def test_unused_weights_get_the_cap() -> None:
    options = FisherOptions(alpha=1e-4)
    nothing = torch.zeros(3, 4, 2, 2)
    torch.testing.assert_close(
        spread_of(nothing, options, last=False), torch.full_like(nothing, 1e-4 * MOST)
    )
    vector = torch.zeros(3)
    torch.testing.assert_close(
        spread_of(vector, options, last=False), torch.full_like(vector, 1e-4 * MOST * MORE)
    )
    matrix = torch.zeros(3, 4)
    torch.testing.assert_close(
        spread_of(matrix, options, last=True), torch.full_like(matrix, 1e-4 * MOST_LAST * MORE)
    )


def test_last_layer_gets_more_noise_only_if_a_class_is_forgotten() -> None:
    options = FisherOptions()
    weight, bias = torch.ones(3, 4), torch.ones(3)
    for forgets_class, factor in ((True, MORE), (False, 1.0)):
        found = variance(weight, options, last=True, forgets_class=forgets_class)
        torch.testing.assert_close(found, torch.full_like(weight, options.alpha * factor))
        found = variance(bias, options, last=True, forgets_class=forgets_class)
        torch.testing.assert_close(found, torch.full_like(bias, options.alpha * MORE))


def test_important_weights_move_less_and_a_matrix_moves_by_rows() -> None:
    options = FisherOptions()
    needed = torch.tensor([[1.0, 1.0], [100.0, 300.0]])
    found = spread_of(needed, options, last=False)
    torch.testing.assert_close(
        found, options.alpha * torch.tensor([[1.0, 1.0], [1 / 150, 1 / 150]])
    )


def test_row_of_a_class_is_forgotten() -> None:
    task = make_class_task(pictures=True)
    done = task.run("fisher", options={"alpha": 1e-12})
    last = done.model[-1]  # type: ignore[index]  # a Sequential
    row = torch.cat([last.weight[2], last.bias[2:]]).detach()
    assert 0 < float(row.abs().max()) < 5 * ROW_VARIANCE**0.5
    assert float(last.weight[0].detach().abs().max()) > 0.1
    assert done.notes == ()


def test_single_logit_has_no_row_to_forget_and_a_note() -> None:
    task = make_flip_task()
    right = task.validation
    rows = [row for row, label in enumerate(right.trained) if label == 1]
    rest = [row for row, label in enumerate(right.trained) if label == 0]
    done = task.run(
        "fisher", forget=right.subset(rows), retain=right.subset(rest), goal="class", force=True
    )
    assert "no separate row" in done.notes[1]


def test_single_linear_layer_over_features_is_accepted() -> None:
    inputs = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    labels = (inputs[:, 0] > 0).long()
    every = examples(inputs, labels)
    model = nn.Linear(4, 1)
    task = split_task(model, every, range(5))
    before = model.weight.detach().clone()
    logits = model(inputs[5:])[:, 0].detach()
    loss = functional.binary_cross_entropy_with_logits(logits, labels[5:].float())
    done = task.run("fisher")
    assert done.log[1].metrics["loss"] == pytest.approx(float(loss), rel=1e-5)
    assert not torch.equal(before, model.weight)
