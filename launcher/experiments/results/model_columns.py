"""Settings of jobs and parts of model IDs as columns of results.

The parts of a model come from its ID and from the settings that differ between the jobs of the run.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from launcher.experiments.draft import tested
from launcher.experiments.kind_interface import Kind, NamesModels, RecordsLabels
from launcher.experiments.results.result_jobs import MAKERS
from launcher.ids import ModelId, model_folder_name, parse_model
from launcher.queue.jobs.job import FUNCTION, PROGRAM, Spec
from launcher.queue.jobs.params import to_param_value, varying_names
from launcher.system.errors import IdError
from launcher.system.files import Json

SEED = "seed"
OF_DATA, OF_LABELS, LABELS_KIND, OF_METHODS = "#", "%", "%kind", "~"  # parts of a model's ID
OF_SETTING = "%"  # end of a part that is not of the model's own ID: "teacher%"
TRAINED = "train"  # the method of a model without unlearning
_LONGEST = 64  # stages of a model: a limit for a model that is its own base


def settings_of(spec: Spec) -> Mapping[str, Any]:
    """Return the settings of a job, or the parameters of a program or function."""
    return spec.params if spec.kind in {PROGRAM, FUNCTION} else spec.settings


def swept_settings(specs: Iterable[Spec], kinds: Mapping[str, Kind]) -> dict[str, tuple[str, ...]]:
    """Return kind → names of the settings that differ between its jobs, in the order of the settings.

    Settings that cannot change a result, such as a number of threads, are excluded.

    Args:
        specs: Specifications of the jobs of a run.
        kinds: Installed kinds by name.
    """
    by_kind: dict[str, list[Mapping[str, Any]]] = {}
    for spec in specs:
        by_kind.setdefault(spec.kind, []).append(settings_of(spec))
    return {
        name: tuple(key for key in varying_names(those) if key not in _neutral(kinds.get(name)))
        for name, those in by_kind.items()
    }


def _neutral(kind: Kind | None) -> frozenset[str]:
    return frozenset() if kind is None else kind.settings.neutral


class ModelIndex:
    """The models of a run by their IDs."""

    def __init__(
        self, specs: Sequence[Spec], kinds: Mapping[str, Kind], model_specs: Sequence[Spec] = ()
    ) -> None:
        """Index the jobs of a run.

        Args:
            specs: Specifications of the jobs.
            kinds: Installed kinds of the jobs, by name.
            model_specs: Jobs of other runs; settings that differ from them also count as swept.
        """
        self._kinds = kinds
        self._of_id = {
            column: part
            for kind in kinds.values()
            if isinstance(kind, NamesModels)
            for column, part in kind.model_columns.items()
        }
        makers = [spec for spec in specs if spec.role in MAKERS and spec.model]
        self.makers = {str(spec.model): spec for spec in makers}
        self._of_id = {
            column: part
            for column, part in self._of_id.items()
            if not (name := named_setting(part))
            or any(map(partial(self._names_model, name), makers))
        }
        self.parts = (*self._of_id, SEED)  # columns of the parts of a model
        others = [spec for spec in model_specs if spec.role in MAKERS and spec.model]
        self._by_kind = swept_settings([*makers, *others], kinds)
        named = {name for spec in makers for name in self._column_settings(spec).values()} | {SEED}
        named |= {column for column, part in self._of_id.items() if part == OF_METHODS}
        names = dict.fromkeys(name for those in self._by_kind.values() for name in those)
        self.swept = tuple(name for name in names if name not in named)
        self._known: dict[str, dict[str, Json]] = {}

    def columns(self, model: str) -> Mapping[str, Json]:
        """Return the parts of a model and its swept settings by column; None if unknown."""
        if model not in self._known:
            chain = list(self._chain(model))
            parts = id_parts(model)
            self._known[model] = {
                **{
                    column: self._labels_of(name, chain)
                    if (name := named_setting(part))
                    else parts.get(part)
                    for column, part in self._of_id.items()
                },
                **self._named_columns(chain),
                SEED: self._value(SEED, chain),
                **{name: self._value(name, chain) for name in self.swept},
            }
        return self._known[model]

    def _chain(self, model: str | None) -> Iterator[Spec]:
        """Yield the jobs that made a model: its own job, that of its base, and so on."""
        for _ in range(_LONGEST):
            spec = self.makers.get(model or "")
            if spec is None:
                return
            yield spec
            if spec.base == model:
                return
            model = spec.base

    def _names_model(self, setting: str, spec: Spec) -> bool:
        """Return whether a setting of a job names a model that it uses."""
        values = settings_of(spec)
        if not values.get(setting):
            return False
        kind = self._kinds.get(spec.kind)
        if kind is None:
            return True
        fields = kind.settings.model_fields.items()
        defaults = {
            name: field.default for name, field in fields
        }  # a job of an earlier version may lack some
        return setting not in kind.settings.without_effect({**defaults, **values})

    def _labels_of(self, setting: str, chain: Sequence[Spec]) -> Json:
        """Return the percentage of changed labels of the model that a setting names.

        If that model has none, the value is that of the model which it names itself, and so on. A recorded
        percentage counts before IDs. None if no job of the chain has the setting, or if nothing says the percentage.
        """
        percentages: list[Json] = []
        for _ in range(_LONGEST):
            spec = next((each for each in chain if self._names_model(setting, each)), None)
            if spec is None:
                break
            recorded = self._recorded_labels(setting, spec)
            if recorded is not None:  # the recorded value includes the earlier models
                percentages.append(recorded)
                break
            model = str(settings_of(spec)[setting])
            percentages.append(id_parts(model).get(OF_LABELS))
            chain = [*self._chain(model)]
        known = [percentage for percentage in percentages if percentage]
        return (known or percentages or [None])[0]

    def _recorded_labels(self, setting: str, spec: Spec) -> float | None:
        kind = self._kinds.get(spec.kind)
        if kind is not None and isinstance(kind, RecordsLabels):
            folder = spec.run_folder / model_folder_name(str(spec.model))
            return kind.recorded_labels(folder, settings_of(spec), setting)
        return None

    def _column_settings(self, spec: Spec) -> Mapping[str, str]:
        kind = self._kinds.get(spec.kind)
        return {} if kind is None else kind.settings.columns

    def _named_columns(self, chain: Sequence[Spec]) -> dict[str, Json]:
        """Return the columns that kinds define, with the values of the first training: the network does not change."""
        columns: dict[str, Json] = {}
        for spec in chain:
            columns |= {
                column: to_param_value(settings_of(spec).get(name))
                for column, name in self._column_settings(spec).items()
            }
        return columns

    def _value(self, name: str, chain: Sequence[Spec]) -> Json:
        """Return a swept setting of the newest job whose kind sweeps it, otherwise of the newest job that has it."""
        sweeping = [spec for spec in chain if name in self._by_kind.get(spec.kind, ())]
        having = [spec for spec in (*sweeping, *chain) if name in settings_of(spec)]
        return to_param_value(settings_of(having[0])[name]) if having else None


def shown_settings(kinds: Iterable[Kind]) -> dict[str, str]:
    """Return column → the setting, or the part of a model's ID, that it shows."""
    shown: dict[str, str] = {}
    for kind in kinds:
        columns = kind.model_columns if isinstance(kind, NamesModels) else {}
        shown |= {column: named_setting(part) or part for column, part in columns.items()}
        shown |= kind.settings.columns
    return shown


def named_columns(kinds: Iterable[Kind]) -> list[str]:
    """Return the columns with parts of models that settings name. The ID of a row's model does not show them."""
    return [
        column
        for kind in kinds
        if isinstance(kind, NamesModels)
        for column, part in kind.model_columns.items()
        if named_setting(part)
    ]


def named_setting(part: str) -> str:
    """Return the setting whose model a part belongs to, or '' for a part of the model's own ID."""
    return part.removesuffix(OF_SETTING) if part.endswith(OF_SETTING) else ""


def id_parts(model: str) -> dict[str, Json]:
    """Return the parts of a model's ID; empty for an invalid ID."""
    parsed = read_model(model)
    if parsed is None:
        return {}
    poisons = [stage.poison for stage in parsed.stages if stage.poison is not None]
    methods = [method for stage in parsed.stages for method in stage.methods]
    return {
        OF_DATA: "#".join(str(stage.data) for stage in parsed.stages),
        OF_LABELS: float(poisons[-1].percent) if poisons else 0.0,
        LABELS_KIND: poisons[-1].kind if poisons else None,
        OF_METHODS: "~".join(methods) or TRAINED,
    }


def read_model(model: str) -> ModelId | None:
    """Return the model of an ID, None for an invalid ID."""
    try:
        return parse_model(model)
    except IdError:
        return None


def test_name(kind: Kind | None, spec: Spec) -> str:
    """Return the name of a test of a model: its data and condition."""
    return tested(spec.data or "", "" if kind is None else kind.settings.condition(spec.settings))


def unused_name(name: str, taken_names: set[str]) -> str:
    """Return the name of a setting's column, which differs from the columns of the plugin package."""
    return f"setting_{name}" if name in taken_names else name
