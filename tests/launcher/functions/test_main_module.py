"""Names of the submitting program inside a job: from a script, a module started with `-m`, and a notebook."""

import ast
import importlib
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.build import DEADLINE_S

DEFINITIONS = """
import functools, inspect, multiprocessing, pickle, sys
from dataclasses import dataclass
from launcher.api import future, submit

@dataclass
class Config:
    x: int = 1

    @classmethod
    def default(cls):
        return cls()

    @staticmethod
    def twice(value):
        return 2 * value

    @functools.cached_property
    def next(self):
        return self.x + 1

@functools.singledispatch
def count(value):
    return 1

@count.register
def count_values(values: list):
    return sum(count(value) for value in values)

@count.register(Config)
def _(config):
    return config.x

class Unnamed:
    y = 7

@functools.lru_cache(maxsize=7)
def cached():
    return 41

def square(x):
    return x * x

def cube(x):
    return x**3

METHODS = ["spawn"]

def pool(method):
    with multiprocessing.get_context(method).Pool(1) as workers:
        return workers.map(square, [3])

def name_of(pickled):
    return type(pickle.loads(pickled)).__name__

def work(given):
    pickled = pickle.loads(pickle.dumps([Config(), square, work, given]))
    return {
        "pools": [pool(method) for method in METHODS],
        "config": pickled[0].x,
        "functions": [pickled[1](2), pickled[2].__name__, pickled[3](2)],
        "unnamed": pickle.load(open("unnamed.pickle", "rb")).y,
        "members": [Config.default().x, Config.twice(4), Config(5).next],
        "dispatched": [count([Config(3), [0, 0]]), count.__name__],
        "cached": [cached(), cached.cache_info().maxsize],
        "source": inspect.getsource(square),
        "argv": sys.argv[1:],
        "later": submit(name_of, pickle.dumps(Config()), cpus=1).job,
    }
"""
SUBMIT = """
pickle.dump(Unnamed(), open("unnamed.pickle", "wb"))
values = submit(work, cube, cpus=1).result(90)
print({**values, "later": future(values["later"]).result(90)})
"""
ALL_METHODS = 'METHODS = ("fork", "spawn", "forkserver")'
SCRIPT = f"{DEFINITIONS}\nif __name__ == '__main__':\n{textwrap.indent(SUBMIT, '    ')}"


def expected(*argv: str, pools: int = 1) -> dict[str, object]:
    return {
        "pools": [[9]] * pools,
        "config": 1,
        "functions": [4, "work", 8],
        "unnamed": 7,
        "members": [1, 8, 6],
        "dispatched": [5, "count"],
        "cached": [41, 7],
        "source": "def square(x):\n    return x * x\n",
        "argv": [*argv],
        "later": "Config",
    }


def output_of(*words: str, folder: Path) -> str:
    ended = subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=3 * DEADLINE_S
    )
    return ended.stdout + ended.stderr


pytestmark = pytest.mark.usefixtures("one_queue", "queue")


def test_names_of_a_script_resolve_in_its_job(tmp_path: Path) -> None:
    (tmp_path / "study.py").write_text(SCRIPT.replace('METHODS = ["spawn"]', ALL_METHODS))
    printed = output_of("study.py", "--seed", "3", folder=tmp_path)
    assert printed.strip() == str(expected("--seed", "3", pools=3))


def test_names_of_a_module_started_with_m_resolve_in_its_job(tmp_path: Path) -> None:
    package = tmp_path / "labs" / "first"
    package.mkdir(parents=True)
    (package / "numbers.py").write_text("two = 2\n")
    relative = "def work(given):\n    from .numbers import two\n    assert two == 2"
    script = SCRIPT.replace("def work(given):", relative)
    (package / "study.py").write_text(script)
    printed = output_of("-m", "labs.first.study", "-v", folder=tmp_path)
    assert printed.strip() == str(expected("-v"))


def test_names_of_a_notebook_resolve_in_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for needed in ("nbclient", "nbformat", "ipykernel"):
        pytest.importorskip(needed)
    formats: Any = importlib.import_module("nbformat")
    cells = [formats.v4.new_code_cell(text) for text in (DEFINITIONS, SUBMIT)]
    formats.write(formats.v4.new_notebook(cells=cells), tmp_path / "study.ipynb")
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    run = (
        "import nbclient, nbformat; notebook = nbformat.read('study.ipynb', 4);"
        "nbclient.NotebookClient(notebook, timeout=100).execute();"
        "print(notebook.cells[1].outputs[0]['text'])"
    )
    printed = output_of("-c", run, folder=tmp_path)
    result = ast.literal_eval(next(line for line in printed.splitlines() if "pools" in line))
    assert {**result, "argv": []} == expected()


def test_spawned_process_that_imports_the_script_submits_nothing(tmp_path: Path) -> None:
    script = """
import multiprocessing
from launcher.api import submit

def spawn():
    process = multiprocessing.get_context("spawn").Process(target=print)
    process.start()
    process.join()
    return process.exitcode

answer = submit(spawn, name="unguarded", cpus=1)
print(answer.result(90), answer.log())
"""
    (tmp_path / "study.py").write_text(script)
    printed = output_of("study.py", folder=tmp_path)
    assert printed.startswith("1 ")
    assert 'Put the call of submit below `if __name__ == "__main__":`' in printed
    jobs = output_of("-m", "launcher", "status", "--all", folder=tmp_path)
    assert jobs.count("function/unguarded#") == 1


def test_object_stored_under_a_name_of_the_script_is_refused(tmp_path: Path) -> None:
    script = (
        "from typing import NewType\nfrom launcher.api import UsageError, submit\n"
        "User = NewType('User', int)\n"
        "def first(): return User(3)\n"
        "try:\n    submit(first)\nexcept UsageError as error:\n    print(error)\n"
    )
    (tmp_path / "study.py").write_text(script)
    printed = output_of("study.py", folder=tmp_path)
    assert "the function first cannot be pickled: User is of type typing.NewType" in printed
    assert "define it in a module of its own" in printed


def test_large_class_is_stored_with_the_calls_that_use_it(tmp_path: Path) -> None:
    script = (
        "from launcher.experiments.functions.main_module import describe_script\n"
        "class Small: pass\n"
        "class Large:\n    table = bytes(1 << 20)\n"
        "print([*describe_script().classes])\n"
    )
    (tmp_path / "study.py").write_text(script)
    assert output_of("study.py", folder=tmp_path).strip() == "['Small']"
