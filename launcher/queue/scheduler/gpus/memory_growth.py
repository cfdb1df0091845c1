"""Whether the memory of an attempt still grows. Only afterwards its usage predicts its need."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from launcher.queue.store.usage import MOST_PEAK
from launcher.system.files import Json
from launcher.system.stored_fields import Unreadable, restore_known_fields

STEADY = 0.02  # fraction of the usage; a smaller increase is not growth
STEADY_SAMPLES = 2  # in a row without growth, of an attempt that keeps its GPU busy
STEADY_S = 2.0  # seconds since its first byte; a program usually allocates more later
IDLE_STEADY_S = (
    30.0  # without growth, of an attempt whose load is not reported, or that does nothing
)


@dataclass(slots=True, kw_only=True)
class MemoryGrowth:
    """Highest usage of an attempt on one GPU over the readings. Times are monotonic seconds."""

    began: float  # the first reading
    at: float = 0.0  # the newest one
    used: int = 0  # bytes, at the newest reading
    # bytes when it grew last, or the least since IDLE_STEADY_S after that; more counts as growth
    steady_used: int = 0
    first_byte: float | None = None  # since when it has held memory
    steady_since: float = 0.0  # since when its use has not grown
    steady_looks: int = 0  # readings without growth

    @property
    def age_s(self) -> float:
        """For how long it is known."""
        return max(0.0, self.at - self.began)

    @property
    def is_growing(self) -> bool:
        """Whether the usage at the newest reading is higher than before."""
        return self.first_byte is not None and not self.steady_looks

    def add_sample(self, timestamp: float, used_bytes: int) -> None:
        """Add a reading.

        Args:
            timestamp: Time of the reading.
            used_bytes: Bytes on the GPU with the highest usage.
        """
        if self.first_byte is None and used_bytes > 0:
            self.first_byte = timestamp
        if used_bytes > self.steady_used * (1 + STEADY):
            self.steady_since, self.steady_looks, self.steady_used = timestamp, 0, used_bytes
        else:
            self.steady_looks += 1
            if timestamp >= self.steady_since + IDLE_STEADY_S:
                self.steady_used = min(self.steady_used, used_bytes)
        self.at, self.used = timestamp, used_bytes

    def is_steady(self, load: float | None) -> bool:
        """Return whether its usage is not expected to grow much any more.

        Args:
            load: Fraction of time in which it keeps its GPU busy, None if not measured yet.
        """
        if self.first_byte is None:
            return False
        if load and self.steady_looks >= STEADY_SAMPLES and self.at >= self.first_byte + STEADY_S:
            return True
        return self.at >= self.steady_since + IDLE_STEADY_S

    def to_json(self) -> dict[str, Json]:
        """Return it for a scheduler that takes over."""
        record: dict[str, Json] = asdict(self)
        del record["steady_used"]  # the next scheduler begins with `used`
        return record


def read_growth(record: Mapping[str, Json], now: float) -> MemoryGrowth | None:
    """Return the value of a `MemoryGrowth.to_json`, None if it is invalid or of another boot."""
    try:
        growth = restore_known_fields(MemoryGrowth, record, "its growth")
    except Unreadable:
        return None
    is_possible = (
        0 <= growth.began <= growth.at <= now
        and growth.began <= growth.steady_since <= growth.at
        and (growth.first_byte is None or growth.began <= growth.first_byte <= growth.at)
        and 0 <= growth.used <= MOST_PEAK
        and growth.steady_looks >= 0
    )
    return replace(growth, steady_used=growth.used) if is_possible else None
