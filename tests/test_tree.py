"""What must hold of the sources as a whole while code is moved: names in strings, names that are protocol."""

import ast
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from launcher import api
from tests.source_tree import (
    PACKAGES,
    ROOT,
    exists,
    may_have_doubles,
    module,
    modules_with_doubles,
    read,
    texts,
)

# They hold names in strings; what is wrong in tests that `make test` runs is found by these.
READ = (
    "launcher.",
    "trueface.",
    "benchmarks.",
    "tests.chaos.",
    "tests.clusters.",
    "tests.powercut.",
)
FILES = ("setup.cfg", "Makefile")  # entry points, and modules run with -m
NAME = re.compile(rf"(?<![\w./@-])(?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+(?::\w+)?")
PAGE = re.compile(r"(?<![\w./-])docs/[\w-]+\.(?:md|png|svg|yaml)\b")
OTHERS = {
    "launcher.service": "a unit of systemd",
    "tests.json": "a file of a model's folder",
}
STARTED = (  # with -m: by units of systemd, scripts that wait in Slurm, and running schedulers
    "launcher.scheduler",
    "launcher.pilots",
    "launcher.notify",
    "launcher.queue.workers.fork_server",
)
STORED = (  # in queues, in hashes of jobs, and in pickles of functions, their values and exceptions
    "launcher.system.errors:Error",
    "launcher.system.errors:JobError",
    "launcher.system.errors:MachineError",
    "launcher.system.errors:UsageError",
    "launcher.experiments.functions.api:submit",
    "launcher.experiments.functions.api:submit_many",
    "launcher.experiments.functions.entry:call",
    "launcher.experiments.functions.executor:Executor",
    "launcher.experiments.functions.future:Future",
    "launcher.experiments.functions.future:future",
    "launcher.experiments.functions.future:ProgramError",
    "launcher.experiments.functions.future:ProgramResult",
    "launcher.experiments.functions.main_module:code_in_file",
    "launcher.experiments.functions.main_module:main_globals",
    "launcher.experiments.functions.main_module:with_cache",
    "launcher.experiments.functions.options:JobOptions",
    "launcher.experiments.functions.program_api:submit_program",
    "launcher.experiments.functions.pickling:CannotLoad",
    "launcher.experiments.functions.pickling:CannotPickle",
    "launcher.experiments.functions.task_files:results",
    "launcher.experiments.functions.task_files:Run",
    "launcher.experiments.functions.task_files:unfinished_models",
    "launcher.experiments.functions.task_files:wait",
    "launcher.ids:DataId",
    "launcher.ids:parse_model",
    "launcher.kinds:COMMAND",
    "launcher.kinds:installed_kinds",
    "launcher.queue.workers.worker_job:Job",
)
# without a list of formats Pillow starts programs, and other readers have other limits
OPENS_IMAGES = re.compile(
    r"\bImage\.open\(|from PIL\.Image import [^\n]*\bopen\b|torchvision\.io|default_loader|imread\("
)
# Python before 3.11.5 matches possessive groups wrongly: https://github.com/python/cpython/issues/106052
POSSESSIVE_GROUP = re.compile(r"\)[*+?]\+|\(\?>")
HASHES = re.compile(r"\bhashlib\b")
# a generator whose seed is derived from a name; a plain seed is the rule of the original system
NAMES_STREAM = re.compile(
    r"\bRandom\((?!seed\)|SEED\)|\))|Generator\(\S*\)\.manual_seed\(stream|default_rng\(stream"
)
DESK = ROOT / "launcher/queue/backends/ray_desk.py"


@pytest.mark.parametrize("name", [*STARTED, *STORED])
def test_name_used_by_external_code_exists(name: str) -> None:
    dotted, _, attribute = name.partition(":")
    imported = import_module(dotted)
    assert not attribute or hasattr(imported, attribute)
    assert name not in STARTED or module(dotted).starts


def test_name_stored_in_pickles_is_importable() -> None:
    pickled = {
        f"{value.__module__}:{value.__qualname__}"
        for value in (getattr(api, name) for name in api.__all__)
        if getattr(value, "__module__", "").startswith("launcher.experiments.functions")
        and hasattr(value, "__qualname__")
    }
    assert pickled <= {*STORED}


def test_ray_desk_runs_as_a_script_with_the_standard_library_only() -> None:
    desk = subprocess.run([sys.executable, "-I", "-S", DESK, "here"], input=b"", check=False)
    assert desk.returncode == 0


def missing_names(text: str) -> list[str]:
    return [name for name in NAME.findall(text) if name not in OTHERS and not exists(name)]


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_named_in_strings_exist(package: str) -> None:
    suspects = [
        dotted
        for dotted, text in texts(package).items()
        if f"{dotted}.".startswith(READ) and missing_names(text)
    ]
    missing = [
        f"{dotted}:{line}: {name}"
        for dotted in suspects
        for line, text in module(dotted).strings
        for name in missing_names(text)
    ]
    assert missing == []


@pytest.mark.parametrize("file", FILES)
def test_modules_named_in_configuration_files_exist(file: str) -> None:
    names = NAME.findall((ROOT / file).read_text(encoding="utf-8"))
    assert names
    assert [name for name in names if not exists(name)] == []


def test_pages_named_in_code_configuration_and_task_files_exist() -> None:
    files = [ROOT / file for file in FILES] + [*ROOT.glob("tasks/*.yaml")]
    read_files = [file.read_text(encoding="utf-8") for file in files]
    sources = [text for package in PACKAGES for text in texts(package).values()]
    named = {page for text in (*read_files, *sources) for page in PAGE.findall(text)}
    assert [page for page in sorted(named) if not (ROOT / page).is_file()] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_defines_a_name_twice(package: str) -> None:
    assert modules_with_doubles(package) == {}


@pytest.mark.parametrize(
    ("text", "doubles"),
    [
        ("a = 1\ndef a(): ...", ("a",)),
        ("from x import a\nclass a: ...", ("a",)),
        ("a, b = 1, 2\na: int = 3", ("a",)),
        ("a = b = 1\nfrom x import (\n    y as b,  # (of z)\n)", ("b",)),
        ("a: int\na = 1", ()),
        ("@overload\ndef a(): ...\n@typing.overload\ndef a(): ...\ndef a(): ...", ()),
        ("try:\n    import a\nexcept ImportError:\n    a = None", ()),
        ("if x:\n    def a(): ...\nelse:\n    a = 1", ()),
        ("class A:\n    def a(self): ...\n    def a(self): ...\ndef a(): ...", ()),
    ],
)
def test_alternative_definitions_are_not_duplicates(
    tmp_path: Path, text: str, doubles: tuple[str, ...]
) -> None:
    file = tmp_path / "module.py"
    file.write_text(f'"""Of launcher.nowhere."""\n{text}\nNAME = "launcher.nowhere"\n')

    found = read(file)

    assert found.doubles == doubles
    assert may_have_doubles(file.read_text()) or not doubles
    assert [text for _, text in found.strings] == ["launcher.nowhere"]


# `assert a == b if c else d`, on one line or on a few lines
CONDITIONAL = re.compile(r"^ *assert\b(?:.*| \(\n(?:.*\n){1,5}?.*)\belse\b", re.MULTILINE)


def assertions_without_effect(text: str) -> list[int]:
    """Return the lines of conditional assertions that hold in one of the two cases whatever happens."""
    if not CONDITIONAL.search(text):
        return []
    return [
        node.lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.IfExp)
        for case in (node.test.body, node.test.orelse)
        if isinstance(case, ast.List | ast.Tuple | ast.JoinedStr)
        or (isinstance(case, ast.Constant) and case.value)
    ]


def test_conditional_assertions_can_fail_in_both_cases() -> None:
    assert assertions_without_effect('assert a == "1" if b else "2"\nassert a if b else not a') == [
        1
    ]
    assert {
        name: lines
        for name, text in texts("tests").items()
        if (lines := assertions_without_effect(text))
    } == {}


def test_no_pattern_has_a_possessive_group() -> None:
    assert POSSESSIVE_GROUP.search(r"(?:a|'b*+')*+")
    found = {
        dotted: POSSESSIVE_GROUP.findall(text)
        for package in ("launcher", "trueface")
        for dotted, text in texts(package).items()
    }
    assert not {dotted: texts for dotted, texts in found.items() if texts}


def test_only_one_module_of_the_lab_opens_image_files() -> None:
    opening = [dotted for dotted, text in texts("trueface").items() if OPENS_IMAGES.search(text)]
    assert opening == ["trueface.runtime.image_files"]


@pytest.mark.parametrize(
    ("pattern", "only"),
    [(HASHES, "trueface.runtime.digests"), (NAMES_STREAM, "trueface.runtime.rng")],
    ids=["digests", "streams"],
)
def test_only_one_module_of_the_lab_makes_digests_and_random_streams(
    pattern: re.Pattern[str], only: str
) -> None:
    found = [
        dotted
        for dotted, text in texts("trueface").items()
        if pattern.search(re.sub(r"class \w+\(random\.Random\)", "", text))
    ]
    assert found == [only]


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_named_as_starting_points_exist(package: str) -> None:
    starts = {
        f"{folder}.{name}"
        for folder, text in texts(package).items()
        if "Start reading at" in text
        for start in re.findall(r"Start reading at (.*)", module(folder).docstring)
        for name in re.findall(r"`([\w.]+)`", start)
    }
    assert [start for start in sorted(starts) if not exists(start)] == []


SKIPS = """
import pytest
skips = pytest.mark.skipif
@skips(True, reason="no Zsh is here")
def test_lacking(): ...
@skips(True, reason="no fishes here")
def test_of_another_word(): ...
@pytest.mark.xfail(reason="zsh is slow")
def test_known(): assert False
"""


@pytest.mark.parametrize(
    ("required", "failed"), [(",slurm,zsh,fish", {"test_lacking", "test_module.py"}), ("", set())]
)
def test_skip_of_a_required_dependency_fails(
    required: str, failed: set[str], tmp_path: Path
) -> None:
    (tmp_path / "test_each.py").write_text(SKIPS)
    whole = "import pytest\npytest.skip('slurm is not here', allow_module_level=True)\n"
    (tmp_path / "test_module.py").write_text(whole)
    plain = ("-p", "tests.conftest", "-p", "no:cacheprovider", "--continue-on-collection-errors")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *plain, f"--rootdir={tmp_path}", tmp_path],
        cwd=ROOT,
        env={**os.environ, "LAUNCHER_TESTS_REQUIRE": required},
        capture_output=True,
        text=True,
        check=False,
    )
    assert {*re.findall(r"^ERROR \S*?([^/:\s]+)(?: |$)", ended.stdout, re.MULTILINE)} == failed
    said = "zsh must be here (LAUNCHER_TESTS_REQUIRE): Skipped: no Zsh is here"
    assert (said in ended.stdout, ended.returncode > 0) == (bool(failed), bool(failed))
