"""The words that users have stored: in queues, task files, tables, scripts. Collected from code and from real commands.

Each section is a set of words. A word is what a file or a program outside this project can contain: a key of JSON, a
column, a state, the name of a method. Names in code that are stored nowhere are not words.
"""

import contextlib
import csv
import io
import json
import os
import re
import sqlite3
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from launcher.experiments.kind_interface import Kind, Role
from launcher.experiments.kinds import installed_kinds
from launcher.experiments.planning.comparison import Action
from launcher.experiments.planning.estimates import Basis
from launcher.experiments.taskfile.language import TOP, WORDS, Reuse, words_of
from launcher.experiments.taskfile.legacy_names import OLD_WORDS
from launcher.frontends.cli.findings import CheckStatus
from launcher.frontends.cli.main import main
from launcher.frontends.cli.output import Format
from launcher.frontends.notify.settings import _KEYS as NOTIFY_KEYS
from launcher.frontends.notify.settings import _TARGET_KEYS as TARGET_KEYS
from launcher.queue.backends.pilot_folder import PilotFolder, PilotSpec
from launcher.queue.backends.pilot_messages import _COMMAND_TYPES as PILOT_ORDERS
from launcher.queue.backends.pilot_messages import _MESSAGE_TYPES as PILOT_NEWS
from launcher.queue.backends.pilot_rules import PilotState
from launcher.queue.backends.pilot_status import BackendRow, PastPilot, PilotRow
from launcher.queue.backends.protocol import AllocationEndCause, AllocationState
from launcher.queue.backends.settings import _KEY_READERS as BACKEND_KEYS
from launcher.queue.backends.settings import KINDS as ENGINES
from launcher.queue.gpu.snapshot import GpuProcess, GpuSnapshot
from launcher.queue.home.paths import Attempt, Home
from launcher.queue.job_options.notifications import NotifyEvent
from launcher.queue.job_options.registry import job_options
from launcher.queue.jobs.job import GPU_IDS, RERUNS, Resources
from launcher.queue.jobs.states import (
    Done,
    EndCause,
    Failed,
    Lost,
    NeverStarted,
    OomReport,
    OutOfMemory,
    ReasonCode,
    State,
    Stopped,
    outcome_record,
)
from launcher.queue.store.queue import Store
from launcher.queue.store.usage import MeasuredUsage
from launcher.queue.workers.termination import ResistingProcess, Termination
from launcher.system.config import KEYS as CONFIG_KEYS
from launcher.system.files import FileVersion
from launcher.system.gpu_sharing import _KEYS as SHARING_KEYS
from tests.build import a_spec, claimed, end_everything, enqueue
from tests.nvml.standin import GIB, Devices, asked_here
from tests.source_tree import ROOT
from tests.trueface.group_runs import logits, pairs_of, write_faces, write_tests
from trueface.attacks.registry import SPECS as ATTACKS
from trueface.audit.check import every_check
from trueface.benchmark.table import COLUMNS as BENCHMARK_COLUMNS
from trueface.cli.fairness import CSV_HEADER as FAIRNESS_COLUMNS
from trueface.cli.qualities import CSV_HEADER as QUALITIES_COLUMNS
from trueface.corruptions.registry import ALIASES as CORRUPTION_ALIASES
from trueface.corruptions.registry import SPECS as CORRUPTIONS
from trueface.data.forging.registry import SPECS as FORGERIES
from trueface.data.imports.csv_table import COLUMNS as IMPORTED_COLUMNS
from trueface.data.imports.registry import LAYOUTS
from trueface.data.settings import ATTRIBUTE_COLUMNS
from trueface.data.splits.split_files import NAMES as SPLITS
from trueface.evaluation.measurement import METRICS
from trueface.evaluation.results import table
from trueface.generators.erasing.registry import METHODS as ERASURES
from trueface.generators.purification.registry import SPECS as PURIFIERS
from trueface.models.registry import FAMILIES, LIBRARIES, RECIPES
from trueface.models.registry import SPECS as MODELS
from trueface.poisoning.poison_record import KINDS as POISONS
from trueface.poisoning.poison_record import PoisonRecord
from trueface.predictions.csv_tables import COLUMNS as SCORE_COLUMNS
from trueface.report.unlearning_tables import MEASURES as UNLEARNING_MEASURES
from trueface.training.history import Epoch
from trueface.training.objectives.registry import objectives
from trueface.unlearning.registry import METHODS as UNLEARNINGS

Words = dict[str, list[str]]  # by section, each in alphabetical order

PACKAGES = ("launcher", "trueface")
_VARIABLE = re.compile(r"\b(?:LAUNCHER|TRUEFACE)_[A-Z]+(?:_[A-Z]+)*\b")
_FILE = re.compile(
    r"""["'](\.?\w[\w-]*\.(?:json|jsonl|csv|tsv|pt|txt|html|npz|npy|log|sqlite|toml|yaml|png|lock))["']"""
)


def collect(folder: Path, library: Path) -> Words:
    """Return all words; commands run in a queue of their own.

    Args:
        folder: for that queue; exists and is empty.
        library: the compiled stand-in for NVML, which the commands see.
    """
    words = {section: sorted(set(read())) for section, read in SECTIONS.items()}
    found = defaultdict[str, set[str]](set)
    for section, word in _words_of_commands(folder, library):
        found[section].add(word)
    return {**words, **{section: sorted(found[section]) for section in found}}


# ---- from the tables of the code


def _kinds() -> Iterator[Kind]:
    """Yield the job types of this project; other plugin packages may be installed, too."""
    for kind in installed_kinds().values():
        if type(kind).__module__.partition(".")[0] in PACKAGES:
            yield kind


def _settings() -> Iterator[str]:
    for kind in _kinds():
        yield from (f"{kind.name}.{name}" for name in kind.settings.model_fields)
        yield from (f"{kind.name}.{name}" for name in kind.settings.aliases)


def _entry_keys() -> Iterator[str]:
    for kind in _kinds():
        if kind.role in WORDS:  # others have no entries
            yield from (f"{kind.name}.{name}" for name in words_of(kind))


def _option_names() -> Iterator[str]:
    for option in job_options().values():
        yield from (option.name, *option.old_names, option.flag)


def _config_keys() -> Iterator[str]:
    yield from CONFIG_KEYS
    yield from (f"sharing.{key}" for key in SHARING_KEYS)
    yield from (f"backends.NAME.{key}" for key in BACKEND_KEYS)
    yield from (f"notify.{key}" for key in NOTIFY_KEYS)
    yield from (f"notify.NAME.{key}" for key in TARGET_KEYS)


def _outcomes() -> Iterator[str]:
    """Yield the word of each outcome, and the keys of its record."""
    failed: dict[str, Any] = {
        "error": "no",
        "exit_code": 1,
        "signal": 9,
        "exception": "E",
        "cpu_s": 1.0,
    }
    version = FileVersion(size=1, changed_ns=1)
    for outcome in (
        Done(
            at=1.0, result={"acc": 1}, has_results=True, files=("a",), outputs=(version,), cpu_s=1.0
        ),
        Failed(at=1.0, over_limit=True, disk_full=True, **failed),
        OutOfMemory(1.0, report=OomReport("gpu", 1, 1, 1, 1, 1, "no"), **failed),
        Stopped(at=1.0, by="SIGTERM", cpu_s=1.0),
        Lost(at=1.0, why="?"),
        NeverStarted(at=1.0, why="?", blamed_on="job"),
    ):
        record = outcome_record(outcome)
        word = str(record["ending"])
        yield word
        yield from (f"{word}.{key}" for key in _keys(record))


@cache
def _code() -> str:
    """Return the text of all modules."""
    files = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def _variables() -> Iterator[str]:
    """Yield the environment variables that the code contains, and those that it composes."""
    yield from _VARIABLE.findall(_code())
    sys.path.append(str(ROOT / ".ci"))  # a folder without a package; pytest has it in its path
    from environment_variables import VARIABLES  # found from here on

    yield from filter(_VARIABLE.fullmatch, (each.name for each in VARIABLES))


def _file_names() -> Iterator[str]:
    """Yield the names of files that the code contains, and those of a queue folder and of its attempts."""
    yield from _FILE.findall(_code())
    folders = (
        Home(Path("QUEUE")),
        Attempt(Path("QUEUE/attempts/JOB-NUMBER")),
        PilotFolder(Path("QUEUE/pilots/NAME")),
    )
    for folder in folders:
        for name in dir(type(folder)):
            path = None if name.startswith("_") else getattr(folder, name, None)
            if isinstance(path, Path) and path.parent.name:
                yield path.as_posix()


SECTIONS: Mapping[str, Callable[[], Iterable[str]]] = {
    "states of jobs": lambda: State,
    "outcomes of attempts": _outcomes,
    "reason codes": lambda: ReasonCode,
    "causes of an end": lambda: EndCause,
    "events of notifications": lambda: NotifyEvent,
    "states of pilots": lambda: [*PilotState, *AllocationState, *AllocationEndCause],
    "messages of pilots": lambda: [*PILOT_ORDERS, *PILOT_NEWS],
    "keys of the file spec.json of pilots": lambda: PilotSpec._fields,
    "keys of the file pilots.json": lambda: [*PilotRow._fields, *BackendRow._fields],
    "keys of the file nodes.jsonl": lambda: PastPilot._fields,
    "keys of the file termination.json": lambda: [*Termination._fields, *ResistingProcess._fields],
    "keys of the file gpus.json": lambda: [*GpuSnapshot.__annotations__, *GpuProcess._fields],
    "verdicts of launcher doctor": lambda: CheckStatus,
    "actions of a plan": lambda: Action,
    "sources of estimates": lambda: Basis,
    "kinds of backends": lambda: ENGINES,
    "output formats": lambda: Format,
    "job types": lambda: [kind.name for kind in _kinds()],
    "roles of job types": lambda: Role,
    "settings of job types": _settings,
    "keys of entries in task files": _entry_keys,
    "keys of task files": lambda: [*TOP, *OLD_WORDS],
    "values of reuse in task files": lambda: Reuse,
    "values of job options": lambda: [*RERUNS, *GPU_IDS],
    "job options": _option_names,
    "keys of config.toml": _config_keys,
    "environment variables": _variables,
    "file names": _file_names,
    "splits": lambda: SPLITS,
    "detectors": lambda: [*MODELS, *FAMILIES, *LIBRARIES],
    "class networks": lambda: RECIPES,
    "objectives": objectives,
    "poisons": lambda: POISONS,
    "unlearning methods": lambda: UNLEARNINGS,
    "unlearning measures": lambda: [measure.name for measure in UNLEARNING_MEASURES],
    "erasing methods": lambda: ERASURES,
    "purifiers": lambda: PURIFIERS,
    "corruptions": lambda: [*CORRUPTIONS, *CORRUPTION_ALIASES],
    "attacks": lambda: ATTACKS,
    "forgeries": lambda: FORGERIES,
    "layouts of data sets": lambda: LAYOUTS,
    "checks of the audit": lambda: [check.code for check in every_check()],
    "metrics": lambda: METRICS,
    "columns of attribute tables": lambda: ATTRIBUTE_COLUMNS,
    "columns of imported tables": lambda: [
        name for names in IMPORTED_COLUMNS.values() for name in names
    ],
    "columns of score tables": lambda: SCORE_COLUMNS,
    "columns of history.csv": lambda: [field.name for field in fields(Epoch)],
    "columns of trueface benchmark": lambda: BENCHMARK_COLUMNS,
    "columns of trueface fairness": lambda: FAIRNESS_COLUMNS,
    "columns of trueface qualities": lambda: QUALITIES_COLUMNS,
    "keys of the file poison.json": lambda: [field.name for field in fields(PoisonRecord)],
}


# ---- from commands in a real queue

TASKS = """
name: words
command:
  - {name: "one{x}", argv: [sh, -c, "echo 'launcher: step=1 total=2 acc={x}'"], matrix: {x: [1, 2]}}
  - {name: bad, argv: ["false"]}
  - {name: after, argv: ["true"], after: bad}
"""
# the keys below these are names that a user or a machine gives
NAMED_BY_USERS = frozenset(
    {
        "env",
        "environment",
        "limits",
        "metrics",
        "params",
        "programs",
        "queue",
        "result",
        "settings",
        "sources",
    }
)
_OF_SQLITE = re.compile(r"^sqlite_|_fts_")  # tables of its own
COMMANDS = (
    ("show", "1"),
    ("show", "3"),
    ("history",),
    ("gpus",),
    ("logs", "1"),
    ("doctor",),
    ("config", "--all"),
    ("results", "words", "--all"),
    ("tag",),
    ("group",),
    ("share",),
    ("notify",),
    ("kinds",),
)


def _words_of_commands(folder: Path, library: Path) -> Iterator[tuple[str, str]]:
    """Yield sections and words from what commands print and write."""
    for name in ("gpus", "claims", "tasks"):
        (folder / name).mkdir()
    devices, home = Devices(folder / "gpus", library), Home(folder / "home")
    environment = {
        "LAUNCHER_HOME": str(home.folder),
        "LAUNCHER_CLAIMS": str(folder / "claims"),
        "LAUNCHER_CONFIG": os.devnull,
        "TRUEFACE_CACHE": str(folder / "cache"),
    }
    with (
        mock.patch.dict(os.environ, environment),
        contextlib.chdir(folder),
        asked_here(devices),
    ):
        try:
            yield from _words_of_a_run(home, devices)
        finally:
            end_everything(home)


def _words_of_a_run(home: Home, devices: Devices) -> Iterator[tuple[str, str]]:
    file = Path("tasks/words.yaml")
    file.write_text(TASKS, encoding="utf-8")
    yield from _of_json("run --dry-run", "run", str(file), "--dry-run")
    _run("run", str(file), "--detach")
    yield from _of_json("wait", "wait", "run:words")
    yield from _of_json("status", "status")
    store = Store(home)
    try:
        _put_gpu_jobs(store, devices)
    finally:
        store.close()
    for words in COMMANDS:
        yield from _of_json(words[0], *words)
    for name in ("results", "query"):
        words = ("words",) if name == "results" else ("SELECT * FROM jobs",)
        header = next(csv.reader(io.StringIO(_run(name, *words, "--format", "csv"))))
        yield from ((f"CSV columns of launcher {name}", column) for column in header)
    _run("results", "words", "--db", "results.sqlite")
    yield from _of_database("results database", Path("results.sqlite"))
    yield from _of_database("queue database", home.database)
    for path in (home.record, home.scheduler_record, home.attempt(1, 1).started):
        yield from _of_lines(path)
    yield from (("columns of results of detectors", column) for column in _columns_of_a_test())


def _columns_of_a_test() -> Iterator[str]:
    """Yield the columns of results of a model that was tested on faces with groups."""
    model, run = "gan2:pre", Path("runs/words")
    write_faces(Path("faces.csv"))
    write_tests(run, model, [logits(label, power=2.0, skew=1.0) for label in (0, 1)])
    for row in table(run.absolute(), pairs_of(model)):
        yield from row


def _put_gpu_jobs(store: Store, devices: Devices) -> None:
    """Put a job on a GPU that others use too, and one that used more memory than it had requested."""
    uuid = devices.add(24 * GIB)
    devices.hold(uuid, 1, 2 * GIB)
    resources = Resources(device="cuda", vram=GIB)
    specs = [a_spec(name=f"command/gpu{n}", resources=resources, signature="a") for n in range(2)]
    first, second = enqueue(store, *specs, run="gpu")
    now = time.time()
    done = claimed(store, first, now - 60.0, device=uuid, vram=GIB)
    store.transitions.finish_attempt(
        done, Done(at=now), outputs={}, now=now, measured_usage=MeasuredUsage(peak=2 * GIB)
    )
    claimed(store, second, now, device=uuid, vram=GIB, pid=1, start_ticks=7)


def _run(*words: str) -> str:
    """Return what a command prints."""
    printed, errors = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(errors),
        contextlib.suppress(SystemExit),
    ):
        main(words)
    assert printed.getvalue() or "--db" in words or "--detach" in words, (words, errors.getvalue())
    return printed.getvalue()


def _of_json(name: str, *words: str) -> Iterator[tuple[str, str]]:
    record = json.loads(_run(*words, "--json"))
    yield from ((f"JSON keys of launcher {name}", key) for key in _keys(record))


def _of_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the keys of each line of JSON in a file of the queue folder."""
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            yield from ((f"keys of the file {path.name}", key) for key in _keys(record))


def _of_database(name: str, path: Path) -> Iterator[tuple[str, str]]:
    """Yield the tables and views of a database, and their columns."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        query = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
        for (table_name,) in database.execute(query).fetchall():
            if not _OF_SQLITE.search(table_name):
                yield f"tables of the {name}", table_name
                for _, column, *_ in database.execute(f'PRAGMA table_info("{table_name}")'):
                    yield f"columns of the {name}", f"{table_name}.{column}"


def _keys(value: object, path: str = "") -> Iterator[str]:
    """Yield the keys of a JSON value with the keys above them, such as `jobs[].state`."""
    match value:
        case dict():
            for key, inner in value.items():
                yield f"{path}{key}"
                if key not in NAMED_BY_USERS or isinstance(inner, list):
                    yield from _keys(inner, f"{path}{key}.")
        case list():
            above = f"{path.removesuffix('.')}[]."
            for inner in value:
                yield from _keys(inner, above)
