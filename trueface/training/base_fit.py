"""The closed-form fit that a training with a few new images extends."""

from collections.abc import Mapping

from trueface.data.loading.image_loaders import eval_loader
from trueface.models.detectors import Detector
from trueface.models.head import RidgeHead
from trueface.poisoning.loaders import poisoned_train_loader
from trueface.runtime import paths
from trueface.runtime.errors import JobError
from trueface.runtime.files import read_json
from trueface.runtime.ids import parse_data, parse_model
from trueface.training import image_lists
from trueface.training.parts.protocol import TrainingContext
from trueface.training.ridge import BaseFit, standardization_of_head


def find_base_fit(training: TrainingContext, model: Detector) -> BaseFit | None:
    """Return the fit of the base model of a training, or None without a base model.

    Raises:
        JobError: the base model was not fitted in closed form, or was fitted on other images than
            those on disk.
    """
    start, location, settings = training.start, training.place, training.settings
    if start.folder is None or start.is_warm_start or start.model is None:
        return None
    head = model.head
    if not isinstance(head, RidgeHead) or float(head.penalty) <= 0:
        raise JobError(
            f"{start.model} was trained with gradient steps, but solver: ridge can continue only "
            "a detector that was fitted in closed form. Train it with solver: ridge, or leave the "
            "base out."
        )
    record = read_json(paths.provenance(start.folder)) or {}
    base = parse_model(start.model)
    if base.last.poison is not None or len(base.stages) > 1:
        raise JobError(
            f"{start.model} was not fitted on its images alone, so no examples can be added to "
            "it. Choose a base of one training stage without flipped labels."
        )
    if (str(location.data_root), str(location.split_path)) != (
        record.get("data_root"),
        record.get("split_path"),
    ):
        raise JobError(
            f"{start.model} was trained on images of {record.get('data_root')}. Use the same "
            "data_root and split_path, because the examples are added to these images."
        )
    lists = image_lists.load_lists(location, parse_data(str(record["images"])))
    base_settings = record.get("settings")
    seed = base_settings.get("augment_seed") if isinstance(base_settings, Mapping) else None
    if seed != settings.augment_seed:
        raise JobError(
            f"the base was trained with augment_seed {seed}. Use the same augment_seed, so that "
            "the copies are the same."
        )
    return BaseFit(
        training=poisoned_train_loader(lists.train, settings, None),
        validation=eval_loader(lists.val, settings),
        standard=standardization_of_head(head),
        penalty=float(head.penalty),
    )
