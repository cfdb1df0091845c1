import io

import numpy as np
import PIL.Image
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from trueface.models.detectors import build
from trueface.models.head import RidgeHead
from trueface.prediction.heat_map import class_activation, occlusion, picture, seen_window
from trueface.runtime.errors import JobError


def noise(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def contrast_in_the_corner(images: list[Tensor]) -> NDArray[np.float64]:
    return np.array([float(image[:, :16, :16].double().std()) for image in images])


def test_only_places_that_the_answer_rests_on_are_marked() -> None:
    pixels = noise(64, 64)
    heat = occlusion(pixels, seen_window(pixels, 64), contrast_in_the_corner, batch_size=16)
    assert heat.values[:8, :8].min() > 0
    assert np.abs(heat.values[24:, 24:]).max() == 0


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 40), (100, 30)])
def test_images_of_any_size_have_a_map_of_what_the_network_sees(height: int, width: int) -> None:
    pixels = noise(height, width)
    heat = occlusion(pixels, seen_window(pixels, 32), contrast_in_the_corner, batch_size=64)
    assert heat.values.shape == (min(height, 32), min(width, 32))
    content = picture(pixels, heat, title="real", by="occlusion")
    assert PIL.Image.open(io.BytesIO(content)).format == "PNG"


def test_the_mean_of_the_map_by_blocks_is_the_logit() -> None:
    model, pixels = build("slim18", weights="none", seed=0), noise(64, 64)
    heat = class_activation(model, pixels, pixels, seen_window(pixels, 64))
    with torch.no_grad():
        logit = model(pixels[None]).item()
    assert heat.values.mean() == pytest.approx(logit, rel=0.05)


def test_a_network_without_an_exact_map_by_blocks_is_refused() -> None:
    model, pixels = build("slim18", weights="none", seed=0), noise(32, 32)
    model.replace_head(RidgeHead(model.feature_dim))
    with pytest.raises(JobError, match="occlusion works for every detector"):
        class_activation(model, pixels, pixels, seen_window(pixels, 32))
