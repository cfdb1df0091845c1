"""Specifications of jobs as stored by the queue: written as JSON and read with all checks."""

import json
import signal
from collections.abc import Mapping
from functools import lru_cache
from itertools import compress
from json.encoder import encode_basestring_ascii
from operator import is_not
from typing import Any

from launcher.queue.jobs.job import (
    GPU_IDS,
    MOST_GPUS,
    NOTIFY_ON,
    RERUNS,
    STDERR_FILES,
    Resources,
    Spec,
    Terms,
    is_device,
    is_gpu_uuid,
)
from launcher.system.files import Json
from launcher.system.stored_fields import (
    Unreadable,
    read_texts,
    restore_fields,
    restore_known_fields,
)

_NAMES, _POSITIONS = frozenset(Spec._fields), range(len(Spec._fields))
# fields by their type; all others are texts
_LISTS = ("on", "numbers")  # terms that are lists of names
_SHARED = frozenset({"preload", "settings", "words", "resources", "terms", "priority"})
_TEXT_LISTS = frozenset({"argv", "needs", "after_any", "outputs"})  # lists of texts
_DEFAULTS = tuple(map(Spec._field_defaults.get, Spec._fields))  # None: required
_DEFAULT_RESOURCES, _DEFAULT_TERMS = Resources(), Terms()
_encode = json.JSONEncoder(check_circular=False).encode


class SpecWriter:
    """Writes specs as stored in the queue: JSON without default values and without their sources.

    The specs of a run share settings and resources. An object shared by several specs is encoded once,
    so each spec costs little more than its own values.
    """

    def __init__(self) -> None:
        """Start without shared objects."""
        self._last: tuple[Any, ...] = tuple(object() for _ in Spec._fields)
        self._parts = [""] * len(Spec._fields)  # JSON of the last spec, by field
        # id → the object, to keep it alive, and its JSON
        self._shared: dict[int, tuple[object, str]] = {}

    def text(self, spec: Spec) -> str:
        """Return a spec as JSON."""
        for index in compress(_POSITIONS, map(is_not, spec, self._last)):
            self._parts[index] = self._part(index, spec[index])
        self._last = spec
        return f"{{{', '.join(filter(None, self._parts))}}}"

    def _part(self, index: int, value: Any) -> str:
        """Return a field with its name; '' if it is omitted."""
        name, default = Spec._fields[index], _DEFAULTS[index]
        if value is default or value == default or name == "sources":
            return ""
        if name in _SHARED:
            text = self._text_of(value)
        elif name in _TEXT_LISTS:
            text = f"[{', '.join(map(encode_basestring_ascii, value))}]"
        else:
            text = encode_basestring_ascii(value)
        return f'"{name}": {text}'

    def _text_of(self, value: object) -> str:
        kept = self._shared.get(id(value))
        if kept is None:
            plain = _part_record(value) if isinstance(value, Resources | Terms) else value
            kept = self._shared[id(value)] = value, _encode(plain)
        return kept[1]


@lru_cache(maxsize=256)
def _part_record(part: Resources | Terms) -> dict[str, Json]:
    """Return a part of a spec as a record without default values."""
    usual = _DEFAULT_RESOURCES if isinstance(part, Resources) else _DEFAULT_TERMS
    record = {
        name: value for name, value in part._asdict().items() if value != getattr(usual, name)
    }
    return record | {name: [*record[name]] for name in _LISTS if name in record}


def add_sources(text: str, sources: str | None) -> str:
    """Return a spec, written without its sources, with them; both are JSON."""
    return text if sources is None else f'{text[:-1]}, "sources": {sources}}}'


def has_options(
    record: Mapping[str, Any], resources: Resources, terms: Terms, priority: int
) -> bool:
    """Return whether a stored spec has exactly these options; faster than reading the whole spec.

    Args:
        record: Record written by `SpecWriter`. A record of another version can differ only in form.
        resources: Expected resource request.
        terms: Expected terms.
        priority: Expected priority.
    """
    stored = (record.get("resources"), record.get("terms"), record.get("priority", 0))
    return stored == (
        None if resources == _DEFAULT_RESOURCES else _part_record(resources),
        None if terms == _DEFAULT_TERMS else _part_record(terms),
        priority,
    )


def read_spec(record: Mapping[str, Any]) -> Spec:
    """Return the spec that `Spec.to_json` wrote.

    A newer version may have added fields. An unknown field of resources or terms makes the spec unreadable.
    Other unknown fields only describe the job and are ignored.

    Raises:
        Unreadable: resources or terms have an unknown field, or a field has a wrong type or range.
    """
    # default values are not stored
    resources = read_resources(record["resources"]) if "resources" in record else _DEFAULT_RESOURCES
    terms = _read_terms(record["terms"]) if "terms" in record else _DEFAULT_TERMS
    return _spec_of(record, resources, terms)


def read_resources(record: object) -> Resources:
    """Return the stored resource request of a job.

    Raises:
        Unreadable: a field is unknown, or a value is invalid.
    """
    if isinstance(record, dict):
        try:  # thousands of jobs have the same request; 1 and 1.0 are equal but differ in type
            return _resources_of(tuple(record.items()), tuple(map(type, record.values())))
        except TypeError:  # an unhashable value is not in the cache
            pass
    return _checked_resources(record)


@lru_cache(maxsize=256)
def _resources_of(items: tuple[tuple[str, Json], ...], _: tuple[type, ...]) -> Resources:
    return _checked_resources(dict(items))


def _checked_resources(record: object) -> Resources:
    asked = restore_fields(Resources, record, "resources")
    fits = {
        "cpus": asked.cpus >= 0,
        "gpus": 0 <= asked.gpus <= MOST_GPUS,
        "vram": asked.vram is None or asked.vram >= 0,
        "ram": asked.ram is None or asked.ram >= 0,
        "device": is_device(asked.device),
        "gpu_uuid": not asked.gpu_uuid or is_gpu_uuid(asked.gpu_uuid),
        "gpu_ids": asked.gpu_ids in GPU_IDS,
    }
    _refuse_out_of_range(asked, fits, "resources")
    return asked


def _read_terms(record: object) -> Terms:
    terms = restore_fields(Terms, _decode_names(record), "terms")
    spans = ("backoff_s", "warn_s", "grace_s")
    fits = {
        "rerun": terms.rerun in RERUNS,
        "stderr": terms.stderr in STDERR_FILES,
        "notify_on": terms.notify_on in {"", *NOTIFY_ON},
        "warn_signal": terms.warn_signal in signal.Signals.__members__,
        "retries": terms.retries >= 0,
        "max_failures": terms.max_failures is None or terms.max_failures >= 0,
        "time_limit_s": terms.time_limit_s is None or terms.time_limit_s >= 0,
        **{name: getattr(terms, name) >= 0 for name in spans},  # no NaN either
    }
    _refuse_out_of_range(terms, fits, "terms")
    return terms


def _decode_names(record: object) -> object:
    """Return stored terms with lists of names as tuples.

    Raises:
        Unreadable: an item is not a name.
    """
    if not isinstance(record, dict):
        return record
    lists = {name: record[name] for name in _LISTS if name in record}
    return record | {name: read_texts(value, f"{name!r} of terms") for name, value in lists.items()}


def _refuse_out_of_range(part: object, checks: Mapping[str, bool], subject: str) -> None:
    for name, fitting in checks.items():
        if not fitting:
            raise Unreadable(f"{name!r} of {subject} is {str(getattr(part, name))[:40]!r}")


def read_part_of_spec(record: Mapping[str, Any]) -> Spec:
    """Return the readable part of a spec that `read_spec` refuses. It is only displayed, never run.

    Raises:
        Unreadable: no part is readable.
    """
    resources = restore_known_fields(Resources, record.get("resources"), "resources")
    terms = restore_known_fields(Terms, _decode_names(record.get("terms")), "terms")
    return _spec_of(record, resources, terms)


def _spec_of(record: Mapping[str, Any], resources: Resources, terms: Terms) -> Spec:
    values = dict(record)
    for unknown in record.keys() - _NAMES:
        del values[unknown]
    for key in ("preload", "argv", "needs", "after_any", "outputs"):
        if key in values:
            values[key] = read_texts(values[key], f"{key!r} of its spec")
    values["resources"], values["terms"] = resources, terms
    return restore_fields(Spec, values, "its spec")
