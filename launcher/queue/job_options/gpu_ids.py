"""How a program finds its GPUs in CUDA_VISIBLE_DEVICES: by their UUIDs, or by numbers."""

from launcher.queue.job_options.registry import JobOption, register_options
from launcher.queue.job_options.value_types import choice
from launcher.queue.jobs.job import GPU_IDS, UUIDS

register_options(
    JobOption(
        name="gpu_ids",
        takes=choice(*GPU_IDS),
        field="resources.gpu_ids",
        default=UUIDS,
        help="GPU names in CUDA_VISIBLE_DEVICES: UUIDs, or numbers in PCI bus order (not with MIG)",
    ),
)
