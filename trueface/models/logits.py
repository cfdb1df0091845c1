"""Logits of any classifier: K logits, or one logit z, which is equivalent to the two logits (0, z).

The softmax of (0, z) is (1 - sigmoid(z), sigmoid(z)), and its cross-entropy is the binary one.
Methods therefore do not depend on the number of logits of a model.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.data.examples import Examples
from trueface.data.loading.transfers import iter_outputs
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
    if logits.ndim < 2:  # squeezed by the model, for a batch of one down to a scalar
        logits = logits.reshape(-1, 1)
    if logits.shape[1] == 1:
        return torch.cat([torch.zeros_like(logits), logits], 1)
    return logits


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits (B, K), K >= 2, and classes (B,)."""
    return functional.cross_entropy(logits, labels)


def kl_divergence(target: Tensor, logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return KL(softmax(target/T) || softmax(logits/T)) of logits (B, K), K >= 2, mean over B.

    Its gradient in `logits` is that of the cross-entropy with the soft labels softmax(target/T).
    Distillation multiplies it by T² (G. Hinton et al., arXiv 1503.02531, section 2).
    """
    return functional.kl_div(
        (logits / temperature).log_softmax(1),
        (target / temperature).log_softmax(1),
        reduction="batchmean",
        log_target=True,
    )


def probability_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the probability (B,) of classes (B,) under logits (B, K), K >= 2."""
    return logits.softmax(1).gather(1, labels[:, None]).squeeze(1)


def last_layer(model: nn.Module) -> tuple[str, nn.Linear]:
    """Return the last linear layer of a model and its name.

    A classifier declares its last layer. For other models it is the linear layer that was registered
    last.

    Raises:
        JobError: the model has no linear layer.
    """
    if isinstance(model, Classifier) and model.spec.head != "":
        return f"network.{model.spec.head}", model.head
    if isinstance(model, MlpHead):  # it is a linear layer itself; the layer inside it comes before
        return "", model
    names = linear_layers(model)
    if not names:
        raise JobError(
            "this model has no linear layer, so it cannot be split into backbone and head"
        )
    return names[-1], head_of(model, names[-1])


class BackboneHeadSplit:
    """A model split into its backbone, which computes features, and its head, the last linear layer."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.name, self.head = last_layer(model)
        self._is_checked = False

    @property
    def width(self) -> int:
        """Number of features of a sample."""
        return self.head.weight.shape[1]

    def features(self, inputs: Tensor) -> Tensor:
        """Return the features (B, F) float32 of inputs (B, …) for the current weights.

        If the model averages over several crops, these are the mean features. The features of a ridge
        head are standardised. Those of a two-layer head are its hidden units. The logits are a linear
        function of the features, with the weights and bias of the head. The first batch shows whether
        it is, because the comparison waits for the device.

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
        if not self._is_checked:
            self._check_features(features, logits)
            self._is_checked = True
        return features

    def _check_features(self, features: Tensor, logits: Tensor) -> None:
        again = as_multiclass_logits(
            functional.linear(features, self.head.weight.float(), _bias(self.head))
        )
        if again.shape != logits.shape or not torch.allclose(again, logits, rtol=0.05, atol=0.05):
            raise JobError(
                f"the output of the model does not come from its last linear layer ({self.name}), "
                "so it cannot be split into backbone and head"
            )

    def compute_features(self, samples: Examples, watch: RunContext) -> tuple[Tensor, Tensor]:
        """Return the features (N, F) float32 and positions (N,) of samples, on the CPU.

        Raises:
            JobError: the job was stopped, no sample could be read, a feature is not finite, or as
                for `features`.
        """
        with torch.inference_mode(), autocast(watch.device, watch.precision):
            read = [
                (values, batch.indices)
                for batch, (values,) in iter_outputs(
                    samples.read_batches(watch),
                    lambda batch, send: (self.features(send(batch.inputs)),),
                    watch.device,
                )
            ]
        features, positions = (torch.cat(parts) for parts in zip(*read, strict=True))
        if not features.isfinite().all():
            raise JobError(
                "the features are not finite numbers. Train the model again with a lower lr."
            )
        return features, positions


def _bias(layer: nn.Linear) -> Tensor | None:
    bias: Tensor | None = layer.bias  # torch's type omits None
    return None if bias is None else bias.float()
