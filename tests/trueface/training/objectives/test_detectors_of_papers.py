"""The networks and losses of published detectors: capsule, recce, core, mcx, and distillation (add)."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from launcher.api import JobError
from tests.trueface.models.build import no_draws, undrawn, untrained
from trueface.data.batch import Batch
from trueface.data.quality_feed import COLUMN
from trueface.models.architectures.lgrad import LGrad
from trueface.models.blocks.capsule import Capsule, Routing, mean_log_odds, squash
from trueface.models.blocks.full_xception import XceptionMaps
from trueface.models.blocks.mcx import RENAMED, Mcx, to_hsv, to_ycrcb
from trueface.models.blocks.recce import Recce, with_white_noise
from trueface.models.detectors import Detector
from trueface.models.published_checkpoints import read_published
from trueface.models.published_settings import PublishedSettings
from trueface.models.registry import load_model_maker
from trueface.runtime.errors import WeightsError
from trueface.training.config import ObjectiveOptions
from trueface.training.objectives import add
from trueface.training.objectives.add import (
    DIRECTIONS,
    AddLosses,
    Matches,
    align_maps,
    draw_matches,
    frequency_distance,
    project_maps,
    projection_distance,
    view_losses,
)
from trueface.training.objectives.capsule import capsule_loss
from trueface.training.objectives.core import consistency, weighted_bce
from trueface.training.objectives.mcx import (
    NearestPairs,
    class_margins,
    nearest_pairs,
    ranking_loss,
)
from trueface.training.objectives.protocol import Objective, TrainingFacts
from trueface.training.objectives.recce import metric_loss, reconstruction
from trueface.training.objectives.registry import make_objective

torch.set_num_threads(1)

SIDE = 32  # pixels
NAMES = ("capsule", "recce", "core", "mcx_hsv_ycbcr")
IS_FAKE = torch.tensor([False, True, False, True])
LABELS = IS_FAKE.float()[:, None]


@pytest.fixture(scope="module")
def models() -> Mapping[str, Detector]:
    return {name: untrained(name, side=SIDE) for name in NAMES}


def pictures(count: int = 4, side: int = SIDE) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(3))


def objective_of(name: str, **options: Any) -> Objective:
    objective = cast(Objective, make_objective(name))
    objective.prepare(TrainingFacts(), ObjectiveOptions(**options))
    return objective


@pytest.mark.parametrize("name", NAMES)
def test_gradient_of_logit_reaches_every_pixel_of_a_colour_image(
    models: Mapping[str, Detector], name: str
) -> None:
    images = pictures(1).requires_grad_()
    models[name].eval()(images).sum().backward()
    assert images.grad is not None
    assert (images.grad.abs().sum(1) > 0).float().mean() > 0.9


@pytest.mark.parametrize("name", ["capsule", "recce"])
def test_randomness_follows_mode_and_generator(models: Mapping[str, Detector], name: str) -> None:
    model = models[name]

    def logits(seed: int, *, training: bool) -> Tensor:
        torch.manual_seed(seed)
        with torch.no_grad():
            found: Tensor = model.train(training)(pictures())
            return found

    try:
        assert torch.equal(logits(1, training=False), logits(2, training=False))
        first = logits(1, training=True)
        assert torch.equal(first, logits(1, training=True))
        assert not torch.equal(first, logits(2, training=True))
    finally:
        model.eval()


def test_vgg_of_capsule_is_frozen_by_requires_grad(models: Mapping[str, Detector]) -> None:
    frozen = [
        name
        for name, each in models["capsule"].network.named_parameters()
        if not each.requires_grad
    ]
    assert {name.partition(".")[0] for name in frozen} == {"features"}
    assert len(frozen) == 16


@pytest.mark.parametrize(("name", "side"), [("capsule", 8), ("core", 4), ("recce", 4)])
def test_images_that_are_too_small_are_refused_when_the_network_is_built(
    name: str, side: int
) -> None:
    with pytest.raises(JobError, match=f"model {name} does not accept images of {side} by {side}"):
        untrained(name, side=side)


# --- numbers that can be computed by hand


def test_squash_shortens_a_vector_to_less_than_one() -> None:
    torch.testing.assert_close(
        squash(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), dim=1),
        torch.tensor([[3.0, 4.0], [0.0, 0.0]]) * 5 / 26,
    )


def test_log_odds_are_those_of_the_mean_probability() -> None:
    capsules = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
    real, fake = capsules.softmax(2).mean(1).unbind(1)
    torch.testing.assert_close(mean_log_odds(capsules)[:, 0], (fake / real).log())


def test_routing_with_one_vote_for_all_returns_that_vote_squashed() -> None:
    routing = Routing().eval()
    with torch.no_grad():
        routing.route_weights.fill_(0.25)
    numbers = torch.ones(1, 8, 10)  # each vote is (2, 2, 2, 2)
    expected = torch.full((1, 4, 2), 2.0 * 4 / 17)  # the vector's length is 4
    torch.testing.assert_close(routing(numbers), expected)


def test_capsule_loss_is_the_sum_of_four_cross_entropies() -> None:
    capsules = torch.zeros(2, 4, 2)
    capsules[0, :, 0] = math.log(3)  # the real image is real with 3/4
    loss = capsule_loss(capsules, torch.tensor([[0.0], [1.0]]))
    assert loss.item() == pytest.approx(4 * (math.log(4 / 3) + math.log(2)) / 2)


def test_reconstruction_counts_real_images_only() -> None:
    images = torch.zeros(4, 3, 2, 2)
    drawn = torch.tensor([0.1, 5, 0.3, 7]).view(4, 1, 1, 1).expand_as(images)
    assert reconstruction(drawn, images, IS_FAKE).item() == pytest.approx(0.2)
    assert reconstruction(drawn, images, torch.ones(4, dtype=torch.bool)).item() == 0


def test_metric_loss_compares_pairs_of_reals_with_mixed_pairs() -> None:
    near = torch.full((4, 4), 0.25)  # mixed pairs, and fakes
    near[0, 2] = near[2, 0] = 0.75
    near.fill_diagonal_(1)
    assert metric_loss([near], IS_FAKE).item() == pytest.approx(0.5, abs=1e-5)
    assert metric_loss([near, 1 - near], IS_FAKE).item() == pytest.approx(0.5 + 1.5, abs=1e-5)


def test_white_noise_is_weak_and_on_some_images_only() -> None:
    torch.manual_seed(1)
    images = torch.zeros(64, 3, 4, 4)
    changed = with_white_noise(images).abs().amax((1, 2, 3))
    assert changed.max() < 1e-5
    assert 0 < (changed > 0).sum() < 64


def test_consistency_is_the_squared_distance_of_cosines_from_one() -> None:
    features = torch.tensor([[1.0, 0], [2, 0], [0, 3], [5, 0]])  # cosines 0 and 1
    assert consistency(features).item() == pytest.approx(0.5)


def test_weight_of_reals_is_divided_out() -> None:
    logits = torch.tensor([[0.0], [math.log(3)]])  # -log p: log 2 of the real one, log 4/3
    loss = weighted_bce(logits, torch.tensor([[0.0], [1.0]]), 4.0)
    assert loss.item() == pytest.approx((4 * math.log(2) + math.log(4 / 3)) / 5)


def test_pairs_are_the_nearest_of_each_class() -> None:
    features = torch.tensor([[0.0], [1.0], [5.0], [7.0]])
    pairs = nearest_pairs(features, torch.tensor([False, True, False, True]))
    assert pairs.first.tolist() == [0, 1, 2, 3] * 2
    assert pairs.second.tolist() == [2, 3, 0, 1, 1, 0, 3, 2]
    alone = nearest_pairs(features[:2], torch.tensor([False, True]))
    assert (alone.first.tolist(), alone.second.tolist()) == ([0, 1], [1, 0])


def test_ranking_demands_a_higher_probability_with_the_own_gate() -> None:
    probabilities = torch.tensor([[0.9], [0.6], [0.5], [0.5]])
    assert ranking_loss(probabilities.logit()).item() == pytest.approx(0.05 / 2)


def test_log_odds_become_those_of_the_own_class() -> None:
    odds = torch.ones(4, 1)
    pairs = NearestPairs(torch.tensor([1]), torch.tensor([0]))  # a fake and a real image
    assert class_margins(odds, IS_FAKE, pairs).flatten().tolist() == [1, 1, -1, -1]


def test_colour_spaces_of_blue_and_grey() -> None:
    colours = torch.tensor([[0, 0, 1.0], [0.5, 0.5, 0.5]]).view(2, 3, 1, 1)
    torch.testing.assert_close(
        to_hsv(colours).flatten(1) * 255, torch.tensor([[120.0, 255, 255], [0, 0, 127.5]])
    )
    torch.testing.assert_close(
        to_ycrcb(colours).flatten(1) * 255,
        torch.tensor([[29.07, 107.26544, 255.5], [127.5, 128, 128]]),
    )


def test_frequency_distance_weighs_frequencies_by_their_distance() -> None:
    student, teacher = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    # all of the difference is at frequency 0: D = 4 there, of four frequencies
    assert frequency_distance(student, teacher).item() == pytest.approx(math.e)


def test_projections_of_one_point_each_are_as_far_as_the_points() -> None:
    maps = torch.zeros(2, 1, 1, 5)
    maps[0, ..., 0], maps[1, ..., 3] = 2, -7  # columns 0 and 3/4 of the cube
    along = project_maps(maps, torch.tensor([0.0, 0.0, 1.0]))
    across = project_maps(maps, torch.tensor([0.0, 1.0, 0.0]))
    for projection, expected in ((along, 0.75), (across, 0.0)):
        swapped = projection._replace(cumulated=projection.cumulated.flip(0))
        distance = projection_distance(projection, swapped)
        assert distance.tolist() == pytest.approx([expected, expected])


def test_maps_of_other_channels_and_sides_are_aligned() -> None:
    student, teacher = align_maps(torch.rand(2, 4, 8, 8), torch.rand(2, 6, 4, 4))
    assert student.shape == teacher.shape == (2, 2, 4, 4)


def test_matches_have_the_same_and_the_other_class() -> None:
    torch.manual_seed(1)
    matches = draw_matches(IS_FAKE)
    assert (IS_FAKE[matches.same] == IS_FAKE).all()
    assert (IS_FAKE[matches.other] != IS_FAKE).all()
    assert not draw_matches(torch.ones(3, dtype=torch.bool)).has_other.any()


def points(*columns: int) -> Tensor:
    """Return maps of one row and five columns, each with one place of strength."""
    return functional.one_hot(torch.tensor(columns), 5).float()[:, None, None]


@pytest.mark.parametrize(
    ("direction", "expected"),
    # an image of the other class at the distance 0 adds half of the margin 0.012 to the third image
    [((0.0, 0.0, 1.0), [0.25, 0.625, 0.506, 0.875]), ((0.0, 0.6, 0.8), [0.2, 0.5, 0.406, 0.7])],
)
def test_views_compare_the_same_image_and_contrast_in_both_directions(
    direction: tuple[float, ...], expected: list[float]
) -> None:
    student, teacher = (
        project_maps(maps, torch.tensor(direction))
        for maps in (points(0, 3, 1, 3), points(0, 4, 2, 1))
    )
    pairs = (([2, 3, 0, 1], [1, 0, 3, 2]), ([0, 1, 2, 3], [3, 2, 1, 0]))
    to_teacher, to_student = (
        Matches(torch.tensor(same), torch.tensor(other), torch.ones(4, dtype=torch.bool))
        for same, other in pairs
    )
    losses = view_losses(student, teacher, (to_teacher, to_student))
    assert losses.tolist() == pytest.approx(expected)


# norm of the gradient of the published program, for normal maps of 12 images
@pytest.mark.parametrize(("shape", "norm"), [((1024, 8, 8), 0.00017), ((2048, 4, 4), 0.00024)])
def test_gradient_of_views_has_the_size_of_the_published(
    shape: tuple[int, ...], norm: float
) -> None:
    torch.manual_seed(1)
    student, teacher = torch.randn(2, 12, *shape)
    is_fake = torch.arange(12) % 2 == 0
    student.requires_grad_()
    losses = []
    for direction in functional.normalize(torch.randn(DIRECTIONS, 3), dim=1):
        matches = draw_matches(is_fake), draw_matches(is_fake)
        own, target = project_maps(student, direction), project_maps(teacher, direction)
        losses.append(view_losses(own, target, matches).mean())
    (gradient,) = torch.autograd.grad(torch.stack(losses).mean(), student)
    assert norm / 2 < float(gradient.norm()) < norm * 2


# --- steps


@pytest.mark.parametrize("name", ["capsule", "recce", "mcx"])
def test_step_of_objective_gives_a_gradient_to_all_that_learns(
    models: Mapping[str, Detector], name: str
) -> None:
    model = next(each for key, each in models.items() if key.startswith(name))
    torch.manual_seed(0)
    batch = Batch(pictures(), LABELS, torch.arange(4))
    loss, _ = objective_of(name).training_step(model.train(), batch)
    loss.backward()  # type: ignore[no-untyped-call]
    model.eval()
    learning = [each for each in model.parameters() if each.requires_grad]
    without = [each for each in learning if each.grad is None]
    model.zero_grad()
    assert loss.isfinite()
    assert not without


@pytest.mark.parametrize("name", ["capsule", "recce", "mcx"])
def test_objective_refuses_another_model_and_features(
    models: Mapping[str, Detector], name: str
) -> None:
    batch = Batch(pictures(), LABELS, torch.arange(4))
    with pytest.raises(JobError, match=f"objective: {name} needs model {name}.*got model core"):
        objective_of(name).training_step(models["core"], batch)
    model = next(each for key, each in models.items() if key.startswith(name))
    crops = batch._replace(inputs=batch.inputs[:, None])
    with pytest.raises(JobError, match="on whole images"):
        objective_of(name).training_step(model, crops)


def test_core_compares_the_views_of_a_batch() -> None:
    model = untrained("slim18", side=SIDE)
    twice = torch.cat([pictures(), pictures()])
    batch = Batch(twice, LABELS.repeat(2, 1), torch.arange(4).repeat(2))
    _, logs = objective_of("core").training_step(model, batch)
    assert float(logs["consistency"]) == pytest.approx(0, abs=1e-10)
    other = batch._replace(inputs=torch.cat([pictures(), 1 - pictures()]))
    _, logs = objective_of("core").training_step(model, other)
    assert float(logs["consistency"]) > 1e-6


class TestDistillation:
    """Objective add, with narrow networks."""

    LAYERS: ClassVar[Mapping[str, str]] = {
        "add_spectra_layers": "layer3=1",
        "add_view_layers": "layer4=2",
    }

    def objective(self, teacher: Detector | None, **options: Any) -> AddLosses:
        objective = cast(AddLosses, make_objective("add"))
        objective.teacher = teacher
        objective.prepare(
            TrainingFacts(), ObjectiveOptions(teacher="T", **{**self.LAYERS, **options})
        )
        return objective

    def batch(self) -> Batch:
        rows = torch.cat([pictures(), pictures().flip(3)])
        columns = {COLUMN: torch.tensor([0] * 4 + [1] * 4)}
        return Batch(rows, LABELS.repeat(2, 1), torch.arange(4).repeat(2), columns)

    def test_student_equal_to_teacher_on_equal_images_has_no_frequency_distance(self) -> None:
        model, teacher = (untrained("slim18", side=SIDE) for _ in range(2))
        batch = self.batch()._replace(inputs=torch.cat([pictures(), pictures()]))
        _, logs = self.objective(teacher).training_step(model, batch)
        assert float(logs["frequency"]) == pytest.approx(0, abs=1e-9)
        assert float(logs["views"]) > 0  # the other class is nearer than the margin

    def test_loss_is_the_weighted_sum_on_the_copies_of_lower_quality(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(add, "SPECTRA", 3.0)
        model, teacher = untrained("slim18", side=SIDE), untrained("slim18", seed=2, side=SIDE)
        teacher.requires_grad_(requires_grad=False)
        torch.manual_seed(0)
        loss, logs = self.objective(teacher, add_views=5.0).training_step(model, self.batch())
        with torch.no_grad():
            logits = model(self.batch().inputs[4:])
        expected = functional.binary_cross_entropy_with_logits(logits, LABELS)
        expected += 3 * torch.as_tensor(logs["frequency"]) + 5 * torch.as_tensor(logs["views"])
        torch.testing.assert_close(loss, expected)
        loss.backward()  # type: ignore[no-untyped-call]
        assert all(each.grad is None for each in teacher.parameters())

    def test_it_refuses_a_missing_teacher_one_quality_and_unknown_layers(self) -> None:
        model = untrained("slim18", side=SIDE)
        with pytest.raises(JobError, match="needs a teacher"):
            self.objective(None)
        single = Batch(
            pictures(), LABELS, torch.arange(4), {COLUMN: torch.zeros(4, dtype=torch.int64)}
        )
        with pytest.raises(JobError, match="in two qualities"):
            self.objective(model).training_step(model, single)
        with pytest.raises(JobError, match="layer 'layer9', but the student has no such layer"):
            self.objective(model, add_spectra_layers="layer9=1").training_step(model, self.batch())


# --- files


def saved(path: Path, state: Mapping[str, Tensor]) -> Path:
    torch.save(dict(state), path)
    return path


def capsule_files(folder: Path) -> tuple[Path, Path, dict[str, Tensor]]:
    """Write a state as its authors do, and torchvision's VGG-19 apart; return both paths and the state."""
    state = untrained("capsule", seed=5, side=SIDE).network.state_dict()
    apart = {name: each for name, each in state.items() if name.startswith("features.")}
    vgg = {**apart, "features.34.bias": torch.zeros(1), "classifier.6.bias": torch.zeros(1)}
    own = {name: each for name, each in state.items() if name not in apart}
    return saved(folder / "capsule_21.pt", own), saved(folder / "vgg19.pth", vgg), state


def test_capsules_of_a_published_file_join_the_vgg_of_another(tmp_path: Path) -> None:
    path, vgg, state = capsule_files(tmp_path)
    settings = PublishedSettings(architecture="capsule", weights=str(path), crop=SIDE)
    with no_draws():
        kept = read_published(path, settings, vgg)
        with pytest.raises(
            WeightsError, match=r"16 missing \(features.0.weight, features.0.bias, "
        ):
            read_published(path, settings)
        with pytest.raises(WeightsError, match="has no tensor that weights lacks"):
            read_published(path, settings, path)
    assert kept.state.keys() == state.keys()
    assert all(torch.equal(kept.state[name], each) for name, each in state.items())


def test_mcx_of_two_classes_is_refused(tmp_path: Path) -> None:
    back = {new: old for old, new in RENAMED.items()}
    state = {
        "fc.weight": torch.zeros(2, 2048),
        "fc.bias": torch.zeros(2),
        **{name: torch.zeros(1) for name in back.values()},
    }
    path = saved(tmp_path / "mcx.pth", state)
    settings = PublishedSettings(architecture="mcx", weights=str(path), crop=SIDE)
    with pytest.raises(WeightsError, match=r"fc.weight \(2, 2048\) instead of \(5, 2048\)"):
        read_published(path, settings)


def xception_file() -> dict[str, Tensor]:
    with torch.device("meta"):
        network: nn.Module = XceptionMaps()
    state = {name: torch.zeros(each.shape) for name, each in network.state_dict().items()}
    return {**state, "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}


def test_weights_of_an_xception_start_recce_and_mcx() -> None:
    with torch.device("meta"):
        networks: dict[str, Recce | Mcx] = {"encoder": Recce(), "conv": Mcx()}
    for part, network in networks.items():
        adapted = network.start_from_backbone(xception_file())
        assert adapted is not None
        assert adapted.keys() == network.state_dict().keys()
        assert not adapted[f"{part}.conv1.weight"].is_meta
        assert adapted["fc.weight"].is_meta


@pytest.mark.parametrize(("name", "channels", "total"), [("f3net", 12, 1), ("spsl", 4, 4 / 3)])
def test_networks_of_deepfakebench_share_the_first_weights_of_an_xception_among_their_channels(
    name: str, channels: int, total: float
) -> None:
    state = {**xception_file(), "conv1.weight": torch.rand(32, 3, 3, 3)}
    with torch.device("meta"):
        network = load_model_maker(f"deepfakebench/{name}")()
    adapted = network.start_from_backbone(state)
    assert adapted.keys() == network.state_dict().keys()
    first = adapted["backbone.conv1.weight"]
    assert first.shape == (32, channels, 3, 3)
    torch.testing.assert_close(first.sum(1), total * state["conv1.weight"].sum(1))
    assert network.start_from_backbone({"fc.weight": torch.zeros(1, 2048)}) is None


def test_file_of_the_discriminator_starts_lgrad_and_joins_its_published_file() -> None:
    with torch.device("meta"):
        network = LGrad()
    state = network.state_dict()
    own = {name for name in state if name.startswith("discriminator.")}
    file = {name.removeprefix("discriminator."): torch.zeros(state[name].shape) for name in own}
    file["lod"] = torch.zeros(())  # not computed
    begun = network.start_from_backbone(file)
    assert begun is not None
    assert begun.keys() == state.keys()
    assert {name for name, each in begun.items() if not each.is_meta} == own
    assert network.adapt_state(dict(file)).keys() >= own
    del file["layer3.bias"]
    begun = network.start_from_backbone(file)
    assert begun is not None
    assert state.keys() - begun.keys() == {"discriminator.layer3.bias"}
    resnet = {name: each for name, each in state.items() if name not in own}
    assert network.start_from_backbone(resnet) is None
    assert network.adapt_state(dict(resnet)) == resnet


@pytest.mark.parametrize(
    ("name", "file", "reason"),
    [
        ("recce", "core", "308 missing .*They fit architecture: core"),
        ("mcx", "core", "They fit architecture: core"),
        ("capsule", "vgg", "missing"),
        ("effb4att", "sbi", "They fit architecture: sbi"),
        ("sbi", "effb4att", "They fit architecture: effb4att"),
        ("core", "recce", "They fit architecture: recce"),
        ("deepfakebench/spsl", "core", "They fit architecture: core"),
    ],
)
def test_published_file_of_another_detector_or_of_the_backbone_is_refused(
    tmp_path: Path, name: str, file: str, reason: str
) -> None:
    with no_draws():
        if file == "vgg":
            path = capsule_files(tmp_path)[1]
        else:
            state = untrained(file, side=SIDE).network.state_dict()
            zeros = {key: torch.zeros(each.shape) for key, each in state.items()}
            path = saved(tmp_path / "other.pth", zeros)
        settings = PublishedSettings(architecture=name, weights=str(path), crop=SIDE)
        with pytest.raises(WeightsError, match=reason):
            read_published(path, settings)


def test_backbone_of_another_size_is_refused_by_its_name(tmp_path: Path) -> None:
    state = undrawn("sbi", side=SIDE).network.state_dict()
    path = saved(tmp_path / "b4.pth", {key: torch.zeros(each.shape) for key, each in state.items()})
    with pytest.raises(
        WeightsError, match=r"do not fit this model: 10 missing .*They fit model sbi"
    ):
        undrawn("ccvit", weights=str(path), side=224)


def test_settings_of_a_last_layer_are_refused_without_one() -> None:
    with pytest.raises(ValueError, match="head, logits and classes do not apply"):
        PublishedSettings(architecture="capsule", weights="capsule.pt", crop=SIDE, logits=2)


def test_names_of_published_files_become_those_of_the_networks() -> None:
    with torch.device("meta"):
        mcx, capsule = Mcx(), Capsule()
    back = {new: old for old, new in RENAMED.items()}
    names = {
        name: next(
            (back[each] + name.removeprefix(each) for each in back if name.startswith(f"{each}.")),
            name,
        )
        for name in mcx.state_dict()
    }
    file = {names[name]: tensor for name, tensor in mcx.state_dict().items()}
    assert "conv.module.20.weight" in file
    assert mcx.adapt_state(file).keys() == mcx.state_dict().keys()
    vgg = {f"features.{name}": tensor for name, tensor in capsule.features.state_dict().items()}
    whole = {**vgg, "features.34.weight": torch.zeros(1), "classifier.6.bias": torch.zeros(1)}
    begun = capsule.start_from_backbone(whole)
    assert begun is not None
    assert begun.keys() == capsule.state_dict().keys()
    assert capsule.start_from_backbone(dict(capsule.state_dict())) is None
