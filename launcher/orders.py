"""What a scheduler asks a supervisor to do, as it lies in an attempt's folder."""

from dataclasses import dataclass
from pathlib import Path

from launcher.records import Json, read_json
from launcher.specs import Context, Spec, read_context, read_spec

TERM_GRACE_S = 30.0  # from SIGTERM to SIGKILL; a training needs seconds to save its checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a scheduler asks a supervisor to do."""

    spec: Spec
    context: Context
    number: int
    device: str  # "cpu" or a GPU's UUID
    cpus: int
    grace_s: float = TERM_GRACE_S

    def record(self) -> dict[str, Json]:
        """Return the order as it is written to spec.json."""
        return {
            "schema": 1,
            "spec": self.spec.record(),
            "context": self.context.record(),
            "number": self.number,
            "device": self.device,
            "cpus": self.cpus,
            "grace_s": self.grace_s,
        }


def read_order(path: Path) -> Order:
    """Return the order that a scheduler wrote."""
    match read_json(path):
        case {
            "spec": dict(spec),
            "context": dict(context),
            "number": int(number),
            "device": str(device),
            "cpus": int(cpus),
            "grace_s": float(grace_s),
        }:
            return Order(
                spec=read_spec(spec),
                context=read_context(context),
                number=number,
                device=device,
                cpus=cpus,
                grace_s=grace_s,
            )
    raise ValueError(f"{path} is not an order")
