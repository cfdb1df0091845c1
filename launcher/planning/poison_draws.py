"""Poison draws that several models have in common: one job makes the choice for all of them.

A sweep of the learning rate trains many models on the same flipped labels. The job of the first of them
writes the record of each; the others have no job of their own.
"""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from launcher.draft import Draft, Input
from launcher.ids import parse_model
from launcher.planning.expanding.step import Step
from launcher.planning.identity import Identity


@dataclass(slots=True, kw_only=True)
class Draw:
    """A job that chooses for several models."""

    step: Step
    draft: Draft  # of the first of them
    # further ones → what would determine the choice of a job that chose for this one alone
    models: dict[str, Identity] = field(default_factory=dict)

    @property
    def whole(self) -> Draft:
        """The draft of the job for all its models."""
        return replace(self.draft, further_models=tuple(self.models))


class Draws:
    """Which jobs of a plan make the same choice."""

    def __init__(self) -> None:
        self._by_choice: dict[Hashable, Draw] = {}
        self._by_job: dict[str, Draw] = {}

    def first(
        self, step: Step, draft: Draft, inputs: Iterable[Input], behind: Hashable = ()
    ) -> Draw | None:
        """Return the earlier job that makes the choice of this step; None, and note it, if none does.

        Args:
            step: which.
            draft: of it.
            inputs: what it reads.
            behind: the jobs that its entry names; those that share a choice have them in common.
        """
        if not step.kind.settings.for_many or step.model is None:
            return None
        poison = parse_model(step.model).last.poison
        choice = (
            step.kind.name,
            step.images,
            str(poison),
            step.settings.text,
            tuple(inputs),
            behind,
        )
        draw = self._by_choice.get(choice)
        if draw is None:
            self._by_choice[choice] = self._by_job[step.name] = Draw(step=step, draft=draft)
        return draw

    def identity_for(self, job: str, step: Step) -> Identity | None:
        """Return what stands for a shared job in the hash of a step that needs it; None: its own.

        It is the identity of a job that chooses for the step's model alone, so that which models share a
        choice, and which of them is the first, changes the hash of none.
        """
        draw = self._by_job.get(job)
        if draw is None:
            return None
        named = (draw.models.get(model) for model in (step.model, step.base) if model is not None)
        return next((job for job in named if job is not None), None)

    def shared(self) -> Iterator[Draw]:
        """Give the jobs that choose for more models than one."""
        return (draw for draw in self._by_job.values() if draw.models)
