"""Models that differ only in their seed, as one method: its name, and a number with its spread.

Mean and deviation over seeds cover the seeds that have a value. If some have none, the text states their
number. A method without any value has no mean. Seeds whose jobs failed or wait are counted as missing.
"""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from trueface.runtime.errors import UnknownName, UsageError
from trueface.runtime.files import Json
from trueface.runtime.ids import parse_model

NO_VALUE = "–"
SEED = "seed"  # the swept setting whose values are repetitions of one model
Place = TypeVar("Place", bound=Hashable)
Row = TypeVar("Row")


# why seeds have no model or no test, such as "failed" → their number
MissingSeeds = Mapping[str, int]
NO_SEEDS: MissingSeeds = {}  # never changed


class MissingModels(NamedTuple):
    """Models of a run that have no result, or folders, by name."""

    why: Mapping[str, str] = MappingProxyType({})  # ID → "failed", "waiting", "skipped"

    def count_missing_seeds(
        self, finished_models: Collection[str], name: Callable[[str], str] | None = None
    ) -> MissingSeeds:
        """Return the missing seeds of a method.

        Args:
            finished_models: the IDs of its models that have a result.
            name: returns an ID without its seeds; None: `strip_seed`.
        """
        named = name or strip_seed
        names = {named(model) for model in finished_models} if self.why else set()
        missing = (
            model for model in self.why if model not in finished_models and named(model) in names
        )
        return dict(Counter(self.why[model] for model in missing))


NO_MODELS = MissingModels()


def seeds_text(seeds: int, missing: MissingSeeds) -> str:
    """Return a number of seeds for a table: "6", or "5 of 6, 1 failed"."""
    if not missing:
        return str(seeds)
    return f"{seeds} of {seeds + sum(missing.values())}, {reasons_text(missing)}"


def reasons_text(missing: MissingSeeds) -> str:
    """Return "1 failed, 2 waiting"."""
    return ", ".join(f"{number} {why}" for why, number in missing.items())


def missing_sentence(missing: MissingModels) -> str:
    """Return a sentence on the models and folders of a run without a result; "" if there is none."""
    number = len(missing.why)
    if not number:
        return ""
    subject = (
        "model or folder of the run has" if number == 1 else "models or folders of the run have"
    )
    why = reasons_text(Counter(missing.why.values()))
    return f"{number} {subject} no result: {why}. Means over seeds do not include them."


class SeedSummary(NamedTuple):
    """A number over the seeds of a method."""

    mean: float
    sd: float | None  # standard deviation of a sample; None: one seed has a value
    values: tuple[float, ...]  # values of the seeds that have one
    seeds: int  # seeds of the method, those without a value among them
    missing: MissingSeeds = NO_SEEDS  # seeds that are not among these

    @property
    def seeds_note(self) -> str:
        """Say of how many seeds it is, "2 of 3 seeds, 1 failed"; "" where every one has a value."""
        known, seeds = len(self.values), self.seeds + sum(self.missing.values())
        if known == seeds:
            return ""
        return ", ".join(filter(None, (f"{known} of {seeds} seeds", reasons_text(self.missing))))

    def text(self, digits: int) -> str:
        """Return "63.0 ± 3.1", "63.0" of one seed, or "63.0 ± 3.1 (2 of 3 seeds)"."""
        spread = "" if self.sd is None else f" ± {self.sd:.{digits}f}"
        part = f" ({self.seeds_note})" if self.seeds_note else ""
        return f"{self.mean:.{digits}f}{spread}{part}"


def summarize_seeds(
    values: Iterable[float | None], missing: MissingSeeds = NO_SEEDS
) -> SeedSummary | None:
    """Return the mean of a number over seeds, None standing for a seed without it; None of nothing."""
    of_seeds = tuple(values)
    known = tuple(value for value in of_seeds if value is not None)
    if not known:
        return None
    sd = None
    if len(known) > 1:
        sd = statistics.stdev(known) if all(map(math.isfinite, known)) else math.nan
    return SeedSummary(statistics.fmean(known), sd, known, len(of_seeds), missing)


def format_seed_summary(value: SeedSummary | None, digits: int) -> str:
    """Return a number over seeds as text; a dash where there is none."""
    return NO_VALUE if value is None else value.text(digits)


class MethodRow(NamedTuple):
    """A row of a study: a method, its numbers over seeds, and all of it as JSON."""

    name: str
    # value KEY and standard deviation KEY_sd of each number; other facts
    record: Mapping[str, Json]
    values: Mapping[str, SeedSummary | None] = MappingProxyType({})

    def value(self, key: str) -> SeedSummary | None:
        """Return a number; a single value counts as the mean of one seed. None if not measured."""
        number = self.record.get(key)
        if key in self.values or not isinstance(number, int | float):
            return self.values.get(key)
        return summarize_seeds([float(number)])

    def mean(self, key: str) -> float | None:
        """Return a number's mean; None where it was not measured."""
        value = self.value(key)
        return None if value is None else value.mean

    def text(self, key: str) -> str:
        """Return a fact; "" where there is none."""
        return str(self.record.get(key) or "")


def seed_of(model: str) -> str:
    """Return the seed in a model's ID; the whole name where it has none."""
    try:
        return dict(parse_model(model).last.variant).get(SEED, model)
    except UsageError:
        return model


def strip_seed(model: str) -> str:
    """Return a model's ID without the value of a swept seed; any other text is returned unchanged."""
    try:
        parsed = parse_model(model)
    except UsageError:
        return model
    stages = (
        replace(stage, variant=tuple(pair for pair in stage.variant if pair[0] != SEED))
        for stage in parsed.stages
    )
    return str(replace(parsed, stages=tuple(stages)))


def by_method(
    rows: Iterable[Row], model: Callable[[Row], str], key: Callable[[Row], Place]
) -> dict[Place, dict[str, list[Row]]]:
    """Return rows by place, and within each by their model without its seed, all in the order of rows.

    Args:
        rows: one per model, test and further key.
        model: returns the ID of a row's model.
        key: returns the place of a row. Only methods of one place are compared.
    """
    places: dict[Place, dict[str, list[Row]]] = {}
    for row in rows:
        methods = places.setdefault(key(row), {})
        methods.setdefault(strip_seed(model(row)), []).append(row)
    return places


def check_reference(reference: str, models: Sequence[str]) -> None:
    """Refuse a reference, "" being none, that is neither the ID of a model nor that without its seed.

    Raises:
        UsageError: it is another. The message lists the known ones.
    """
    known = list(dict.fromkeys([*map(strip_seed, models), *models]))
    if reference and reference not in known:
        raise UsageError(str(UnknownName("model", reference, known)))


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
