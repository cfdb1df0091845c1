"""What a scheduler asks a supervisor to do, as it lies in an attempt's folder."""

import json
from dataclasses import dataclass

from launcher.context import Context, placed_context, read_context
from launcher.job import CPU, Spec, read_spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a scheduler asks a supervisor to do."""

    spec: Spec
    context: Context  # with the folder and the variables of the job's own entry
    job: int
    number: int
    device: str  # "cpu", or the UUIDs of GPUs with commas between
    cpus: int
    mps: tuple[str, str] | None = (
        None  # folders of the pipes and logs of MPS; None: no client of it
    )
    reservation: int | None = None  # bytes on each GPU; None: no other of ours is there
    left: str = ""  # name of the stage of an earlier attempt, from which this one goes on

    @property
    def gpus(self) -> tuple[str, ...]:
        """The UUIDs of its GPUs; none where it works on the CPU."""
        return () if self.device == CPU else tuple(self.device.split(","))


def order_text(
    *,
    job: int,
    number: int,
    device: str,
    cpus: int,
    claim: int | None = None,
    mps: tuple[str, str] | None = None,
    left: str = "",
    spec_text: str,
    context_text: str,
) -> str:
    """Return the order as it is written to spec.json; spec and context are JSON already."""
    head = {"schema": 1, "job": job, "number": number, "device": device, "cpus": cpus}
    head |= {} if claim is None else {"claim": claim}
    head |= {} if mps is None else {"mps": [*mps]}
    head |= {"left": left} if left else {}
    # spliced, not parsed and printed again: this is done for every attempt
    return f'{json.dumps(head)[:-1]}, "spec": {spec_text}, "context": {context_text}}}\n'


def read_order(text: bytes) -> Order:
    """Return the order that a scheduler wrote: the first line of what lies in the folder.

    Raises:
        ValueError: the text is none, or was cut off.
    """
    record = json.loads(text.partition(b"\n")[0])
    claim = record.get("claim") if isinstance(record, dict) else None
    folders = record.get("mps") if isinstance(record, dict) else None
    left = record.get("left") if isinstance(record, dict) else None
    match record:
        case {
            "spec": dict(spec),
            "context": dict(context),
            "job": int(job),
            "number": int(number),
            "device": str(device),
            "cpus": int(cpus),
        }:
            own = read_spec(spec)
            return Order(
                spec=own,
                context=placed_context(own, read_context(context)),
                job=job,
                number=number,
                device=device,
                cpus=cpus,
                mps=_mps(folders),
                reservation=claim if type(claim) is int else None,
                left=left if isinstance(left, str) else "",
            )
    raise ValueError("this is not an order")


def _mps(folders: object) -> tuple[str, str] | None:
    match folders:
        case [str(pipes), str(logs)]:
            return pipes, logs
    return None
