"""How the owner of a queue shares the machine's GPUs with others: the table [sharing] of config.toml."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from launcher.system.config_tables import ConfigTable, Fault, read_keys, register_table
from launcher.system.errors import UsageError
from launcher.system.units import parse_bytes, parse_seconds

if TYPE_CHECKING:
    pass

UNKNOWN_FRACTION = 0.125  # fraction of a GPU's memory
LEAST_UNKNOWN = 2 << 30  # bytes; a CUDA context and a small network


class SharingRules(NamedTuple):
    """How the owner of a queue shares the GPUs of the machine with others."""

    reserve: int = 0  # bytes of each GPU that are left to others
    max_per_gpu: int | None = None  # jobs of ours on one GPU at once; None: no limit
    idle_s: float = 0.0  # time for which others must not have used a GPU before it is taken
    devices: tuple[str, ...] | None = None  # as CUDA_VISIBLE_DEVICES: which are ours to use
    unknown: float = UNKNOWN_FRACTION  # fraction of a GPU, for a job without similar known jobs
    adaptive: bool = True  # False: `max_per_gpu` jobs share a GPU, whatever their loads are

    @property
    def max_jobs_per_gpu(self) -> int | None:
        """The number of our jobs that may be on one GPU at once; None if only the benefit limits it."""
        return self.max_per_gpu if self.adaptive else self.max_per_gpu or 1

    def unknown_bytes(self, total: int) -> int:
        """Return how much memory is reserved for a job of which nothing similar is known, in bytes.

        Args:
            total: memory of the GPU.
        """
        return min(total, max(LEAST_UNKNOWN, round(total * self.unknown)))


TABLE = "sharing"


def _read_string(value: object) -> str:
    if not isinstance(value, str):
        raise UsageError("expected a string")
    return value


def _read_count(value: object) -> int:
    if type(value) is not int or value < 1:
        raise UsageError("expected a number")
    return value


def _read_fraction(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise UsageError("expected a fraction")
    return float(value)


def _read_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise UsageError("expected true or false")
    return value


def _read_devices(value: object) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    words = tuple(str(item) for item in listed)
    for item, word in zip(listed, words, strict=True):
        numbered = type(item) is int and item >= 0
        named = isinstance(item, str) and (word.isdecimal() or word.startswith(("GPU-", "MIG-")))
        if not (numbered or named):
            raise UsageError("expected a GPU")
    return words


# key → expected value in words, its reader
_KEYS: Mapping[str, tuple[str, Callable[[object], Any]]] = {
    "reserve": (
        'the memory reserved for other users on each GPU, such as "2GiB"',
        lambda value: parse_bytes(_read_string(value)),
    ),
    "max_per_gpu": ("a whole number of jobs, at least 1", _read_count),
    "unknown": (
        "the fraction of a GPU's memory for a job without an estimate, above 0 and at most 1, such as 0.125",
        _read_fraction,
    ),
    "adaptive": (
        "true, or false for a fixed number of jobs on a GPU (max_per_gpu, 1 if that is not set)",
        _read_flag,
    ),
    "idle": (
        'the time without other users after which jobs use a GPU, such as "10m"',
        lambda value: parse_seconds(_read_string(value)),
    ),
    "devices": ('GPUs that may be used, such as [0, 2] or ["GPU-8f6d…"]', _read_devices),
}


def read_rules(table: object, faults: list[Fault]) -> SharingRules:
    """Return the rules of the table.

    Args:
        table: table as the file has it.
        faults: where all that is wrong with it is added.
    """
    if not isinstance(table, dict):
        faults.append(((TABLE,), f"{TABLE}: expected a table, such as [{TABLE}]"))
        return SharingRules()
    values = read_keys((TABLE,), table, _KEYS, faults)
    return SharingRules(
        **{"idle_s" if key == "idle" else key: value for key, value in values.items()}
    )


SHARING = register_table(ConfigTable(TABLE, read_rules, SharingRules()))
