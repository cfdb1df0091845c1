import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from launcher.api import JobError
from trueface.data.batch import Batch
from trueface.data.examples import examples
from trueface.evaluation.forward import predict_examples
from trueface.evaluation.inference import evaluate
from trueface.runtime.progress import RunContext


class Mean(nn.Module):
    """A model whose logit is the mean of the pixels, or a given value."""

    def __init__(self, says: float | None = None) -> None:
        super().__init__()
        self.says = says

    def forward(self, pixels: Tensor) -> Tensor:
        if self.says is not None:
            return torch.full((len(pixels), 1), self.says)
        return pixels.float().flatten(1).mean(1, keepdim=True)


def batches(order: list[int], size: int = 2) -> Iterator[Batch]:
    for at in range(0, len(order), size):
        chosen = torch.tensor(order[at : at + size])
        images = chosen.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
        yield Batch(images, (chosen % 2)[:, None].float(), chosen)


def test_outputs_follow_the_order_of_the_dataset_not_of_the_batches() -> None:
    answers = evaluate(Mean(), batches([4, 0, 2, 1, 3]), total=5, watch=RunContext())
    assert answers.positions.tolist() == [0, 1, 2, 3, 4]
    assert answers.margin.tolist() == [0, 1, 2, 3, 4]
    assert answers.labels.tolist() == [0, 1, 0, 1, 0]


def test_model_is_set_to_evaluation_mode() -> None:
    model = Mean().train()
    evaluate(model, batches([0, 1]), total=2, watch=RunContext())
    assert not model.training


def test_evaluation_can_be_stopped_between_batches() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(JobError, match="stopped after 0 of 4 images"):
        evaluate(Mean(), batches([0, 1, 2, 3]), total=4, watch=RunContext(stop=stop))


def test_progress_ends_at_the_number_of_images() -> None:
    told: list[dict[str, int]] = []
    watch = RunContext(progress=lambda **numbers: told.append(numbers))
    evaluate(Mean(), batches([0, 1, 2]), total=3, watch=watch)
    assert told[-1] == {"step": 3, "total": 3}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_gives_float32_logits_close_to_the_exact_ones(precision: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 1))
    pixels = torch.rand(6, 3, 4, 4)

    def one_batch() -> Iterator[Batch]:
        yield Batch(pixels, torch.zeros(6, 1), torch.arange(6))

    exact, half = (
        evaluate(model, one_batch(), total=6, watch=RunContext(precision=kind)).margin
        for kind in ("fp32", precision)
    )
    assert not (exact == half).all()
    assert abs(exact - half).max() < 0.02


def test_features_are_evaluated_by_the_head_alone() -> None:
    answers = evaluate(
        Mean(says=5.0),
        batches([0, 1, 2]),
        total=3,
        watch=RunContext(),
        forward=lambda features: features.float().mean((1, 2, 3))[:, None] + 1,
    )
    assert answers.margin.tolist() == [1, 2, 3]


def layer() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def test_predictions_keep_order_labels_and_names() -> None:
    inputs = torch.randn(5, 3)
    said = predict_examples(
        layer(), examples(inputs, [0, 1, 0, 1, 1], [1] * 5), RunContext(), list("abcde")
    )
    assert said.logits.shape == (5, 2)
    assert np.allclose(said.logits[:, 1], layer()(inputs).detach().numpy()[:, 0])
    assert (said.logits[:, 0] == 0).all()
    assert said.ids == tuple("abcde")
    assert said.labels_of("true").tolist() == [1] * 5


def test_accuracy_is_none_without_a_known_label() -> None:
    some = examples(torch.randn(4, 3), [0, 1, 0, 1])
    assert predict_examples(layer(), some, RunContext()).accuracy("true") is None


def test_non_finite_logits_are_rejected() -> None:
    model = layer()
    next(model.parameters()).data.fill_(torch.inf)
    with pytest.raises(JobError, match="4 of 4 predictions are not finite numbers"):
        predict_examples(model, examples(torch.ones(4, 3), [0] * 4), RunContext())


def test_dataset_without_samples_has_no_predictions() -> None:
    with pytest.raises(JobError, match="none of the 0 samples could be read"):
        predict_examples(layer(), examples(torch.ones(0, 3), []), RunContext())


@pytest.mark.parametrize(
    ("order", "says", "match"),
    [
        ([0, 1, 1], None, "1 images were scored twice"),
        ([0, 1, 2], torch.nan, "3 of 3 logits are not finite numbers"),
        ([], None, "none of the 3 images was scored"),
    ],
)
def test_images_without_one_score_each_are_an_error(
    order: list[int], says: float | None, match: str
) -> None:
    with pytest.raises(JobError, match=match):
        evaluate(Mean(says), batches(order), total=3, watch=RunContext())
