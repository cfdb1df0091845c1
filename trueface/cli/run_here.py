"""One job in this process, for command lines without the launcher.

The same entry functions run as in the queue; only progress and stop requests are handled differently.

The import of torch takes seconds, and help and wrong arguments must not wait for it. It is therefore
imported when a job begins. `torchvision` imports `torch._dynamo`, sympy and a thousand other modules. It needs them
only for a check of an object detection operator and for a decorator that excludes tensors from the
compiler. That takes as long as torch itself. The garbage collector scans the imported objects repeatedly,
which takes a fifth of the time.
"""

import contextlib
import gc
import importlib
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import FrameType, ModuleType

import click

from launcher.api import Draft, Job, Json, Kind, UsageError, parse_data
from trueface.jobs.job_kind import JobKind
from trueface.runtime import logs

LINE_EVERY_S = 10.0  # used without a terminal
COMPILER = "torch._dynamo.utils"
ASKED = "is_compile_supported"
MODULES = ("torchvision", "torchvision.tv_tensors")

log = logging.getLogger(__name__)


def device(name: str) -> str:
    """Return the device to compute on; a missing CUDA device is reported and replaced by the CPU.

    Args:
        name: cpu, cuda, cuda:N, or auto (the first CUDA device if there is one, otherwise the CPU).

    Raises:
        UsageError: a machine with CUDA has no such device, or the name is not valid.
    """
    import torch  # see above

    if name == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return name
    kind, _, number = name.partition(":")
    if kind != "cuda" or not (number or "0").isdecimal():
        raise UsageError(f"unknown device {name!r}. Give cpu, cuda or cuda:N.")
    if not torch.cuda.is_available():
        log.warning("device=%s state=absent reason=no CUDA device found, so the CPU is used", name)
        return "cpu"
    if int(number or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"device {name} does not exist: this machine has {torch.cuda.device_count()} CUDA devices"
        )
    return name


def warn_without_effect(
    kind: Kind, settings: Mapping[str, Json], flags: Mapping[str, str], images: str | None = None
) -> None:
    """Log the flags on a command line whose settings have no effect with the other settings.

    Args:
        kind: of the job.
        settings: of the job, complete.
        flags: the flags that were typed, by the names of their settings.
        images: data ID, real images included. None: the kind has none, or its model names them.
    """
    idle = kind.settings.without_effect(settings)
    if images is not None and isinstance(kind, JobKind):
        idle = kind.without_effect(settings, parse_data(images))
    for name, reason in idle.items():
        if name in flags:
            log.warning("flag=%s state=without effect reason=%s", flags[name], reason)


def perform_draft(kind: Kind, draft: Draft, *, device_name: str) -> Mapping[str, Json]:
    """Run the job that a draft describes; see `perform` and `device`."""
    make = partial(
        Job,
        name="/".join(filter(None, (kind.name, draft.model or draft.name))),
        kind=kind.name,
        run=draft.run,
        run_folder=draft.run_folder,
        folder=draft.folder,
        attempt_folder=draft.run_folder,
        attempt=1,
        device=device(device_name),
        model=draft.model,
        base=draft.base,
        data=draft.data,
        images=draft.images,
        settings=draft.settings,
        words=draft.words,
        outputs=kind.outputs(draft),
    )
    return perform(kind, make, are_flags_named=True)


def perform(
    kind: Kind, make: Callable[..., Job], *, are_flags_named: bool = False
) -> Mapping[str, Json]:
    """Run a job's entry function under a progress bar; Ctrl-C lets it stop in order.

    It computes on as many cores as torch would take, so OMP_NUM_THREADS limits it.

    Args:
        kind: names the function.
        make: gets `cpus`, `progress` and `stop`, and gives the job.
        are_flags_named: whether `warn_without_effect` has logged what the job would log.

    Raises:
        KeyboardInterrupt: the job stopped on request.
    """
    import torch  # see above

    module, _, function = kind.entry.partition(":")
    stop = threading.Event()
    with _bar(kind.name) as progress, _stop_on_signals(stop):
        job = make(cpus=torch.get_num_threads(), progress=progress, stop=stop)
        named = logs.FLAGS_ARE_NAMED.set(are_flags_named)
        try:
            result: Mapping[str, Json] = getattr(importlib.import_module(module), function)(job)
        except Exception as error:
            if stop.is_set():  # whatever it stumbled over, it was on its way out
                raise KeyboardInterrupt from error
            raise
        finally:
            logs.FLAGS_ARE_NAMED.reset(named)
    return result


@contextlib.contextmanager
def with_progress_bar(title: str) -> Iterator[tuple[Callable[..., None], threading.Event]]:
    """Yield a progress function and the event that Ctrl-C sets, for work that is not a job."""
    stop = threading.Event()
    with _bar(title) as progress, _stop_on_signals(stop):
        yield progress, stop


@contextlib.contextmanager
def _bar(title: str) -> Iterator[Callable[..., None]]:
    from rich.console import Console  # as much as help itself
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(title)
        return
    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[numbers]}"),
    )
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task(title, total=None, numbers="")

        def progress(*, step: int, total: int | None = None, **metrics: float | str) -> None:
            bars.update(bar, completed=step, total=total, numbers=_numbers(metrics))

        yield progress


def _lines(title: str) -> Callable[..., None]:
    """Return a progress function that writes a line now and then, for a log file or a pipe."""
    first: tuple[float, int] | None = None
    next_at = time.monotonic() + LINE_EVERY_S

    def progress(*, step: int, total: int | None = None, **metrics: float | str) -> None:
        nonlocal first, next_at
        now = time.monotonic()
        first = first or (now, step)
        if now < next_at:
            return
        next_at = now + LINE_EVERY_S
        speed = (step - first[1]) / max(now - first[0], 1e-9)
        left = f" left {(total - step) / speed:.0f} s" if total and speed > 0 else ""
        click.echo(f"{title} {step}/{total} {_numbers(metrics)}{left}", err=True)

    return progress


def _numbers(metrics: Mapping[str, float | str]) -> str:
    return " ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in metrics.items()
    )


@contextlib.contextmanager
def _stop_on_signals(stop: threading.Event) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM set `stop`, and the second one end the process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(number: int, _frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def print_result(result: Mapping[str, Json]) -> None:
    """Print a result, a line for each value."""
    for key, value in result.items():
        click.echo(f"{key}\t{value:.6g}" if isinstance(value, float) else f"{key}\t{value}")


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Keep the garbage collector away while modules are imported."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def import_torchvision() -> None:
    """Import torchvision without torch's compiler, which is imported when its function is called.

    If a version of torchvision uses more of the compiler, the real compiler is imported.
    """
    if "torchvision" in sys.modules or COMPILER in sys.modules:
        return
    # an import that fails here is repeated later, with the compiler, where the module is needed
    with _without_compiler(), contextlib.suppress(ImportError, AttributeError):
        for name in MODULES:
            importlib.import_module(name)


@contextlib.contextmanager
def _without_compiler() -> Iterator[None]:
    compiler = importlib.import_module("torch.compiler")
    disable = compiler.disable
    instead = ModuleType(COMPILER)
    setattr(instead, ASKED, _is_compile_supported)
    sys.modules[COMPILER] = instead
    setattr(compiler, "disable", _return_unchanged)  # noqa: B010  # a module has no such type
    try:
        yield
    finally:
        setattr(compiler, "disable", disable)  # noqa: B010
        if sys.modules.get(COMPILER) is instead:
            del sys.modules[COMPILER]


def _is_compile_supported(device_type: object) -> object:
    return getattr(importlib.import_module(COMPILER), ASKED)(device_type)


def _return_unchanged(function: Callable[..., object]) -> Callable[..., object]:
    """Return a function that the compiler would be kept from, were there one."""
    return function
