"""The page in a real Chromium, driven by Playwright; skipped where one of them is missing."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from launcher.states import State
from launcher.store.queue import NewJob, Store
from launcher.system.paths import Home
from launcher.workers.progress.writer import Progress
from tests.build import a_context, a_spec, claimed, enqueue, in_state, until
from tests.launcher.web.browser import Page, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage
    from playwright.sync_api import Page as Tab

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
PATIENCE_MS = 20_000
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on PATH"),
]


@pytest.fixture(scope="module")
def chromium() -> Iterator["Browser"]:
    """A browser that nobody sees."""
    with playwright.sync_playwright() as driver:
        # the sandbox of Chromium does not work for root, nor in most containers
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def served_page(home: Home, store: Store, tmp_path: Path) -> Iterator[Page]:
    """The page of a queue in which nothing starts, with a job that runs and some that wait."""
    home.stop.write_text("{}")
    enqueue(store, a_spec(name="train/net"), *(a_spec(name=f"command/{n}") for n in range(5)))
    claimed(store, 1)
    home.attempt(1, 1).folder.mkdir(parents=True)
    with served(tmp_path) as page:
        yield page


@pytest.fixture
def tab(chromium: "Browser", served_page: Page) -> Iterator["Tab"]:
    """A tab in which the link was opened; no error may be left in its console."""
    context = chromium.new_context(viewport={"width": 1400, "height": 900})
    tab = context.new_page()
    tab.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda message: errors.append(message.text) if _is_ours(message) else None)
    tab.goto(served_page.link)
    playwright.expect.set_options(timeout=PATIENCE_MS)
    yield tab
    context.close()
    assert not errors


def _is_ours(message: "ConsoleMessage") -> bool:
    """Tell whether the console complains of the page, and not of a server that has ended."""
    return message.type == "error" and "net::ERR_" not in message.text


def test_the_link_opens_the_queue_which_renews_itself(
    tab: "Tab", served_page: Page, store: Store
) -> None:
    assert "token" not in tab.url
    playwright.expect(tab.locator("#connection")).to_have_text("live")
    playwright.expect(tab.locator("#waiting")).not_to_contain_text("command/new")
    enqueue(store, a_spec(name="command/new"))
    playwright.expect(tab.locator("#waiting")).to_contain_text("command/new")
    tab.reload()
    playwright.expect(tab.locator("#waiting")).to_contain_text("command/new")


def test_a_job_is_opened_and_held_after_a_question(tab: "Tab", store: Store) -> None:
    tab.click("text=command/3")
    playwright.expect(tab.locator("h1")).to_have_text("command/3")
    tab.click("a.button.hold")
    question = tab.locator("#dialog .ask")
    playwright.expect(question).to_contain_text("hold job 5 command/3?")
    tab.click("#dialog a.back")
    playwright.expect(question).not_to_be_visible()
    assert in_state(store, 5, State.QUEUED)
    tab.click("a.button.hold")
    tab.click("#dialog button.hold")
    playwright.expect(tab.locator("#notice")).to_contain_text("job 5 command/3 held")
    playwright.expect(tab.locator("a.button.release")).to_be_visible()
    assert in_state(store, 5, State.HELD)


def test_a_list_is_steered_by_keys(tab: "Tab", store: Store) -> None:
    tab.keyboard.press("a")
    tab.wait_for_url("**/jobs")
    tab.keyboard.press("j")
    tab.keyboard.press("j")
    playwright.expect(tab.locator("tr.chosen")).to_have_attribute("data-job", "5")
    tab.keyboard.press("c")
    playwright.expect(tab.locator("#dialog .ask")).to_contain_text("cancel job 5 command/3?")
    tab.keyboard.press("Enter")
    until(lambda: in_state(store, 5, State.CANCELLED), "the job is cancelled")
    playwright.expect(tab.locator("tr[data-job='5']")).to_contain_text("cancelled")
    tab.keyboard.press("/")
    tab.keyboard.type("net")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/jobs?q=net*")
    playwright.expect(tab.locator("tr[data-job]")).to_have_count(1)
    tab.keyboard.press("j")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/jobs/1")


def test_curves_and_the_log_grow_and_values_are_read_off(tab: "Tab", home: Home) -> None:
    attempt = home.attempt(1, 1)
    tab.click("text=train/net")
    for step in range(4):
        Progress(attempt.progress)(step=step, total=4, loss=1 / (step + 1), val_loss=2 / (step + 1))
    attempt.log.write_text("first line\n")
    playwright.expect(tab.locator("pre.log")).to_contain_text("first line")
    chart = tab.locator("figure:has-text('val_loss') svg.chart")
    playwright.expect(chart).to_be_visible()
    with attempt.log.open("a") as log:
        log.write("second line\n")
    playwright.expect(tab.locator("pre.log")).to_contain_text("second line")
    chart.hover()
    playwright.expect(tab.locator(".read-out")).to_contain_text("val_loss")
    tab.select_option("select[name=scale]", "log")
    tab.wait_for_url("**scale=log*")
    playwright.expect(tab.locator("svg.chart[data-log='1']").first).to_be_visible()


def test_a_server_that_has_ended_is_said(tab: "Tab", served_page: Page) -> None:
    playwright.expect(tab.locator("#connection")).to_have_text("live")
    served_page.process.terminate()
    playwright.expect(tab.locator("#connection")).to_have_text("not connected")


def test_a_phone_needs_no_scrolling_sideways_in_either_theme(
    chromium: "Browser", served_page: Page
) -> None:
    for theme in ("light", "dark"):
        context = chromium.new_context(
            viewport={"width": 400, "height": 800}, color_scheme=theme, has_touch=True
        )
        tab = context.new_page()
        tab.goto(served_page.link)
        root = tab.url
        for path in ("", "jobs", "jobs/1", "jobs/1/log", "jobs/2/hold", "curves?job=1"):
            tab.goto(f"{root}{path}")
            width = tab.evaluate("document.documentElement.scrollWidth")
            assert width <= 400, path
        context.close()


def test_without_javascript_the_page_reads_and_steers(
    chromium: "Browser", served_page: Page, store: Store
) -> None:
    context = chromium.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(served_page.link)
    tab.click("text=command/2")
    tab.click("a.button.hold")
    tab.click("button.hold")
    playwright.expect(tab.locator("#notice")).to_contain_text("job 4 command/2 held")
    assert in_state(store, 4, State.HELD)
    context.close()


def test_ten_thousand_jobs_are_turned_over_page_by_page(tab: "Tab", store: Store) -> None:
    with store.writing():
        jobs = (NewJob(spec=a_spec(name=f"train/net{n}")) for n in range(10_000))
        store.put_new(store.run(Path("/nowhere"), "many"), a_context(), jobs, 1.0)
    tab.keyboard.press("a")
    tab.wait_for_url("**/jobs")
    playwright.expect(tab.locator("tr[data-job]").first).to_have_attribute("data-job", "10006")
    playwright.expect(tab.locator("tr[data-job]")).to_have_count(100)
    tab.keyboard.press("]")
    playwright.expect(tab.locator("tr[data-job]").first).to_have_attribute("data-job", "9906")
    tab.keyboard.press("[")
    playwright.expect(tab.locator("tr[data-job]").first).to_have_attribute("data-job", "10006")


def test_a_log_of_a_gigabyte_is_read_from_its_end_and_its_beginning(tab: "Tab", home: Home) -> None:
    log = home.attempt(1, 1).log
    with log.open("wb") as file:
        file.write(b"the first line\n")
        file.seek(1 << 30)
        file.write(b"\n" + b"x" * 10_000_000 + b"\nthe last line\n")
    tab.click("text=train/net")
    playwright.expect(tab.locator("pre.log")).to_contain_text("the last line")
    tab.click("text=whole log")
    playwright.expect(tab.locator("pre.log")).to_contain_text("the last line")
    tab.click("text=beginning")
    playwright.expect(tab.locator("pre.log")).to_contain_text("the first line")
