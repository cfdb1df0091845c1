"""Functions of a script on the GPUs of a machine."""

import json
import subprocess
import sys
from pathlib import Path

from tests.e2e.machine import a_machine
from tests.nvml.standin import Devices

SCRIPT = """
import json, os
from launcher.api import submit, submit_many

def seen(_=None):
    return os.environ["CUDA_VISIBLE_DEVICES"], os.environ.get("LAUNCHER_VRAM")

on_gpu = submit_many(seen, range(2), gpus=1, vram="10GiB")
without = submit(seen)
print(json.dumps([answer.result(60) for answer in (*on_gpu, without)]))
"""


def test_a_function_sees_the_gpu_that_it_asked_for_and_no_other_does(
    tmp_path: Path, gpus: Devices
) -> None:
    with a_machine(tmp_path, gpus) as machine:
        machine.configure("[sharing]\nmax_per_gpu = 9\n")
        card = gpus.add(used=0)
        machine.serve()
        script = machine.project.write("script.py", SCRIPT)
        process = subprocess.run(
            [sys.executable, script],
            cwd=machine.project.folder,
            env=machine.project.environment,
            stdout=subprocess.PIPE,
            check=True,
            timeout=120,
        )
    on_gpu = [card, str(10 << 30)]
    assert json.loads(process.stdout) == [on_gpu, on_gpu, ["", None]]
