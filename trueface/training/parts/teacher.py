"""The teacher of a distillation: a trained detector that does not learn."""

from collections.abc import Mapping
from typing import ClassVar

from trueface.models.checkpoint import load_detector
from trueface.runtime.files import Json, file_sha256
from trueface.training.objectives.protocol import Distillation, Objective
from trueface.training.parts.protocol import Part
from trueface.training.parts.registry import register_part


@register_part("teacher", chosen_by=("teacher",))
class Teacher(Part):
    """Gives the objective its teacher."""

    identity: ClassVar[tuple[str, ...]] = ("teacher_sha256",)

    def objective(self, objective: Objective) -> Objective:
        """Return the objective with the teacher.

        Raises:
            CheckpointError: the checkpoint cannot be read.
        """
        path = self.training.teacher
        if path is not None and isinstance(objective, Distillation):
            teacher = load_detector(path).to(self.training.watch.device)
            objective.teacher = teacher.requires_grad_(requires_grad=False)
        return objective

    def facts(self) -> Mapping[str, Json]:
        """Return the digest of the teacher, if there is one."""
        path = self.training.teacher
        return {} if path is None else {"teacher_sha256": file_sha256(path)}
