"""The methods' losses and gradients, against values reckoned by hand for eps(z, e) = a z + b e."""

import pytest
import torch
from torch import Tensor

from tests.trueface.generators.erasing.build import (
    ANCHOR,
    CONCEPT,
    NULL,
    a_problem,
    gradients,
    linear,
)
from trueface.generators.diffusion.diffuser import Diffuser
from trueface.generators.erasing.methods.ablation import ablation_loss
from trueface.generators.erasing.methods.abo import all_but_one_loss, sparse_edit, top_tail
from trueface.generators.erasing.methods.esd import negative_guidance_loss
from trueface.generators.erasing.methods.sdd import self_distillation_loss
from trueface.generators.erasing.methods.uce import uce_update
from trueface.generators.erasing.registry import ErasureOptions

Z = 1.5  # the one noisy image, of one pixel
A, B = 0.7, 1.3  # the student
A_TEACHER, B_TEACHER = 1.0, 0.9


def pair() -> tuple[Diffuser, Diffuser]:
    """Return a student and its teacher."""
    return linear(A, B), linear(A_TEACHER, B_TEACHER)


def noisy() -> tuple[Tensor, Tensor]:
    return torch.full((1, 1, 1, 1), Z), torch.tensor([10])


def close(value: float) -> object:
    return pytest.approx(value, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("gamma1", "gamma2", "penalty"), [(1.0, 1.0, 1.0), (2.0, 0.5, 0.3)])
def test_all_but_one_has_loss_and_gradient_of_the_paper(
    gamma1: float, gamma2: float, penalty: float
) -> None:
    student, teacher = pair()
    options = ErasureOptions(gamma1=gamma1, gamma2=gamma2, penalty=penalty)
    loss = all_but_one_loss(student, teacher, *noisy(), a_problem(options))
    concept = gamma2 * B * (CONCEPT - NULL) - gamma1 * B_TEACHER * (ANCHOR - NULL)
    null = (A - A_TEACHER) * Z + (B - B_TEACHER) * NULL
    assert loss.item() == close(concept**2 + penalty * null**2)
    # the student's own null score is a constant in the first term
    by_a = 2 * concept * gamma2 * Z + penalty * 2 * null * Z
    by_b = 2 * concept * gamma2 * CONCEPT + penalty * 2 * null * NULL
    assert gradients(student, loss) == (close(by_a), close(by_b))


@pytest.mark.parametrize("method", ["abo", "sdd"])
def test_detached_null_score_has_no_gradient(method: str) -> None:
    student, teacher = pair()
    table = student.network.table
    assert table is not None
    task = a_problem(ErasureOptions(penalty=0.0))
    loss = (
        all_but_one_loss(student, teacher, *noisy(), task)
        if method == "abo"
        else self_distillation_loss(student, *noisy(), task)
    )
    loss.backward()  # type: ignore[no-untyped-call]  # torch
    assert table.weight.grad is not None
    of_anchor, of_concept, of_null = table.weight.grad.flatten().tolist()
    assert of_concept != 0
    assert of_anchor == of_null == 0


def test_all_but_one_without_anchor_removes_guidance_of_the_concept() -> None:
    student, teacher = pair()
    task = a_problem(ErasureOptions(penalty=0.0), anchor=None)
    loss = all_but_one_loss(student, teacher, *noisy(), task)
    assert loss.item() == close((B * (CONCEPT - NULL)) ** 2)


def test_mask_moves_strongest_entries_from_concept_to_anchor_guidance() -> None:
    student, teacher = pair()
    task = a_problem(ErasureOptions(penalty=0.0, mask=0.4))  # a mask of one entry: it is kept
    explicit = a_problem(ErasureOptions(penalty=0.0))
    loss = all_but_one_loss(student, teacher, *noisy(), task)
    assert loss.item() == close(all_but_one_loss(student, teacher, *noisy(), explicit).item())
    none = a_problem(ErasureOptions(penalty=0.0, mask=0.6))  # a mask of one entry: none is kept
    loss = all_but_one_loss(student, teacher, *noisy(), none)
    assert loss.item() == close(((B - B_TEACHER) * (CONCEPT - NULL)) ** 2)


@pytest.mark.parametrize("anchor", [0, None])
def test_edit_without_mask_is_scaled_with_and_without_anchor(anchor: int | None) -> None:
    student, teacher = pair()
    task = a_problem(ErasureOptions(penalty=0.0, edit_scale=0.5), anchor=anchor)
    loss = all_but_one_loss(student, teacher, *noisy(), task)
    target = B_TEACHER * ((CONCEPT + (NULL if anchor is None else ANCHOR)) / 2 - NULL)
    assert loss.item() == close((B * (CONCEPT - NULL) - target) ** 2)


@pytest.mark.parametrize("eta", [1.0, 3.0])
def test_esd_has_loss_and_gradient_of_the_paper(eta: float) -> None:
    student, teacher = pair()
    loss = negative_guidance_loss(student, teacher, *noisy(), a_problem(ErasureOptions(eta=eta)))
    target = A_TEACHER * Z + B_TEACHER * (NULL - eta * (CONCEPT - NULL))
    rest = A * Z + B * CONCEPT - target
    assert loss.item() == close(rest**2)
    assert gradients(student, loss) == (close(2 * rest * Z), close(2 * rest * CONCEPT))


def test_self_distillation_targets_the_null_score_of_the_student() -> None:
    student = linear(A, B)
    loss = self_distillation_loss(student, *noisy(), a_problem(ErasureOptions()))
    rest = B * (CONCEPT - NULL)
    assert loss.item() == close(rest**2)
    assert gradients(student, loss) == (close(2 * rest * Z), close(2 * rest * CONCEPT))


def test_ablation_targets_the_anchor_score_of_the_teacher() -> None:
    student, teacher = pair()
    loss = ablation_loss(student, teacher, *noisy(), a_problem(ErasureOptions()))
    rest = A * Z + B * CONCEPT - (A_TEACHER * Z + B_TEACHER * ANCHOR)
    assert loss.item() == close(rest**2)
    assert gradients(student, loss) == (close(2 * rest * Z), close(2 * rest * CONCEPT))


def test_ties_do_not_enlarge_the_mask() -> None:
    assert int(top_tail(torch.ones(1, 1, 4, 5), 0.75).sum()) == 5


def test_entries_outside_the_tail_are_not_edited() -> None:
    edit = torch.tensor([-3.0, 1.0, 2.0, -0.5]).reshape(1, 1, 2, 2)
    assert sparse_edit(edit, 0.5, 10.0).flatten().tolist() == [-30.0, 0.0, 20.0, 0.0]


def test_closed_form_is_the_least_squares_solution() -> None:
    rng = torch.Generator().manual_seed(4)
    weight = torch.randn(7, 5, generator=rng)
    concepts = torch.randn(2, 5, generator=rng)
    anchors = torch.randn(2, 5, generator=rng)
    others = torch.randn(3, 5, generator=rng)
    keep, preserve = 0.1, 0.7
    new = uce_update(weight, concepts, anchors, others, keep=keep, preserve=preserve)
    unit = torch.eye(5)
    left = torch.cat((concepts, preserve**0.5 * others, keep**0.5 * unit))
    right = torch.cat((anchors @ weight.T, preserve**0.5 * others @ weight.T, keep**0.5 * weight.T))
    expected = torch.linalg.lstsq(left.double(), right.double()).solution.T
    assert torch.allclose(new.double(), expected, atol=1e-5)
