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
from launcher.experiments.kinds import installed_kinds, roots_of
from launcher.provenance.code_identity import WHOLE_CODE, CodeIndex

TASK = """\
name: x
defaults: {data_root: data, split_path: splits}
sample: [{data_root: made}]
train: [{model: null, data: gan2:pre, poison: [0, 20]}]
unlearn: [{model: "gan2:pre%20", method: scrub}]
test: [{model: gan2:pre, data: real:pre}]
classify: [{model: null, data: folders:all}]
forget: [{model: folders:all, method: lau}]
"""
# plans the task file
PLAN = """\
import json, sys
from pathlib import Path
import trueface
from launcher.api import load, plan

def jobs():
    return {job.name: job for job in plan(load("x.yaml")).jobs}

before = jobs()
"""
# then does so after an edit of some modules at a time, and says which jobs have another hash
EDITS = """\
root = Path(trueface.__file__).parent
told = {"sources": {name: sorted(filter(None, job.sources)) for name, job in before.items()},
         "needs": {name: job.needs for name, job in before.items()}, "again": {}}
for modules in sys.argv[1:]:
    texts = {path: path.read_text() for module in modules.split()
             for path in [root.parent.joinpath(*module.split(".")).with_suffix(".py")]}
    for path, text in texts.items():
        path.write_text(text + "EDITED = 1\\n")
    after = jobs()
    for path, text in texts.items():
        path.write_text(text)
    told["again"][modules] = [name for name in after if after[name].hash != before[name].hash]
"""
# then prints the warnings of a plan in which two modules are not valid Python
BROKEN = """\
for name in ("training/checkpointing.py", "training/provenance.py"):
    path = Path(trueface.__file__).parent / name
    path.write_text(path.read_text() + "broken(\\n")
told = [[w.code, *w.notes] for w in plan(load("x.yaml")).warnings if w.code != "missing-input"]
"""
ANSWER = "json.dump(told, sys.stdout)\n"
# modules that are edited at once: one that most jobs import, one of a job, one of a method, and some that no job needs
EDITED = (
    "trueface.data.loading.decoding",
    "trueface.jobs.testing",
    "trueface.unlearning.methods.scrub",
    "trueface.jobs.kinds trueface.report.page trueface.unlearning.methods.npo",
)
# Runs the jobs of a task file one after another. Records the functions of the laboratory that run in each job,
# in this process and in its children.
WORK = """\
import importlib, json, os
from pathlib import Path
from launcher.api import Job, load, plan
from launcher.experiments.kinds import installed_kinds, roots_of

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

def noting(file, name, line):
    call = ast.Call(ast.Name("__note__", ast.Load()), [ast.Constant(file), ast.Constant(name)], [])
    statement = ast.Expr(call)
    for node in (statement, call, call.func, *call.args):
        node.lineno = node.end_lineno = line
        node.col_offset = node.end_col_offset = 0
    return [statement]

def functions(statements):
    for each in statements:
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield each
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            yield from functions(getattr(each, field, ()))

class Loader(SourceFileLoader):
    def get_code(self, name):
        if self.path.startswith(ROOT):  # the compiled code is stored for the next process, elsewhere
            sys.pycache_prefix = os.environ["TRACED_CODE"]
        try:
            return super().get_code(name)
        finally:
            sys.pycache_prefix = None

    def source_to_code(self, data, path, **more):
        if not path.startswith(ROOT):
            return super().source_to_code(data, path, **more)
        file = path[len(ROOT):]
        tree = ast.parse(data)
        for top in tree.body:
            for node in [*functions([top])]:
                node.body[:0] = noting(file, getattr(top, "name", "-"), node.lineno)
        tree.body[:0] = noting(file, "-", 1)
        return compile(tree, path, "exec")

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
  - {model: null, data: gan2:pre, poison: 50}
  - {model: null, data: gan2:pre, processes: 2}
unlearn: [{model: "gan2:pre%50", method: scrub}]
test: [{model: gan2:pre, data: gan2:pre}]
"""
# functions that only refuse to start a job, which are found by a name that no text contains
RULES = ("jobs/rules.py", "jobs/clip_parts.py", "jobs/landmark_parts.py")
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "unlearn": {"method": "pgu"},
    "forget": {"method": "scrub"},
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's folder of caches, which all processes share: they parse each text once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def index(cache: Path) -> CodeIndex:
    """The code of the laboratory, which all tests read once."""
    return CodeIndex(cache / "launcher" / "code.json")


@pytest.fixture(scope="module")
def codes(index: CodeIndex) -> dict[str, str]:
    """The digest of the code of each kind."""
    found = {
        name: index.code(kind.entry, roots_of(kind, SETTINGS.get(name, {})))[WHOLE_CODE]
        for name, kind in installed_kinds().items()
        if kind.entry
    }
    index.save()
    return found


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the laboratory, with its compiled files, and a task file."""
    folder = tmp_path_factory.mktemp("edits")
    shutil.copytree(Path(trueface.__file__).parent, folder / "trueface")
    (folder / "x.yaml").write_text(TASK)
    return folder


def answer(folder: Path, cache: Path, program: str, *words: str) -> Any:
    """Return the output of a program that finds the laboratory in a folder."""
    ended = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "XDG_CACHE_HOME": str(cache),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def edited(laboratory: Path, cache: Path, codes: dict[str, str]) -> dict[str, Any]:
    """Output of a plan after each edit of a copy of the lab."""
    del codes  # they are in the cache
    told: dict[str, Any] = answer(laboratory, cache, PLAN + EDITS + ANSWER, *EDITED)
    return told


@pytest.fixture(scope="module")
def depends(edited: dict[str, Any]) -> dict[str, set[str]]:
    """The modules of each job, and of those whose results it reads."""
    found: dict[str, set[str]] = {}
    for job, modules in edited["sources"].items():  # jobs that a job needs come before it
        found[job] = set(modules).union(*(found[need] for need in edited["needs"][job]))
    return found


def test_edited_module_reruns_its_importers_and_their_dependents(
    edited: dict[str, Any], depends: dict[str, set[str]]
) -> None:
    assert len(edited["again"]) == len(EDITED)
    for changed, again in edited["again"].items():
        expected = {job for job, modules in depends.items() if modules & set(changed.split())}
        assert set(again) == expected, changed


def test_plan_reports_each_unreadable_module_once(
    laboratory: Path, cache: Path, edited: dict[str, Any]
) -> None:
    del edited  # it needs the copy as it was
    broken = answer(laboratory, cache, PLAN + BROKEN + ANSWER)
    root = laboratory / "trueface"
    names = ("checkpointing", "provenance")
    assert broken == [
        ["unread-code", *(f"trueface.training.{name}: {root}/training/{name}.py" for name in names)]
    ]


def test_modules_missing_from_manual_lists_count_for_jobs(depends: dict[str, set[str]]) -> None:
    def again(module: str) -> set[str]:
        found = {job for job, modules in depends.items() if f"trueface.{module}" in modules}
        return {job.split("/")[0] for job in found}

    learning = {"train", "unlearn", "test", "classify", "forget"}
    assert again("runtime.precision") == again("data.loading.decoding") == learning
    assert {"classify", "forget"} <= again("models.logits") & again("training.history")
    assert {"classify", "forget"} <= again("models.assembly")
    assert again("unlearning.methods.scrub") == {"unlearn"}
    assert again("unlearning.methods.layer_attack") == {"forget"}
    assert again("unlearning.methods.npo") == set()  # no job takes this method
    assert again("report.page") == again("jobs.kinds") == set()
    assert again("jobs.testing") == {"test"}
    assert again("unlearning.api") == {"unlearn", "forget"}


@pytest.fixture(scope="module")
def traced(
    tmp_path_factory: pytest.TempPathFactory, cache: Path, codes: dict[str, str]
) -> dict[str, Any]:
    """For each job of `TRACED`: the file of executed functions, its needs, entry and roots."""
    del codes  # they are in the cache
    folder = tmp_path_factory.mktemp("traced")
    for name, text in (("traced.yaml", TRACED), ("work.py", WORK), ("sitecustomize.py", TRACER)):
        (folder / name).write_text(text)
    package = Path(trueface.__file__).parent
    around = {
        "PYTHONPATH": os.pathsep.join([str(folder), str(package.parent)]),
        "TRACED_PACKAGE": str(package),
        "TRACED_CODE": str(folder / "compiled"),
        "TRUEFACE_CACHE": str(folder / "cache"),
        "XDG_CACHE_HOME": str(cache),
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
def test_each_executed_function_is_part_of_the_code_digest(
    traced: dict[str, Any], index: CodeIndex
) -> None:
    assert {name.partition("/")[0] for name in traced} == {
        *("sample", "train", "poison", "unlearn", "test")
    }
    # modules and their relevant definitions, of a job and those whose results it reads
    counted: dict[str, set[tuple[str, str]]] = {}
    ran: set[str] = set()
    for job, (calls, needs, entry, roots) in traced.items():
        code = index.relevant_code(entry, roots, index.closure(roots))
        counted[job] = {
            (module, name)
            for module, elements in code.definitions.items()
            for name in ("-", *(each for each, _ in elements))
        }.union(*(counted[need] for need in needs))
        for line in set(Path(calls).read_text().splitlines()):
            file, _, name = line.partition(" ")
            parts = Path(file).with_suffix("").parts
            module = ".".join(("trueface", *parts)).removesuffix(".__init__")
            if file in RULES:
                continue
            assert (module, name) in counted[job], f"{job} ran {line}"
            ran.add(module)
    assert {"trueface.jobs.ranks.rank", "trueface.training.loop"} <= ran
