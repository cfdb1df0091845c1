"""What the models of a run are made of, as columns: from their IDs, and from the settings in which its jobs differ."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from launcher.errors import IdError
from launcher.ids import ModelId, parse_model
from launcher.job import FUNCTION, PROGRAM, Spec
from launcher.kind_interface import Kind, Role
from launcher.system.files import Json

ARGV = "argv"  # the setting of a program: its words
ARGUMENTS = "arguments"  # that of a function: those of its arguments that are numbers, truths or short texts


def settings_of(spec: Spec) -> Mapping[str, Any]:
    """Return the settings of a job; of a program the options on its command line, of a function its arguments."""
    if spec.kind == PROGRAM:
        return options_of(spec.argv or tuple(spec.settings.get(ARGV, ())))
    if spec.kind == FUNCTION:
        arguments = spec.settings.get(ARGUMENTS)
        return arguments if isinstance(arguments, dict) else {}
    return spec.settings


def options_of(argv: Sequence[str]) -> dict[str, str | bool]:
    """Return the options of a command line: `--lr 0.1`, `--lr=0.1` and `lr=0.1`, True of a flag.

    What follows an option is its value unless it is an option itself: a flag before an argument
    takes that for its value, as no one but the program knows better.
    """
    options: dict[str, str | bool] = {}
    waiting = ""  # an option whose value may follow
    for word in argv[1:]:
        name, equals, value = word.lstrip("-").partition("=")
        if word.startswith("--") and len(word) > 2:
            options[name] = value if equals else True
            waiting = "" if equals else name
        elif waiting:
            options[waiting], waiting = word, ""
        elif equals and name.replace(".", "_").isidentifier():
            options[name] = value
    return options


def swept(specs: Iterable[Spec], kinds: Mapping[str, Kind]) -> dict[str, tuple[str, ...]]:
    """Return kind → names of the settings in which its jobs differ, in the order of the settings.

    Settings that cannot change a result, such as a number of threads, are none of them.

    Args:
        specs: of the jobs of a run.
        kinds: by name, those that are installed.
    """
    by_kind: dict[str, list[Mapping[str, Any]]] = {}
    for spec in specs:
        by_kind.setdefault(spec.kind, []).append(settings_of(spec))
    return {
        name: tuple(key for key in varying(those) if key not in _neutral(kinds.get(name)))
        for name, those in by_kind.items()
    }


def varying(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the settings that have not the same value in all of these."""
    first = settings[0]
    # most jobs of a run agree in all of them
    others = [each for each in settings if each != first]
    names = dict.fromkeys(name for each in (first, *others) for name in each)
    return [name for name in names if any(each.get(name) != first.get(name) for each in others)]


def _neutral(kind: Kind | None) -> frozenset[str]:
    return frozenset() if kind is None else kind.settings.neutral


def scalar(value: Any) -> str | int | float | None:
    """Return the value of a setting as the cell of a table: numbers as they are, lists as JSON.

    A text that is a number is one: a program's options are texts.
    """
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, str):
        return number(value)
    return json.dumps(value, default=str)


def number(text: str) -> str | int | float:
    """Return the number that a text writes out, else the text."""
    if not text or not (text[0].isdigit() or text[0] in "+-."):
        return text
    for read in (int, float):
        try:
            return read(text) if "_" not in text else text
        except ValueError:
            continue
    return text


ARCHITECTURE, TRAINING_DATA, METHOD, SEED = "architecture", "training_data", "method", "seed"
POISON, POISON_KIND = "poison", "poison_kind"
PARTS = (ARCHITECTURE, TRAINING_DATA, POISON, POISON_KIND, METHOD, SEED)
TRAINED = "train"  # the method of a model from which nothing was unlearned
_MAKERS = frozenset({Role.TRAIN, Role.METHOD})
_LONGEST = 64  # stages of a model: a base of its own base would have no end


class Models:
    """The models of a run; asked by their IDs."""

    def __init__(
        self, specs: Sequence[Spec], kinds: Mapping[str, Kind], among: Sequence[Spec] = ()
    ) -> None:
        """Look through the jobs of a run.

        Args:
            specs: of the jobs.
            kinds: of the jobs, by name, those that are installed.
            among: jobs of other runs; settings in which the run differs from them count as swept, too.
        """
        self._kinds = kinds
        makers = [spec for spec in specs if spec.role in _MAKERS and spec.model]
        self.makers = {str(spec.model): spec for spec in makers}
        others = [spec for spec in among if spec.role in _MAKERS and spec.model]
        self._by_kind = swept([*makers, *others], kinds)
        named = {name for spec in makers for name in self._named(spec).values()}
        names = dict.fromkeys(name for those in self._by_kind.values() for name in those)
        self.swept = tuple(name for name in names if name not in named | {SEED, METHOD})
        self._known: dict[str, dict[str, Json]] = {}

    def columns(self, model: str) -> Mapping[str, Json]:
        """Return the parts of a model and its swept settings by column; None is what is not known."""
        if model not in self._known:
            chain = list(self._chain(model))
            self._known[model] = {
                **dict.fromkeys(PARTS),
                **id_columns(model),
                **self._named_columns(chain),
                SEED: self._value(SEED, chain),
                **{name: self._value(name, chain) for name in self.swept},
            }
        return self._known[model]

    def _chain(self, model: str | None) -> Iterator[Spec]:
        """Yield the jobs that made a model: its own, that of its base, and so on."""
        for _ in range(_LONGEST):
            spec = self.makers.get(model or "")
            if spec is None:
                return
            yield spec
            if spec.base == model:
                return
            model = spec.base

    def _named(self, spec: Spec) -> Mapping[str, str]:
        kind = self._kinds.get(spec.kind)
        return {} if kind is None else kind.settings.columns

    def _named_columns(self, chain: Sequence[Spec]) -> dict[str, Json]:
        """Return the columns that kinds name, as the first training had them: a network stays what it is."""
        columns: dict[str, Json] = {}
        for spec in chain:
            columns |= {
                column: scalar(_get(spec, name)) for column, name in self._named(spec).items()
            }
        return columns

    def _value(self, name: str, chain: Sequence[Spec]) -> Json:
        """Return a swept setting: of the newest job of a kind that sweeps it, else of the newest that has it."""
        sweeping = [spec for spec in chain if name in self._by_kind.get(spec.kind, ())]
        having = [spec for spec in (*sweeping, *chain) if name in settings_of(spec)]
        return scalar(_get(having[0], name)) if having else None


def _get(spec: Spec, name: str) -> Any:
    return settings_of(spec).get(name)


def id_columns(model: str) -> dict[str, Json]:
    """Return what a model's ID says of it by column; nothing of what is no ID."""
    parsed = read_model(model)
    if parsed is None:
        return {}
    poisons = [stage.poison for stage in parsed.stages if stage.poison is not None]
    methods = [method for stage in parsed.stages for method in stage.methods]
    return {
        TRAINING_DATA: "#".join(str(stage.data) for stage in parsed.stages),
        POISON: float(poisons[-1].percent) if poisons else 0.0,
        POISON_KIND: poisons[-1].kind if poisons else None,
        METHOD: "~".join(methods) or TRAINED,
    }


def read_model(model: str) -> ModelId | None:
    """Return the model that an ID names; None of what is no ID."""
    try:
        return parse_model(model)
    except IdError:
        return None
