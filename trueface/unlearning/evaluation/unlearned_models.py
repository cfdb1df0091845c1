"""The unlearned models of a run, as their folders and IDs describe them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from trueface.runtime import paths
from trueface.runtime.errors import DataError, Error
from trueface.runtime.files import read_json
from trueface.runtime.ids import ModelId, parse_model
from trueface.unlearning import record
from trueface.unlearning.record import Record


class UnlearnedModel(NamedTuple):
    """A model from which something was unlearned."""

    folder: Path
    record: Record

    @property
    def swept_settings(self) -> str:
        """The swept settings that its base does not have, except seeds: "lr=0.1"."""
        there = set(_variant(self.record.base))
        own = (pair for pair in _variant(self.record.model) if pair not in there)
        return ",".join(f"{key}={value}" for key, value in own)


def find_unlearned_models(run: Path) -> tuple[list[UnlearnedModel], list[str]]:
    """Return the unlearned models of a run, sorted, and which of them cannot be read, and why."""
    models, troubles = [], []
    for folder in sorted({run, *run.iterdir()}):
        if not folder.is_dir():
            continue
        try:
            unlearning = record.read(folder)
        except DataError as error:
            troubles.append(str(error))
            continue
        if unlearning is not None:
            models.append(UnlearnedModel(folder, unlearning))
    return models, troubles


def network_of(model: UnlearnedModel) -> str | None:
    """Return the network of a model, by its provenance or its ID. None if neither names it."""
    settings = (read_json(paths.provenance(model.folder)) or {}).get("settings")
    network = settings.get("model") if isinstance(settings, dict) else None
    if isinstance(network, str):
        return network
    return dict(_variant(model.record.base)).get("model")


def reference_model(models: Sequence[UnlearnedModel], method: str) -> UnlearnedModel | None:
    """Return the model of a reference: of those that were given most, the one with the fewest settings of its own."""
    candidates = [model for model in models if model.record.method == method]
    return min(
        candidates,
        key=lambda model: (
            -model.record.known,
            model.swept_settings.count("="),
            model.swept_settings,
        ),
        default=None,
    )


def _variant(model: str) -> tuple[tuple[str, str], ...]:
    parsed = parse_model_id(model)
    return () if parsed is None else _without_seeds(parsed.last.variant)


def _without_seeds(variant: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Return a variant without the keys that only repeat it.

    A draw of the poison that is swept together with the seed is part of the repetition; one that is
    swept alone is what is compared.
    """
    repeated = {"seed"}
    if any(key.rpartition(".")[2] == "seed" for key, _ in variant):
        repeated.add("poison_seed")
    return tuple(pair for pair in variant if pair[0].rpartition(".")[2] not in repeated)


def id_without_seeds(model: str) -> str:
    """Return a model's ID without the seeds in any of its stages."""
    parsed = parse_model_id(model)
    if parsed is None:
        return model
    stages = tuple(replace(stage, variant=_without_seeds(stage.variant)) for stage in parsed.stages)
    return str(ModelId(stages))


def parse_model_id(model: str) -> ModelId | None:
    """Return a model's ID in parts; None of a model from elsewhere, which no task file named."""
    try:
        return parse_model(model)
    except Error:
        return None
