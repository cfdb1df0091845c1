"""One pass of a model over batches: a row of numbers for each sample."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from trueface.data.batch import Batch
from trueface.data.loading.prefetching import closing
from trueface.data.loading.transfers import Send, iter_outputs
from trueface.runtime.errors import JobError
from trueface.runtime.precision import autocast
from trueface.runtime.progress import RunContext


def predict_rows(
    batches: Iterable[Batch],
    forward: Callable[[Tensor], Tensor],
    watch: RunContext,
    *,
    before_batch: Callable[[int], None] = lambda _: None,
    facts: Callable[[Batch], Sequence[Tensor]] = lambda _: (),
) -> Tensor:
    """Return the outputs of one pass, (N, K + F + 2) float64, which represents all of them exactly.

    A row is of an image, in the order of the batches: its logits, facts, label and position.

    Args:
        batches: one pass.
        forward: from the inputs of a batch, on the device, to logits (B, K).
        watch: device, precision.
        before_batch: called before each batch with the number of images that are done or under way.
        facts: of a batch, (B,) each, F of them.
    """

    def compute(batch: Batch, send: Send) -> tuple[Tensor]:
        with autocast(watch.device, watch.precision):
            return (forward(send(batch.inputs)).float(),)

    rows = [torch.empty(0, 0).double()]
    with torch.inference_mode(), closing(iter(batches)) as passing:
        begun = _begin_batches(passing, before_batch)
        for batch, (logits,) in iter_outputs(begun, compute, watch.device):
            columns = (*facts(batch), batch.labels.reshape(-1), batch.indices)
            row = [logits.double(), *(column.double().cpu()[:, None] for column in columns)]
            rows.append(torch.cat(row, 1))
    return torch.cat(rows[1:] or rows)


def _begin_batches(
    batches: Iterable[Batch], before_batch: Callable[[int], None]
) -> Iterator[Batch]:
    """Yield the batches that have images, and call `before_batch` before each batch."""
    done = 0
    for batch in batches:
        before_batch(done)
        done += len(batch.labels)
        if len(batch.labels):
            yield batch


def sort_rows(rows: Tensor, *, further_columns: int = 0, participle: str = "scored") -> Tensor:
    """Return rows of `predict_rows` by their positions.

    Raises:
        JobError: an image came twice, or a logit is not finite: such a model has no score.
    """
    rows = rows[rows[:, -1].argsort()]
    if repeated := int((rows[:, -1].diff() == 0).sum()):
        raise JobError(f"{repeated} images were {participle} twice")
    if broken := int((~rows[:, : rows.shape[1] - further_columns - 2].isfinite()).any(1).sum()):
        raise JobError(
            f"{broken} of {len(rows)} logits are not finite numbers. The model is broken. "
            "Train it again with a lower lr."
        )
    return rows
