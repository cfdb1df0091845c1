"""The unlearned models of a run, and what tells them from each other."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trueface.runtime import paths
from trueface.runtime.errors import DataError, Error
from trueface.runtime.files import read_json
from trueface.runtime.ids import ModelId, parse_model
from trueface.unlearning import record
from trueface.unlearning.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An unlearned model."""

    folder: Path
    record: Record

    @property
    def swept(self) -> str:
        """The swept settings that its base has not, but for seeds."""
        return _swept_beyond(self.record.model, self.record.base)

    @property
    def row(self) -> tuple[str, str]:
        """What its row is called."""
        return self.record.method, self.swept


def find(run: Path) -> tuple[list[Entry], list[str]]:
    """Return the unlearned models of a run, sorted, and which of them cannot be read, and why."""
    entries, troubles = [], []
    for folder in sorted({run, *run.iterdir()}):
        if not folder.is_dir():
            continue
        try:
            unlearning = record.read(folder)
        except DataError as error:
            troubles.append(str(error))
            continue
        if unlearning is not None:
            entries.append(Entry(folder=folder, record=unlearning))
    return entries, troubles


def network_of(entry: Entry) -> str | None:
    """Return the network of a model, as its provenance or its ID says; None where neither does."""
    settings = (read_json(paths.provenance(entry.folder)) or {}).get("settings")
    network = settings.get("model") if isinstance(settings, dict) else None
    if isinstance(network, str):
        return network
    return dict(_variant(entry.record.base)).get("model")


def reference_model(entries: Sequence[Entry], method: str) -> Entry | None:
    """Return the model of a reference: the one with the fewest settings of its own."""
    candidates = [entry for entry in entries if entry.record.method == method]
    return min(candidates, key=lambda entry: (entry.swept.count("="), entry.swept), default=None)


def _swept_beyond(model: str, base: str) -> str:
    there = set(_variant(base))
    return ",".join(f"{key}={value}" for key, value in _variant(model) if (key, value) not in there)


def _variant(model: str) -> tuple[tuple[str, str], ...]:
    parsed = _parsed(model)
    return () if parsed is None else _swept(parsed)


def _swept(model: ModelId) -> tuple[tuple[str, str], ...]:
    return _without_seeds(model.last.variant)


def _without_seeds(variant: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Return what sets a model apart from its repetitions.

    A draw of the poison that is swept together with the seed is part of the repetition; one that is
    swept alone is what is compared.
    """
    repeated = {"seed"}
    if any(key.rpartition(".")[2] == "seed" for key, _ in variant):
        repeated.add("poison_seed")
    return tuple(pair for pair in variant if pair[0].rpartition(".")[2] not in repeated)


def seedless(model: str) -> str:
    """Return a model's ID without the seeds in any of its stages."""
    parsed = _parsed(model)
    if parsed is None:
        return model
    stages = tuple(replace(stage, variant=_without_seeds(stage.variant)) for stage in parsed.stages)
    return str(ModelId(stages))


def _parsed(model: str) -> ModelId | None:
    try:
        return parse_model(model)
    except Error:  # a model from elsewhere, which no task file named
        return None
