"""Functions and folders through a real queue."""

import json
import subprocess
import sys
from pathlib import Path

from tests.e2e.conftest import Project, install_toys
from tests.e2e.machine import a_machine
from tests.nvml.standin import Devices

LABORATORY = Path(__file__).parents[1] / "launcher"


TASK = """
name: toys
toyshapes: [{data_root: data/toys}]
toytrain: [{model: null, data: "dot:pre", data_root: data/toys}]
toyblend: [{name: mended, source: bent}]
toybend: [{name: bent, model: "dot:pre", matrix: {by: [left, right]}}]
"""


FOLDERS = ("bent@by=left", "bent@by=right", "mended@by=left", "mended@by=right")


JOBS = 2 + len(FOLDERS)


def install(project: Project, site: Path) -> None:
    """Install the toys, and those that make folders beside them."""
    install_toys(project, site, LABORATORY / "toylab.py")
    text = (LABORATORY / "folder_toys.py").read_text(encoding="utf-8")
    (site / "foldertoys.py").write_text(text.replace("tests.launcher.toylab", "toylab"))
    package = site / "foldertoys-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: foldertoys\nVersion: 1.0\n")
    points = "toybend = foldertoys:BEND\ntoyblend = foldertoys:BLEND\n"
    (package / "entry_points.txt").write_text(f"[launcher.kinds]\n{points}")


def test_folder_jobs_run_once_and_their_results_form_a_table(
    project: Project, tmp_path: Path
) -> None:
    install(project, tmp_path / "site")
    task = project.write("toys.yaml", TASK)
    first = project.call("launcher", "run", task)
    assert first.returncode == 0, first.stderr
    assert f"{JOBS} jobs, {JOBS} queued" in first.stderr
    assert "words" in first.stdout  # the table of the bent folders
    made = project.folder / "runs/toys/made"
    assert tuple(sorted(path.name for path in made.iterdir())) == FOLDERS
    words = (made / "mended@by=right/words.txt").read_text().split()
    assert words[0] == "left-right-dot-fb-0"

    results = project.call("launcher", "results", "toys", "--format", "json")
    rows = json.loads(results.stdout)["rows"]
    assert [(row["method"], row["words"]) for row in rows] == [
        ("bent@by=left", 36),
        ("bent@by=right", 36),
    ]

    (made / "bent@by=left/made.json").unlink()
    results = project.call("launcher", "results", "toys", "--format", "json")
    assert [row["method"] for row in json.loads(results.stdout)["rows"]] == ["bent@by=right"]
    second = project.call("launcher", "run", task)
    assert f"{JOBS} jobs, 2 queued, {JOBS - 2} done before" in second.stderr


# --- Functions of a script on the GPUs of a machine


SCRIPT = """
import json, os
from launcher.api import submit, submit_many

def seen(_=None):
    return os.environ["CUDA_VISIBLE_DEVICES"], os.environ.get("LAUNCHER_VRAM")

on_gpu = submit_many(seen, range(2), gpus=1, vram="10GiB")
without = submit(seen)
print(json.dumps([answer.result(60) for answer in (*on_gpu, without)]))
"""


def test_only_the_function_that_requests_a_gpu_sees_it(tmp_path: Path, gpus: Devices) -> None:
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
