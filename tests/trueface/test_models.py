from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch.nn import Conv2d

from launcher.api import MachineError, UnknownName
from trueface.errors import WeightsError
from trueface.models import FAMILY, Detector, build, chosen_weights, freeze, read_state, teach
from trueface.settings import ARCHITECTURES

torch.set_num_threads(1)  # two that wait for each other under load are slower


def pixels(count: int = 4, side: int = 32) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=random)


def state(model: Detector) -> dict[str, torch.Tensor]:
    return dict(model.network.state_dict())


def test_settings_and_family_know_the_same_models() -> None:
    assert set(ARCHITECTURES) == set(FAMILY)


@pytest.mark.parametrize("name", ["baseline18", "nodown18", "slim18"])
def test_every_small_member_gives_one_logit_an_image(name: str) -> None:
    model = build(name, weights="none", seed=1)
    with torch.inference_mode():
        assert model(pixels()).shape == (4, 1)


def test_nodown_is_baseline_with_the_same_weights_and_a_first_stride_of_one() -> None:
    down, nodown = (build(name, weights="none", seed=1).network for name in ("baseline", "nodown"))
    strides = [
        next(m for m in net.modules() if isinstance(m, Conv2d)).stride for net in (down, nodown)
    ]
    assert strides == [(2, 2), (1, 1)]
    assert all(
        torch.equal(one, other)
        for one, other in zip(down.parameters(), nodown.parameters(), strict=True)
    )


def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before() -> None:
    first = build("slim18", weights="none", seed=1)
    torch.rand(100)
    second = build("slim18", weights="none", seed=1)
    other = build("slim18", weights="none", seed=2)
    assert torch.equal(state(first)["fc.weight"], state(second)["fc.weight"])
    assert not torch.equal(state(first)["fc.weight"], state(other)["fc.weight"])


def test_building_leaves_torchs_own_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build("slim18", weights="none", seed=1)
    assert torch.equal(torch.rand(3), expected)


def test_crops_of_an_image_count_with_their_mean_logit() -> None:
    model = build("slim18", weights="none", seed=1)
    crops = pixels(6).view(2, 3, 3, 32, 32)
    with torch.inference_mode():
        apart = model(crops.flatten(0, 1)).view(2, 3).mean(1, keepdim=True)
        torch.testing.assert_close(model(crops), apart)


def test_bytes_and_floats_of_the_same_image_have_the_same_logit() -> None:
    model = build("slim18", weights="none", seed=1)
    with torch.inference_mode():
        torch.testing.assert_close(model(pixels()), model(pixels().float() / 255))


def test_the_slim_member_does_not_see_brightness() -> None:
    model = build("slim18", weights="none", seed=1)
    dark = pixels() // 2
    with torch.inference_mode():
        torch.testing.assert_close(model(dark), model(dark + 100), rtol=1e-3, atol=1e-3)


def test_dropout_is_off_in_evaluation_and_on_in_training() -> None:
    model = build("slim18", weights="none", seed=1, dropout=0.5)
    with torch.inference_mode():
        assert torch.equal(model(pixels()), model(pixels()))
        teach(model, fixed_statistics=True)
        assert not torch.equal(model(pixels()), model(pixels()))


def test_freezing_leaves_only_the_last_layer_to_learn() -> None:
    model = build("slim18", weights="none", seed=1)
    freeze(model)
    learning = [name for name, value in model.named_parameters() if value.requires_grad]
    assert learning == ["network.fc.weight", "network.fc.bias"]


def test_an_unknown_model_is_named_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="did you mean nodown"):
        build("nodwn", weights="none", seed=1)


class TestWeights:
    def test_a_file_of_another_task_gives_everything_but_the_last_layer(
        self, tmp_path: Path
    ) -> None:
        source = build("slim18", weights="none", seed=7).network.state_dict()
        source |= {"fc.weight": torch.zeros(1000, 128), "fc.bias": torch.zeros(1000)}
        torch.save(source, tmp_path / "imagenet.pt")
        model = build("slim18", weights=str(tmp_path / "imagenet.pt"), seed=1)
        fresh = build("slim18", weights="none", seed=1)
        assert torch.equal(state(model)["conv1.weight"], source["conv1.weight"])
        assert torch.equal(state(model)["fc.weight"], state(fresh)["fc.weight"])

    def test_a_checkpoints_last_layer_is_taken_too(self, tmp_path: Path) -> None:
        source = build("slim18", weights="none", seed=7).network.state_dict()
        torch.save({"model_state_dict": source, "epoch": 3}, tmp_path / "best.pt")
        model = build("slim18", weights=str(tmp_path / "best.pt"), seed=1)
        assert torch.equal(state(model)["fc.weight"], source["fc.weight"])

    def test_another_networks_weights_are_refused_with_a_report(self, tmp_path: Path) -> None:
        torch.save(build("slim18", weights="none", seed=1).network.state_dict(), tmp_path / "w.pt")
        with pytest.raises(WeightsError, match=r"do not fit .* of another shape \(conv1.weight"):
            build("baseline18", weights=str(tmp_path / "w.pt"), seed=1)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=r"absent\.pt cannot be read"):
            read_state(tmp_path / "absent.pt")

    def test_the_environment_replaces_the_default_and_nothing_else(self) -> None:
        environment = {"TRUEFACE_WEIGHTS": "none"}
        assert chosen_weights("default", environment) == "none"
        assert chosen_weights("mine.pt", environment) == "mine.pt"
        assert chosen_weights("default", {}) == "default"

    def test_weights_that_cannot_be_had_end_with_both_remedies(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def offline(*_args: object, **_more: object) -> None:
            raise URLError("no route to host")

        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
        with pytest.raises(WeightsError) as caught:
            build("baseline18", weights="default", seed=1)
        assert caught.value.exit_code == MachineError.exit_code == 3
        assert "--weights PATH" in str(caught.value)
        assert "TRUEFACE_WEIGHTS=none" in str(caught.value)

    def test_a_member_without_published_weights_starts_from_random_ones(self) -> None:
        default, none = (build("slim18", weights=word, seed=1) for word in ("default", "none"))
        assert torch.equal(state(default)["conv1.weight"], state(none)["conv1.weight"])


def test_frozen_statistics_stay_bit_identical() -> None:
    model: Detector = build("slim18", weights="none", seed=1)
    before = state(model)["bn1.running_mean"].clone()
    teach(model, fixed_statistics=True)
    model(pixels())
    assert torch.equal(state(model)["bn1.running_mean"], before)
    teach(model, fixed_statistics=False)
    model(pixels())
    assert not torch.equal(state(model)["bn1.running_mean"], before)


def test_the_channels_last_format_is_kept() -> None:
    weight = state(build("slim18", weights="none", seed=1))["conv1.weight"]
    assert weight.is_contiguous(memory_format=torch.channels_last)
