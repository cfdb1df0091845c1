"""Logits of any classifier: K of them, or one, which equals the two logits 0 and z.

The softmax of (0, z) is (1 - sigmoid(z), sigmoid(z)), and its cross entropy is the binary one.
Methods therefore do not depend on the number of logits of a model.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.data.examples import Examples
from trueface.models.detectors import Classifier
from trueface.models.head import MlpHead, capture_inputs, head_of, linear_layers, pre_logits
from trueface.runtime.errors import JobError
from trueface.runtime.precision import autocast
from trueface.runtime.progress import RunContext


def as_multiclass_logits(logits: Tensor) -> Tensor:
    """Return logits (B, K), K >= 2, of logits (B, K), (B, 1), (B,) or (), as float32."""
    if not isinstance(logits, Tensor):
        raise JobError(f"the model must return a tensor of logits, got {type(logits).__name__}")
    logits = logits.float()
    if logits.ndim < 2:  # squeezed by the model; of a batch of one no dimension is left
        logits = logits.reshape(-1, 1)
    if logits.shape[1] == 1:
        return torch.cat([torch.zeros_like(logits), logits], 1)
    return logits


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross entropy of wide logits (B, K) and classes (B,)."""
    return functional.cross_entropy(logits, labels)


def probability_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the probability (B,) that wide logits (B, K) give to classes (B,)."""
    return logits.softmax(1).gather(1, labels[:, None]).squeeze(1)


def last_layer(model: nn.Module) -> tuple[str, nn.Linear]:
    """Return the last linear layer of a model and its name.

    A classifier says which one it is; of other models it is the last in the order of registration.

    Raises:
        JobError: it has none.
    """
    if isinstance(model, Classifier) and model.spec.head:
        return f"network.{model.spec.head}", model.head
    if isinstance(model, MlpHead):  # its own last layer; the one within is before it
        return "", model
    names = linear_layers(model)
    if not names:
        raise JobError(
            "this model has no linear layer, so it cannot be split into backbone and head"
        )
    return names[-1], head_of(model, names[-1])


class BackboneHeadSplit:
    """A model as its body, which makes features, and its head, the last linear layer."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.name, self.head = last_layer(model)

    @property
    def width(self) -> int:
        """How many features a sample has."""
        return self.head.weight.shape[1]

    def features(self, inputs: Tensor) -> Tensor:
        """Return the features (B, F) float32 of inputs (B, …) for the current model.

        For a model that averages over several crops it is their mean feature. For a ridge head they
        are standardised, and for a two-layer head they are its hidden units. The head's weights and
        bias give the logits.

        Raises:
            JobError: the output of the head differs from that of the model.
        """
        with capture_inputs(self.head) as caught:
            logits = as_multiclass_logits(self.model(inputs))
        if len(caught) != 1:
            raise JobError(
                f"layer {self.name} was used {len(caught)} times in one forward pass, expected once"
            )
        raw = caught[0].float().reshape(len(inputs), -1, caught[0].shape[-1]).mean(1)
        features = pre_logits(self.head, raw)
        again = as_multiclass_logits(
            functional.linear(features, self.head.weight.float(), _bias(self.head))
        )
        if again.shape != logits.shape or not torch.allclose(again, logits, rtol=0.05, atol=0.05):
            raise JobError(
                f"the output of the model does not come from its last linear layer ({self.name}), "
                "so it cannot be split into backbone and head"
            )
        return features

    def compute_features(self, samples: Examples, watch: RunContext) -> tuple[Tensor, Tensor]:
        """Return features (N, F) float32 and positions (N,) of samples in a test, on the CPU.

        Raises:
            JobError: stopped, none could be read, a feature is not finite, or see `features`.
        """
        with torch.inference_mode(), autocast(watch.device, watch.precision):
            read = [
                (self.features(batch.inputs).cpu(), batch.indices) for batch in samples.read(watch)
            ]
        features, positions = (torch.cat(parts) for parts in zip(*read, strict=True))
        if not features.isfinite().all():
            raise JobError(
                "the features are not finite numbers. Train the model again with a lower lr."
            )
        return features, positions


def _bias(layer: nn.Linear) -> Tensor | None:
    bias: Tensor | None = layer.bias  # torch says that it is always there
    return None if bias is None else bias.float()
