"""Classifiers: networks with K logits and their preprocessing.

A detector is a classifier of real and fake images. It has one logit, positive = fake. Any network
that `@register_model` registers can be a detector; see `registry`. The parameters have the names of
the library that builds the network, so that published weights can be loaded.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from math import frexp, prod
from types import MappingProxyType
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from trueface.data.batch import CLIP_DIMENSIONS
from trueface.data.clips import Clips
from trueface.data.landmarks import POINTS
from trueface.models.assembly import BuildOptions, assemble
from trueface.models.head import MlpHead, capture_inputs, head_of, linear_layers, refuse_small
from trueface.models.registry import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LANDMARKS,
    ClassifierShape,
    ModelSpec,
    Triple,
    load_classifier_maker,
    spec_of_classifier,
    three_numbers,
    unfit_clips,
    unfit_side,
    without_last_layer,
)
from trueface.runtime.errors import JobError, UnknownName
from trueface.runtime.rng import stream_seed

DetectorT = TypeVar("DetectorT", bound="Detector")
log = logging.getLogger(__name__)
OWN = "model"  # the normalization of the architecture
# "half" maps pixels to -1 … 1, as weights that come from TensorFlow expect
NORMALIZATIONS: Mapping[str, tuple[Triple, Triple]] = MappingProxyType(
    {"imagenet": (IMAGENET_MEAN, IMAGENET_STD), "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))}
)


def normalization_numbers(normalization: str) -> tuple[Triple, Triple] | None:
    """Return mean and standard deviation of a normalization, or None for that of the architecture.

    Args:
        normalization: "model", a key of `NORMALIZATIONS`, or the numbers of a published model, as in
            "0.5,0.5,0.5/0.25,0.25,0.25".

    Raises:
        UnknownName: it is none of these.
    """
    if normalization == OWN:
        return None
    mean, slash, std = normalization.partition("/")
    if not slash and normalization in NORMALIZATIONS:
        return NORMALIZATIONS[normalization]
    try:
        return three_numbers(mean), three_numbers(std)
    except ValueError:
        raise UnknownName("normalization", normalization, (OWN, *NORMALIZATIONS)) from None


class Classifier(nn.Module):
    """A network with its preprocessing.

    The input is pixels as stored in files. The network normalises them on the device, so that
    training and tests use the same mean and standard deviation.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        spec: ModelSpec,
        network: nn.Module,
        *,
        normalization: str = OWN,
        channels_last: bool = True,
        nodown: bool = False,
        shape: ClassifierShape | None = None,
    ) -> None:
        super().__init__()
        self.spec, self.network = spec, network
        self.normalization, self.channels_last = normalization, channels_last
        self.nodown = nodown  # only for detectors; see `build_detector`
        self.shape = shape  # only for classifiers of K classes; see `build_classifier`
        # whether a detector of images accepts clips. Otherwise it refuses them, as a caller may take frames for crops
        self.scores_clips = False
        mean, std = normalization_numbers(normalization) or (spec.mean, spec.std)
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        # one number for all channels is faster than three; division by a power of two is exact
        even = len({*mean}) == len({*std}) == 1 and frexp(std[0])[0] == 0.5
        self._even = (mean[0], std[0]) if even else None

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the K logits of each image or clip, (B, K).

        A detector of images scores a clip by the mean probability of its frames.

        Args:
            pixels: (B, 3, H, W), or (B, C, 3, H, W) for the mean logits of C crops of each image;
                uint8, or float32 in [0, 1]. Clips are (B, C, T, 3, H, W); see `scores_clips`. A network of
                landmarks gets those of clips, (B, T, 68, 2).

        Raises:
            JobError: the network does not take them.
        """
        if self.spec.inputs == LANDMARKS:
            of_landmarks: Tensor = self.network(self.normalize_landmarks(pixels))
            return of_landmarks
        self._refuse_dimensions(pixels)
        logits: Tensor = self.network(self.normalize_pixels(pixels))
        if pixels.ndim == CLIP_DIMENSIONS and self.spec.frames is None:
            crops, frames = pixels.shape[1:3]
            of_frames = logits.view(len(pixels), crops, frames, logits.shape[-1]).mean(1)
            return logit_of_mean(of_frames, 1)
        if self.spec.frames is not None:
            return logits.view(len(pixels), pixels.shape[1], logits.shape[-1]).mean(1)
        # B may be 0 if several processes share a batch
        return logits.view(len(pixels), prod(pixels.shape[1:-3]), logits.shape[-1]).mean(1)

    def forward_features(self, pixels: Tensor) -> Tensor:
        """Return the input of the last layer, (B, F) float32.

        For several crops it is their mean input. Because the last layer is linear, `forward_head`
        returns the mean logit for it. For a ridge head the result is approximate, because it clips
        the features of each crop. A two-layer head would return another logit, so several crops are
        refused.

        Args:
            pixels: as for `forward`.

        Raises:
            JobError: the last layer is not called exactly once with (B, F) in a forward pass. Also if
                a two-layer head gets several crops, or a detector of images gets clips.
        """
        self._refuse_dimensions(pixels)
        if pixels.ndim == CLIP_DIMENSIONS and self.spec.frames is None:
            raise JobError(
                f"the frames of a clip have no common features in model {self.spec.name}, which looks at images"
            )
        crops = prod(pixels.shape[1:-3] if self.spec.frames is None else pixels.shape[1:2])
        if isinstance(self.head, MlpHead) and crops > 1:
            raise JobError(
                f"the last layer of model {self.spec.name} is not linear in its features, so "
                "several crops have no common features. Set test_crops to 0 or 1."
            )
        images = self.normalize_pixels(pixels)
        with capture_inputs(self.head) as inputs:
            self.network.forward(images)  # not compiled, because a compiled network skips the hook
        if len(inputs) != 1 or inputs[0].shape != (len(images), self.feature_dim):
            raise JobError(
                f"layer {self.spec.head!r} of model {self.spec.name} must be called once with "
                f"shape (batch, {self.feature_dim}). It was called with "
                f"{', '.join(str(tuple(each.shape)) for each in inputs) or 'nothing'}."
            )
        features = inputs[0].float()  # (B·C, F)
        return features.view(len(pixels), crops, self.feature_dim).mean(1)

    def _refuse_dimensions(self, pixels: Tensor) -> None:
        """Refuse clips in place of images, and the reverse."""
        of_clips = pixels.ndim == CLIP_DIMENSIONS
        if of_clips and self.spec.frames is None and not self.scores_clips:
            raise JobError(f"model {self.spec.name} got clips in place of images")
        if pixels.ndim > CLIP_DIMENSIONS:
            raise JobError(f"model {self.spec.name} got pixels of {pixels.ndim} dimensions")
        if self.spec.frames is None or not of_clips:
            reason = unfit_clips(self.spec, None)
        else:
            reason = unfit_clips(self.spec, pixels.shape[2])
        if reason:
            raise JobError(reason)

    def forward_head(self, features: Tensor) -> Tensor:
        """Return the logits (B, K) of features (B, F)."""
        return self.head(features)  # type: ignore[no-any-return]  # torch: modules return Any

    @property
    def has_head(self) -> bool:
        """Whether the network ends in one linear layer."""
        return self.spec.head is not None

    @property
    def head(self) -> nn.Linear:
        """The last layer, from features to the logits.

        Raises:
            JobError: the network does not end in one linear layer.
        """
        return head_of(self.network, self._head_name)

    def replace_head(self, layer: nn.Linear) -> None:
        """Replace the last layer.

        This is not a property setter, because torch would also register the assigned module,
        unused.
        """
        self.network.set_submodule(self._head_name, layer)

    @property
    def _head_name(self) -> str:
        if self.spec.head is None:
            raise JobError(without_last_layer("a part of this job", self.spec.name))
        return self.spec.head

    @property
    def feature_dim(self) -> int:
        """Number of features of an image."""
        return self.head.in_features

    def normalize_pixels(self, pixels: Tensor) -> Tensor:
        """Return normalised images (B·C, 3, H, W) or clips (B·C, 3, T, H, W), the input of the network; see `forward`.

        Raises:
            JobError: the network accepts only one image size, and the images have another.
        """
        images = pixels.flatten(0, -4)  # (B·C, 3, H, W)
        side = self.spec.input_size
        if side is not None and images.shape[-2:] != (side, side):
            raise JobError(
                f"model {self.spec.name} needs images of {side} by {side} pixels, got "
                f"{images.shape[-1]} by {images.shape[-2]}. Set resize_size to {side}."
            )
        return self._arrange_frames(self._levels(images), pixels)

    def normalize_landmarks(self, landmarks: Tensor) -> Tensor:
        """Return the calibrated landmarks of clips (B, T, 68, 2), the input of a network of landmarks.

        Raises:
            JobError: the network reads pixels, the shape is another one, or clips have another length.
        """
        if self.spec.inputs != LANDMARKS or landmarks.shape[2:] != (POINTS, 2):
            raise JobError(
                f"model {self.spec.name} reads {self.spec.inputs}, and got a batch of shape {tuple(landmarks.shape)}"
            )
        if reason := unfit_clips(self.spec, landmarks.shape[1]):
            raise JobError(reason)
        return landmarks.float()

    def _levels(self, images: Tensor) -> Tensor:
        if self.spec.raw_pixels:  # pixels stay integers
            return images.float() if images.dtype == torch.uint8 else images * 255
        mean, std = self._even or (self.mean, self.std)
        if images.dtype == torch.uint8:  # in place: on the CPU a new tensor costs more than a step
            return images.to(torch.float32).div_(255).sub_(mean).div_(std)
        return (images - mean) / std

    def _arrange_frames(self, images: Tensor, pixels: Tensor) -> Tensor:
        """Return normalised images as the network takes them: clips with the frames after the channels."""
        if self.spec.frames is not None:
            # B may be 0, as above
            clips = images.view(
                len(pixels) * pixels.shape[1], *pixels.shape[2:]
            )  # (B·C, T, 3, H, W)
            return clips.transpose(1, 2).contiguous()
        return images.contiguous(memory_format=memory_format(self.spec, self.channels_last))


def logit_of_mean(logits: Tensor, dim: int) -> Tensor:
    """Return the log odds of the mean probability along a dimension, float32. Sure logits are not rounded to 0 or 1."""
    logits = logits.float()
    fake, real = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    return fake.logsumexp(dim) - real.logsumexp(dim)


def memory_format(spec: ModelSpec, channels_last: bool) -> torch.memory_format:  # the setting
    """Return the memory format of a network. Those of clips have the plain one, which is as fast on a CPU."""
    use = channels_last and spec.frames is None
    return torch.channels_last if use else torch.contiguous_format


class Detector(Classifier):
    """A classifier of real and fake, with one logit: positive = fake."""


def build_detector(
    name: str,
    *,
    weights: str,
    seed: int,
    dropout: float = 0.0,
    normalization: str = OWN,
    channels_last: bool = True,
    nodown: bool = False,
    side: int | None = None,
) -> Detector:
    """Return a detector in evaluation mode.

    Args:
        name: architecture, as accepted by `registry.spec_of`.
        weights: "default" (the published ImageNet weights, or random if there are none), "none"
            (random), or the path of a state dict. See `assembly.resolve_weights` for the
            environment.
        seed: root seed. Random weights come from its stream "weights".
        dropout: dropout probability before the last layer.
        normalization: pixel normalization that the weights require. "model" is that of the
            architecture.
        channels_last: whether the memory format is channels_last, which is 1.2 to 1.5 times as fast
            on a CPU.
        nodown: whether the first convolution keeps the resolution. See `assembly.keep_resolution`.
        side: side of the images in pixels, for networks that accept one size only. None: their
            default size.

    Raises:
        UnknownName: the architecture or the normalization does not exist.
        JobError: the network cannot be built with these arguments, or does not accept images of
            that side.
        WeightsError: the weights are not available, or belong to another network.
    """
    pixels = normalization_numbers(normalization)
    options = BuildOptions(
        weights=weights, dropout=dropout, pixels=pixels, side=side, nodown=nodown
    )
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(stream_seed("weights", seed))
        built = assemble(name, options)
    network: nn.Module = built.network
    if side is not None and (reason := unfit_side(built.spec, side)):
        raise JobError(reason)
    if side is not None and built.spec.input_size is None and built.spec.inputs != LANDMARKS:
        refuse_small(network, name, side, frames=built.spec.frames)
    network = network.to(memory_format=memory_format(built.spec, channels_last))
    return Detector(
        built.spec,
        network,
        normalization=normalization,
        channels_last=channels_last,
        nodown=nodown,
    ).eval()


def build_classifier(
    shape: ClassifierShape, *, seed: int, channels_last: bool = True
) -> Classifier:
    """Return an untrained classifier with K logits in evaluation mode. The seed determines its weights."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(stream_seed("weights", seed))
        network: nn.Module = load_classifier_maker(shape.model)(shape)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    head = (linear_layers(network) or [""])[-1]
    spec = replace(spec_of_classifier(shape.model), head=head)
    return Classifier(spec, network, channels_last=channels_last, shape=shape).eval()


def accept_clips(model: DetectorT, clips: Clips | None) -> DetectorT:
    """Let a detector score clips if there are any, and return it.

    Raises:
        JobError: the network needs clips of another length, or there are none.
    """
    if reason := unfit_clips(model.spec, None if clips is None else clips.frames):
        raise JobError(reason)
    model.scores_clips = clips is not None
    return model


def warn_of_other_side(spec: ModelSpec, side: int) -> None:
    """Log a warning if images have another side in pixels than those of the network's authors."""
    if spec.usual_side not in {None, side}:
        log.warning(
            "model=%s side=%d state=its authors use images of %d pixels, and at another side its results are others. "
            "advice=set decode: fitted and resize_size: %d",
            spec.name, side, spec.usual_side, spec.usual_side,
        )  # fmt: skip


def freeze_backbone(model: Classifier) -> None:
    """Freeze all parameters except those of the last layer."""
    model.network.requires_grad_(requires_grad=False)
    model.head.requires_grad_(requires_grad=True)


def set_train_mode(
    model: nn.Module, *, fixed_statistics: bool, frozen_backbone: bool = False
) -> None:
    """Put a model into training mode.

    Modules whose parameters are all frozen stay in evaluation mode. Otherwise dropout and stochastic
    depth would change the features of an image in each pass.

    Args:
        model: the model. Some of its parameters may be frozen.
        fixed_statistics: whether batch norms use their running statistics and do not update them.
        frozen_backbone: whether only modules that directly own a trainable parameter are put into
            training mode. `fixed_statistics` then also applies to frozen batch norms. Otherwise
            their statistics are always fixed.
    """
    model.train(not frozen_backbone)
    if frozen_backbone:
        for module in model.modules():
            if any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
                module.train()
    elif not all(parameter.requires_grad for parameter in model.parameters()):
        for module in model.modules():
            if _is_frozen(module):
                module.eval()
    if fixed_statistics or frozen_backbone:
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.train(not fixed_statistics)


def _is_frozen(module: nn.Module) -> bool:
    parameters = list(module.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)
