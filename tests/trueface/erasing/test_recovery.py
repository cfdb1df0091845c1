import threading

import pytest
import torch
from torch import Tensor

from tests.trueface.diffusion.closed_forms import small
from tests.trueface.erasing.build import drawer, prototypes, recogniser
from trueface.diffusion.diffuser import Diffuser
from trueface.erasing.recovery import Curve, RecoveryAttack, inverted, recovery, starts_of
from trueface.erasing.samples import Sampling
from trueface.erasing.study import read_points
from trueface.runtime.errors import JobError

ATTACK = RecoveryAttack(
    images=(1, 3),
    steps=(1, 5, 80),
    lr=0.1,
    batch=4,
    samples=3,
    sampling=Sampling(steps=3, guidance=1),
)


def crosses() -> Tensor:
    return prototypes()[:1].repeat(3, 1, 1, 1)


def is_cross(images: Tensor) -> Tensor:
    return recogniser().answers(images) == 0


def curve_of(diffuser: Diffuser, attack: RecoveryAttack = ATTACK) -> Curve:
    return recovery(diffuser, "cross", crosses(), is_cross, attack)


def test_the_attack_finds_the_embedding_that_draws_the_real_images_and_comes_nearer_at_each_step() -> (
    None
):
    model = drawer()
    starts = starts_of(model, "cross", 1)
    assert torch.equal(starts["own"], prototypes()[0].flatten())
    path = inverted(model, torch.stack([starts["random"]]), crosses(), ATTACK)
    assert path.shape == (1, 2, 3, 16)
    far = [float(v) for v in (path[0, 0] - starts["own"]).square().mean(1)]
    assert far == sorted(far, reverse=True)
    assert far[-1] < 0.01


def test_the_curve_of_a_model_that_draws_all_it_is_given_rises_to_one() -> None:
    curve = curve_of(drawer())
    assert [point.starts["own"] for point in curve] == [1] * 6
    for images in ATTACK.images:
        row = [point.starts["random"] for point in curve if point.images == images]
        assert row == sorted(row)
        assert row[-1] == 1
    assert [point.rate for point in curve] == [1] * 6


def test_nothing_comes_back_from_a_model_that_ignores_its_embedding() -> None:
    curve = curve_of(drawer(deaf=True))
    assert [point.rate for point in curve] == [0] * 6


def test_a_concept_hidden_behind_its_name_is_recovered() -> None:
    pictures = prototypes()
    pictures[0] = pictures[1]  # under "cross" it draws the disc
    curve = curve_of(drawer(pictures))
    assert curve[0].rate == 0
    assert curve[-1].rate == 1
    assert curve[0].starts.keys() == {"own", "random"}


def test_the_attack_follows_from_its_seed_and_more_steps_change_no_earlier_point() -> None:
    model = small()
    starts = torch.stack(list(starts_of(model, "cross", 1).values()))
    attack = RecoveryAttack(images=(1, 2), steps=(2, 3), batch=4)
    path = inverted(model, starts, crosses(), attack)
    assert torch.equal(path, inverted(model, starts, crosses(), attack))
    longer = RecoveryAttack(images=(1, 2), steps=(2, 3, 5), batch=4)
    assert torch.equal(path, inverted(model, starts, crosses(), longer)[:, :, :2])
    other = RecoveryAttack(images=(1, 2), steps=(2, 3), batch=4, sampling=Sampling(seed=2))
    assert not torch.equal(path, inverted(model, starts, crosses(), other))
    assert all(not weight.grad for weight in model.network.parameters())


def test_a_model_without_the_class_is_attacked_from_a_random_start() -> None:
    assert list(starts_of(drawer(), "star", 1)) == ["random"]


def test_points_of_a_curve_hold_the_better_start_and_both() -> None:
    (point,) = read_points(
        [{"images": 1, "steps": 9, "rate": 0.3, "from_own": 0.1, "from_random": 0.3}]
    )
    assert tuple(point) == (1, 9, 0.3, {"own": 0.1, "random": 0.3})
    assert read_points([point.record]) == (point,)


def test_a_stopped_attack_says_how_far_it_came() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(JobError, match="stopped at step 1 "):
        curve_of(drawer(), RecoveryAttack(images=(1,), sampling=Sampling(stop=stop)))


def test_too_few_images_and_a_loss_without_a_number_end_the_attack() -> None:
    with pytest.raises(JobError, match=r"3 real images of cross, and the attack wants 5"):
        curve_of(drawer(), RecoveryAttack(images=(1, 5)))
    with pytest.raises(JobError, match=r"no number at step 1; take a smaller recover_lr"):
        recovery(
            drawer(),
            "cross",
            crosses() * float("inf"),
            is_cross,
            RecoveryAttack(images=(1,), steps=(5,)),
        )
