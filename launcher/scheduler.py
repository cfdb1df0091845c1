"""Entry point of schedulers, under the name that units, crontabs and other processes of ours use; see `queue.scheduler.process`."""

import sys

from launcher.queue.scheduler.process import Services, run_main

# programs of packages above the queue that a scheduler starts as processes of their own
SERVICES = Services(searches="launcher.experiments.search", notifications="launcher.notify")


def main() -> int:
    """Run a scheduler; return its exit code."""
    return run_main(sys.argv[1:], SERVICES)


if __name__ == "__main__":
    sys.exit(main())
