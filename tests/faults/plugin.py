"""The plugin of pytest in a copy: runs the chosen tests, and reports each at once, since pytest may be killed."""

import json
import os
import time
from typing import Any

import pytest
from hypothesis import Phase, settings

from tests.faults.traced import FOLDER, JOURNALS, TEST

CHOSEN, EVENTS = FOLDER / "chosen.json", FOLDER / "events.jsonl"
DEADLINE = "FAULTS_DEADLINE"  # variable: monotonic seconds, after which no test begins
FIRST = "FAULTS_FIRST"  # variable: a test that fails is the last one
BEGIN, END, BROKEN = "begin", "end", "broken"


def _report(*event: object) -> None:
    with EVENTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(event) + "\n")


def _stop_at_first_failure(function: Any) -> None:
    """Let a property test fail without a search for the smallest example, which takes a minute."""
    own = getattr(function, "_hypothesis_internal_use_settings", None)
    if own is not None:
        phases = (Phase.explicit, Phase.generate)
        function._hypothesis_internal_use_settings = settings(own, phases=phases)


class Reports:
    """Reports where each test begins and ends, and chooses tests."""

    def __init__(self) -> None:
        self._session: pytest.Session | None = None
        self._outcome, self._seconds = "passed", 0.0

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Leave the chosen tests, by module, in the order in which modules were named."""
        self._session = session
        if CHOSEN.exists():
            chosen = {*json.loads(CHOSEN.read_text(encoding="utf-8"))}
            items[:] = [item for item in items if item.nodeid in chosen]
            order = {name: place for place, name in enumerate(config.args)}
            items.sort(key=lambda item: order.get(item.nodeid.split("::", 1)[0], len(order)))
            for function in {item.obj for item in items if isinstance(item, pytest.Function)}:
                _stop_at_first_failure(function)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Report a module that cannot be collected."""
        if report.failed:
            _report(BROKEN, report.nodeid)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Report the begin of a test; the processes that it starts belong to it."""
        _report(BEGIN, nodeid)
        self._outcome, self._seconds = "passed", 0.0
        TEST.write_text(nodeid, encoding="utf-8")
        for journal in JOURNALS:
            journal.begin(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add a phase of a test."""
        self._seconds += report.duration
        if self._outcome == "passed":
            self._outcome = report.outcome

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Report the end of a test, and stop if no time is left."""
        for journal in JOURNALS:
            journal.save()
        _report(END, nodeid, self._outcome, round(self._seconds, 3))
        if self._session and time.monotonic() > float(os.environ.get(DEADLINE, "inf")):
            self._session.shouldstop = "no time is left"
        elif self._session and self._outcome == "failed" and FIRST in os.environ:
            self._session.shouldstop = "a test has failed"


def pytest_configure(config: pytest.Config) -> None:
    """Report."""
    config.pluginmanager.register(Reports())
