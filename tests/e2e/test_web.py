"""The page in a real Chromium over a real queue: its scheduler is killed, its programs are paused."""

import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from launcher.queue.home.daemon_control import scheduler_pid
from launcher.system.locks import lock_file
from launcher.system.process_trees import send_signal
from tests.build import until
from tests.e2e.conftest import Project
from tests.e2e.test_steering import a_counting_job, number, program_is_stopped
from tests.launcher.web.browser import Page, served
from tests.launcher.web.chromium import CHROMIUM, a_chromium, a_tab, until_alive

if TYPE_CHECKING:
    from playwright.sync_api import Browser

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on PATH"),
]


@pytest.fixture(scope="module")
def chromium() -> Iterator["Browser"]:
    """A browser that nobody sees."""
    with a_chromium() as browser:
        yield browser


@pytest.fixture
def page(project: Project) -> Iterator[Page]:
    """The page of a queue in which a program runs."""
    a_counting_job(project)
    with served(project.folder, environment=project.environment) as page:
        yield page


def test_page_reports_a_killed_scheduler_and_the_next_one(
    chromium: "Browser", page: Page, project: Project
) -> None:
    expect = playwright.expect
    with a_tab(chromium, page.link) as tab:
        expect(tab.locator("#running")).to_contain_text("command/counts")
        killed = scheduler_pid(project.home)
        assert killed is not None
        expect(tab.locator("#head")).to_contain_text(f"scheduler pid {killed}")
        # else the fork server starts the next one at once
        held = lock_file(project.home.revival_lock)
        assert held is not None
        send_signal(killed, signal.SIGKILL)
        expect(tab.locator("#head")).to_contain_text("No scheduler is running")
        assert project.call("launcher", "status").returncode == 0
        until(lambda: scheduler_pid(project.home), "the next one lives")
        expect(tab.locator("#head")).to_contain_text(f"scheduler pid {scheduler_pid(project.home)}")
        expect(tab.locator("#head")).not_to_contain_text("No scheduler is running")
        expect(tab.locator("#running")).to_contain_text("command/counts")


def test_program_can_be_paused_and_resumed_in_the_browser(
    chromium: "Browser", page: Page, project: Project
) -> None:
    expect, file = playwright.expect, project.folder / "count"
    with a_tab(chromium, page.link) as tab:
        tab.click("#running >> text=command/counts")
        until_alive(tab, "h1", "command/counts")
        tab.click("a.button.pause")
        expect(tab.locator("#dialog .ask")).to_have_text("pause job 1 command/counts?")
        tab.click("#dialog button.pause")
        expect(tab.locator("#notice")).to_have_text("job 1 command/counts paused")
        expect(tab.locator("#top .state.paused")).to_have_text("◐ paused")
        expect(tab.locator("#top .why")).to_contain_text("paused since ")
        until(lambda: program_is_stopped(project), "it stands still")
        before = number(file)
        expect(tab.locator("a.button.pause")).to_have_count(0)
        tab.keyboard.press("p")
        expect(tab.locator("#dialog .ask")).to_have_text("job 1 is already paused; u resumes it")
        tab.click("#dialog a.back")
        tab.keyboard.press("o")
        until_alive(tab, "#running .state.paused", "paused")
        assert number(file) == before
        tab.keyboard.press("j")
        tab.keyboard.press("u")
        expect(tab.locator("#dialog .ask")).to_have_text("resume job 1 command/counts?")
        tab.keyboard.press("Enter")
        expect(tab.locator("#notice")).to_have_text("job 1 command/counts resumed")
        until(lambda: number(file) > before, "it goes on")
        expect(tab.locator("#running .state.paused")).to_have_count(0)
