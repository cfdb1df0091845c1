"""Group DRO: weights of group × class that grow with the loss during the training."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.data.batch import Batch
from trueface.training.cells import Subgroups, group_sums
from trueface.training.config import ObjectiveOptions
from trueface.training.objectives.protocol import Logs, Objective, TrainingFacts, per_sample_bce
from trueface.training.objectives.registry import register_objective

WEIGHTS = "dro_weights"  # key in the state of an interrupted training


@register_objective(
    "dro",
    summary="group DRO over subgroups",
    binary=True,
    columns=("demographic",),
    fair=True,
    balanced=True,
    options=("dro_step",),
)
class GroupDro(Objective):
    """S. Sagawa et al., ICLR 2020 (arXiv 1911.08731), algorithm 1, in batches.

    Cell c has the mean loss L_c in a batch, and a weight q_c with the initial value 1/C. In each
    batch q_c becomes q_c exp(step · L_c), and all weights are divided by their sum. The loss is the
    sum of q_c L_c over the cells of the batch. As in algorithm 1, cells are drawn equally often. A
    second pass over a batch, with perturbed weights of the model, uses the q of the first pass.
    """

    def prepare(self, facts: TrainingFacts, options: ObjectiveOptions) -> None:
        """Set equal weights for all cells that have images.

        Raises:
            JobError: the images have no groups, or there is only one group.
        """
        self._cells = Subgroups.from_training_facts(facts, "dro", compares=True)
        self._step = options.dro_step
        self._weights = self._cells.has_images.double()  # (2 G,), divided by their sum at each step
        self._next: Tensor | None = None  # weights after the current batch

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss, the number of correct images, and the largest weight of a cell."""
        losses, logs = per_sample_bce(model, batch)
        # (B, 2 G)
        members = functional.one_hot(self._cells.subgroup_ids_of_batch(batch), len(self._weights))
        means = group_sums(losses, members) / members.sum(0).clamp(min=1)
        if self._next is None:
            raised = self._weights.to(losses.device).log() + self._step * means.detach().double()
            # computed from logarithms, so that large losses do not overflow
            self._next = torch.softmax(raised, 0)
        loss = (self._next.to(losses.dtype) * means).sum()
        return loss, {**logs, "largest_weight": self._next.max()}

    def stepped(self) -> None:
        """Apply the weights that were computed for the batch."""
        if self._next is not None:
            self._weights, self._next = self._next, None

    def state(self) -> dict[str, Tensor]:
        """Return the weights of the cells."""
        return {WEIGHTS: self._weights.detach().cpu().clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore the weights of the cells."""
        self._weights = state[WEIGHTS].clone()
