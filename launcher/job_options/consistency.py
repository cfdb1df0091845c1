"""Options that contradict each other, named as a task file or a command line spells them."""

from collections.abc import Callable, Iterator, Mapping

from launcher.job import CPU, Terms
from launcher.job_options.value_types import AUTO
from launcher.units import format_seconds

Spelling = Callable[
    [str, str], str
]  # an option and its value as the user writes them; "": no value


def in_task_file(name: str, value: str) -> str:
    """Return an option as a task file has it: `time_limit: 8h`."""
    return f"{name}: {value}" if value else name


def on_command_line(name: str, value: str) -> str:
    """Return an option as `launcher add` has it: `--time-limit 8h`."""
    flag = f"--{name.replace('_', '-')}"
    return f"{flag} {value}" if value else flag


def device_fault(values: Mapping[str, object], spell: Spelling) -> str | None:
    """Tell which options of one job ask for a GPU and for none, or for one GPU and several.

    Args:
        values: those that are given, by name.
        spell: how the user writes them.
    """
    gpus, device = values.get("gpus"), str(values.get("device", "auto"))
    none = ("gpus", "0") if gpus == 0 else ("device", CPU) if device == CPU else None
    wanted = next(_asking_for_gpu(values), None)
    if none is not None and wanted is not None:
        first, second = sorted((none, wanted), key=lambda pair: pair[0] != "gpus")
        return f"{spell(*first)} and {spell(*second)} contradict each other; leave one of them out"
    if isinstance(gpus, int) and gpus > 1 and device.startswith("cuda:"):
        single, several = spell("device", device), spell("gpus", str(gpus))
        return f"{single} is one GPU, {several} asks for {gpus}; leave one of them out"
    return None


def _asking_for_gpu(values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Give the options that ask for a GPU, each with its value where that tells something."""
    gpus, device = values.get("gpus"), str(values.get("device", ""))
    if gpus:
        yield "gpus", str(gpus)
    if device.startswith("cuda"):
        yield "device", device
    if values.get("vram", AUTO) != AUTO:
        yield "vram", ""
    if values.get("exclusive"):
        yield "exclusive", ""


def terms_fault(terms: Terms, spell: Spelling) -> str | None:
    """Tell which of a job's times needs another one, or does not fit to it."""
    limit_s, warn_s = terms.time_limit_s, terms.warn_s
    warn, limit = spell("warn", ""), spell("time_limit", "")
    if warn_s and limit_s is None:
        example = spell("time_limit", "8h")
        return f"{warn} counts back from {limit}: say that, too, such as {example}"
    if warn_s and limit_s is not None and warn_s >= limit_s:
        return f"{warn}: expected a time shorter than {limit}, which is {format_seconds(limit_s)}"
    if terms.warn_signal != Terms().warn_signal and not warn_s:
        example = spell("warn", "5m")
        name = terms.warn_signal
        return f"{spell('signal', '')}: {name} is sent by {warn}; say when, such as {example}"
    return None
