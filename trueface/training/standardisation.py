"""Mean and deviation of the features that a last layer of two is about to be trained on.

They are taken once, of the first pass over the training images, before the first step; a fine-tuning
keeps those of its base. Of a group each rank adds up its part.
"""

import logging

import torch
from torch import Tensor, nn

from trueface.data.loaders import Feed
from trueface.models.detectors import Detector
from trueface.models.head import MlpHead
from trueface.runtime.progress import Watch
from trueface.training.distributed.group import ALONE, Group

FEATURES = 2  # dimensions of a batch that holds features in the place of pixels

log = logging.getLogger(__name__)


def standardise(model: nn.Module, training: Feed, watch: Watch, group: Group = ALONE) -> None:
    """Let the last layer of `model` know mean and deviation of its features, where it wants them.

    Nothing is done where it has them, where it takes features as they are, or where the training was
    stopped meanwhile.

    Args:
        model: on the device of `watch`.
        training: of which the first pass is read.
        watch: device and stop.
        group: of the processes that share each batch.

    Raises:
        DataError: not one image could be read.
    """
    head = model.head if isinstance(model, Detector) else model
    if not isinstance(head, MlpHead) or head.is_standardised:
        return
    model.eval()
    sums = torch.zeros(2, head.in_features, dtype=torch.float64)
    rows = 0
    for part in group.parts(training(0)):
        if group.any(flag=watch.stop.is_set()):
            return
        if len(part.batch.labels):
            features = _features(model, part.batch.images.to(watch.device)).double().cpu()
            sums += torch.stack([features.sum(0), features.square().sum(0)])
            rows += len(features)
    every = group.gather(torch.cat([sums.flatten(), torch.tensor([float(rows)])])[None]).sum(0)
    rows = int(every[-1])
    if rows:
        added, squared = every[:-1].to(watch.device).chunk(2)
        head.standardise(added, squared, rows)
        log.info("state=features standardised images=%d features=%d", rows, head.in_features)


@torch.no_grad()
def _features(model: nn.Module, inputs: Tensor) -> Tensor:
    if isinstance(model, Detector) and inputs.ndim > FEATURES:
        return model.forward_features(inputs)
    return inputs
