"""What a model says of samples: wide logits with both labels, kept in files for later measures."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trueface.data.dataset import Batch
from trueface.data.examples import Examples, Label
from trueface.data.loading import closing
from trueface.models.logits import wide
from trueface.runtime import npz_files
from trueface.runtime.errors import DataError, JobError
from trueface.runtime.files import write_atomic
from trueface.runtime.precision import autocast
from trueface.runtime.progress import Watch

UNKNOWN = -1  # the true label is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Logits of samples, one row each, those left out that could not be read."""

    logits: NDArray[np.float32]  # (N, K), K >= 2; of a single logit z the two are 0 and z
    trained: NDArray[np.int64]  # (N,) class that the model was trained to give
    true: NDArray[np.int64]  # (N,) the right one, or UNKNOWN
    ids: tuple[str, ...] = ()  # names of the samples; () if there are none

    def __post_init__(self) -> None:
        counts = {len(self.logits), len(self.trained), len(self.true)}
        if len(counts) != 1 or (self.ids and len(self.ids) not in counts):
            raise ValueError("each answer needs its labels")

    def __len__(self) -> int:
        return len(self.logits)

    def labels(self, which: Label) -> NDArray[np.int64]:
        """Return labels of one sort."""
        return self.trained if which == "trained" else self.true

    def accuracy(self, which: Label) -> float | None:
        """Return the fraction of right answers, in 0 … 1; None where no label is known."""
        labels = self.labels(which)
        labelled = labels != UNKNOWN
        if not labelled.any():
            return None
        return float(np.mean(self.logits.argmax(1)[labelled] == labels[labelled]))

    def balanced_accuracy(self, which: Label) -> float:
        """Return the mean over the classes that there are of the fraction of right answers, in 0 … 1."""
        labels = self.labels(which)
        right = self.logits.argmax(1) == labels
        return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))

    def log_probabilities(self) -> NDArray[np.float64]:
        """Return logarithms of the softmax: (N, K)."""
        logits = self.logits.astype(np.float64)
        logits -= logits.max(1, keepdims=True)
        logs: NDArray[np.float64] = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        return logs

    def losses(self, labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the cross entropy of each answer with its label: (N,)."""
        values: NDArray[np.float64] = -self.log_probabilities()[np.arange(len(labels)), labels]
        return values

    def loss(self, labels: NDArray[np.int64]) -> float:
        """Return the mean cross entropy with labels (N,)."""
        return float(self.losses(labels).mean())


def answered_rows(
    batches: Iterable[Batch],
    answer: Callable[[Tensor], Tensor],
    watch: Watch,
    *,
    before: Callable[[int], None] = lambda _: None,
    facts: Callable[[Batch], Sequence[Tensor]] = lambda _: (),
) -> Tensor:
    """Return the answers to one pass, (N, K + F + 2) float64, which holds all of them exactly.

    A row is of an image, in the order of the batches: its logits, facts, label and position.

    Args:
        batches: one pass.
        answer: from what batches hold, on the device, to logits (B, K).
        watch: device, precision.
        before: called before each batch with the number of images that are done.
        facts: of a batch, (B,) each, F of them.
    """
    rows, done = [torch.empty(0, 0).double()], 0
    with torch.inference_mode(), closing(iter(batches)) as passing:
        for batch in passing:
            before(done)
            done += len(batch.labels)
            if not len(batch.labels):
                continue
            with autocast(watch.device, watch.precision):
                logits = answer(batch.images.to(watch.device, non_blocking=True)).float().cpu()
            columns = (*facts(batch), batch.labels.reshape(-1), batch.indices)
            row = [logits.double(), *(column.double().cpu()[:, None] for column in columns)]
            rows.append(torch.cat(row, 1))
    return torch.cat(rows[1:] or rows)


def in_order(rows: Tensor, *, facts: int = 0, done: str = "scored") -> Tensor:
    """Return rows of `answered_rows` by their positions.

    Raises:
        JobError: an image came twice, or a logit is no finite number: such a model has no score.
    """
    rows = rows[rows[:, -1].argsort()]
    if repeated := int((rows[:, -1].diff() == 0).sum()):
        raise JobError(f"{repeated} images were {done} twice")
    if broken := int((~rows[:, : rows.shape[1] - facts - 2].isfinite()).any(1).sum()):
        raise JobError(
            f"{broken} of {len(rows)} logits are no finite numbers: the model is broken, "
            "train it again with a lower lr"
        )
    return rows


def answered(
    model: nn.Module, examples: Examples, watch: Watch, ids: Sequence[str] | None = None
) -> Answered:
    """Return the answers of a model to samples, as they are tested, in evaluation mode.

    Args:
        model: on the device of `watch`; it is left in evaluation mode.
        examples: the samples.
        watch: device, precision, stop.
        ids: the name of each sample.

    Raises:
        JobError: stopped, not one could be read, or a logit is no finite number.
    """
    model.eval()
    read = (Batch(each.inputs, each.labels, each.positions) for each in examples.read(watch))
    answers = answered_rows(read, lambda inputs: wide(model(inputs)), watch)
    outputs, seen = answers[:, :-2].float().numpy(), answers[:, -1].long().tolist()
    broken = int((~np.isfinite(outputs)).any(1).sum())
    if broken:
        raise JobError(
            f"{broken} of {len(outputs)} answers are no finite numbers: the model is broken; take a "
            "lower lr, or fewer steps"
        )
    rows = {position: row for row, position in enumerate(examples.positions)}
    chosen = [rows[position] for position in seen]
    true = examples.true or (UNKNOWN,) * len(examples)
    return Answered(
        logits=outputs,
        trained=np.array([examples.trained[row] for row in chosen], np.int64),
        true=np.array([true[row] for row in chosen], np.int64),
        ids=() if ids is None else tuple(ids[row] for row in chosen),
    )


def write(path: Path, parts: Mapping[str, Answered]) -> None:
    """Write answers as one .npz, atomically: `<part>_logits`, `_trained`, `_true`, `_ids`."""
    arrays: dict[str, Any] = {}
    for name, part in parts.items():
        arrays[f"{name}_logits"] = part.logits.astype(np.float32)
        arrays[f"{name}_trained"] = part.trained
        arrays[f"{name}_true"] = part.true
        arrays[f"{name}_ids"] = np.array(part.ids, dtype=np.str_)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())


def read(path: Path) -> dict[str, Answered]:
    """Return what `write` wrote, by part; nothing in the file is executed.

    Raises:
        DataError: it cannot be read, or is no such file.
        MachineError: there is not enough memory.
    """
    arrays = npz_files.read(path, "the answers")
    names = [key.removesuffix("_logits") for key in arrays if key.endswith("_logits")]
    try:
        return {name: _part(arrays, name) for name in names}
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"cannot read the answers {path}: {error}; do again what wrote it"
        ) from error


def _part(arrays: Mapping[str, NDArray[Any]], name: str) -> Answered:
    """Return the answers to one part; refuse labels that stand for no column of the logits."""
    logits = _of(arrays[f"{name}_logits"], 2, "f")
    columns = logits.shape[1]
    if columns < 2:
        raise ValueError(f"logits of shape {logits.shape} are of fewer than two classes")
    labels = {}
    for sort, least in (("trained", 0), ("true", UNKNOWN)):
        labels[sort] = _of(arrays[f"{name}_{sort}"], 1, "iu")
        if ((labels[sort] < least) | (labels[sort] >= columns)).any():
            raise ValueError(f"a label of {name}_{sort} is none of {columns} classes")
    ids = _of(arrays[f"{name}_ids"], 1, "U")
    return Answered(
        logits=logits, trained=labels["trained"], true=labels["true"], ids=tuple(map(str, ids))
    )


def _of(array: NDArray[Any], dimensions: int, kinds: str) -> NDArray[Any]:
    """Return an array of so many dimensions and of these kinds of numbers; refuse any other."""
    if array.ndim != dimensions or array.dtype.kind not in kinds:
        raise ValueError(
            f"an array of shape {array.shape} and type {array.dtype} is no part of them"
        )
    return array
