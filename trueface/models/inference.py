"""Networks for inference alone: batch norms become part of the convolutions before them.

A frozen backbone with fixed statistics is a function from pixels to the input of the last layer. It
runs in inference mode with its batch norms folded, which changes features by rounding only
(relative to the largest feature, 1e-4 in fp32). Checkpoints still contain the original network.
"""

import copy
import logging
import platform
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain
from math import prod
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from trueface.data.batch import Batch
from trueface.data.loading.transfers import iter_outputs
from trueface.models.detectors import Detector, memory_format
from trueface.models.head import capture_inputs, head_of
from trueface.runtime.digests import sha256_digest
from trueface.runtime.files import Json
from trueface.runtime.precision import autocast
from trueface.runtime.tensor_files import digest_parts

PROBE_SIDE = 64  # pixels: enough for networks that divide the resolution by 32
TOLERANCE = 1e-2  # relative to the largest feature; rounding alone stays below 1e-4

log = logging.getLogger(__name__)


def fuse_conv_bn(
    network: nn.Module, head: str | None, *, side: int | None = None, frames: int | None = None
) -> nn.Module:
    """Return a frozen copy in evaluation mode with batch norms folded into convolutions.

    A batch norm is assumed to follow the convolution that was registered before it. If the features
    of a test image show that this is wrong for a network, the copy is not folded. Statistics are
    the current ones. The copy agrees with the original to float tolerance.

    Args:
        network: from images or clips to logits.
        head: dotted name of its last layer. None: the logits are compared instead of the features.
        side: the only side of images that it accepts, or None.
        frames: of a clip. None: it gets images.
    """
    plain = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
    if not any(isinstance(module, nn.BatchNorm2d) for module in plain.modules()):
        return plain
    fused = copy.deepcopy(plain)
    with torch.no_grad():
        _fold(fused)
        plain_features, after = (
            _features(each, head, side or PROBE_SIDE, frames) for each in (plain, fused)
        )
    tolerance = TOLERANCE * float(plain_features.nan_to_num().abs().max())
    if torch.allclose(plain_features, after, rtol=0, atol=tolerance, equal_nan=True):
        return fused
    log.warning(
        "network=%s state=not folded reason=its batch norms do not directly follow the "
        "convolutions registered before them",
        type(network).__name__,
    )
    return plain


def _fold(module: nn.Module) -> None:
    before: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        convolution = before[1] if before else None
        if (
            before
            and isinstance(child, nn.BatchNorm2d)
            and isinstance(convolution, nn.Conv2d)
            and convolution.out_channels == child.num_features
        ):
            setattr(module, before[0], fuse_conv_bn_eval(convolution, child))
            setattr(module, name, _rest_of(child))
        else:
            _fold(child)
        before = (name, child)


def _rest_of(norm: nn.BatchNorm2d) -> nn.Module:
    """Return what a batch norm does besides: timm's drops and activates what it has normalised."""
    return nn.Sequential(*norm.children()) if any(norm.children()) else nn.Identity()


def _features(network: nn.Module, head: str | None, side: int, frames: int | None) -> Tensor:
    parameter = next(network.parameters())
    shape = (1, 3, side, side) if frames is None else (1, 3, frames, side, side)
    values = torch.linspace(-1, 1, prod(shape)).sin().view(shape)
    if head is None:
        return network(values.to(parameter))  # type: ignore[no-any-return]  # torch: modules return Any
    with capture_inputs(head_of(network, head)) as inputs:
        network(values.to(parameter))
    return inputs[0]


CPU_FACTS = Path("/proc/cpuinfo")  # file of Linux; elsewhere the machine's type must do


class FrozenBackbone:
    """A snapshot of the backbone of a detector, for inference alone.

    The network is copied and folded at the first pixels, which never come if all features are
    stored. Later changes of the detector have no effect.

    Args:
        model: in evaluation mode.
        device: to compute on.
        precision: of the network.
        alike: an image gives the same bits alone and in a batch, as required for stored features.
            Otherwise a single image takes half the time.
    """

    def __init__(
        self,
        model: Detector,
        *,
        device: str = "cpu",
        precision: str = "fp32",
        alike: bool = True,
    ) -> None:
        self._model, self._device, self._precision = model, device, precision
        self._alike = alike
        self._state = {name: value.clone() for name, value in model.network.state_dict().items()}
        self._folded: Detector | None = None
        self.sha256 = fingerprint(model)
        self.width = model.feature_dim

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the features (B, F) of pixels (B, 3, H, W) or (B, K, 3, H, W), on the device."""
        if self._folded is None:
            self._folded = self._fold()
        # a single image takes kernels of its own, which round otherwise than those of a batch
        doubled = self._alike and len(pixels) == 1
        images = torch.cat([pixels, pixels]) if doubled else pixels
        with torch.no_grad(), autocast(self._device, self._precision):
            features = self._folded.forward_features(images.to(self._device, non_blocking=True))
        return features[: len(pixels)]

    def iter_features(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Tensor]]:
        """Yield each batch with its features (B, F), in ordinary memory; see `iter_outputs`."""
        passed = iter_outputs(
            batches, lambda batch, send: (self(send(batch.inputs)),), self._device
        )
        for batch, (features,) in passed:
            yield batch, features

    @property
    def identity(self) -> dict[str, Json]:
        """The identity of its features apart from pixels: tensors, layers, arithmetic."""
        return {
            "body_sha256": self.sha256,
            "architecture": self._model.spec.name,
            **({"library": library} if (library := self._model.spec.library) else {}),
            "channels_last": self._model.channels_last,
            "precision": self._precision,
            **_arithmetic(self._device),
        }

    def _fold(self) -> Detector:
        model, network = self._model, copy.deepcopy(self._model.network)
        network.load_state_dict(self._state)
        self._state = {}
        network = fuse_conv_bn(network, model.spec.head, side=model.spec.probe_side)
        twin = Detector(
            model.spec,
            network.to(memory_format=memory_format(model.spec, model.channels_last)),
            normalization=model.normalization,
            channels_last=model.channels_last,
            nodown=model.nodown,
        )
        return twin.eval().to(self._device)


def fingerprint(model: Detector) -> str:
    """Return the SHA-256 of a detector without its last layer.

    It covers all numbers, including unsaved ones and those of the normalization, with their types
    and shapes. It also covers the configuration of layers, because strides and paddings are not
    tensors.
    """
    head = f"network.{model.spec.head}"
    layers = (
        repr((name, type(module).__qualname__, module.extra_repr()))
        for name, module in model.named_modules()
        if not _belongs(name, head)
    )
    state = (*model.named_parameters(), *model.named_buffers())
    body = ((name, value) for name, value in state if not _belongs(name, head))
    return sha256_digest(chain(layers, digest_parts(body))).hex()


def _belongs(name: str, layer: str) -> bool:
    return name == layer or name.startswith(f"{layer}.")


def _arithmetic(device: str) -> dict[str, Json]:
    """Return what else than a network decides the bits of its answers."""
    facts: dict[str, Json] = {
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "device": device.partition(":")[0],
    }
    if facts["device"] == "cuda":
        return facts | {
            "device_name": torch.cuda.get_device_name(torch.device(device)),
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]  # torch
            "tf32": [torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32],
        }
    return facts | {
        "device_name": _processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


@lru_cache(maxsize=1)
def _processor() -> str:
    try:
        lines = CPU_FACTS.read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
