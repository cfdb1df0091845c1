"""The predictions of a model for labelled samples."""

from collections.abc import Sequence

import numpy as np
from torch import nn

from trueface.data.examples import Examples
from trueface.evaluation.prediction_rows import predict_rows
from trueface.models.logits import as_multiclass_logits
from trueface.predictions.predictions import UNKNOWN, Predictions
from trueface.runtime.errors import JobError
from trueface.runtime.progress import RunContext


def predict_examples(
    model: nn.Module, examples: Examples, watch: RunContext, ids: Sequence[str] | None = None
) -> Predictions:
    """Return the outputs of a model for samples, without augmentation, in evaluation mode.

    Args:
        model: on the device of `watch`; it is left in evaluation mode.
        examples: the samples.
        watch: device, precision, stop.
        ids: the name of each sample.

    Raises:
        JobError: stopped, not one could be read, or a logit is not finite.
    """
    model.eval()
    read = examples.read_batches(watch)
    predicted = predict_rows(read, lambda inputs: as_multiclass_logits(model(inputs)), watch)
    outputs, seen = predicted[:, :-2].float().numpy(), predicted[:, -1].long().tolist()
    broken = int((~np.isfinite(outputs)).any(1).sum())
    if broken:
        raise JobError(
            f"{broken} of {len(outputs)} predictions are not finite numbers. The model is broken. "
            "Use a lower lr or fewer steps."
        )
    rows = {position: row for row, position in enumerate(examples.positions)}
    chosen = [rows[position] for position in seen]
    true = examples.true or (UNKNOWN,) * len(examples)
    return Predictions(
        logits=outputs,
        labels=np.array([examples.trained[row] for row in chosen], np.int64),
        true_labels=np.array([true[row] for row in chosen], np.int64),
        ids=() if ids is None else tuple(ids[row] for row in chosen),
    )
