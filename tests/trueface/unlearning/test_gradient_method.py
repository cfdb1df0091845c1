"""The loop and the services of methods that take gradient steps, with methods that a user would write."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trueface.unlearning.build import make_class_task, make_request
from trueface.data.batch import Batch
from trueface.unlearning import api
from trueface.unlearning.api import Request
from trueface.unlearning.gradient_method import GradientMethod
from trueface.unlearning.hyperparameters import DescentOptions
from trueface.unlearning.registry import Loaded, Method

OPTIONS = DescentOptions(epochs=2, batch_size=8, lr=0.05)


class Distance(GradientMethod[DescentOptions]):
    """Keep the logits of the model before unlearning."""

    keeps_original = True

    def compute_loss(self, batch: Batch) -> Tensor:
        return (self.logits(batch.inputs) - self.original_logits(batch.inputs)).square().mean()


class Stopping(GradientMethod[DescentOptions]):
    """End after one epoch."""

    def is_finished(self) -> bool:
        return len(self.log) == 1

    def notes(self) -> tuple[str, ...]:
        return (f"{len(self.log)} epoch",)


def test_original_logits_need_a_declaration() -> None:
    method = Stopping(make_request(make_class_task(), OPTIONS, goal="class"))
    with pytest.raises(TypeError, match="Stopping needs keeps_original"):
        method.original_logits(torch.rand(2, 2))


def test_retain_loss_is_zero_without_weight_and_without_retain_set() -> None:
    task = make_class_task()
    assert Distance(make_request(task, OPTIONS)).retain_loss(0) == 0
    assert Distance(make_request(task, OPTIONS, retain=None)).retain_loss() == 0
    with torch.no_grad():
        one, two = (Distance(make_request(task, OPTIONS)).retain_loss(at) for at in (1.0, 2.0))
    assert float(two) == pytest.approx(2 * float(one))


def test_batches_of_the_retain_set_go_on_with_the_next_pass() -> None:
    task = make_class_task()
    method = Distance(make_request(task, OPTIONS, goal="class"))
    assert method.request.retain is not None
    count, read = len(method.request.retain), 0
    while read < 2 * count:
        batch = method.next_retain_batch()
        assert batch is not None
        read += len(batch.labels)
        assert len(batch.labels) <= OPTIONS.batch_size
    assert read == 2 * count  # a pass ends with a smaller batch
    assert Distance(make_request(task, OPTIONS, retain=None)).next_retain_batch() is None


def test_method_ends_if_it_is_finished() -> None:
    result = Stopping(make_request(make_class_task(), OPTIONS, goal="class")).run()
    assert (len(result.log), result.notes) == (1, ("1 epoch",))


class Ruining(Stopping):
    """Change the model after the last epoch was measured."""

    def notes(self) -> tuple[str, ...]:
        for value in self.model.parameters():
            value.data.zero_()
        return ()


@pytest.mark.parametrize(("method", "measured"), [(Stopping, False), (Ruining, True)])
def test_result_is_measured_again_only_if_the_model_changed_after_the_last_epoch(
    method: type[Stopping], measured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict, models = Request.predict_sets, []

    def counted(self: Request, *given: Any, **more: Any) -> Any:
        models.append(self.model)
        return predict(self, *given, **more)

    monkeypatch.setattr(Request, "predict_sets", counted)
    declared = Method("stopping", summary="ends", hyperparameters=DescentOptions)
    loaded = Loaded(method=declared, function=method)
    monkeypatch.setattr(api, "load", lambda _: loaded)
    request = make_request(make_class_task(), OPTIONS, goal="class")
    report = api.apply_method("stopping", request)
    assert len(models) == 2 + measured
    last = dict(report.log[-1].metrics)
    assert last == api.accuracies_of(predict(request))
    assert (last["val_accuracy"] == pytest.approx(1 / 3)) is measured


def test_values_of_an_epoch_are_logged_before_the_accuracies() -> None:
    class Logging(Stopping):
        def take_epoch(self) -> Mapping[str, float]:
            return {**super().take_epoch(), "passes": 1.0}

    result = Logging(make_request(make_class_task(), OPTIONS, goal="class")).run()
    assert list(result.log[0].metrics)[:3] == ["loss", "passes", "forget_accuracy_trained"]
