"""Which edits of the laboratory make which jobs run again."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import trueface
from launcher.kinds import installed_kinds, roots_of
from launcher.system.code_digests import CodeIndex
from launcher.system.code_links import RelevantCode
from trueface.unlearning.registry import METHODS, plugin_modules

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
# plans two task files, and says the hash of each job, and that of the code of each kind
PLAN = """\
import json, sys
from pathlib import Path
import trueface
from launcher.api import load, plan
from launcher.kinds import installed_kinds, roots_of
from launcher.system.code_digests import CodeIndex

SETTINGS = {"unlearn": {"method": "pgu"}, "forget": {"method": "scrub"}}

def jobs():
    return {job.name: job for name in ("0.yaml", "1.yaml") for job in plan(load(name)).jobs}

before, index = jobs(), CodeIndex()
told = {"hashes": {name: job.hash for name, job in before.items()},
        "kinds": {name: index.code(kind.entry, roots_of(kind, SETTINGS.get(name, {})))[""]
                  for name, kind in installed_kinds().items() if kind.entry}}
"""
# then does so after an edit of one module at a time, and says which jobs have another hash
EDITS = """\
ASKED = set(sys.argv[1:])
root = Path(trueface.__file__).parent
told |= {"sources": {name: sorted(filter(None, job.sources)) for name, job in before.items()},
         "needs": {name: job.needs for name, job in before.items()}, "again": {}}
decisive = {module for job in before.values() for module in job.sources}
for number, path in enumerate(sorted(root.rglob("*.py"))):
    parts = path.relative_to(root.parent).with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    if module not in ASKED and number % (16 if module in decisive else 80):
        continue  # a few of the others are enough, and fewer of those that decide nothing
    text = path.read_text()
    path.write_text(text + "EDITED = 1\\n")
    after = jobs()
    path.write_text(text)
    told["again"][module] = [name for name in after if after[name].hash != before[name].hash]
"""
# then prints the warnings of a plan in which two modules are not valid Python
BROKEN = """\
for name in ("training/checkpointing.py", "training/provenance.py"):
    path = Path(trueface.__file__).parent / name
    path.write_text(path.read_text() + "broken(\\n")
told["broken"] = [[w.code, *w.notes] for w in plan(load("0.yaml")).warnings if w.code != "missing-input"]
"""
ANSWER = "json.dump(told, sys.stdout)\n"
# states that the results of the copy equal those of the laboratory
PROMISE = """\
from click.testing import CliRunner
from launcher.code_snapshot import main

print(CliRunner().invoke(main, ["promise", "trueface"]).exit_code)
"""
# modules whose edits are checked one by one
ASKED = (
    "trueface.data.decoding",
    "trueface.jobs.kinds",
    "trueface.jobs.testing",
    "trueface.models.logits",
    "trueface.models.assembly",
    "trueface.report.page",
    "trueface.runtime.precision",
    "trueface.training.history",
    "trueface.unlearning.api",
    "trueface.unlearning.methods.layer_attack",
    "trueface.unlearning.methods.npo",
    "trueface.unlearning.methods.scrub",
)
# Runs the jobs of a task file one after another. Records the functions of the laboratory that run in each job,
# in this process and in its children.
WORK = """\
import importlib, json, os, sys
from pathlib import Path
from launcher.api import Job, load, plan
from launcher.kinds import installed_kinds, roots_of

def main():
    made, kinds, told, folder = plan(load("traced.yaml")), installed_kinds(), {}, Path.cwd()
    import torch
    torch.set_num_threads(1)
    for number, job in enumerate(made.jobs):
        module, _, function = job.entry.partition(":")
        os.environ["TRACED"] = str(folder / f"{number}.calls")
        roots = roots_of(kinds[job.kind], job.settings)
        told[job.name] = [os.environ["TRACED"], job.needs, job.entry, roots]
        getattr(importlib.import_module(module), function)(Job(
            name=job.name, kind=job.kind, run=made.name, run_folder=made.run_folder, folder=folder,
            attempt_folder=folder, attempt=1, device="cpu", model=job.model, base=job.base,
            data=job.data, images=job.images, settings=job.settings, words=job.words,
            outputs=job.outputs, cpus=1))
        del os.environ["TRACED"]
    Path("told.json").write_text(json.dumps(told))

if __name__ == "__main__":
    main()
"""
# makes each function of the laboratory note that it runs, and each module that it is imported
TRACER = """\
import ast, builtins, os, sys
from importlib.machinery import *

ROOT, noted = os.environ["TRACED_PACKAGE"] + os.sep, set()

def note(file, name):
    to = os.environ.get("TRACED")
    if to is not None and (to, file, name) not in noted:
        noted.add((to, file, name))
        with open(to, "a") as calls:
            calls.write(f"{file} {name}\\n")

def noting(file, name):
    return ast.parse(f"__note__({file!r}, {name!r})").body

class Loader(SourceFileLoader):
    def get_code(self, name):
        if not self.path.startswith(ROOT):
            return super().get_code(name)
        file = self.path[len(ROOT):]
        tree = ast.parse(self.get_data(self.path))
        for top in tree.body:
            for node in ast.walk(top):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    node.body[:0] = noting(file, getattr(top, "name", "-"))
        tree.body[:0] = noting(file, "-")
        return compile(ast.fix_missing_locations(tree), self.path, "exec")

builtins.__note__ = note
sys.path_hooks.insert(0, FileFinder.path_hook(
    (ExtensionFileLoader, EXTENSION_SUFFIXES), (Loader, [".py"]), (SourcelessFileLoader, [".pyc"])))
sys.path_importer_cache.clear()
"""
TRACED = """\
name: x
defaults: {data_root: made, split_path: made/splits, model: slim18, weights: none, resize_size: 32, num_epochs: 1, batch_size: 8}
sample: [{data_root: made, train: 8, val: 4, test: 4, size: 32}]
train:
  - {model: null, data: gan2:pre, poison: [0, 50]}
  - {model: null, data: gan2:pre, processes: 2, matrix: {seed: [7]}}
unlearn: [{model: "gan2:pre%50", method: scrub}]
test: [{model: gan2:pre, data: gan2:pre}]
"""
# functions that only refuse to start a job, which are found by a name that no text contains
RULES = "jobs/rules.py"
KINDS = ("train", "test", "poison", "unlearn", "sample", "classify", "forget")
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "unlearn": {"method": "pgu"},
    "forget": {"method": "scrub"},
}


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the laboratory, and two task files."""
    folder = tmp_path_factory.mktemp("edits")
    shutil.copytree(
        Path(trueface.__file__).parent,
        folder / "trueface",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for number, text in enumerate(TASKS.split("---\n")):
        (folder / f"{number}.yaml").write_text(text)
    return folder


def answer(folder: Path, program: str, *words: str) -> Any:
    """Return what a program prints that finds the laboratory in a folder."""
    ended = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "XDG_CACHE_HOME": str(folder / "cache"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def edited(laboratory: Path) -> dict[str, Any]:
    """Output of a plan after each edit of one module in a copy of the lab."""
    told: dict[str, Any] = answer(laboratory, PLAN + EDITS + ANSWER, *ASKED)
    return told


def test_edited_module_reruns_its_importers_and_their_dependents(
    edited: dict[str, Any],
) -> None:
    depends: dict[str, set[str]] = {}
    for job, modules in edited["sources"].items():  # what a job needs comes before it
        depends[job] = set(modules).union(*(depends[need] for need in edited["needs"][job]))
    for module, again in edited["again"].items():
        assert set(again) == {job for job, modules in depends.items() if module in modules}, module


def test_moved_renamed_and_merged_modules_keep_the_code_digest(
    laboratory: Path, edited: dict[str, Any]
) -> None:
    root = laboratory / "trueface"

    def rename(before: str, after: str) -> None:
        for path in root.rglob("*.py"):
            text = path.read_text()
            new = re.sub(rf"\btrueface\.{before.replace('.', '[.]')}\b", f"trueface.{after}", text)
            if new != text:
                path.write_text(new)

    values = root / "training/objectives/protocol.py"
    values.rename(root / "training/objective_values.py")
    rename("training.objectives.protocol", "training.objective_values")
    (root / "poisoning").rename(root / "flipping")
    rename("poisoning", "flipping")
    loop, schedules = root / "training/loop.py", root / "training/schedules.py"
    own = re.sub(r"(?m)^from trueface.training.schedules import .*\n", "", loop.read_text())
    loop.write_text(schedules.read_text() + own)
    schedules.unlink()
    rename("training.schedules", "training.loop")
    assert answer(laboratory, PROMISE) == 0
    moved = answer(laboratory, PLAN + BROKEN + ANSWER)
    assert len(moved["kinds"]) > len(KINDS)
    assert [moved["hashes"], moved["kinds"]] == [edited["hashes"], edited["kinds"]]
    names = ("checkpointing", "provenance")  # a plan reports each unreadable module once
    assert moved["broken"] == [
        ["unread-code", *(f"trueface.training.{name}: {root}/training/{name}.py" for name in names)]
    ]


def test_edits_of_modules_missing_from_manual_lists_rerun_jobs(edited: dict[str, Any]) -> None:
    again = {
        module: {job.split("/")[0] for job in jobs} for module, jobs in edited["again"].items()
    }
    learning = {"train", "unlearn", "test", "classify", "forget"}
    assert again["trueface.runtime.precision"] == again["trueface.data.decoding"] == learning
    assert {"classify", "forget"} <= again["trueface.models.logits"] & again[
        "trueface.training.history"
    ]
    assert {"classify", "forget"} <= again["trueface.models.assembly"]
    assert again["trueface.unlearning.methods.scrub"] == {"unlearn"}
    assert again["trueface.unlearning.methods.layer_attack"] == {"forget"}
    assert again["trueface.unlearning.methods.npo"] == set()  # no job takes this method
    assert again["trueface.report.page"] == again["trueface.jobs.kinds"] == set()
    assert again["trueface.jobs.testing"] == {"test"}
    assert again["trueface.unlearning.api"] == {"unlearn", "forget"}


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """For each job of `TRACED`: the file of executed functions, its needs, entry and roots."""
    folder = tmp_path_factory.mktemp("traced")
    for name, text in (("traced.yaml", TRACED), ("work.py", WORK), ("sitecustomize.py", TRACER)):
        (folder / name).write_text(text)
    package = Path(trueface.__file__).parent
    around = {
        "PYTHONPATH": os.pathsep.join([str(folder), str(package.parent)]),
        "TRACED_PACKAGE": str(package),
        "TRUEFACE_CACHE": str(folder / "cache"),
    }
    ended = subprocess.run(
        [sys.executable, "work.py"],
        cwd=folder,
        env={**os.environ, **around},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    told: dict[str, Any] = json.loads((folder / "told.json").read_text())
    return told


@pytest.mark.slow
def test_each_executed_function_is_part_of_the_code_digest(traced: dict[str, Any]) -> None:
    assert {name.partition("/")[0] for name in traced} == {
        *("sample", "train", "poison", "unlearn", "test")
    }
    index = CodeIndex()
    counted: dict[str, list[RelevantCode]] = {}  # by a job, and by those whose results it reads
    ran: set[str] = set()
    for job, (calls, needs, entry, roots) in traced.items():
        before = [each for need in needs for each in counted[need]]
        counted[job] = [index.relevant_code(entry, roots), *before]
        for line in set(Path(calls).read_text().splitlines()):
            file, _, name = line.partition(" ")
            parts = Path(file).with_suffix("").parts
            module = ".".join(("trueface", *parts)).removesuffix(".__init__")
            if file == RULES:
                continue
            assert any(
                module in each.modules and name not in each.left_out.get(module, ())
                for each in counted[job]
            ), f"{job} ran {line}"
            ran.add(module)
    assert {"trueface.jobs.ranks.rank", "trueface.training.loop"} <= ran


def closure(kind: str) -> set[str]:
    return set(CodeIndex().closure(roots_of(installed_kinds([kind])[kind], SETTINGS.get(kind, {}))))


def test_rules_decide_nothing_about_finished_jobs() -> None:
    kinds = installed_kinds()
    for kind in ("benchmark", "classify", "erase", "poison", "purify", "test", "train", "unlearn"):
        rules = f"{kinds[kind].entry.partition(':')[0].rpartition('.')[0]}.rules"
        assert importlib.util.find_spec(rules) is not None
        assert rules not in closure(kind)


def test_training_does_not_depend_on_methods_nor_testing_on_training() -> None:
    methods = {module for name in METHODS for module in plugin_modules(name)}
    assert not closure("train") & methods
    assert not closure("classify") & methods
    assert closure("unlearn") & methods == {"trueface.unlearning.methods.pgu"}
    assert closure("forget") & methods == {"trueface.unlearning.methods.scrub"}
    assert not closure("test") & {
        "trueface.training.trainer",
        "trueface.training.loop",
        "trueface.jobs.training",
    }


@pytest.mark.parametrize("kind", ["unlearn", "forget"])
def test_unlearning_does_not_depend_on_statistics(kind: str) -> None:
    statistics = {
        "evaluation.curves",
        "evaluation.intervals",
        "evaluation.metric",
        "unlearning.evaluation.measures",
    }
    modules = {f"trueface.{name}" for name in statistics}
    assert modules <= set(CodeIndex().closure(["trueface.cli.leaderboard"]))
    assert not closure(kind) & modules


def test_each_loaded_module_is_found_in_the_source_text() -> None:
    roots = [roots_of(installed_kinds([kind])[kind], SETTINGS.get(kind, {})) for kind in KINDS]
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
