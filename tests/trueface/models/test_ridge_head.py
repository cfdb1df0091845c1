from pathlib import Path

import torch

from trueface.models.checkpoint import restore, save_model
from trueface.models.detectors import Detector, build, freeze
from trueface.models.head import RidgeHead
from trueface.models.logits import ModelSplit

torch.set_num_threads(1)


def fitted(width: int) -> RidgeHead:
    random = torch.Generator().manual_seed(1)
    head = RidgeHead(width)
    with torch.no_grad():
        for values in (head.weight, head.bias, head.mean):
            values.copy_(torch.randn(values.shape, generator=random))
        for values in (head.scale, head.weights):
            values.copy_(torch.rand(values.shape, generator=random) + 0.1)
    return head


def ridge_detector() -> Detector:
    model = build("slim18", weights="none", seed=1)
    model.replace_head(fitted(model.feature_dim))
    return model


def pixels(count: int = 3) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=random)


def test_its_logit_is_that_of_weighted_clipped_standardised_features() -> None:
    head, features = fitted(5), 4 * torch.randn(7, 5)
    columns = ((features - head.mean) / head.scale).clamp(-8, 8) * head.weights
    expected = (columns * head.weight).sum(1, keepdim=True) + head.bias
    assert torch.allclose(head(features), expected, atol=1e-5)


def test_an_outlying_feature_counts_no_more_than_the_clip() -> None:
    head = fitted(1)
    far, farther = (head.mean + times * head.scale for times in (9.0, 1e6))
    assert torch.equal(head(far[None]), head(farther[None]))
    assert not torch.equal(head(far[None]), head((head.mean + 7 * head.scale)[None]))


def test_an_unfitted_head_answers_zero() -> None:
    assert torch.equal(RidgeHead(4)(torch.randn(2, 4)), torch.zeros(2, 1))


def test_half_precision_around_it_changes_no_bit_of_its_sum() -> None:
    head, features = fitted(300), torch.randn(2, 300)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(head(features), head(features.clone()))
        inside = head(features)
    assert torch.equal(inside, head(features))


def test_a_checkpoint_keeps_it_whole(tmp_path: Path) -> None:
    model = ridge_detector()
    save_model(tmp_path / "best.pt", model, {})
    back = restore(tmp_path / "best.pt")
    assert isinstance(back.head, RidgeHead)
    for name, value in model.head.state_dict().items():
        assert torch.equal(value, back.head.state_dict()[name]), name
    with torch.no_grad():
        assert torch.equal(model(pixels()), back(pixels()))


def test_freezing_leaves_its_weight_and_bias_to_learn() -> None:
    model = ridge_detector()
    freeze(model)
    learning = [name for name, value in model.named_parameters() if value.requires_grad]
    assert learning == ["network.fc.weight", "network.fc.bias"]


def test_the_stored_features_are_raw_and_its_head_makes_the_logit_of_them() -> None:
    model = ridge_detector()
    with torch.no_grad():
        features = model.forward_features(pixels())
        assert torch.allclose(model.forward_head(features), model(pixels()), atol=1e-5)
    plain = build("slim18", weights="none", seed=1)
    with torch.no_grad():
        assert torch.equal(features, plain.forward_features(pixels()))


def test_unlearning_sees_standardised_features_before_a_linear_layer() -> None:
    model = ridge_detector()
    split = ModelSplit(model)
    with torch.no_grad():
        features = split.features(pixels())
        logits = torch.nn.functional.linear(features, split.head.weight, split.head.bias)
        assert torch.allclose(logits, model(pixels()), atol=1e-4)
