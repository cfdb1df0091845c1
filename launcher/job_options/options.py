"""The launcher's own options: what a job asks of the machine, when it runs, how long and how often, and how far it is."""

from launcher.job import CPU, LONGEST_BACKOFF_S, MOST_GPUS, RERUNS
from launcher.job_options.registry import JobOption, JobRequest, register_options
from launcher.job_options.value_types import (
    DEVICE,
    FOLDER,
    MOMENT,
    NAMES,
    PRIORITY,
    SIGNAL,
    TRUTH,
    WORD,
    choice,
    size,
    span,
    whole,
)
from launcher.units import Bytes

MOST_CPUS = 100_000
MOST_RETRIES = 1000  # the pause doubles each time, and must stay a number


def _with_vram(request: JobRequest, size: Bytes | str) -> JobRequest:
    min_vram = None if isinstance(size, str) else size
    return request._replace(resources=request.resources._replace(min_vram=min_vram))


def _with_gpus(request: JobRequest, number: int) -> JobRequest:
    """Return the request for a number of GPUs, which has the last word on whether it has one."""
    device = "auto" if request.resources.device == CPU else request.resources.device
    resources = request.resources._replace(device=device if number else CPU, gpus=number or 1)
    return request._replace(resources=resources, gpus=number or None)


register_options(
    JobOption(
        name="cpus",
        takes=whole(1, MOST_CPUS),
        field="resources.cpus",
        default="1",
        help="Cores that are reserved for it",
    ),
    JobOption(
        name="ram",
        takes=size(),
        field="resources.ram",
        help="Main memory that is reserved for it",
    ),
    JobOption(
        name="vram",
        takes=size(auto=True),
        field="resources.min_vram",
        change=_with_vram,
        help="GPU memory that is reserved for it on each of its GPUs; auto: what jobs like it took before",
        old_names=("min_vram",),
    ),
    JobOption(
        name="gpus",
        takes=whole(0, MOST_GPUS),
        field="resources.gpus",
        change=_with_gpus,
        help="How many GPUs it gets, all of them or none; a program that asks for none sees none",
    ),
    JobOption(
        name="device",
        takes=DEVICE,
        field="resources.device",
        default="auto",
        help="Where it works; auto: on a GPU if it asks for one, or is known to use one",
    ),
    JobOption(
        name="exclusive",
        takes=TRUTH,
        field="resources.exclusive",
        default="false",
        help="It shares its GPUs with no other job",
    ),
    JobOption(
        name="priority",
        takes=PRIORITY,
        field="priority",
        default="0",
        help="Higher starts sooner",
    ),
    JobOption(
        name="group",
        takes=WORD,
        field="terms.group",
        help="It shares the limit that `launcher group` gave this group",
    ),
    JobOption(
        name="not_before",
        takes=MOMENT,
        field="terms.not_before",
        help="It starts no sooner; 18:00 is the next time that local clocks show it",
    ),
    JobOption(
        name="time_limit",
        takes=span(positive=True),
        field="terms.time_limit_s",
        help="It is ended when it has run for so long",
    ),
    JobOption(
        name="warn",
        takes=span(),
        field="terms.warn_s",
        help="It gets `signal` so long before its time limit",
    ),
    JobOption(
        name="signal",
        takes=SIGNAL,
        field="terms.warn_signal",
        default="SIGTERM",
        help="What `warn` sends",
    ),
    JobOption(
        name="retries",
        takes=whole(0, MOST_RETRIES),
        field="terms.retries",
        default="0",
        help="How often it runs again after it failed",
    ),
    JobOption(
        name="backoff",
        takes=span(most_s=LONGEST_BACKOFF_S),
        field="terms.backoff_s",
        default="10s",
        help="Pause before its first retry; doubles each time, up to an hour",
    ),
    JobOption(
        name="grace",
        takes=span(),
        field="terms.grace_s",
        default="30s",
        help="From SIGTERM to SIGKILL",
    ),
    JobOption(
        name="rerun",
        takes=choice(*RERUNS),
        field="terms.rerun",
        default="again",
        help="What follows when it was stopped, or its end is unknown; never: it fails",
    ),
    JobOption(
        name="on",
        takes=NAMES,
        field="terms.on",
        help="Where it may run, the preferred place first: local, or a table of [backends] in config.toml",
    ),
    JobOption(
        name="tensorboard",
        takes=FOLDER,
        field="terms.tensorboard",
        help="Folder in which its program writes TensorBoard event files; their scalars are shown as its progress",
    ),
)
