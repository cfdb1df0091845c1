"""The disentangling network: its parts, its output, and the effect of the published fusion."""

import importlib.util

import pytest
import torch
from torch import Tensor

from tests.trueface.models.build import untrained
from trueface.models.architectures.fairnet import encoders_of
from trueface.models.assembly import BuildOptions, assemble
from trueface.models.blocks.disentangling import DisentanglingNetwork, adain
from trueface.models.detectors import Detector
from trueface.runtime.errors import JobError

torch.set_num_threads(1)
WIDTH = 16
NEEDS_TIMM = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="timm is not installed: the extra `timm`"
)


def images(count: int = 4, side: int = 32) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def network_of(model: Detector) -> DisentanglingNetwork:
    assert isinstance(model.network, DisentanglingNetwork)
    return model.network


@pytest.fixture(scope="module")
def model() -> Detector:
    return untrained("fairnet")


def test_adain_transfers_mean_and_deviation_per_channel() -> None:
    rng = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 4, 5, generator=rng)
    others = 7 + 3 * torch.randn(2, 3, 6, 6, generator=rng)
    adopted = adain(maps, others)
    torch.testing.assert_close(adopted.mean((2, 3)), others.mean((2, 3)))
    torch.testing.assert_close(
        adopted.var((2, 3), correction=0), others.var((2, 3), correction=0), rtol=1e-3, atol=1e-3
    )
    assert adain(maps[..., :1, :1], others).isfinite().all()


def test_styled_maps_of_a_person_have_the_statistics_of_the_content(model: Detector) -> None:
    parts, chosen = network_of(model).forward_parts(images(2, 64)), torch.tensor([1, 0])
    styled = parts.content_styled_features(chosen)
    torch.testing.assert_close(styled.mean((2, 3)), parts.content[chosen].mean((2, 3)))
    assert not torch.allclose(styled.mean((2, 3)), parts.person[chosen].mean((2, 3)))


def test_parts_have_published_sizes(model: Detector) -> None:
    parts = network_of(model).forward_parts(images(2, 64))
    shapes = {name: tuple(getattr(parts, name).shape) for name in parts.__slots__}
    half = {"shared_features": (2, 64), "specific_features": (2, 64)}
    maps = dict.fromkeys(("forgery", "content", "person"), (2, 128, 4, 4))
    logits = {"logit": (2, 1), "fused": (2, 2), "shared": (2, 2)}
    assert shapes == {**half, **maps, **logits, "specific": (2, 64), "demographic": (2, 64)}
    drawn = network_of(model).decoder(
        parts.forgery, parts.content_styled_features(torch.tensor([1, 0])), (64, 60)
    )
    assert drawn.shape == (2, 3, 64, 60)
    assert drawn.abs().max() <= 1


def test_detector_logit_is_difference_of_two_logits_of_fused_head(model: Detector) -> None:
    parts = network_of(model).forward_parts(images())
    probability = parts.fused.softmax(1)[:, 1:]
    torch.testing.assert_close(parts.logit.sigmoid(), probability)
    torch.testing.assert_close(parts.logit, parts.fused[:, 1:] - parts.fused[:, :1])
    torch.testing.assert_close(network_of(model)(images()), parts.logit)


def test_any_convolutional_network_makes_three_encoders() -> None:
    inner = assemble("squeezenet", BuildOptions(weights="none"))
    encoders = encoders_of(inner, WIDTH, count=3)
    first, *others = (next(encoder.parameters()) for encoder in encoders)
    assert all(torch.equal(first, other) and first is not other for other in others)
    for encoder in encoders:
        assert encoder(images(2, 64)).shape == (2, WIDTH, 3, 3)
        assert not any("classifier" in name for name in encoder.state_dict())


@NEEDS_TIMM
def test_network_without_maps_is_refused_with_alternative() -> None:
    with pytest.raises(
        JobError, match=r"timm/test_vit has no feature maps at its end.*legacy_xception"
    ):
        untrained("fairnet/timm/test_vit", side=32)


@NEEDS_TIMM
def test_published_encoders_have_stride_32_and_published_width() -> None:
    model = untrained("fairnet/timm/legacy_xception")
    parts = network_of(model).forward_parts(images(2, 96))
    assert parts.forgery.shape == (2, 512, 3, 3)
    assert model.feature_dim == 512
