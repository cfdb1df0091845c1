"""A lack of memory as a value: what a program said of it, as it is written and read."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from launcher.records import Json

Where = Literal["gpu", "ram"]

ABSURD = 1 << 50  # bytes; where a driver does not know, torch prints 17179869184.00 GiB


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """What a program said when it had too little memory; bytes, None: it did not say."""

    where: Where  # a GPU's memory, or the machine's
    wanted: int | None = None  # the allocation that failed
    held: int | None = None  # by its process at that moment
    cap: int | None = None  # on what its allocator may take; None: there was none
    free: int | None = None  # of the card
    total: int | None = None  # of the card
    said: str = ""  # its own words, without the advice

    def record(self) -> dict[str, Json]:
        """Return the facts as JSON, without the words."""
        facts: dict[str, Json] = asdict(self)
        del facts["said"]
        return facts


def read_facts(record: Mapping[str, Json]) -> Shortage:
    """Return the facts that `Shortage.record` wrote; what cannot be understood is not known."""

    def bytes_of(name: str) -> int | None:
        value = record.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            return None
        return value if 0 <= value < ABSURD else None

    return Shortage(
        where="ram" if record.get("where") == "ram" else "gpu",
        wanted=bytes_of("wanted"),
        held=bytes_of("held"),
        cap=bytes_of("cap"),
        free=bytes_of("free"),
        total=bytes_of("total"),
    )
