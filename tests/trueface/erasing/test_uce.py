"""Unified concept editing against least squares."""

import torch

from tests.trueface.erasing.build import a_problem, small
from trueface.erasing.methods.uce import edit_concept, edited
from trueface.erasing.registry import METHODS


def test_the_closed_form_is_the_least_squares_solution_of_its_objective() -> None:
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(7, 5, generator=generator)
    concepts = torch.randn(2, 5, generator=generator)
    anchors = torch.randn(2, 5, generator=generator)
    others = torch.randn(3, 5, generator=generator)
    keep, preserve = 0.1, 0.7
    new = edited(weight, concepts, anchors, others, keep=keep, preserve=preserve)
    unit = torch.eye(5)
    left = torch.cat((concepts, preserve**0.5 * others, keep**0.5 * unit))
    right = torch.cat((anchors @ weight.T, preserve**0.5 * others @ weight.T, keep**0.5 * weight.T))
    expected = torch.linalg.lstsq(left.double(), right.double()).solution.T
    assert torch.allclose(new.double(), expected, atol=1e-5)


def test_the_concept_is_mapped_to_the_anchor_and_the_others_stay() -> None:
    teacher = small()
    options = METHODS["uce"].options({"uce_lambda": 1e-6})
    student = edit_concept(teacher, a_problem(options))
    table = teacher.network.table
    assert table is not None
    rows = table.weight.detach()
    pairs = zip(teacher.network.condition_maps(), student.network.condition_maps(), strict=True)
    for old, new in pairs:
        assert torch.allclose(new(rows[1]), old(rows[0]), atol=1e-3)
        assert torch.allclose(new(rows[[0, 2, 3]]), old(rows[[0, 2, 3]]), atol=1e-3)


def test_without_an_anchor_the_concept_is_mapped_to_the_null_token() -> None:
    teacher = small()
    options = METHODS["uce"].options({"uce_lambda": 1e-6})
    student = edit_concept(teacher, a_problem(options, anchor=None))
    table = teacher.network.table
    assert table is not None
    rows = table.weight.detach()
    old, new = teacher.network.condition_maps()[0], student.network.condition_maps()[0]
    assert torch.allclose(new(rows[1]), old(rows[3]), atol=1e-3)
