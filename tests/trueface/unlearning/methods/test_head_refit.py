"""The last layer fitted again: by steps, and exactly."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from launcher.api import JobError
from tests.trueface.training.ridge.build import rows
from tests.trueface.unlearning.build import SmallTask, inputs_of, make_flip_task, split_task
from tests.trueface.unlearning.checks import copy_weights, has_changed, last_metric
from trueface.data.batch import Batch
from trueface.data.examples import Examples, RowSet, examples, source_of
from trueface.data.loading.loader import PassRequest
from trueface.models.head import MlpHead
from trueface.training.ridge_regression import FeatureRows, Standardization
from trueface.unlearning.methods.head_refit import DECAYS, is_fitted_on


def make_linear_task(
    classes: int, *, bias: bool = True, seed: int = 0
) -> tuple[SmallTask, Tensor, Tensor]:
    """Return a linear layer over features of different scales, with some flipped labels as the forget set."""
    rng = torch.Generator().manual_seed(seed)
    scales = torch.tensor([3.0, 1.0, 0.3, 1.0, 0.1])
    inputs = (torch.randn(240, 5, generator=rng) * scales) + torch.tensor([5.0, 0, 1, -2, 0])
    noise = torch.randn(240, classes, generator=rng)
    mix = torch.randn(5, classes, generator=rng) / scales[:, None]
    right = ((inputs - inputs.mean(0)) @ mix + noise).argmax(1)
    trained = right.clone()
    trained[:40] = (right[:40] + 1) % classes
    every = examples(inputs, trained, right)
    torch.manual_seed(seed)
    model = nn.Linear(5, 1 if classes == 2 else classes, bias=bias)
    checked = examples(inputs[200:], right[200:])
    task = split_task(
        model, every, range(40), kept=range(40, 200), validation=checked, classes=classes
    )
    return task, inputs[:200], right[:200]


def probabilities(
    model: nn.Module, inputs: Tensor
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    with torch.inference_mode():
        said = model(inputs).double()
    if said.shape[1] == 1:
        said = torch.cat([torch.zeros_like(said), said], 1)
    found: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = said.softmax(1).numpy()
    return found


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("decay", [1.0, 0.01])
def test_minimum_equals_that_of_another_solver(classes: int, decay: float, bias: bool) -> None:
    task, inputs, right = make_linear_task(classes, bias=bias)
    task.run("exact", options={"decay": decay, "steps": 300})
    scale = float(inputs.double().var(0, correction=0).mean().sqrt())
    other = LogisticRegression(
        C=1 / (decay * len(inputs)), fit_intercept=bias, tol=1e-9, max_iter=10_000
    ).fit((inputs / scale).numpy().astype(np.float64), right.numpy())
    expected = other.predict_proba((inputs / scale).numpy().astype(np.float64))
    assert np.abs(probabilities(task.model, inputs) - expected).max() < 1e-3
    if classes == 2:
        weight = task.model.weight.detach().numpy() * scale  # type: ignore[operator]
        assert np.abs(weight - other.coef_).max() < 1e-3


def test_only_the_last_layer_changes_and_corrects_all_labels_with_its_single_logit() -> None:
    task = make_flip_task(pictures=True)
    before = copy.deepcopy(task.model).state_dict()
    done = task.run("exact")
    after = done.model.state_dict()
    changed = {name for name, one in after.items() if not torch.equal(one, before[name])}
    assert changed == {"8.weight", "8.bias"}
    assert last_metric(done, "forget_accuracy_true") == 1
    assert last_metric(done, "val_accuracy") == 1
    assert done.model[-1].weight.shape == (1, 16)  # type: ignore[index]  # a Sequential
    assert len(done.log) == 2 + len(DECAYS)
    assert "fitted on 64 samples" in done.notes[0]


def test_features_are_read_again_for_another_backbone_and_not_for_other_labels_or_splits(
    tmp_path: Path,
) -> None:
    task = make_flip_task()
    every = task.forget + task.retain
    first = task.run("exact", cache=tmp_path)
    held = copy_weights(first.model)
    second = task.run("exact", cache=tmp_path)  # with another head than at first
    assert first.cached_samples == second.cached_samples >= 64
    assert second.samples_read == 0
    assert not has_changed(held, second.model)
    sound = every.replace_labels(every.true or ())
    for samples, goal in ((every, "flips"), (sound, "instances")):
        task.run(
            "exact",
            cache=tmp_path,
            forget=samples.subset(range(9)),
            retain=samples.subset(range(9, 64)),
            goal=goal,
        )
    assert len(list(tmp_path.iterdir())) == 2
    with torch.no_grad():
        task.model[0].bias.add_(1.0)  # type: ignore[index]
    task.run("exact", cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_truncated_file_is_computed_again(tmp_path: Path) -> None:
    task = make_flip_task()
    held = copy_weights(task.run("exact", cache=tmp_path).model)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:300])
    assert not has_changed(held, task.run("exact", cache=tmp_path).model)
    assert all(path.stat().st_size > 300 for path in tmp_path.iterdir())


def test_head_is_fitted_on_retained_samples_without_true_labels() -> None:
    task, inputs, right = make_linear_task(2)
    unknown = replace(task.forget, true=None)
    done = task.run("exact", forget=unknown, goal="flips", options={"decay": 0.1})
    assert "fitted on 160 samples" in done.notes[0]
    alone = probabilities(done.model, inputs)
    reference, _, _ = make_linear_task(2)
    reference.run("exact", forget=unknown, goal="instances", options={"decay": 0.1})
    assert np.array_equal(alone, probabilities(reference.model, inputs))
    assert len(right) == 200


def test_forget_set_with_right_labels_is_enough_without_retained_samples() -> None:
    task = make_flip_task()
    done = task.run("exact", retain=None, force=True)
    assert f"fitted on {len(task.forget)} samples" in done.notes[-1]
    with pytest.raises(JobError, match="nothing to learn from"):
        task.run("exact", retain=None, force=True, goal="instances")


def test_samples_of_two_sources_are_both_read() -> None:
    task, inputs, right = make_linear_task(2)
    apart = task.run(
        "exact",
        forget=examples(inputs[:40], 1 - right[:40], right[:40]),
        retain=examples(inputs[40:], right[40:]),
        options={"decay": 0.1},
    )
    together, _, _ = make_linear_task(2)
    together.run("exact", options={"decay": 0.1})
    found = probabilities(apart.model, inputs)
    assert np.allclose(found, probabilities(together.model, inputs), atol=1e-5)


def test_unreadable_samples_are_left_out() -> None:
    task = make_flip_task()

    class Gaps(RowSet):
        """A dataset in which every fourth sample is unreadable."""

        def load(self, request: PassRequest) -> Iterator[Batch]:
            some = [position for position in request.positions if position % 4]
            return RowSet.load(self, replace(request, positions=some))

    def gappy(some: Examples) -> Examples:
        inputs = inputs_of(task.retain)
        gaps = Gaps(len(inputs), lambda _: inputs.__getitem__)
        return replace(some, source=source_of(gaps, lambda: "gaps", seed=0))

    done = task.run("exact", forget=gappy(task.forget), retain=gappy(task.retain))
    assert "fitted on 48 samples" in done.notes[0]


def test_last_layer_with_a_hidden_layer_is_rejected() -> None:
    task = replace(make_flip_task(), model=MlpHead(2, width=8))
    with pytest.raises(JobError, match="hidden layer that also learned from the forget set"):
        task.run("exact")


def test_rows_that_a_layer_was_not_fitted_on_are_recognized() -> None:
    fitted = rows(400, 60)
    standard = Standardization.from_rows(fitted)
    rounded = [part + np.float32(1e-6) for part in fitted.parts]
    assert is_fitted_on(FeatureRows.from_parts(rounded, fitted.labels), standard)
    other = [fitted.parts[0], fitted.parts[1].copy()]
    other[1][:10] += 1.0  # copies of ten images were corrupted otherwise
    assert not is_fitted_on(FeatureRows.from_parts(other, fitted.labels), standard)
