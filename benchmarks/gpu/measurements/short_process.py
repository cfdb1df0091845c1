"""Run the test of a job in this process, and print as JSON how many seconds its parts took.

python -m benchmarks.gpu.measurements.short_process SPEC DEVICE BEGAN

SPEC is the job as `launcher show --json` prints it, BEGAN the time on the monotonic clock at which this process was
started. `rest` is reading images and models, and writing results.
"""

import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any


def main() -> None:
    """Run the test. Imports are inside, because their time is measured."""
    spec, device, began = json.loads(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    begun = time.monotonic()
    testing = import_module("trueface.jobs.testing")
    imported = time.monotonic()
    _make_context(device)
    ready = time.monotonic()
    network = _time_networks()
    testing.test(_job(spec, device))
    end = time.monotonic()
    parts = {
        "process": begun - began,
        "imports": imported - begun,
        "context": ready - imported,
        "network": network[0],
        "rest": end - ready - network[0],
        "total": end - began,
    }
    print(json.dumps(parts))


def _make_context(device: str) -> None:
    import torch  # see `main`

    torch.zeros(1, device=device)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch
        torch.cuda.synchronize()


def _time_networks() -> list[float]:
    """Return a list with the seconds that outermost modules will have taken for their outputs."""
    from torch.nn.modules import module  # see `main`

    from trueface.runtime.timer import now

    spent: list[float] = [0.0]
    begun: list[float] = []  # when each module that is under way began

    def begin(*_: Any) -> None:
        begun.append(now() if not begun else 0.0)

    def end(*_: Any) -> None:
        at = begun.pop()
        if not begun:
            spent[0] += now() - at

    module.register_module_forward_pre_hook(begin)
    module.register_module_forward_hook(end, always_call=True)
    return spent


def _job(spec: dict[str, Any], device: str) -> Any:
    from launcher.api import Job  # see `main`

    return Job(
        name=spec["name"], kind=spec["kind"], run=spec["run"],
        run_folder=Path(spec["root"], "runs", spec["run"]), folder=Path.cwd(),
        attempt_folder=Path.cwd(), attempt=1, device=device, cpus=1, model=spec["model"],
        base=spec["base"], data=spec["data"], images=spec["images"], settings=spec["settings"],
    )  # fmt: skip


if __name__ == "__main__":
    main()
