"""Erasing by the name of a method: what it needs is checked, and what comes back is a model of its own."""

from dataclasses import dataclass

import torch

from trueface.diffusion.diffuser import Diffuser
from trueface.erasing.problem import ErasingProblem
from trueface.erasing.registry import METHODS, function_of
from trueface.erasing.settings import SAME
from trueface.runtime.errors import JobError, UnknownName

NO_NULL = (
    "{method} needs the null token's score, and this model was trained without (drop: 0): it cannot "
    "be guided; train it with drop above 0"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """A model without a concept."""

    diffuser: Diffuser
    changed: int  # how many parameters have another value than the teacher's
    parameters: int  # how many there are


def run_erasure(method: str, teacher: Diffuser, problem: ErasingProblem) -> Erased:
    """Return a copy of a teacher without a concept; the teacher stays as it is.

    Args:
        method: a name of `registry.METHODS`.
        teacher: class-conditional.
        problem: concept, anchor, hyper-parameters; its `history` is filled.

    Raises:
        UnknownName: no such method.
        DataError: of `retrain`: the images are not those of a training.
        JobError: the teacher has no classes, no null token where the method needs it, or cannot draw;
            anchor and concept are the same class; stopped; a loss that is not a number.
    """
    if method not in METHODS:
        raise UnknownName("method of erasing", method, METHODS)
    _refuse(method, teacher, problem)
    diffuser: Diffuser = function_of(method)(teacher, problem)
    changed, parameters = _changes(teacher, diffuser)
    return Erased(diffuser=diffuser, changed=changed, parameters=parameters)


def _refuse(method: str, teacher: Diffuser, problem: ErasingProblem) -> None:
    needs = METHODS[method].needs
    if not teacher.class_names:
        raise JobError("this diffuser knows no classes: there is no concept to erase from it")
    if problem.erase == problem.anchor:
        raise JobError(SAME.format(name=teacher.class_names[problem.erase]))
    if "anchor" in needs and problem.anchor is None:
        raise JobError(f"{method} needs an anchor: the class that is drawn instead")
    samples = "sample_steps" in METHODS[method].defaults
    if samples and teacher.t_max < teacher.schedule.steps:
        raise JobError(
            f"{method} samples with the model, which was trained up to step {teacher.t_max} of "
            f"{teacher.schedule.steps} only and cannot draw; train it with t_max: 0"
        )
    guided = samples and problem.options.guidance != 1
    if ("null" in needs or guided) and not teacher.has_null:
        raise JobError(NO_NULL.format(method=method))


@torch.no_grad()
def _changes(teacher: Diffuser, student: Diffuser) -> tuple[int, int]:
    before = dict(teacher.network.named_parameters())
    changed = total = 0
    for name, parameter in student.network.named_parameters():
        total += parameter.numel()
        changed += int((parameter != before[name]).sum())
    return changed, total
