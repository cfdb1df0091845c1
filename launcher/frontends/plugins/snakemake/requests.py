"""Threads and resources of a job of Snakemake, as options of a job of the queue."""

from collections.abc import Iterator, Mapping
from typing import Any

from launcher.queue.job_options.registry import job_options
from launcher.system.errors import nearest

MB, MIB = 10**6, 2**20
# resource of Snakemake → option, and the bytes or seconds of one
RESOURCES = {"mem_mb": ("ram", MB), "runtime": ("time_limit", 60), "gpu": ("gpus", 1)}
# those that Snakemake and its other executors know
KNOWN = {
    "_cores", "_nodes", "attempt", "constraint", "disk", "disk_mb", "disk_mib", "gpu_manufacturer", "gpu_model",
    "mem", "mem_mib", "nodes", "tasks", "threads", "tmpdir",
}  # fmt: skip


def job_request(threads: int, resources: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a job.

    Args:
        threads: Of the rule.
        resources: Of the rule. One with the name of an option is that option; `vram` without a unit is in MiB.
    """
    options: dict[str, Any] = {"cpus": max(1, threads)}
    for name, value in resources.items():
        if not _is_known(value):
            continue
        if name in RESOURCES:
            option, unit = RESOURCES[name]
            options.setdefault(option, value * unit)
        elif name == "vram" and str(value).isdecimal():
            options[name] = int(value) * MIB
        elif name in job_options():
            options[name] = value
    return options


def _is_known(value: object) -> bool:
    """Whether a resource has a value. Snakemake knows some only when the input exists."""
    return isinstance(value, int | float) or (type(value) is str and bool(value))


def mistyped_resources(resources: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each resource that has no effect, with the likely name."""
    names = [*RESOURCES, *job_options()]
    for name in resources:
        if name not in names and name not in KNOWN and (likely := nearest(name, names)):
            yield name, likely
