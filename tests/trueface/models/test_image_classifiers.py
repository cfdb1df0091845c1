import pytest
import torch
from pydantic import ValidationError

from trueface.models.detectors import build_classifier
from trueface.models.logits import ModelSplit
from trueface.models.registry import Shape, Stem
from trueface.training.class_settings import ClassifySettings

SHAPES: tuple[tuple[str, Stem], ...] = (
    ("cnn", "small"), ("resnet18", "small"), ("resnet18", "large"), ("resnet50", "large"), ("vgg16", "small"),
    ("vit", "small"),
)  # fmt: skip


@pytest.mark.parametrize(("model", "stem"), SHAPES)
def test_every_network_answers_pixels_of_either_form_alike_and_has_a_last_layer(
    model: str, stem: Stem
) -> None:
    network = build_classifier(Shape(model=model, stem=stem, size=32, classes=3), seed=1)
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        logits = network(pixels)
        assert logits.shape == (2, 3)
        torch.testing.assert_close(logits, network(pixels.float() / 255))
        split = ModelSplit(network)
        assert split.head.out_features == 3
        assert split.features(pixels).shape == (2, split.width)


def test_weights_follow_from_the_seed() -> None:
    shape = Shape(model="resnet18", stem="small", size=16, classes=3)
    first, again, other = (
        build_classifier(shape, seed=seed).network.state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_the_small_stem_keeps_the_resolution() -> None:
    small = build_classifier(Shape(model="resnet18", stem="small", size=16, classes=3), seed=1)
    assert small.network.conv1.stride == (1, 1)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model": "vgg16", "size": 16}, "needs 32 pixels"),
        ({"model": "vit", "size": 30}, "multiple of 4"),
        ({"model": "vit", "stem": "large", "size": 40}, "multiple of 16"),
        ({"model": "resnet81"}, "did you mean resnet18"),
    ],
)
def test_a_network_that_does_not_fit_the_images_is_refused(
    settings: dict[str, object], says: str
) -> None:
    with pytest.raises(ValidationError, match=says):
        ClassifySettings.model_validate({"data_root": "data", **settings})


def test_a_recipe_is_the_networks_own_unless_told_otherwise() -> None:
    vit = ClassifySettings(data_root="d", model="vit").recipe
    assert (vit.optimizer, vit.lr) == ("adamw", 1e-3)
    mine = ClassifySettings(data_root="d", model="vit", optimizer="sgd", lr=0.5).recipe
    assert (mine.optimizer, mine.lr, mine.weight_decay) == ("sgd", 0.5, vit.weight_decay)
