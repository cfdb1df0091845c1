"""The launcher's own options: resources of a job, start time, limits, retries and progress."""

from launcher.queue.job_options.registry import JobOption, JobRequest, register_options
from launcher.queue.job_options.value_types import (
    DEVICE,
    FILE,
    FOLDER,
    METRIC_NAMES,
    MOMENT,
    NAMES,
    PRIORITY,
    SIGNAL,
    TEXT,
    TRUTH,
    WORD,
    choice,
    size,
    span,
    whole_number,
    whole_or_none,
)
from launcher.queue.jobs.job import (
    CPU,
    LONGEST_BACKOFF_S,
    MOST_GPUS,
    NOTIFY_ON,
    RERUNS,
    STDERR_FILES,
)
from launcher.system.units import Bytes

MOST_CPUS = 100_000
MOST_FAILURES = 1_000_000  # more than a command can queue
MOST_RETRIES = 1000  # the pause doubles each time, and must stay a number


def _with_vram(request: JobRequest, size: Bytes | str) -> JobRequest:
    vram = None if isinstance(size, str) else size
    return request._replace(resources=request.resources._replace(vram=vram))


def _with_gpus(request: JobRequest, number: int) -> JobRequest:
    """Return the request with a number of GPUs, which also decides whether it requests a GPU."""
    device = "auto" if request.resources.device == CPU else request.resources.device
    resources = request.resources._replace(device=device if number else CPU, gpus=number or 1)
    return request._replace(resources=resources, gpus=number or None)


register_options(
    JobOption(
        name="cpus",
        takes=whole_number(1, MOST_CPUS),
        field="resources.cpus",
        default="1",
        help="CPU cores to reserve",
    ),
    JobOption(
        name="ram",
        takes=size(),
        field="resources.ram",
        help="Main memory to reserve",
    ),
    JobOption(
        name="vram",
        takes=size(auto=True),
        field="resources.vram",
        change=_with_vram,
        help="GPU memory to reserve on each GPU. auto: learn it from similar jobs",
        old_names=("min_vram",),
    ),
    JobOption(
        name="gpus",
        takes=whole_number(0, MOST_GPUS),
        field="resources.gpus",
        change=_with_gpus,
        help="Number of GPUs. The job waits until all are free",
    ),
    JobOption(
        name="device",
        takes=DEVICE,
        field="resources.device",
        default="auto",
        help="Device to run on, such as cpu, cuda, cuda:1 or the UUID of a GPU. auto: a GPU if the job requests one or is known to use one",
    ),
    JobOption(
        name="exclusive",
        takes=TRUTH,
        field="resources.exclusive",
        default="false",
        help="Do not share the GPUs with other jobs",
    ),
    JobOption(
        name="priority",
        takes=PRIORITY,
        field="priority",
        default="0",
        help="Higher starts earlier. One point is worth a day of waiting",
    ),
    JobOption(
        name="group",
        takes=WORD,
        field="terms.group",
        help="Group whose limit applies; see `launcher group`",
    ),
    JobOption(
        name="not_before",
        takes=MOMENT,
        field="terms.not_before",
        help="Do not start before this time: 2026-12-24T18:00, +2h, or 18:00 (the next 18:00, local time)",
    ),
    JobOption(
        name="time_limit",
        takes=span(positive=True),
        field="terms.time_limit_s",
        help="End the job after this time",
    ),
    JobOption(
        name="warn",
        takes=span(),
        field="terms.warn_s",
        help="Send `signal` this long before the time limit",
    ),
    JobOption(
        name="signal",
        takes=SIGNAL,
        field="terms.warn_signal",
        default="SIGTERM",
        help="Signal that `warn` sends",
    ),
    JobOption(
        name="retries",
        takes=whole_number(0, MOST_RETRIES),
        field="terms.retries",
        default="0",
        help="Run again after a failure, up to this many times",
    ),
    JobOption(
        name="max_failures",
        takes=whole_or_none(MOST_FAILURES),
        field="terms.max_failures",
        help="Hold the other jobs of the same command after this many failures. none: never. Without it, they are held "
        "if the first 5 jobs fail with one cause",
    ),
    JobOption(
        name="backoff",
        takes=span(most_s=LONGEST_BACKOFF_S),
        field="terms.backoff_s",
        default="10s",
        help="Pause before the first retry; doubles each time, up to 1 h",
    ),
    JobOption(
        name="grace",
        takes=span(),
        field="terms.grace_s",
        default="30s",
        help="Time between SIGTERM and SIGKILL",
    ),
    JobOption(
        name="rerun",
        takes=choice(*RERUNS),
        field="terms.rerun",
        default="again",
        help="After a stop or a crash of the machine: run again, or fail (never)",
    ),
    JobOption(
        name="notify_on",
        takes=choice(*NOTIFY_ON),
        field="terms.notify_on",
        help="Send a message at the end of the job, or only if it fails or is skipped; see `launcher help messages`",
    ),
    JobOption(
        name="on",
        takes=NAMES,
        field="terms.on",
        help="Where to run, preferred place first: local, or a table of [backends] in config.toml",
    ),
    JobOption(
        name="tensorboard",
        takes=FOLDER,
        field="terms.tensorboard",
        help="Folder of TensorBoard event files, such as '{job_folder}/events'; their scalars are shown as progress and results",
    ),
    JobOption(
        name="metrics",
        takes=FILE,
        field="terms.metrics",
        help="CSV or JSON file of numbers that the program writes, or a pattern such as '{job_folder}/*/metrics.csv'; they "
        "are shown as progress and results",
    ),
    JobOption(
        name="numbers",
        takes=METRIC_NAMES,
        field="terms.numbers",
        help="Names of printed numbers that are results, also times and settings; see `launcher help progress`",
    ),
    JobOption(
        name="stderr",
        takes=choice(*STDERR_FILES),
        field="terms.stderr",
        default="log",
        help="Where standard error goes: into the log, or into a file of its own",
    ),
    JobOption(
        name="note",
        takes=TEXT,
        field="terms.note",
        help="Note on the job; `launcher note` changes it later",
    ),
)
