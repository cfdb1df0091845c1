"""Specifications of jobs as the queue stores them: written as JSON, and read with all checks."""

import json
import signal
from collections.abc import Mapping
from functools import lru_cache
from itertools import compress
from json.encoder import encode_basestring_ascii
from operator import is_not
from typing import Any

from launcher.job import GPU_IDS, MOST_GPUS, RERUNS, Resources, Spec, Terms, is_device
from launcher.system.files import Json
from launcher.system.stored_fields import (
    Unreadable,
    read_texts,
    restore_fields,
    restore_known_fields,
)

_NAMES, _POSITIONS = frozenset(Spec._fields), range(len(Spec._fields))
# fields by what they hold; all others are texts
_SHARED = frozenset({"preload", "settings", "words", "resources", "terms", "priority"})
_TEXT_LISTS = frozenset(
    {"argv", "needs", "after_any", "outputs"}
)  # lists of texts that are a spec's own
_DEFAULTS = tuple(map(Spec._field_defaults.get, Spec._fields))  # None: it must be given
_DEFAULT_RESOURCES, _DEFAULT_TERMS = Resources(), Terms()
_encode = json.JSONEncoder(check_circular=False).encode


class SpecWriter:
    """Writes specs as the queue keeps them: JSON, without what has its default, and without their sources.

    The specs of a run share settings and resources. These are encoded once for all specs that hold the
    very same object, so that a spec costs little more than what is its own.
    """

    def __init__(self) -> None:
        """Begin without anything shared."""
        self._last: tuple[Any, ...] = tuple(object() for _ in Spec._fields)
        self._parts = [""] * len(Spec._fields)  # of the last spec, by field
        self._shared: dict[
            int, tuple[object, str]
        ] = {}  # id → the object, which keeps it, and its JSON

    def text(self, spec: Spec) -> str:
        """Return a spec as JSON."""
        for index in compress(_POSITIONS, map(is_not, spec, self._last)):
            self._parts[index] = self._part(index, spec[index])
        self._last = spec
        return f"{{{', '.join(filter(None, self._parts))}}}"

    def _part(self, index: int, value: Any) -> str:
        """Return a field with its name; empty where it is left out."""
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
    """Return a part of a spec as it is read back; terms that older versions do not know only where they are set."""
    if isinstance(part, Resources):
        return part.record()
    record = part._asdict()
    if on := record.pop("on", ()):
        record["on"] = [*on]
    if not record.get("tensorboard"):
        record.pop("tensorboard", None)
    return record


def add_sources(text: str, sources: str | None) -> str:
    """Return a spec that was written without its sources as one with them; both are JSON."""
    return text if sources is None else f'{text[:-1]}, "sources": {sources}}}'


def has_options(
    record: Mapping[str, Any], resources: Resources, terms: Terms, priority: int
) -> bool:
    """Tell whether a stored spec has exactly these options; quicker than to read the whole of it.

    Args:
        record: that `SpecWriter` wrote. One of another version may differ in form alone.
        resources: what the job should ask of the machine.
        terms: the terms on which it should run.
        priority: that it should have.
    """
    stored = (record.get("resources"), record.get("terms"), record.get("priority", 0))
    return stored == (
        None if resources == _DEFAULT_RESOURCES else _part_record(resources),
        None if terms == _DEFAULT_TERMS else _part_record(terms),
        priority,
    )


def read_spec(record: Mapping[str, Any]) -> Spec:
    """Return the spec that `Spec.record` wrote.

    A newer version may have put in more. Where that decides when, where and on which terms the job
    runs, the spec cannot be followed here. Elsewhere it only describes, and is left out.

    Raises:
        Unreadable: it has an unknown field there, or a known one of another type or out of its range.
    """
    # what has its default is not stored
    resources = read_resources(record["resources"]) if "resources" in record else _DEFAULT_RESOURCES
    terms = _read_terms(record["terms"]) if "terms" in record else _DEFAULT_TERMS
    return _spec_of(record, resources, terms)


def read_resources(record: object) -> Resources:
    """Return what a job asks of the machine, as it was stored.

    Raises:
        Unreadable: it has an unknown field, or a value that no job may have.
    """
    if isinstance(record, dict):
        try:  # thousands of jobs ask for the same; 1 and 1.0 are equal and not of one type
            return _resources_of(tuple(record.items()), tuple(map(type, record.values())))
        except TypeError:  # a value that cannot be hashed is none that we know
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
        "min_vram": asked.min_vram is None or asked.min_vram >= 0,
        "ram": asked.ram is None or asked.ram >= 0,
        "device": is_device(asked.device),
        "gpu_ids": asked.gpu_ids in GPU_IDS,
    }
    _refuse_out_of_range(asked, fits, "resources")
    return asked


def _read_terms(record: object) -> Terms:
    terms = restore_fields(Terms, _decode_backends(record), "terms")
    spans = ("backoff_s", "warn_s", "grace_s")
    fits = {
        "rerun": terms.rerun in RERUNS,
        "warn_signal": terms.warn_signal in signal.Signals.__members__,
        "retries": terms.retries >= 0,
        "time_limit_s": terms.time_limit_s is None or terms.time_limit_s >= 0,
        **{name: getattr(terms, name) >= 0 for name in spans},  # no NaN either
    }
    _refuse_out_of_range(terms, fits, "terms")
    return terms


def _decode_backends(record: object) -> object:
    """Return terms as they were stored with the names of backends as values have them.

    Raises:
        Unreadable: they are no names.
    """
    if not isinstance(record, dict) or "on" not in record:
        return record
    return {**record, "on": read_texts(record["on"], "'on' of terms")}


def _refuse_out_of_range(part: object, fits: Mapping[str, bool], what: str) -> None:
    for name, fitting in fits.items():
        if not fitting:
            raise Unreadable(f"{name!r} of {what} is {str(getattr(part, name))[:40]!r}")


def read_part_of_spec(record: Mapping[str, Any]) -> Spec:
    """Return what can be understood of a spec that `read_spec` refuses: to be shown, never to be run.

    Raises:
        Unreadable: nothing can.
    """
    resources = restore_known_fields(Resources, record.get("resources"), "resources")
    terms = restore_known_fields(Terms, _decode_backends(record.get("terms")), "terms")
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
