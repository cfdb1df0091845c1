"""The part of a check that is about GPUs: the driver, torch beside it, the cards, and who uses them."""

from collections import Counter
from collections.abc import Iterator

from launcher.cli.doctor.facts import Driver, Facts, Finding, Torch, ok, trouble, unknown, warning
from launcher.errors import counted
from launcher.gpu.snapshot import GpuSnapshot
from launcher.scheduler.policy.gpu_slot import is_visible
from launcher.store.rows import visible_devices
from launcher.units import format_bytes

DRIVER, CUDA, CARDS, VISIBLE, OTHERS = "driver", "CUDA", "GPUs", "visible GPUs", "other users"
# NVML's compute modes in which a card is not shared as usual
_PROHIBITED = 2
_EXCLUSIVE = {1, 3}
_PICK = "https://pytorch.org/get-started/locally tells the command"


def check_gpus(facts: Facts) -> Iterator[Finding]:
    """Yield what is found; of a machine without GPUs there is little to tell."""
    driver = facts.driver
    yield _driver(driver)
    yield _cuda(driver, facts.torch)
    if driver.gpus:
        yield _cards(driver)
    yield _visible(facts)
    if driver.gpus:
        yield _others(driver.gpus, facts.user)


def _driver(driver: Driver) -> Finding:
    if driver.silent:
        return trouble(
            DRIVER,
            f"the driver does not answer: {driver.silent}",
            "nvidia-smi and the kernel's log (dmesg) may say why; it may need a reboot",
        )
    if "reboot" in driver.absent:
        return trouble(DRIVER, driver.absent, "reboot, or load the new driver's kernel module")
    if driver.absent and driver.loaded:
        return warning(
            DRIVER,
            f"the kernel has NVIDIA's driver, and programs cannot ask it: {driver.absent}",
            "in a container, start it with its GPUs (docker run --gpus all); else install the "
            "driver's libraries",
        )
    if driver.absent and driver.cards:
        return warning(
            DRIVER,
            f"{counted(driver.cards, 'NVIDIA card')} plugged in, and not used: {driver.absent}",
            "install NVIDIA's driver, and reboot",
        )
    if driver.absent:
        return unknown(DRIVER, f"no GPUs: {driver.absent}; jobs run on the CPU")
    summary = f"NVIDIA's driver {driver.version}" if driver.version else "NVIDIA's driver answers"
    if driver.cuda:
        summary += f", runs CUDA up to {_dotted(driver.cuda)}"
    if not driver.gpus:
        return warning(
            DRIVER,
            f"{summary}, and lists no GPU; jobs run on the CPU",
            "in a container, start it with its GPUs (docker run --gpus all); else see nvidia-smi",
        )
    return ok(DRIVER, summary)


def _cuda(driver: Driver, torch: Torch) -> Finding:
    if torch.version is None:
        summary = "torch is not installed in the Python of this command"
        advice = "install it where your jobs run: pip install torch torchvision"
        return warning(CUDA, summary, advice) if driver.gpus else unknown(CUDA, summary)
    name = f"torch {torch.version}"
    if torch.works is False:
        return trouble(
            CUDA, f"{name} cannot compute on a GPU: {torch.tried}", f"mend that; {_PICK}"
        )
    if torch.cuda is None:
        made = f"for {torch.other}" if torch.other else "for the CPU only"
        if driver.gpus:
            summary = f"{name} is made {made}: jobs cannot use NVIDIA's GPUs"
            return warning(CUDA, summary, f"install a torch that is made for CUDA; {_PICK}")
        return ok(CUDA, f"{name} is made {made}")
    summary = f"{name} is made for CUDA {torch.cuda}"
    if not driver.gpus:
        return ok(CUDA, f"{summary}; without GPUs it computes on the CPU")
    needed = _version(torch.cuda)
    if driver.cuda is None or needed is None:
        return unknown(CUDA, f"{summary}; the driver does not tell which CUDA it runs")
    if needed[0] > driver.cuda[0]:
        return trouble(
            CUDA,
            f"{summary}, and the driver runs CUDA up to {_dotted(driver.cuda)}",
            f"update the driver, or install a torch made for CUDA {driver.cuda[0]}; {_PICK}",
        )
    tried = f"; {torch.tried}" if torch.works else ""
    # CUDA 11 and later: a driver runs every program of its own major version
    return ok(CUDA, f"{summary}, which the driver runs{tried}")


def _cards(driver: Driver) -> Finding:
    gpus = driver.gpus
    bad = [f"{gpu.label} {gpu.fault}" for gpu in gpus if gpu.fault]
    odd = [f"{gpu.label}: {text}" for gpu in gpus for text in gpu.warnings]
    closed = {gpu.index for gpu in gpus if driver.modes.get(gpu.index) == _PROHIBITED}
    alone = {gpu.index for gpu in gpus if driver.modes.get(gpu.index) in _EXCLUSIVE}
    parts = sum(gpu.mig is not None for gpu in gpus)
    named = Counter(gpu.name for gpu in gpus)
    summary = ", ".join(f"{number} × {name}" for name, number in named.items())
    if parts:
        summary += f" ({parts} of them parts of divided cards (MIG))"
    if bad or closed:
        closed_texts = [f"cuda:{index} lets nobody compute" for index in sorted(closed)]
        advice = "nothing starts there; " + (
            "an administrator can allow it: nvidia-smi -c DEFAULT"
            if not bad
            else "dmesg tells more, and a reset or reboot may help"
        )
        healthy = len({gpu.uuid for gpu in gpus if not gpu.fault and gpu.index not in closed})
        problems = "; ".join([*bad, *closed_texts])
        make = warning if healthy else trouble
        return make(CARDS, f"{problems}; {healthy} of {len(gpus)} can be used", advice)
    if alone:
        which = ", ".join(f"cuda:{index}" for index in sorted(alone))
        return warning(
            CARDS,
            f"{which} takes one process at a time (exclusive): jobs cannot share it",
            "an administrator can let them: nvidia-smi -c DEFAULT",
        )
    if odd:
        return warning(CARDS, "; ".join(odd), "tell it to who looks after the machine")
    return ok(CARDS, summary)


def _visible(facts: Facts) -> Finding:
    gpus, visible = facts.driver.gpus, facts.visible
    if visible is None:
        names = {gpu.name for gpu in gpus if gpu.mig is None}
        if len(names) > 1 and facts.order != "PCI_BUS_ID":
            return ok(
                VISIBLE,
                "CUDA_VISIBLE_DEVICES is not set: jobs may use every GPU; programs outside of the "
                "queue number these cards by their speed",
                "for the same numbers everywhere: export CUDA_DEVICE_ORDER=PCI_BUS_ID",
            )
        return ok(VISIBLE, "CUDA_VISIBLE_DEVICES is not set: jobs may use every GPU")
    wanted = visible_devices({"CUDA_VISIBLE_DEVICES": visible}) or ()
    shown = [gpu.label for gpu in gpus if is_visible(gpu, wanted)]
    lost = [process for process in wanted if not any(is_visible(gpu, (process,)) for gpu in gpus)]
    if not gpus:
        return ok(VISIBLE, f"CUDA_VISIBLE_DEVICES={visible}, and there is no GPU")
    if not wanted or wanted[0] == "-1":
        return warning(
            VISIBLE,
            "CUDA_VISIBLE_DEVICES hides every GPU from jobs that are queued from this shell",
            "unset CUDA_VISIBLE_DEVICES, unless that is what you want",
        )
    if lost:
        labels = ", ".join(gpu.label.removeprefix("cuda:") for gpu in gpus)
        return warning(
            VISIBLE,
            f"CUDA_VISIBLE_DEVICES={visible} names what is not there: {', '.join(lost)}",
            f"unset it, or name some of: {labels}",
        )
    return ok(
        VISIBLE, f"CUDA_VISIBLE_DEVICES={visible}: jobs from this shell use {', '.join(shown)}"
    )


def _others(gpus: tuple[GpuSnapshot, ...], user: str) -> Finding:
    taken: dict[str, Counter[str]] = {}
    amounts: Counter[str] = Counter()
    for gpu in gpus:
        for process in gpu.processes or ():
            if process.user != user:
                who = process.user or "somebody"
                taken.setdefault(who, Counter())[gpu.label] += 1
                amounts[who] += process.used or 0
    blind = [gpu.label for gpu in gpus if gpu.processes is None and not gpu.fault]
    usage = [
        f"{who} {f'{format_bytes(amounts[who])} ' if amounts[who] else ''}on {', '.join(labels)}"
        for who, labels in taken.items()
    ]
    if usage:
        idle = sum(gpu.processes == () for gpu in gpus)
        summary = f"{'; '.join(usage)}; {counted(idle, 'GPU')} without anybody"
        return ok(OTHERS, summary, "`launcher gpus` shows every process; jobs keep clear of them")
    if blind:
        return unknown(OTHERS, f"the driver does not tell who uses {', '.join(blind)}")
    return ok(OTHERS, "nobody else uses the GPUs now")


def _version(text: str) -> tuple[int, int] | None:
    major, _, minor = text.partition(".")
    minor = minor.partition(".")[0] or "0"
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
