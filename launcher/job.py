"""The specification of a planned job, as it is planned and stored."""

import hashlib
import json
import re
import signal
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import compress
from json.encoder import encode_basestring_ascii
from operator import is_not
from pathlib import Path
from typing import Any, NamedTuple

from launcher.params import params_of
from launcher.system.files import Json
from launcher.system.stored_fields import Unreadable, known_of, restored, texts

CPU = "cpu"
MOST_GPUS = 64  # that a job may ask for
LONGEST_BACKOFF_S = 3600.0  # the pause before a retry doubles up to this
MOST_RUN_NAME = 100  # bytes
UUIDS, NUMBERS = "uuids", "numbers"
GPU_IDS = (UUIDS, NUMBERS)  # how CUDA_VISIBLE_DEVICES can name GPUs
RERUNS = ("again", "never")  # what can follow a lost or stopped attempt


def run_name_fault(name: str) -> str | None:
    """Tell why `name` cannot be the name of a run, which is one folder below runs/; None if it can."""
    if not name:
        return "is empty"
    if "/" in name or "\\" in name or name in (".", ".."):
        return "contains '/' or '\\', or is '.' or '..'"
    if name[0] in "-." or name != name.strip():
        return "begins with '-', '.' or a space, or ends with a space"
    if not name.isprintable():
        return "contains an unprintable character"
    if len(name.encode(errors="replace")) > MOST_RUN_NAME:
        return f"is longer than {MOST_RUN_NAME} bytes"
    return None


def is_device(text: str) -> bool:
    """Tell whether a text says where a job may work: auto, cpu, cuda, or a GPU such as cuda:1."""
    name, *numbers = text.split(":")
    if text in {"auto", CPU, "cuda"}:
        return True
    return name == "cuda" and 1 <= len(numbers) <= 2 and all(map(_is_number, numbers))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and str(int(text[:4])) == text


class Resources(NamedTuple):
    """What a job asks of the machine."""

    cpus: int = 1
    min_vram: int | None = None  # bytes promised to it on each of its GPUs; None: not said
    device: str = "auto"  # "auto", "cpu", "cuda", "cuda:N" or "cuda:N:M"
    accelerated: bool = False  # "auto" prefers a GPU where the machine has one
    ram: int | None = None  # bytes of main memory that are promised to it; None: not said
    gpus: int = 1  # where it works on GPUs: on how many, all of them or none
    exclusive: bool = False  # it shares its GPUs with no other job
    gpu_ids: str = UUIDS  # how CUDA_VISIBLE_DEVICES names its GPUs: one of GPU_IDS

    def record(self) -> dict[str, Json]:
        """Return the request as JSON; a field that older versions do not know only if it is set."""
        record = self._asdict()
        if self.gpu_ids == UUIDS:
            del record["gpu_ids"]
        return record

    @property
    def may_need_gpu(self) -> bool:
        """Whether it works on GPUs where there are some."""
        return self.works_on_gpu(there=True)

    def works_on_gpu(self, *, there: bool, shown: bool | None = None) -> bool:
        """Tell whether it works on GPUs on a machine: it says so, or prefers them and may have one.

        Args:
            there: the machine has some.
            shown: its owner's CUDA_VISIBLE_DEVICES shows one of them; None: as `there`.
        """
        if self.device != "auto":
            return self.device != CPU
        if self.min_vram is not None or self.gpus > 1:
            return there
        return self.accelerated and (there if shown is None else shown)


class Terms(NamedTuple):
    """On which terms a job runs: when, how often, how long, beside whom, and where it reports."""

    group: str = ""  # jobs of a group share its limit; empty: none
    not_before: float | None = None  # seconds since 1970
    retries: int = 0  # how often it runs again after it failed
    backoff_s: float = 10.0  # pause before the first retry; doubles each time
    time_limit_s: float | None = None  # from its program's start
    warn_s: float = 0.0  # so long before the limit its program gets `warn_signal`
    warn_signal: str = "SIGTERM"
    grace_s: float = 30.0  # from SIGTERM to SIGKILL; a training needs seconds for its checkpoint
    rerun: str = "again"  # what follows a lost or stopped attempt: one of RERUNS
    on: tuple[str, ...] = ()  # backends, the preferred one first; empty: this machine
    tensorboard: str = ""  # folder of its program's event files, from its own; empty: none is read


class Spec(NamedTuple):
    """One job, complete: a worker needs nothing else to do it."""

    name: str
    kind: str
    role: str
    run: str
    root: str  # absolute; results lie in <root>/runs/<run>
    entry: str = ""  # "module:function" of a worker; empty for a program
    preload: tuple[str, ...] = ()
    argv: tuple[str, ...] = ()  # the program, or the command line that does the same as the entry
    model: str | None = None
    base: str | None = None
    data: str | None = None
    images: str | None = None
    settings: Mapping[str, Any] = {}
    words: Mapping[str, Any] = {}  # the user's own among those of its data
    needs: tuple[str, ...] = ()  # names of jobs of the same run that must be done before
    after_any: tuple[str, ...] = ()  # likewise, that must have ended, done or not
    outputs: tuple[str, ...] = ()  # absolute paths
    sources: Mapping[str, str] = {}  # module → digest of its text
    log_link: str | None = None  # absolute path under which the log also appears
    resources: Resources = Resources()
    terms: Terms = Terms()
    priority: int = 0
    hash: str = ""
    signature: str = ""  # jobs that share it are expected to take the same memory and time

    @property
    def params(self) -> Mapping[str, Any]:
        """Its parameters: of a program those of its sweep and command line, of a function its arguments."""
        return stored_params(self.kind, self.settings, self.argv)

    @property
    def run_folder(self) -> Path:
        """The folder of the run's results."""
        return Path(self.root) / "runs" / self.run

    def record(self) -> dict[str, Json]:
        """Return the spec as JSON."""
        parts = {"resources": self.resources.record(), "terms": self.terms._asdict()}
        return {**self._asdict(), **parts}


_NAMES, _POSITIONS = frozenset(Spec._fields), range(len(Spec._fields))
# fields by what they hold; all others are texts
_SHARED = frozenset({"preload", "settings", "words", "resources", "terms", "priority"})
_TEXTS = frozenset(
    {"argv", "needs", "after_any", "outputs"}
)  # lists of texts that are a spec's own
_DEFAULTS = tuple(map(Spec._field_defaults.get, Spec._fields))  # None: it must be given
_PLAIN_RESOURCES, _PLAIN_TERMS = Resources(), Terms()
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
        elif name in _TEXTS:
            text = f"[{', '.join(map(encode_basestring_ascii, value))}]"
        else:
            text = encode_basestring_ascii(value)
        return f'"{name}": {text}'

    def _text_of(self, value: object) -> str:
        kept = self._shared.get(id(value))
        if kept is None:
            plain = _flat(value) if isinstance(value, Resources | Terms) else value
            kept = self._shared[id(value)] = value, _encode(plain)
        return kept[1]


@lru_cache(maxsize=256)
def _flat(part: Resources | Terms) -> dict[str, Json]:
    """Return a part of a spec as it is read back; terms that older versions do not know only where they are set."""
    if isinstance(part, Resources):
        return part.record()
    record = part._asdict()
    if on := record.pop("on", ()):
        record["on"] = [*on]
    if not record.get("tensorboard"):
        record.pop("tensorboard", None)
    return record


def with_sources(text: str, sources: str | None) -> str:
    """Return a spec that was written without its sources as one with them; both are JSON."""
    return text if sources is None else f'{text[:-1]}, "sources": {sources}}}'


def asks_for(record: Mapping[str, Any], resources: Resources, terms: Terms, priority: int) -> bool:
    """Tell whether a stored spec has exactly these options; quicker than to read the whole of it.

    Args:
        record: that `SpecWriter` wrote. One of another version may differ in form alone.
        resources: what the job should ask of the machine.
        terms: the terms on which it should run.
        priority: that it should have.
    """
    stored = (record.get("resources"), record.get("terms"), record.get("priority", 0))
    return stored == (
        None if resources == _PLAIN_RESOURCES else _flat(resources),
        None if terms == _PLAIN_TERMS else _flat(terms),
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
    resources = read_resources(record["resources"]) if "resources" in record else _PLAIN_RESOURCES
    terms = _read_terms(record["terms"]) if "terms" in record else _PLAIN_TERMS
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
    asked = restored(Resources, record, "resources")
    fits = {
        "cpus": asked.cpus >= 0,
        "gpus": 0 <= asked.gpus <= MOST_GPUS,
        "min_vram": asked.min_vram is None or asked.min_vram >= 0,
        "ram": asked.ram is None or asked.ram >= 0,
        "device": is_device(asked.device),
        "gpu_ids": asked.gpu_ids in GPU_IDS,
    }
    _refuse_odd(asked, fits, "resources")
    return asked


def _read_terms(record: object) -> Terms:
    terms = restored(Terms, _with_names(record), "terms")
    spans = ("backoff_s", "warn_s", "grace_s")
    fits = {
        "rerun": terms.rerun in RERUNS,
        "warn_signal": terms.warn_signal in signal.Signals.__members__,
        "retries": terms.retries >= 0,
        "time_limit_s": terms.time_limit_s is None or terms.time_limit_s >= 0,
        **{name: getattr(terms, name) >= 0 for name in spans},  # no NaN either
    }
    _refuse_odd(terms, fits, "terms")
    return terms


def _with_names(record: object) -> object:
    """Return terms as they were stored with the names of backends as values have them.

    Raises:
        Unreadable: they are no names.
    """
    if not isinstance(record, dict) or "on" not in record:
        return record
    return {**record, "on": texts(record["on"], "'on' of terms")}


def _refuse_odd(part: object, fits: Mapping[str, bool], what: str) -> None:
    for name, fitting in fits.items():
        if not fitting:
            raise Unreadable(f"{name!r} of {what} is {str(getattr(part, name))[:40]!r}")


def read_part_of_spec(record: Mapping[str, Any]) -> Spec:
    """Return what can be understood of a spec that `read_spec` refuses: to be shown, never to be run.

    Raises:
        Unreadable: nothing can.
    """
    resources = known_of(Resources, record.get("resources"), "resources")
    terms = known_of(Terms, _with_names(record.get("terms")), "terms")
    return _spec_of(record, resources, terms)


def _spec_of(record: Mapping[str, Any], resources: Resources, terms: Terms) -> Spec:
    values = dict(record)
    for unknown in record.keys() - _NAMES:
        del values[unknown]
    for key in ("preload", "argv", "needs", "after_any", "outputs"):
        if key in values:
            values[key] = texts(values[key], f"{key!r} of its spec")
    values["resources"], values["terms"] = resources, terms
    return restored(Spec, values, "its spec")


PROGRAM = "command"
FUNCTION = "function"  # the kind of jobs that call a function of Python: `launcher.functions`
_ARGUMENTS = (
    "arguments"  # its setting: those of its arguments that are numbers, truths or short texts
)


def stored_params(kind: str, settings: Mapping[str, Any], argv: Sequence[str]) -> Mapping[str, Any]:
    """Return the parameters of a program or a function as they were stored; none of a laboratory's job.

    Args:
        kind: of the job.
        settings: its own.
        argv: its command line, which older versions kept among the settings only.
    """
    if kind == PROGRAM:
        return params_of(settings, argv or tuple(settings.get("argv", ())))
    arguments = settings.get(_ARGUMENTS) if kind == FUNCTION else None
    return arguments if isinstance(arguments, dict) else {}


# a number that stands by itself: the one of `lr=0.1` and `out/run-7`, not those of resnet18 and llama-7b
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9.])[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![A-Za-z0-9]|\.\d)"
)

_PATH = re.compile(r"[^\W\d][^/]*/|/[^/]*[^\W\d]")  # such as out/run-7, not 3/4


def program_signature(argv: Sequence[str], exact: Sequence[str] = ()) -> str:
    """Return the signature of a program: its words without the numbers that stand by themselves.

    So all runs of a sweep over learning rates and seeds share what was learned from the first of them.

    Args:
        argv: its words.
        exact: what else decides what it costs, with its numbers: variables of its entry.
    """
    return digest_of(PROGRAM, repr([*(_NUMBER.sub("#", word) for word in argv), *exact]))


def numbers_of(argv: Sequence[str]) -> tuple[str, ...]:
    """Return the numbers that a program's signature leaves out, but those of files: a path costs nothing."""
    parts = (part for word in argv for part in word.split() if not _PATH.search(part))
    return tuple(number for part in parts for number in _NUMBER.findall(part))


def is_exact(signature: str) -> bool:
    """Tell whether jobs that share a signature agree in all that costs; programs differ in numbers."""
    return not signature.startswith(f"{PROGRAM} ")


def digest_of(kind: str, text: str) -> str:
    """Return a kind's name and the first 64 bits of the SHA-256 of a text."""
    return f"{kind} {hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()[:16]}"
