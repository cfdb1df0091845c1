"""What one scheduler publishes of its reservations: how its file is read and written."""

import contextlib
import json
import os
import re
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.system.files import Json
from launcher.system.processes import boot_id

MOST_BYTES = 64 << 10  # of a file
MOST_RESERVATIONS = 256  # of a file; and how many others it names
_DEVICE = re.compile(r"[!-~]{1,96}")
_LARGEST = 1 << 62  # bytes, or seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What one scheduler has reserved, as its file states."""

    serial: str  # of this version of the file
    at: float  # on the clock that all processes of the machine share
    seen: Mapping[str, str]  # file → serial: what its publisher had counted just before
    settled: Mapping[str, int]  # resource → amount: always counts
    fresh: Mapping[str, int]  # resource → amount: new in this version
    user: str = ""  # who owns the file
    within: frozenset[str] = frozenset()  # its publisher's control groups; empty: unknown
    home: str = ""  # the hash of its publisher's home; empty: it is of an earlier version


def parse(name: str, data: bytes, user: str = "") -> Publication | None:
    """Read what a file tells; None: it was written before the machine was last started.

    Raises:
        ValueError, RecursionError: it is not what a scheduler publishes under this name.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES} bytes")
    match json.loads(data):
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
            pass  # (a hard link to an older version bears another name)
        case _:
            raise ValueError("it is not what a scheduler publishes under this name")
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
                raise ValueError("it tells a promise that cannot be")
    home, within = more.get("home"), more.get("within")
    return Publication(
        serial=serial,
        at=at,
        seen=seen,
        settled=settled,
        fresh=fresh,
        user=user,
        within=frozenset(
            name for name in (within if isinstance(within, list) else ()) if isinstance(name, str)
        ),
        home=home if isinstance(home, str) else "",
    )


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
        "within": [*sorted(publication.within)],
        # a publisher that is not named takes us for a rival, which does no harm
        "seen": {
            other: publication.seen[other] for other in sorted(publication.seen)[:MOST_RESERVATIONS]
        },
        "promises": [
            [device, publication.settled.get(device, 0), publication.fresh.get(device, 0)]
            for device in sorted({*publication.settled, *publication.fresh})
            if publication.settled.get(device)
            or publication.fresh.get(device)  # else it is all in use by now
        ],
    }
    data = json.dumps(record).encode()
    parse(name, data)
    temporary = f"{folder}/.{name}.{secrets.token_hex(8)}"
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
