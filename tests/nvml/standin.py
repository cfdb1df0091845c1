"""A machine with GPUs for tests: a stand-in for NVML's library, and the devices that it reports.

The real bindings, the real launcher and real processes run with it. A test gives them
`Devices.environment` and changes the devices while they run.
"""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pynvml

from launcher.system.files import write_whole

SOURCE = Path(__file__).with_name("standin.c")
LIBRARY = "libnvidia-ml.so.1"
GIB = 1 << 30
EVERYWHERE = -1

# a program's lines for `sh`: takes $1 bytes on each of its GPUs, for as long as its shell lives
TAKE = """
for card in $(echo "$CUDA_VISIBLE_DEVICES" | tr , ' '); do echo "$card $1"; done \
> "$STANDIN_TAKEN/.$$" && mv "$STANDIN_TAKEN/.$$" "$STANDIN_TAKEN/$$"
"""
LEAVE = 'rm "$STANDIN_TAKEN/$$"\n'


def compile_library(folder: Path, *, old: bool = False) -> Path:
    """Compile the stand-in into `folder` and return it.

    Args:
        folder: exists.
        old: leave out the functions that came with drivers after 2021.

    Raises:
        FileNotFoundError: no C compiler.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise FileNotFoundError("no C compiler (cc) to build the stand-in for NVML with")
    library = folder / LIBRARY
    words = ["-std=gnu11", "-O1", "-shared", "-fPIC", f"-Wl,-soname,{LIBRARY}"]
    words += ["-DOLD"] if old else []
    subprocess.run([compiler, *words, "-o", library, SOURCE], check=True)
    return library


def environment(library: Path, gpus: Path, taken: Path, table: Path) -> dict[str, str]:
    """Return what makes a program that asks NVML ask the stand-in.

    Args:
        library: the compiled stand-in.
        gpus: the file with its devices.
        taken: the folder where processes say what memory they hold.
        table: the file that simulated programs share; it need not exist.
    """
    elsewhere = os.environ.get("LD_LIBRARY_PATH")
    return {
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, (str(library.parent), elsewhere))),
        "STANDIN_GPUS": str(gpus),
        "STANDIN_TAKEN": str(taken),
        "STANDIN_TABLE": str(table),
    }


@dataclass(slots=True, kw_only=True)
class Device:
    """A GPU or an instance of one: its values as the stand-in reads them, and its processes."""

    values: dict[str, int | str]
    processes: dict[tuple[int, str], int | None] = field(default_factory=dict)
    instances: list["Device"] = field(default_factory=list)
    samples: list[tuple[int, int, int]] = field(default_factory=list)  # pid, percent, age in µs

    @property
    def uuid(self) -> str:
        return str(self.values["uuid"])

    def lines(self, word: str) -> Iterator[str]:
        """Yield the device as lines of the stand-in's file."""
        yield " ".join([word, *(f"{key}={value}" for key, value in self.values.items())])
        for (pid, kind), used in self.processes.items():
            yield f"process {pid} {'-' if used is None else used} {kind}"
        for pid, sm, age in self.samples:
            yield f"sample {pid} {sm} {age}"
        for instance in self.instances:
            yield from instance.lines("mig")


class Devices:
    """The GPUs of the stand-in; every change is seen at the next question."""

    def __init__(self, folder: Path, library: Path) -> None:
        """Begin with a machine that has a driver and no GPU.

        Args:
            folder: for the files that the stand-in reads; exists.
            library: the compiled stand-in.
        """
        self.library = library
        self.file, self.taken = folder / "gpus.txt", folder / "taken"
        self.table = folder / "table"
        self.taken.mkdir()
        self._cards: list[Device] = []
        self._refused: dict[tuple[str, int], int] = {}
        self._xids: list[tuple[int, int]] = []
        self._absent = 0
        self._driver = ""
        self._hanging = False
        self._write()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables by which a program sees these GPUs."""
        return environment(self.library, self.file, self.taken, self.table)

    @property
    def cards(self) -> tuple[Device, ...]:
        """The GPUs in PCI order."""
        return tuple(self._cards)

    def add(self, total: int = 24 * GIB, **values: int | str) -> str:
        """Add a healthy unused GPU, and return its UUID."""
        number = len(self._cards)
        standard: dict[str, int | str] = {
            "uuid": f"GPU-{number:08x}-0000-4000-8000-000000000000",
            "name": "NVIDIA_A10",
            "total": total,
            "used": GIB // 2,
            "util": 0,
            "power": 20_000,
            "limit": 150_000,
            "temp": 35,
            "ecc": 0,
        }
        self._cards.append(Device(values=standard | values))
        self._write()
        return self._cards[-1].uuid

    def divide(self, uuid: str, *totals: int) -> list[str]:
        """Put a GPU into MIG mode with instances of these sizes, and return their UUIDs."""
        card = self._card(uuid)
        card.values["divided"] = 1
        card.instances = [
            Device(
                values={
                    "uuid": f"MIG-{self._cards.index(card):04x}{place:04x}-0000-4000-8000-00000000",
                    "name": f"{card.values['name']}_MIG_{place + 1}g",
                    "total": total,
                    "used": 0,
                }
            )
            for place, total in enumerate(totals)
        ]
        self._write()
        return [one.uuid for one in card.instances]

    def set(self, uuid: str, **values: int | str) -> None:
        """Change values of a GPU or an instance. Nothing is checked."""
        self._device(uuid).values.update(values)
        self._write()

    def hold(self, uuid: str, pid: int, used: int | None = GIB, kind: str = "c") -> None:
        """Let a process use memory. If `used` is None, the driver does not report the amount."""
        device = self._device(uuid)
        device.processes[pid, kind] = used
        device.values["used"] = int(device.values["used"]) + (used or 0)
        self._write()

    def use(self, uuid: str, pid: int, percent: int, *, age_s: float = 0.0) -> None:
        """Let a process use a percentage of a GPU's multiprocessors, with a sample that is `age_s` old."""
        self._device(uuid).samples.append((pid, percent, round(age_s * 1e6)))
        self._write()

    def rest(self, uuid: str) -> None:
        """Remove all utilization samples of a GPU."""
        self._device(uuid).samples.clear()
        self._write()

    def leave(self, uuid: str, pid: int) -> None:
        """Let a process give back all that it holds."""
        device = self._device(uuid)
        for key in [key for key in device.processes if key[0] == pid]:
            device.values["used"] = int(device.values["used"]) - (device.processes.pop(key) or 0)
        self._write()

    def lose(self, uuid: str, *, handle: bool = True) -> None:
        """Remove a GPU from the bus. Its handle may still be returned."""
        self.set(uuid, lost=1 if handle else 2)

    def mend(self, uuid: str) -> None:
        """Let a GPU that was lost or removed respond again."""
        self.set(uuid, lost=0, missing=0)

    def take_out(self, uuid: str) -> None:
        """Let the driver no longer list a GPU. The indices of later ones decrease."""
        self.set(uuid, missing=1)

    def xid(self, uuid: str, code: int) -> None:
        """Send an error of a GPU to all current listeners."""
        self._xids.append((self._cards.index(self._card(uuid)), code))
        self._write()

    def refuse(self, function: str, code: int, uuid: str | None = None) -> None:
        """Let a function of NVML fail with a code, for one GPU or everywhere."""
        self._refused[function, self._place(uuid)] = code
        self._write()

    def allow(self, function: str, uuid: str | None = None) -> None:
        """Let a function be answered again."""
        del self._refused[function, self._place(uuid)]
        self._write()

    def unload(self, code: int = pynvml.NVML_ERROR_DRIVER_NOT_LOADED) -> None:
        """Let there be no driver; 0 brings it back."""
        self._absent = code
        self._write()

    def drive(self, version: str) -> None:
        """Set the driver version for programs that open the library from now on."""
        self._driver = version
        self._write()

    def hang(self, *, on: bool = True) -> None:
        """Let the driver block until it is released."""
        self._hanging = on
        self._write()

    def _place(self, uuid: str | None) -> int:
        return EVERYWHERE if uuid is None else self._cards.index(self._card(uuid))

    def _card(self, uuid: str) -> Device:
        return next(card for card in self._cards if card.uuid == uuid)

    def _device(self, uuid: str) -> Device:
        parts = (part for card in self._cards for part in (card, *card.instances))
        return next(part for part in parts if part.uuid == uuid)

    def _write(self) -> None:
        lines = ["hang"] if self._hanging else []
        lines += [f"absent {self._absent}"] if self._absent else []
        lines += [f"driver {self._driver}"] if self._driver else []
        lines += [f"refuse {name} {code} {at}" for (name, at), code in self._refused.items()]
        for card in self._cards:
            lines += card.lines("gpu")
        lines += [f"xid {number} {at} {code}" for number, (at, code) in enumerate(self._xids, 1)]
        temporary = self.file.with_suffix(".tmp")
        write_whole(temporary, "\n".join([*lines, ""]))
        temporary.replace(self.file)


@contextmanager
def asked_here(devices: Devices) -> Iterator[None]:
    """Let this process's own NVML bindings ask the stand-in, whatever they asked before."""
    added = {key: text for key, text in devices.environment.items() if key.startswith("STANDIN_")}
    known = pynvml.nvmlLib, pynvml._nvmlGetFunctionPointer_cache
    before = {key: os.environ[key] for key in added if key in os.environ}
    pynvml.nvmlLib, pynvml._nvmlGetFunctionPointer_cache = ctypes.CDLL(str(devices.library)), {}
    os.environ.update(added)
    try:
        yield
    finally:
        pynvml.nvmlLib, pynvml._nvmlGetFunctionPointer_cache = known
        for key in added:
            del os.environ[key]
        os.environ.update(before)
