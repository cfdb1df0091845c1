"""Models of several seeds as one method: its name, its seeds, and a mean with its spread."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from trueface.evaluation.score_tables import SEED
from trueface.report.tables import NO_VALUE
from trueface.runtime.errors import UsageError
from trueface.runtime.ids import parse_model


@dataclass(frozen=True, slots=True, kw_only=True)
class OverSeeds:
    """A number over the seeds of a method."""

    mean: float
    sd: float | None  # None: one seed
    values: tuple[float, ...]

    def text(self, digits: int) -> str:
        """Return "63.0 ± 3.1", or "63.0" of one seed."""
        spread = "" if self.sd is None else f" ± {self.sd:.{digits}f}"
        return f"{self.mean:.{digits}f}{spread}"

    def cell(self, digits: int) -> str:
        """Return the same for a cell of a table, the deviation in small below."""
        spread = "" if self.sd is None else f"<small>± {self.sd:.{digits}f}</small>"
        return f"{self.mean:.{digits}f}{spread}"


def over_seeds(values: Iterable[float | None]) -> OverSeeds | None:
    """Return the mean and the standard deviation (of a sample) of what is defined; None of nothing."""
    defined = tuple(value for value in values if value is not None)
    if not defined:
        return None
    return OverSeeds(
        mean=statistics.fmean(defined),
        sd=statistics.stdev(defined) if len(defined) > 1 else None,
        values=defined,
    )


def shown(value: OverSeeds | None, digits: int) -> str:
    """Return a number over seeds as text; a dash where there is none."""
    return NO_VALUE if value is None else value.text(digits)


def cell(value: OverSeeds | None, digits: int) -> str:
    """Return a number over seeds for a cell of a table; a dash where there is none."""
    return NO_VALUE if value is None else value.cell(digits)


def seed_of(model: str) -> str:
    """Return the seed in a model's ID; the whole name where it has none."""
    try:
        return dict(parse_model(model).last.variant).get(SEED, model)
    except UsageError:
        return model


def short_names(methods: Sequence[str]) -> Mapping[str, str]:
    """Return short names that still differ: the swept settings, where all else is the same.

    Args:
        methods: IDs of models without their seeds.
    """
    parts = {method: method.partition("@") for method in dict.fromkeys(methods)}
    same = len({before for before, _, _ in parts.values()}) == 1
    settings = [after for _, _, after in parts.values()]
    if not same or not all(settings) or "#" in "".join(settings):
        return {method: method for method in parts}
    return {method: after for method, (_, _, after) in parts.items()}
