"""The teacher of a distillation: a trained detector that does not learn."""

import logging
from collections.abc import Mapping
from typing import ClassVar

from trueface.models import checkpoint
from trueface.models.model_file import Checkpoint
from trueface.runtime.errors import CheckpointError
from trueface.runtime.files import Json, file_sha256
from trueface.training.input_differences import iter_differences, unfit_teacher
from trueface.training.objectives.protocol import Distillation, Objective
from trueface.training.parts.protocol import Part
from trueface.training.parts.registry import register_part

log = logging.getLogger(__name__)


@register_part("teacher", chosen_by=("teacher",))
class Teacher(Part):
    """Gives the objective its teacher."""

    identity: ClassVar[tuple[str, ...]] = ("teacher_sha256",)

    def objective(self, objective: Objective) -> Objective:
        """Return the objective with the teacher.

        Raises:
            CheckpointError: the checkpoint cannot be read, or its images were decoded or resized otherwise.
        """
        path = self.training.teacher
        if path is not None and isinstance(objective, Distillation):
            kept = checkpoint.load(path)
            self._compare(kept)
            teacher = checkpoint.from_checkpoint(kept, path).to(self.training.watch.device)
            objective.teacher = teacher.requires_grad_(requires_grad=False)
        return objective

    def _compare(self, checkpoint: Checkpoint) -> None:
        """Refuse a teacher of other images, and log the differences that are allowed."""
        earlier, used = checkpoint.provenance.get("settings"), self.training.settings.model_dump()
        if not isinstance(earlier, dict):
            return
        if reason := unfit_teacher(self.training.settings.teacher, earlier, used):
            raise CheckpointError(reason)
        is_kept = self.training.start.model is not None
        for differs in iter_differences(earlier, used, keeps_normalization=is_kept):
            log.warning("teacher=%s state=trained with %s", self.training.settings.teacher, differs)

    def facts(self) -> Mapping[str, Json]:
        """Return the digest of the teacher, if there is one."""
        path = self.training.teacher
        return {} if path is None else {"teacher_sha256": file_sha256(path)}
