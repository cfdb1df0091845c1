"""Options that ask for a part of the machine: cores, memory, GPUs."""

from dataclasses import replace

from launcher.job import CPU, MOST_GPUS
from launcher.job_options.registry import JobOption, register_options
from launcher.job_options.request import JobRequest
from launcher.job_options.value_types import Device, Size, Truth, Whole
from launcher.units import Bytes

MOST_CPUS = 100_000


def _with_vram(request: JobRequest, size: Bytes | str) -> JobRequest:
    min_vram = None if isinstance(size, str) else size
    return replace(request, resources=replace(request.resources, min_vram=min_vram))


def _with_gpus(request: JobRequest, number: int) -> JobRequest:
    """Return the request for a number of GPUs, which has the last word on whether it has one."""
    device = "auto" if request.resources.device == CPU else request.resources.device
    resources = replace(request.resources, device=device if number else CPU, gpus=number or 1)
    return replace(request, resources=resources, gpus=number or None)


register_options(
    JobOption(
        name="cpus",
        takes=Whole(1, MOST_CPUS),
        field="resources.cpus",
        default="1",
        help="Cores that are reserved for it",
    ),
    JobOption(
        name="ram",
        takes=Size(),
        field="resources.ram",
        help="Main memory that is reserved for it",
    ),
    JobOption(
        name="vram",
        takes=Size(auto=True),
        field="resources.min_vram",
        change=_with_vram,
        help="GPU memory that is reserved for it on each of its GPUs; auto: what jobs like it took before",
        old_names=("min_vram",),
    ),
    JobOption(
        name="gpus",
        takes=Whole(0, MOST_GPUS),
        field="resources.gpus",
        change=_with_gpus,
        help="How many GPUs it gets, all of them or none; a program that asks for none sees none",
    ),
    JobOption(
        name="device",
        takes=Device(),
        field="resources.device",
        default="auto",
        help="Where it works; auto: on a GPU if it asks for one, or is known to use one",
    ),
    JobOption(
        name="exclusive",
        takes=Truth(),
        field="resources.exclusive",
        default="false",
        help="It shares its GPUs with no other job",
    ),
)
