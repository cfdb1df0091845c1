"""What one scheduler publishes of its reservations: how its file is written, and read as untrusted input."""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from launcher.queue.gpu.resources import EXCLUSIVE, JOBS, resource_name
from launcher.queue.jobs.accounts import (
    ResourceDemand,
    ResourceUsage,
    read_demand,
    read_resource_usage,
)
from launcher.system.files import Json
from launcher.system.lazy_regex import compile_lazily
from launcher.system.processes import MOST_PID, Identity, boot_id, identity

MOST_BYTES = 64 << 10  # bytes of a file
MOST_RESERVATIONS = 256  # reservations of a file; also the number of other files that it names
MOST_MEASUREMENTS = 8  # measurements of a GPU
_DEVICE = compile_lazily(r"[!-~]{1,96}")
_LARGEST = 1 << 62  # bytes, or seconds
_LONGEST_FOLDER = 1024  # characters; it is printed in reasons
# patterns that are looked for in a file that is not in our form
_GPU_NAME = compile_lazily(r"\b(?:GPU|MIG)-[0-9A-Za-z/-]{1,92}")
_HEAD = compile_lazily(r"\[\s*([0-9]{1,7}),\s*([0-9]{1,18})(?:,\s*([0-9]{1,18}))?")
_PID = compile_lazily(r'"pid":\s*([0-9]{1,7})\b')
_HOME = compile_lazily(r'"home":\s*"([0-9a-f]{32})"')


class Publication(NamedTuple):
    """Reservations of one scheduler as written in its file."""

    serial: str  # serial of this version of the file
    at: float  # on the clock that all processes of the machine share
    seen: Mapping[str, str]  # file → serial of the version that the publisher had counted
    settled: Mapping[str, int]  # resource → amount: always counts
    fresh: Mapping[str, int]  # resource → amount: new in this version
    user: str = ""  # owner of the file
    control_groups: frozenset[str] = frozenset()  # control groups of the publisher; empty: unknown
    home: str = ""  # hash of the publisher's queue folder; empty: unknown
    # GPU → (time of the usage measurement, amount of `settled` that counts after a later
    # reading), oldest first
    measured: Mapping[str, tuple[tuple[float, int], ...]] = {}
    demand: ResourceDemand | None = None  # resources that the publisher waits for; None: none
    usage: ResourceUsage | None = None  # used by the publisher's queue until `at`; None: unknown
    # processes of the publisher's user; the publisher reserves for their jobs
    supervisors: tuple[Identity, ...] = ()
    folder: str = ""  # queue folder of the publisher, for messages; "" if not in the file
    invalid_fields: str = ""  # text about impossible values of the file, which do not count

    def unused_amount(self, device: str, sampled_at: float | None = None) -> int:
        """Return the reserved amount of a resource that is not fresh. For GPU memory, only the unused part.

        Args:
            device: The resource.
            sampled_at: Time of the reader's last GPU reading, None if unknown.
        """
        amount = self.settled.get(device, 0)
        if sampled_at is None:
            return amount
        since = [held for at, held in self.measured.get(device, ()) if at <= sampled_at]
        return min(amount, since[-1]) if since else amount


def parse_publication(name: str, data: bytes, user: str = "") -> Publication | None:
    """Parse the content of a file. None if it was written before the last boot.

    Raises:
        ValueError: The content is not a valid publication of this name.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES} bytes")
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON") from error
    match record:
        case {
            "schema": 1,
            "name": str(own),
            "boot": str(boot),
            "at": int() | float() as at,
            "serial": str(serial),
            "seen": dict(seen),
            "promises": list(promises),
            **more,
        } if own == name and 0 <= at <= _LARGEST and len(promises) <= MOST_RESERVATIONS:
            pass
        case _:
            raise ValueError("it is not a reservation file of this name")
    if boot != boot_id():
        return None
    settled, fresh = Counter[str](), Counter[str]()
    for promise in promises:
        match promise:
            case [str(device), int(held), int(new)] if _DEVICE.fullmatch(device) and (
                0 <= held <= _LARGEST and 0 <= new <= _LARGEST
            ):
                settled[device] += held
                fresh[device] += new
            case _:
                raise ValueError("it contains an impossible reservation")
    home, within, heads = more.get("home"), more.get("within"), _read_heads(more.get("heads", []))
    # without heads the reservations of living jobs would not outlast their scheduler
    if heads is None:
        raise ValueError("it contains an impossible process")
    wish, use = read_demand(more.get("wish")), read_resource_usage(more.get("use"))
    measured = _read_measured(more.get("measured"))
    odd = [
        name
        for name, value in (("wish", wish), ("use", use), ("measured", measured))
        if value is None and more.get(name) is not None
    ]
    return Publication(
        serial=serial,
        at=at,
        seen=seen,
        settled=settled,
        fresh=fresh,
        user=user,
        control_groups=frozenset(
            name for name in (within if isinstance(within, list) else ()) if isinstance(name, str)
        ),
        home=home if isinstance(home, str) else "",
        measured=measured or {},
        demand=wish,
        usage=use,
        supervisors=heads,
        folder=_read_folder(more.get("folder")),
        invalid_fields=f"its {', '.join(odd)} is impossible and is ignored" if odd else "",
    )


def salvage_publication(data: bytes, user: str, timestamp: float) -> Publication | None:
    """Return what a file reserves that `parse_publication` refuses: each GPU that it names, as a whole. None if no GPU.

    The file may be damaged, or written by another version. It states no serial that it has seen, so
    all of it always counts.

    Args:
        data: Content of the file.
        user: Its owner.
        timestamp: When the file was written, on the clock of `Publication.at`.
    """
    text = data.decode(errors="replace")
    with contextlib.suppress(ValueError, RecursionError):
        record = json.loads(text)
        if isinstance(record, dict) and record.pop("wish", None):
            text = json.dumps(record)  # a GPU for which jobs only wait is not taken
    gpus = sorted(set(_GPU_NAME.findall(text)))[:MOST_RESERVATIONS]
    if not gpus:
        return None
    heads = [
        _identity(int(pid), int(ticks), int(namespace) if namespace else None)
        for pid, ticks, namespace in _HEAD.findall(text)
    ]
    pids = map(int, _PID.findall(text)[:MOST_RESERVATIONS])
    heads += filter(None, [identity(pid) for pid in pids if 0 < pid <= MOST_PID])
    home = _HOME.search(text)
    return Publication(
        serial="",
        at=timestamp,
        seen={},
        settled={resource_name(kind, gpu): 1 for gpu in gpus for kind in (EXCLUSIVE, JOBS)},
        fresh={},
        user=user,
        home=home[1] if home else "",
        supervisors=tuple(heads[:MOST_RESERVATIONS]),
    )


def _read_folder(record: object) -> str:
    """Return the queue folder that a file names; '' if it cannot be printed as it is."""
    is_shown = isinstance(record, str) and record.startswith("/") and record.isprintable()
    return str(record) if is_shown and len(str(record)) <= _LONGEST_FOLDER else ""


def _read_heads(record: object) -> tuple[Identity, ...] | None:
    """Return the processes that a file names, None if an entry cannot be a process."""
    heads = []
    for entry in record[:MOST_RESERVATIONS] if isinstance(record, list) else [None]:
        match entry:
            case [int(pid), int(ticks), int(namespace)] if 0 <= pid < 1 << 31:
                heads.append(_identity(pid, ticks, namespace))
            case _:
                return None
    return tuple(heads)


def _identity(pid: int, ticks: int, namespace: int | None) -> Identity:
    return Identity(pid=pid, start_ticks=ticks, boot=boot_id(), namespace=namespace)


def _read_measured(record: object) -> dict[str, tuple[tuple[float, int], ...]] | None:
    """Return the measurements in a file, None if they are impossible."""
    if not isinstance(record, dict) or len(record) > MOST_RESERVATIONS:
        return None
    measured = {}
    for device, entries in record.items():
        pairs: list[tuple[float, int]] = []
        for entry in entries if isinstance(entries, list) else [None]:
            match entry:
                case [int() | float() as at, int(amount)] if (
                    0 <= at <= _LARGEST and 0 <= amount <= _LARGEST
                ):
                    pairs.append((float(at), amount))
                case _:
                    return None
        if any(before[0] > after[0] for before, after in pairwise(pairs)):
            return None
        measured[str(device)] = tuple(pairs[-MOST_MEASUREMENTS:])
    return measured


def write_publication(folder: Path, name: str, publication: Publication) -> None:
    """Replace our file so that others read the old one or the new one; nothing is synced.

    Raises:
        OSError: it cannot be written, and the old one is as it was.
        ValueError: others would not count it.
    """
    record: dict[str, Json] = {
        "schema": 1,
        "name": name,
        "boot": boot_id(),
        "at": publication.at,
        "serial": publication.serial,
        "home": publication.home,
        "folder": publication.folder,
        "within": [*sorted(publication.control_groups)],
        # a publisher that is not named takes us for a rival, which does no harm
        "seen": {
            other: publication.seen[other] for other in sorted(publication.seen)[:MOST_RESERVATIONS]
        },
        "promises": [
            [device, publication.settled.get(device, 0), publication.fresh.get(device, 0)]
            for device in sorted({*publication.settled, *publication.fresh})
            if publication.settled.get(device)
            # amounts without a new reservation are all in use by now
            or publication.fresh.get(device)
        ],
    }
    if publication.measured:
        record["measured"] = {
            device: [[at, held] for at, held in entries[-MOST_MEASUREMENTS:]]
            for device, entries in publication.measured.items()
        }
    if publication.supervisors:
        record["heads"] = [
            [who.pid, who.start_ticks, who.namespace or 0]
            for who in publication.supervisors[:MOST_RESERVATIONS]
        ]
    if publication.demand is not None:
        record["wish"] = publication.demand.to_json()
    if publication.usage is not None:
        record["use"] = publication.usage._asdict()
    data = json.dumps(record).encode()
    parse_publication(name, data)
    temporary = f"{folder}/.{name}.{os.urandom(8).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(temporary, flags, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fchmod(descriptor, 0o644)  # for all to read, whatever our umask is
        finally:
            os.close(descriptor)
        os.replace(temporary, f"{folder}/{name}")  # noqa: PTH105  # done often; a Path costs 10 µs
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108  # likewise
        raise
