"""Which edits of the laboratory make which jobs run again."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import trueface
from launcher.kinds import installed, roots_of
from launcher.system.code_digests import CodeIndex
from trueface.unlearning.registry import METHODS, modules_of

TASKS = """\
name: x
defaults: {data_root: data, split_path: splits}
sample: [{data_root: made}]
train: [{model: null, data: gan2:pre, poison: [0, 20]}]
unlearn: [{model: "gan2:pre%20", method: scrub}]
test: [{model: gan2:pre, data: real:pre}]
---
name: y
defaults: {data_root: data}
classify: [{model: null, data: folders:all}]
forget: [{model: folders:all, method: lau}]
"""
# plans two task files once, then after an edit of one module at a time, and says which jobs have
# another hash
PROGRAM = """\
import json, sys
from pathlib import Path
import trueface
from launcher.api import load, plan

def jobs():
    return {job.name: job for name in ("0.yaml", "1.yaml") for job in plan(load(name)).jobs}

ASKED = set(sys.argv[1:])
root = Path(trueface.__file__).parent
before = jobs()
told = {"sources": {name: sorted(job.sources) for name, job in before.items()},
        "needs": {name: job.needs for name, job in before.items()}, "again": {}}
decisive = {module for job in before.values() for module in job.sources}
for number, path in enumerate(sorted(root.rglob("*.py"))):
    parts = path.relative_to(root.parent).with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    if module not in ASKED and number % (4 if module in decisive else 20):
        continue  # a few of the others are enough, and fewer of those that decide nothing
    text = path.read_text()
    path.write_text(text + "EDITED = 1\\n")
    after = jobs()
    path.write_text(text)
    told["again"][module] = [name for name in after if after[name].hash != before[name].hash]
json.dump(told, sys.stdout)
"""
# modules whose edits are looked at one by one
ASKED = (
    "trueface.data.partial_files.png",
    "trueface.jobs.kinds",
    "trueface.jobs.testing",
    "trueface.models.logits",
    "trueface.models.pretrained",
    "trueface.report.page",
    "trueface.runtime.precision",
    "trueface.training.history",
    "trueface.unlearning.api",
    "trueface.unlearning.methods.layer_attack",
    "trueface.unlearning.methods.npo",
    "trueface.unlearning.methods.scrub",
)
KINDS = ("train", "test", "poison", "unlearn", "sample", "classify", "forget")
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "unlearn": {"method": "pgu"},
    "forget": {"method": "scrub"},
}


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a plan says after each edit of one module of a copy of the laboratory."""
    folder = tmp_path_factory.mktemp("edits")
    shutil.copytree(
        Path(trueface.__file__).parent,
        folder / "trueface",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for number, text in enumerate(TASKS.split("---\n")):
        (folder / f"{number}.yaml").write_text(text)
    around = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *ASKED],
        cwd=folder,
        env=around,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


def test_an_edit_runs_again_what_imports_it_and_what_follows_from_that(
    edited: dict[str, Any],
) -> None:
    depends: dict[str, set[str]] = {}
    for job, modules in edited["sources"].items():  # what a job needs comes before it
        depends[job] = set(modules).union(*(depends[need] for need in edited["needs"][job]))
    for module, again in edited["again"].items():
        assert set(again) == {job for job, modules in depends.items() if module in modules}, module


def test_modules_that_lists_by_hand_forgot_run_their_jobs_again(edited: dict[str, Any]) -> None:
    again = {
        module: {job.split("/")[0] for job in jobs} for module, jobs in edited["again"].items()
    }
    learning = {"train", "unlearn", "test", "classify", "forget"}
    assert (
        again["trueface.runtime.precision"] == again["trueface.data.partial_files.png"] == learning
    )
    assert {"classify", "forget"} <= again["trueface.models.logits"] & again[
        "trueface.training.history"
    ]
    assert {"classify", "forget"} <= again["trueface.models.pretrained"]
    assert again["trueface.unlearning.methods.scrub"] == {"unlearn"}
    assert again["trueface.unlearning.methods.layer_attack"] == {"forget"}
    assert again["trueface.unlearning.methods.npo"] == set()  # no job takes this method
    assert again["trueface.report.page"] == again["trueface.jobs.kinds"] == set()
    assert again["trueface.jobs.testing"] == {"test"}
    assert again["trueface.unlearning.api"] == {"unlearn", "forget"}


def closure(kind: str) -> set[str]:
    return set(CodeIndex().closure(roots_of(installed([kind])[kind], SETTINGS.get(kind, {}))))


def test_training_does_not_depend_on_methods_nor_testing_on_training() -> None:
    methods = {module for name in METHODS for module in modules_of(name)}
    assert not closure("train") & methods
    assert not closure("classify") & methods
    assert closure("unlearn") & methods == {"trueface.unlearning.methods.pgu.method"}
    assert closure("forget") & methods == {"trueface.unlearning.methods.scrub"}
    assert not closure("test") & {
        "trueface.training.trainer",
        "trueface.training.loop",
        "trueface.jobs.training",
    }


@pytest.mark.parametrize("kind", ["unlearn", "forget"])
def test_unlearning_does_not_depend_on_statistics(kind: str) -> None:
    statistics = {
        "evaluation.bootstrap",
        "evaluation.curves",
        "evaluation.source_variance",
        "evaluation.weighted_scores",
        "unlearning.evaluation.intervals",
    }
    modules = {f"trueface.{name}" for name in statistics}
    assert modules <= set(CodeIndex().closure(["trueface.cli.leaderboard"]))
    assert not closure(kind) & modules


def test_no_module_is_loaded_that_the_text_does_not_tell() -> None:
    roots = [roots_of(installed([kind])[kind], SETTINGS.get(kind, {})) for kind in KINDS]
    modules = sorted({module for some in roots for module in some})
    program = (
        "import importlib, sys\n"
        "for module in sys.argv[1:]:\n"
        "    importlib.import_module(module)\n"
        "print(*(name for name in sys.modules if name.startswith('trueface')))\n"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program, *modules], capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(loaded) > len(modules)
    assert set(loaded) <= set(CodeIndex().closure(modules))
