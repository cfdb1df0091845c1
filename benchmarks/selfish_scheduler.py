"""A scheduler as before users yielded to each other: what `benchmarks.two_users` draws beside ours.

python -m benchmarks.selfish_scheduler HOME CORES
"""

import sys

from launcher.queue.scheduler.gpus.gpu_state import SchedulerGpus
from launcher.queue.scheduler.policy.fair_share import YieldPolicy
from launcher.queue.scheduler.policy.model import Machine
from tests.nvml import scheduler


def _alone(_: YieldPolicy, machine: Machine, now: float) -> Machine:  # noqa: ARG001  # as it is called
    return machine._replace(peers=())


def main() -> int:
    """Serve a home without considering peers, and without being woken by their changes."""
    YieldPolicy.with_eligible_peers = _alone  # type: ignore[method-assign,assignment]  # the switch
    SchedulerGpus.watch_descriptor = property(lambda _: -1)  # type: ignore[assignment,method-assign]  # likewise
    return scheduler.main()


if __name__ == "__main__":
    sys.exit(main())
