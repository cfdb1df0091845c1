"""Retraining without the concept: the ideal result of erasing, at the cost of a complete training."""

from trueface.generators.diffusion.diffuser import Diffuser
from trueface.generators.diffusion.settings import DiffuserSettings
from trueface.generators.diffusion.training import fit
from trueface.generators.erasing.erasure import ErasureTask
from trueface.generators.erasing.registry import register_erasure
from trueface.runtime.errors import JobError


@register_erasure(
    "retrain",
    summary="training from scratch without the images of the concept",
    needs={"images"},
    defaults={},
)
def retrain(teacher: Diffuser, task: ErasureTask) -> Diffuser:
    """Train a diffuser as the teacher was trained, without the concept's images.

    The settings are those of the teacher's checkpoint, the random seed is that of the task. The concept keeps its
    row in the table of embeddings, which is never trained: the model still samples images under it.
    Unlike the other methods, an interrupted retraining resumes.

    Raises:
        JobError: the teacher's settings are not known, it was imported, or it lacks another class.
    """
    name = teacher.class_names[task.erase]
    if task.images is None or task.labels is None or not task.training:
        raise JobError("retrain needs the images and the settings of the teacher's training")
    trained = DiffuserSettings.model_validate({**task.training, "data_root": ""})
    if trained.weights:
        raise JobError("this diffuser was imported, so it cannot be retrained")
    if trained.without not in ("", name):
        raise JobError(
            f"this diffuser was already trained without {trained.without}, and a training can leave out "
            "only one class"
        )
    result = fit(
        task.images,
        task.labels,
        trained.model_copy(update={"without": name, "seed": task.seed}),
        class_names=teacher.class_names,
        watch=task.watch,
        folder=task.folder,
    )
    task.history.extend((int(row[0]), float(row[1])) for row in result.rows)
    return result.diffuser.to(teacher.device)
