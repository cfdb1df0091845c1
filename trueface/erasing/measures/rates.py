"""Rates: which share of a class's samples the classifier calls by which name, with their intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from trueface.evaluation.intervals import unvaried
from trueface.runtime.errors import JobError
from trueface.runtime.files import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A share of samples with its 95 % interval (Wilson's; Clopper and Pearson's at 0 and 1)."""

    value: float
    low: float
    high: float
    n: int

    @property
    def record(self) -> dict[str, Json]:
        """The same as JSON."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


def rate(hits: Tensor) -> Rate:
    """Return the share of true values of a tensor of any shape.

    The interval is that of independent samples: other noise, the same model and classifier.
    """
    n = hits.numel()
    value = float(hits.double().mean())
    measured = unvaried(value, n)
    return Rate(value=value, low=measured.low, high=measured.high, n=n)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What the classifier calls a model's samples."""

    called: Mapping[str, Mapping[str, float]]  # share by class drawn and class recognised
    right: Mapping[str, Rate]  # share recognised as the class that was to be drawn
    erased: Rate  # of the concept's samples: recognised as the concept
    anchor: Rate | None  # of the concept's samples: recognised as the anchor
    others: Rate  # of all other classes' samples: recognised as their own; the mean over classes


def rates(
    answers: Tensor, drawn: Sequence[str], known: Sequence[str], erase: str, anchor: str = ""
) -> Rates:
    """Return the rates of samples.

    Args:
        answers: K×n, what the classifier calls each sample, as numbers of `known`.
        drawn: names of the K classes that were drawn.
        known: names of the classifier's classes.
        erase: the concept.
        anchor: the class in its place; "": none.

    Raises:
        JobError: one class alone was drawn, so that there are no others.
    """
    if len(drawn) < 2:
        raise JobError(f"{erase} is the only class: nothing is left to be kept")
    right = {name: rate(row == known.index(name)) for name, row in zip(drawn, answers, strict=True)}
    kept = [at for at, name in enumerate(drawn) if name != erase]
    truth = answers.new_tensor([[known.index(drawn[at])] for at in kept])
    under = answers[list(drawn).index(erase)]
    return Rates(
        called={
            name: {other: float((row == at).double().mean()) for at, other in enumerate(known)}
            for name, row in zip(drawn, answers, strict=True)
        },
        right=right,
        erased=right[erase],
        anchor=rate(under == known.index(anchor)) if anchor else None,
        others=rate(answers[kept] == truth),
    )


def refuse_weak_teacher(teacher: Rates, least: float) -> None:
    """Refuse a teacher that cannot draw a class: what it never drew cannot be erased.

    Raises:
        JobError: so it is; names each such class with the share that is recognised.
    """
    weak = {name: of.value for name, of in teacher.right.items() if of.value < least}
    if not weak:
        return
    (first, share), *more = weak.items()
    also = "".join(f", {name} ({value:.2f})" for name, value in more)
    raise JobError(
        f"the teacher cannot draw {first} ({share:.2f} of its samples are recognised){also}: nothing to "
        f"erase; train it longer, for {least:.2f} are needed of each class"
    )
