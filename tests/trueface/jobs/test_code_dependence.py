"""Which edits of the laboratory make which jobs run again, and that its present code is as promised."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import trueface
from launcher.code_identity import WHOLE_CODE, CodeIndex, unpromised
from launcher.code_identity.links import RelevantCode
from launcher.kinds import installed_kinds, roots_of

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
# plans the task file, and says the hash of each job
PLAN = """\
import json, sys
from pathlib import Path
import trueface
from launcher.api import load, plan
from launcher.kinds import installed_kinds, roots_of
from launcher.code_identity import CodeIndex, user_cache_file

def jobs():
    return {job.name: job for job in plan(load("x.yaml")).jobs}

before = jobs()
told = {"hashes": {name: job.hash for name, job in before.items()}}
"""
# then does so after an edit of some modules at a time, and says which jobs have another hash
EDITS = """\
root = Path(trueface.__file__).parent
told |= {"sources": {name: sorted(filter(None, job.sources)) for name, job in before.items()},
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
# says the digest of the code of each kind
CODES = """\
SETTINGS = {"unlearn": {"method": "pgu"}, "forget": {"method": "scrub"}}
index = CodeIndex(user_cache_file())
told["kinds"] = {name: index.code(kind.entry, roots_of(kind, SETTINGS.get(name, {})))[""]
                 for name, kind in installed_kinds().items() if kind.entry}
"""
# then prints the warnings of a plan in which two modules are not valid Python
BROKEN = """\
for name in ("training/checkpointing.py", "training/provenance.py"):
    path = Path(trueface.__file__).parent / name
    path.write_text(path.read_text() + "broken(\\n")
told["broken"] = [[w.code, *w.notes] for w in plan(load("x.yaml")).warnings if w.code != "missing-input"]
"""
ANSWER = "json.dump(told, sys.stdout)\n"
# states that the results of the copy equal those of the laboratory
PROMISE = """\
from functools import partial
from click.testing import CliRunner
from launcher import code_snapshot
from launcher.code_identity import CodeIndex, user_cache_file

code_snapshot.CodeIndex = partial(CodeIndex, user_cache_file())
assert CliRunner().invoke(code_snapshot.main, ["promise", "trueface"]).exit_code == 0
"""
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
RULES = "jobs/rules.py"
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "unlearn": {"method": "pgu"},
    "forget": {"method": "scrub"},
}


# job type, a module that a setting chooses, and the digest of the old code
DIGESTS = [
    ("benchmark", "", "49b1f75daf4678216d50d9d6f8715795"),
    ("classify", "", "2f140aaa1ce9a17f4f3f534193447877"),
    ("diffuser", "", "36c4a972eb4f859b44546a5300d59b44"),
    ("draw", "", "400005eeb339a28d00949e6eae48e7b4"),
    ("erased", "", "e0aa50c7904843189c9e727e418364db"),
    ("features", "", "f1164270ede99ea6976a8d3cc22159e7"),
    ("forge", "", "86db12f17495f265d97abd5d6f6eea03"),
    ("poison", "", "b5635d18b9d287cd16ce5282c70602b1"),
    ("purify", "", "7d51f7489e6509812c60c153272cf93a"),
    ("sample", "", "54e424b264ee935a04af31d195baf2fe"),
    ("test", "", "a13ac52317b1ac8dd149a5e27eadcce5"),
    ("train", "", "188bcd8fc589c746bf9d44790b6f9ce7"),
    ("translate", "", "33718b4b96b0b540460e6ddaac1ddd64"),
    ("denoiser", "", "2f22adbaa136f59489e21d8930305fbb"),
    ("disrupt", "", "2e54406904562a5a1d4a91b78d4b73d4"),
    ("restored", "", "0bc97090ac7b6df7146c0e106c562519"),
    ("revise", "", "e01bb2fa4547f611ea2294747ec98026"),
    ("translator", "", "19b63c0c9418be9e1523472bd30cd538"),
    ("train", "trueface.models.architectures.slim18", "fe1b8610ed3238324d1271b48bce4388"),
    ("train", "trueface.training.objectives.daw", "5fd1099a0081d6cb1f5bd0c311faed39"),
    ("train", "trueface.training.parts.groups", "188bcd8fc589c746bf9d44790b6f9ce7"),
    ("train", "trueface.data.augmentations.steps", "188bcd8fc589c746bf9d44790b6f9ce7"),
    ("test", "trueface.models.architectures.slim18", "c4c1203f236b0a9ab47c4f3c1ba59ca5"),
    ("unlearn", "trueface.unlearning.methods.npo", "83cf981842686442111e3697133e56f6"),
    ("unlearn", "trueface.unlearning.methods.pgu", "db26962d8e12f8e69247a71fd4f4e8b3"),
    ("forget", "trueface.unlearning.methods.scrub", "0b02a1f19e0401ff78b4c5d54281dad8"),
    ("erase", "trueface.erasing.methods.esd", "4d186b58a88ea4b63ea171da5e53494c"),
    ("benchmark", "trueface.corruptions.kinds.codecs", "71c1d8bca57c7110f3d3840d2bf4da7e"),
]
ADVICE = """
The code of trueface is not as trueface/code_promise.json records it. The list above contains the definitions that differ.
If all results are as before, run

    python -m launcher.code_snapshot promise trueface

Finished jobs then stay done. If a definition has other results, add `--changed MODULE.NAME`: jobs that use it run again.
Commit the file together with the code. See docs/identity.md.
"""


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


def test_moved_renamed_and_merged_modules_keep_the_code_digest(
    laboratory: Path, edited: dict[str, Any], cache: Path, codes: dict[str, str]
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
    moved = answer(laboratory, cache, PROMISE + PLAN + CODES + BROKEN + ANSWER)
    assert {"train", "classify", "benchmark"} <= codes.keys()
    assert [moved["hashes"], moved["kinds"]] == [edited["hashes"], codes]
    names = ("checkpointing", "provenance")  # a plan reports each unreadable module once
    assert moved["broken"] == [
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


Closure = Callable[[str], set[str]]


@pytest.fixture(scope="module")
def closure(index: CodeIndex) -> Closure:
    """Return a function that finds the modules of a kind."""
    kinds = installed_kinds()
    return lambda kind: set(index.closure(roots_of(kinds[kind], SETTINGS.get(kind, {}))))


def test_code_is_as_promised(index: CodeIndex) -> None:
    changes = unpromised(index.modules, index.graph, "trueface")
    assert not changes, ADVICE


@pytest.mark.parametrize(("kind", "chosen", "digest"), DIGESTS)
def test_digest_of_finished_jobs_stays(
    index: CodeIndex, kind: str, chosen: str, digest: str
) -> None:
    installed = installed_kinds([kind])[kind]
    roots = (installed.entry.partition(":")[0], *installed.sources, *filter(None, [chosen]))
    assert index.code(installed.entry, tuple(dict.fromkeys(roots)))[WHOLE_CODE] == digest
