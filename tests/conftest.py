"""Fixtures and hooks for every test."""

import gc
import itertools
import logging
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.forked import fork_daemons, join_pages
from tests.left_behind import watch
from tests.nvml.simulated_card import Programs, compile_programs
from tests.nvml.standin import Devices, compile_library

# A shell that starts the tests in the background has SIGINT and SIGQUIT ignored, and every process
# below inherits that: the commands under test could not be interrupted.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

# The suite gives the same result on every run, and the night run uses all examples. `make fuzz` tries new examples
# and asserts no timing, because Hypothesis's limits of time would fail on a busy machine.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("night", untimed, derandomize=True, database=None)
settings.register_profile("suite", settings.get_profile("night"), max_examples=25)
settings.register_profile("fuzz", untimed, print_blob=True)
settings.load_profile("suite")
# modules that take long, as `python -m tests.costs --write` measured them; the slowest is the first
DEAR = {
    Path(__file__).parents[1] / line: place
    for place, line in enumerate(Path(__file__).with_name("dear.txt").read_text().split())
}
RARELY = 200_000  # new objects between two garbage collections: with Python's 700, those take a fifth of the time
FEWEST = 25  # examples of a test that `make test` leaves it; of more, a quarter

# thousands of databases are synced here, which costs nothing in memory
ROOM = 4 << 30  # a run of all tests takes a fifth of it
if Path("/dev/shm").is_dir() and shutil.disk_usage("/dev/shm").free > ROOM:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/dev/shm")
_PLACE = os.environ.get("PYTEST_DEBUG_TEMPROOT")

# neither the developer's own settings nor their terminal may affect a test
for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "LC_ALL", "LC_CTYPE"):
    os.environ.pop(name, None)
os.environ["LANG"] = "C.UTF-8"
os.environ["PAGER"] = "cat"  # a pager waits for keys
# `python` is this one, and no shim of a version manager, which starts 40 shells for each call
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["OMP_NUM_THREADS"] = "1"  # two threads that wait for each other under load are slower
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # and those of jobs with more cores spin meanwhile
os.environ["LAUNCHER_CONFIG"] = os.devnull
# hundreds of commands are started here; they reuse the byte code that the first one compiled
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# nor what other schedulers of this machine promise; this one is deleted at the end
_CLAIMS = tempfile.TemporaryDirectory(prefix="launcher-claims-", dir=_PLACE)
_NAMES = (Path(_CLAIMS.name, str(number)) for number in itertools.count())
os.environ["LAUNCHER_CLAIMS"] = str(next(_NAMES))
Path(os.environ["LAUNCHER_CLAIMS"]).mkdir()
# nor the features and listings that a person's own jobs have left
_CACHE = tempfile.TemporaryDirectory(prefix="trueface-cache-", dir=_PLACE)
os.environ["TRUEFACE_CACHE"] = _CACHE.name
watch(_CLAIMS.name, _CACHE.name)
fork_daemons()

# words of the reasons for which no test may be skipped here: what .ci/run was able to install
REQUIRED = [
    word for word in os.environ.get("LAUNCHER_TESTS_REQUIRE", "").lower().split(",") if word
]


def _refuse_skips(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Let a test fail that is skipped because a requirement is missing."""
    if report.skipped and not hasattr(report, "wasxfail"):
        place = report.longrepr
        reason = str(place[-1] if isinstance(place, tuple) else place)
        lacking = [word for word in REQUIRED if re.search(rf"\b{word}\b", reason, re.IGNORECASE)]
        if lacking:
            report.outcome = "failed"
            report.longrepr = (
                f"{', '.join(lacking)} must be here (LAUNCHER_TESTS_REQUIRE): {reason}"
            )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Refuse to skip a test because a requirement is missing."""
    report = yield
    _refuse_skips(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Refuse to skip a module because a requirement is missing."""
    report = yield
    _refuse_skips(report)
    return report


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `make quick` leave out what is dear."""
    parser.addoption("--quick", action="store_true", help="without the modules of tests/dear.txt")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import nothing of a module that is left out."""
    return True if config.getoption("quick") and collection_path in DEAR else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with dear modules; leave property tests a quarter of their examples, of which the night tries all."""
    items.sort(key=lambda item: DEAR.get(item.path, len(DEAR)))
    if settings.get_current_profile_name() != "suite":
        return
    for function in {item.obj for item in items if isinstance(item, pytest.Function)}:
        own = getattr(function, "_hypothesis_internal_use_settings", None)
        if own is not None and own.max_examples > FEWEST:
            fewer = settings(own, max_examples=max(FEWEST, own.max_examples // 4))
            function._hypothesis_internal_use_settings = fewer


def pytest_sessionstart(session: pytest.Session) -> None:
    """Let a worker send one report of a passed test, as nothing is printed of the others."""
    for plugin in session.config.pluginmanager.get_plugins():
        if type(plugin).__name__ == "WorkerInteractor":
            plugin.sendevent = partial(_send, plugin.sendevent)


def _send(send: Callable[..., None], name: str, **event: Any) -> None:
    data = event.get("data", {})
    is_passed = name == "testreport" and data["outcome"] == "passed" and data["when"] != "call"
    if not is_passed and name not in {"logstart", "logfinish"}:
        send(name, **event)


@pytest.hookimpl(hookwrapper=True)
def pytest_collection() -> Iterator[None]:
    """Exclude imported modules and collected tests from garbage collection: they stay anyway."""
    gc.disable()
    yield
    _forget_loggers()
    gc.freeze()
    join_pages()
    gc.set_threshold(RARELY)
    gc.enable()


def _forget_loggers() -> None:
    """Forget loggers of torch and other libraries: for each test, pytest would ask hundreds of them six times."""
    known = logging.root.manager.loggerDict
    for name in list(known):
        package, _, below = name.partition(".")
        if below and package not in {"launcher", "trueface"}:
            del known[name]


@pytest.fixture(autouse=True)
def claims_of_its_own() -> Iterator[None]:
    """A folder for promises that no other test sees: what its killed schedulers promised holds on for a minute."""
    before = os.environ["LAUNCHER_CLAIMS"]
    own = next(_NAMES)  # pytest's mktemp reads a folder of thousands each time for a new name
    own.mkdir()
    os.environ["LAUNCHER_CLAIMS"] = str(own)
    yield
    os.environ["LAUNCHER_CLAIMS"] = before


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for NVML, compiled once."""
    try:
        return compile_library(tmp_path_factory.mktemp("nvml"))
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def simulated_programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """The programs of simulated cards, compiled once."""
    try:
        return compile_programs(tmp_path_factory.mktemp("programs"))
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture
def gpus(nvml_library: Path, tmp_path: Path) -> Devices:
    """A machine's GPUs, none at first; programs see them with `gpus.environment`."""
    folder = tmp_path / "gpus"
    folder.mkdir()
    return Devices(folder, nvml_library)
