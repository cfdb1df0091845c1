from pathlib import Path

import pytest
import torch

from tests.trueface.models.statistics.test_cosines import images
from trueface.models import checkpoint
from trueface.models.detectors import Detector, build
from trueface.models.inference import FrozenBody
from trueface.models.registry import SPECS, spec_of
from trueface.runtime.errors import UnknownName, WeightsError

torch.set_num_threads(1)
PLAIN = [name for name, spec in SPECS.items() if spec.raw_pixels]
BY_BLOCKS = ["layers/slim18", "fused/slim18"]


def pixels(side: int = 128) -> torch.Tensor:
    return images(2, side=side).to(torch.uint8)


def detector(name: str, **options: str) -> Detector:
    return build(name, weights=options.get("weights", "none"), seed=4)


@pytest.mark.parametrize("name", PLAIN)
def test_the_width_that_a_plan_knows_is_that_of_the_features(name: str) -> None:
    model = detector(name)
    features = model.forward_features(pixels(SPECS[name].input_size or 128))
    assert features.shape == (2, SPECS[name].width)
    assert features.dtype == torch.float32


@pytest.mark.parametrize("name", ["layers/mobilenet", "fused/mobilenet"])
def test_the_width_that_a_plan_knows_of_a_family_is_about_that_of_its_features(name: str) -> None:
    assert detector(name).feature_dim == pytest.approx(spec_of(name).width, rel=0.05)


@pytest.mark.parametrize("name", ["residuals", *BY_BLOCKS])
def test_head_of_features_is_the_output(name: str) -> None:
    model = detector(name)
    torch.nn.init.normal_(model.head.weight)
    logits = model(pixels())
    assert torch.allclose(model.forward_head(model.forward_features(pixels())), logits, rtol=1e-4)
    assert bool(logits.any())


@pytest.mark.parametrize("name", BY_BLOCKS)
def test_frozen_features_are_those_of_the_model(name: str) -> None:
    model = detector(name)
    with torch.no_grad():
        own = model.forward_features(pixels())
    assert torch.allclose(FrozenBody(model)(pixels()), own, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", BY_BLOCKS)
def test_an_image_has_the_same_features_alone_and_in_a_batch(name: str) -> None:
    model, batch = detector(name), images(6, side=128).to(torch.uint8)
    with torch.no_grad():
        alone = torch.cat([model.forward_features(image[None]) for image in batch])
        together = model.forward_features(batch)
    assert torch.allclose(together, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [*PLAIN, "fused/slim18"])
def test_images_without_any_texture_have_finite_numbers(name: str) -> None:
    model, side = detector(name), spec_of(name).input_size or 128
    grey = images(1, side=side)[:, :1].expand(-1, 3, -1, -1)  # one level for all colours
    black, white = torch.zeros(1, 3, side, side), torch.full((1, 3, side, side), 255.0)
    stripes = black.clone()
    stripes[..., ::2] = 255
    with torch.no_grad():
        batch = torch.cat([grey, black, white, stripes]).to(torch.uint8)
        assert bool(model.forward_features(batch).isfinite().all())


def test_a_family_of_pixels_counts_half_of_one_of_blocks() -> None:
    weights = detector("fused/slim18").get_buffer("network.fc.weights").square()
    assert float(weights.mean()) == pytest.approx(1, rel=1e-4)
    share = weights[-576:].sum() / weights.sum()
    assert float(share) == pytest.approx(0.5 / (4 + 3 * 0.5), rel=1e-4)  # dct8 of four and three


def test_a_checkpoint_holds_the_whole_network(tmp_path: Path) -> None:
    model = detector("layers/slim18")
    torch.nn.init.normal_(model.head.weight)
    checkpoint.save_model(tmp_path / "model.pt", model, {})
    again = checkpoint.restore(tmp_path / "model.pt")
    assert torch.equal(again(pixels()), model(pixels()))


def test_a_file_of_weights_is_of_the_inner_networks_names(tmp_path: Path) -> None:
    inner = build("slim18", weights="none", seed=9)
    torch.save(inner.network.state_dict(), tmp_path / "slim18.pt")
    fitted = detector("layers/slim18", weights=str(tmp_path / "slim18.pt"))
    random = detector("layers/slim18")
    maps: list[torch.Tensor] = []
    inner.network.layer1.register_forward_hook(lambda _, __, answer: maps.append(answer))  # type: ignore[union-attr]
    inner(pixels())
    expected = maps[0].mean((2, 3))  # of the third block, after those of 16 channels twice
    assert torch.allclose(fitted.forward_features(pixels())[:, 64:80], expected, atol=1e-3)
    assert not torch.allclose(random.forward_features(pixels())[:, 64:80], expected, atol=1e-3)
    with pytest.raises(WeightsError, match="they fit model slim18"):
        detector("dct8", weights=str(tmp_path / "slim18.pt"))


@pytest.mark.parametrize(
    ("name", "follows"), [("dct", True), ("fft", True), ("layers/slim18", True)]
)
def test_gradients_reach_the_pixels_where_they_are_declared(name: str, follows: bool) -> None:
    model = detector(name)
    torch.nn.init.normal_(model.head.weight)
    images = (pixels(256).float() / 255).requires_grad_()
    model(images).sum().backward()
    assert spec_of(name).differentiable == follows
    assert images.grad is not None
    assert float(images.grad.abs().max()) > 0


@pytest.mark.parametrize("name", ["srm", "residuals", "fused/slim18"])
def test_what_counts_words_is_declared_without_gradient(name: str) -> None:
    assert not spec_of(name).differentiable


def test_statistics_have_no_blocks_to_read() -> None:
    with pytest.raises(UnknownName, match="unknown model 'layers/dct8'"):
        detector("layers/dct8")
