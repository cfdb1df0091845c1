"""The page in a real Chromium, driven by Playwright; skipped where one of them is missing."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from launcher.states import State
from launcher.store.queue import NewJob, Store
from launcher.system.paths import Home, make_home
from launcher.workers.progress.steps import Progress
from tests.build import a_context, a_spec, claimed, enqueue, in_state, job_row, until
from tests.launcher.web.browser import Page, served
from tests.launcher.web.chromium import CHROMIUM, a_chromium, a_tab, check_phones, until_alive

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on PATH"),
]
EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script>"


@pytest.fixture(scope="module")
def chromium() -> Iterator["Browser"]:
    """A browser that nobody sees."""
    with a_chromium() as browser:
        yield browser


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
    with a_tab(chromium, served_page.link) as tab:
        yield tab


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
    until_alive(tab, "h1", "command/3")
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


def test_tags_are_given_by_a_key_and_filter_the_list(tab: "Tab", store: Store) -> None:
    tab.keyboard.press("a")
    tab.wait_for_url("**/jobs")
    tab.keyboard.press("j")
    tab.keyboard.press("t")
    playwright.expect(tab.locator("#dialog #text")).to_be_focused()
    tab.keyboard.type("paper no<tag")
    tab.keyboard.press("Enter")
    playwright.expect(tab.locator("#dialog .banner")).to_contain_text("no<tag' is no tag")
    playwright.expect(tab.locator("#dialog #text")).to_have_value("paper no<tag")
    tab.locator("#dialog #text").fill("paper abl-1")
    tab.keyboard.press("Enter")
    playwright.expect(tab.locator("#notice")).to_have_text("job 6 command/4: tags: abl-1, paper")
    tab.click("tr[data-job='6'] a.tag >> text=paper")
    tab.wait_for_url("**/jobs?q=tag%3Apaper")
    playwright.expect(tab.locator("tr[data-job]")).to_have_count(1)
    tab.keyboard.press("j")
    tab.keyboard.press("t")
    tab.locator("#dialog #text").fill("")
    tab.keyboard.press("Enter")
    playwright.expect(tab.locator("#notice")).to_have_text("job 6 command/4: no tags")
    playwright.expect(tab.locator("tr[data-job]")).to_have_count(0)
    assert store.steering.all_tags() == {}


def test_a_name_and_a_note_of_html_are_text(tab: "Tab", store: Store) -> None:
    enqueue(store, a_spec(name=f"command/{EVIL}"))
    playwright.expect(tab.locator("#waiting")).to_contain_text(EVIL)
    tab.click("#waiting >> text=onerror")
    until_alive(tab, "h1", f"command/{EVIL}")
    tab.keyboard.press("n")
    tab.locator("#dialog #text").fill(f"the first line\n  {EVIL}")
    tab.click("#dialog button.note")
    playwright.expect(tab.locator("#notice")).to_contain_text("note: the first line")
    playwright.expect(tab.locator(".owner-note")).to_contain_text(EVIL)
    assert job_row(store, 7).owner_note == f"the first line\n  {EVIL}"
    root = tab.url.partition("jobs")[0]
    for place in ("jobs", "jobs/7/log", "curves?job=7", ""):
        tab.goto(f"{root}{place}")
        playwright.expect(tab.locator("main")).to_contain_text("onerror")
    assert tab.locator("main img, main script").count() == 0


def test_what_was_typed_is_kept_when_the_server_is_gone(tab: "Tab", served_page: Page) -> None:
    tab.click("text=command/3")
    until_alive(tab, "h1", "command/3")
    tab.keyboard.press("n")
    tab.locator("#dialog #text").fill("an hour of thought")
    served_page.process.terminate()
    served_page.process.wait(60)
    tab.click("#dialog button.note")
    playwright.expect(tab.locator("#trouble")).to_contain_text("cannot be reached")
    playwright.expect(tab.locator("#dialog #text")).to_have_value("an hour of thought")


def test_a_queue_that_is_moved_away_or_replaced_is_said_while_the_page_is_open(
    tab: "Tab", home: Home, store: Store, tmp_path: Path
) -> None:
    playwright.expect(tab.locator("#waiting")).to_contain_text("command/3")
    home.folder.rename(tmp_path / "away")
    playwright.expect(tab.locator("#warnings")).to_contain_text("There is no queue in this home")
    playwright.expect(tab.locator("#waiting")).not_to_contain_text("command/3")
    make_home(home)
    with contextlib.closing(Store(home, durable=False)) as other:
        enqueue(other, a_spec(name="command/other"))
        playwright.expect(tab.locator("#waiting")).to_contain_text("command/other")
    playwright.expect(tab.locator("#warnings")).not_to_contain_text("There is no queue")


def test_a_job_whose_queue_is_gone_is_said(tab: "Tab", home: Home, tmp_path: Path) -> None:
    tab.click("text=command/3")
    until_alive(tab, "h1", "command/3")
    home.folder.rename(tmp_path / "away")
    playwright.expect(tab.locator("#trouble")).to_contain_text("there is no queue yet")
    tab.keyboard.press("h")
    playwright.expect(tab.locator("#trouble")).to_contain_text("there is no queue yet")
    (tmp_path / "away").rename(home.folder)
    playwright.expect(tab.locator("#trouble")).not_to_be_visible()
    tab.keyboard.press("h")
    playwright.expect(tab.locator("#dialog .ask")).to_contain_text("hold job 5")


@pytest.mark.night
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
    playwright.expect(tab.locator(".read-out")).to_have_text(re.compile(r"step [12](?![.\d])"))
    tab.select_option("select[name=scale]", "log")
    tab.wait_for_url("**scale=log*")
    playwright.expect(tab.locator("svg.chart[data-log='1']").first).to_be_visible()


def test_a_server_that_has_ended_is_said(tab: "Tab", served_page: Page) -> None:
    playwright.expect(tab.locator("#connection")).to_have_text("live")
    served_page.process.terminate()
    playwright.expect(tab.locator("#connection")).to_have_text("not connected")


@pytest.mark.night
def test_a_phone_needs_no_scrolling_sideways_in_either_theme(
    chromium: "Browser", served_page: Page
) -> None:
    paths = ("", "jobs", "jobs/1", "jobs/1/log", "jobs/2/hold", "curves?job=1")
    check_phones(chromium, served_page.link, paths, "main")


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


@pytest.mark.night
def test_ten_thousand_jobs_are_turned_over_page_by_page(tab: "Tab", store: Store) -> None:
    with store.writing():
        jobs = (NewJob(spec=a_spec(name=f"train/net{n}")) for n in range(10_000))
        store.put_new(store.run(Path("/nowhere"), "many"), a_context(), jobs, 1.0)
    tab.keyboard.press("a")
    tab.wait_for_url("**/jobs")
    playwright.expect(tab.locator("tr[data-job]").first).to_have_attribute("data-job", "10006")
    playwright.expect(tab.locator("tr[data-job]")).to_have_count(100)
    for key, first in (("]", 9906), ("[", 10006)):
        tab.keyboard.press(key)
        row = tab.locator("tr[data-job]").first
        playwright.expect(row).to_have_attribute("data-job", str(first))
        until_alive(tab, "h1", "Jobs")
    tab.keyboard.press("/")
    tab.keyboard.type("net999?")
    tab.keyboard.press("Enter")
    playwright.expect(tab.locator("tr[data-job]")).to_have_count(0)  # a glob is of the whole name
    tab.fill("[data-filter]", "*net999?")
    tab.keyboard.press("Enter")
    playwright.expect(tab.locator("tr[data-job]")).to_have_count(10)
    playwright.expect(tab.locator("a[rel=next]")).to_have_count(0)


@pytest.mark.night
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
