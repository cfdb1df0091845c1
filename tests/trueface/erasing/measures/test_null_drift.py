import pytest
import torch

from tests.trueface.diffusion.closed_forms import small
from tests.trueface.erasing.measures.known_models import drawer
from trueface.diffusion.sampling import timesteps
from trueface.erasing.measures.null_drift import null_drift
from trueface.erasing.measures.samples import Sampling, noise_of

LABELS = torch.tensor([0, 0, 0])


def test_a_copy_has_not_drifted() -> None:
    teacher = small()
    noise = noise_of(teacher, "cross", 3, 1)
    assert null_drift(teacher.copy(), teacher, noise, LABELS, Sampling(steps=5)) == 0


def test_a_moved_null_token_drifts_by_its_share_of_each_step() -> None:
    # eps = (x - signal e) / sigma: with e moved by d it moves by signal / sigma · d
    teacher, student = drawer(), drawer()
    assert student.network.table is not None
    with torch.no_grad():
        student.network.table.weight[-1] += 0.1
    schedule, steps = teacher.schedule, 5
    shares = [
        float(schedule.alpha_bar[t] / (1 - schedule.alpha_bar[t])) * 0.01
        for t in timesteps(schedule, steps)
    ]
    noise = noise_of(teacher, "cross", 3, 1)
    drift = null_drift(student, teacher, noise, LABELS, Sampling(steps=steps, batch_size=2))
    assert drift == pytest.approx(sum(shares) / steps, rel=1e-3)


def test_changes_of_a_class_alone_are_no_drift() -> None:
    teacher, student = drawer(), drawer()
    assert student.network.table is not None
    with torch.no_grad():
        student.network.table.weight[0] = 0
    noise = noise_of(teacher, "cross", 3, 1)
    assert null_drift(student, teacher, noise, LABELS, Sampling(steps=5)) == 0
