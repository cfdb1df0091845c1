"""The page in a real Chromium, driven by Playwright; skipped where one of them is missing."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from launcher.queue.home.paths import Home, make_home
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import NewJob, Store
from launcher.queue.workers.progress.steps import ProgressWriter
from tests.build import a_context, a_spec, claimed, enqueue, in_state, job_row, reaches
from tests.launcher.web.browser import Page, served
from tests.launcher.web.chromium import (
    CHROMIUM,
    a_chromium,
    a_tab,
    check_phones,
    counts,
    leave_out_charts,
    press,
    reads,
    shows,
    until_alive,
)
from tests.launcher.web.made_runs import SVG, a_png, a_training

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
    home.stop_record.write_text("{}")
    enqueue(store, "train/net", *(f"command/{n}" for n in range(5)))
    claimed(store, 1)
    home.attempt(1, 1).folder.mkdir(parents=True)
    with served(tmp_path) as page:
        yield page


@pytest.fixture
def tab(chromium: "Browser", served_page: Page) -> Iterator["Tab"]:
    """A tab in which the link was opened; no error may be left in its console."""
    with a_tab(chromium, served_page.link) as tab:
        yield tab


def test_list_is_controlled_by_keys(tab: "Tab", store: Store) -> None:
    leave_out_charts(tab)
    press(tab, "a")
    tab.wait_for_url("**/jobs")
    press(tab, "j", "j")
    playwright.expect(tab.locator("tr.chosen")).to_have_attribute("data-job", "5")
    press(tab, "c")
    shows(tab, "#dialog .ask", "cancel job 5 command/3?")
    press(tab, "Enter")
    reaches(store, 5, State.CANCELLED)
    shows(tab, "tr[data-job='5']", "cancelled")
    press(tab, "t")
    text = tab.locator("#dialog #text")
    playwright.expect(text).to_be_focused()
    tab.keyboard.type("paper no<tag")
    press(tab, "Enter")
    shows(tab, "#dialog .banner", "no<tag' is not a tag")
    playwright.expect(text).to_have_value("paper no<tag")
    text.fill("paper abl-1")
    press(tab, "Enter")
    reads(tab, "#notice", "job 5 command/3: tags: abl-1, paper")
    tab.click("tr[data-job='5'] a.tag >> text=paper")
    tab.wait_for_url("**/jobs?q=tag%3Apaper")
    counts(tab, "tr[data-job]", 1)
    until_alive(tab, "h1", "Jobs")
    press(tab, "/")
    tab.locator("[data-filter]").fill("")
    tab.keyboard.type("net")
    press(tab, "Enter")
    tab.wait_for_url("**/jobs?q=net*")
    counts(tab, "tr[data-job]", 1)
    press(tab, "j", "Enter")
    tab.wait_for_url("**/jobs/1")


def test_html_in_names_and_notes_is_escaped(tab: "Tab", store: Store) -> None:
    leave_out_charts(tab)
    enqueue(store, f"command/{EVIL}")
    shows(tab, "#waiting", EVIL)
    tab.click("#waiting >> text=onerror")
    until_alive(tab, "h1", f"command/{EVIL}")
    press(tab, "n")
    tab.locator("#dialog #text").fill(f"the first line\n  {EVIL}")
    tab.click("#dialog button.note")
    shows(tab, "#notice", "note: the first line")
    shows(tab, ".owner-note", EVIL)
    assert job_row(store, 7).owner_note == f"the first line\n  {EVIL}"
    root = tab.url.partition("jobs")[0]
    for place in ("jobs", "jobs/7/log", "curves?job=7", ""):
        tab.goto(f"{root}{place}")
        shows(tab, "main", "onerror")
    assert tab.locator("main img, main script").count() == 0


def test_typed_text_is_kept_if_the_server_is_gone(tab: "Tab", served_page: Page) -> None:
    leave_out_charts(tab)
    tab.click("text=command/3")
    until_alive(tab, "h1", "command/3")
    press(tab, "n")
    tab.locator("#dialog #text").fill("an hour of thought")
    served_page.process.terminate()
    served_page.process.wait(60)
    tab.click("#dialog button.note")
    shows(tab, "#trouble", "does not respond")
    reads(tab, "#connection", "not connected")
    playwright.expect(tab.locator("#dialog #text")).to_have_value("an hour of thought")


def test_deleted_or_replaced_queue_is_reported_and_a_job_held_after_confirmation(
    tab: "Tab", home: Home, store: Store, tmp_path: Path
) -> None:
    leave_out_charts(tab)
    assert "token" not in tab.url
    tab.click("text=command/3")
    until_alive(tab, "h1", "command/3")
    home.folder.rename(tmp_path / "away")
    shows(tab, "#trouble", "there is no queue yet")
    with tab.expect_response("**/jobs/5/hold"):  # before the queue is there again
        press(tab, "h")
    shows(tab, "#trouble", "there is no queue yet")
    (tmp_path / "away").rename(home.folder)
    playwright.expect(tab.locator("#trouble")).not_to_be_visible()
    tab.click("a.button.hold")
    question = tab.locator("#dialog .ask")
    playwright.expect(question).to_contain_text("hold job 5 command/3?")
    tab.click("#dialog a.back")
    playwright.expect(question).not_to_be_visible()
    assert in_state(store, 5, State.QUEUED)
    press(tab, "h")
    tab.click("#dialog button.hold")
    shows(tab, "#notice", "job 5 command/3 held")
    playwright.expect(tab.locator("a.button.release")).to_be_visible()
    assert in_state(store, 5, State.HELD)
    tab.goto(tab.url.partition("jobs")[0])
    reads(tab, "#connection", "live")
    shows(tab, "#waiting", "command/2")
    home.folder.rename(tmp_path / "away")
    shows(tab, "#warnings", "There is no queue in this folder")
    shows(tab, "#waiting", "command/2", there=False)
    make_home(home)
    with contextlib.closing(Store(home, durable=False)) as other:
        enqueue(other, "command/other")
        shows(tab, "#waiting", "command/other")
    shows(tab, "#warnings", "There is no queue", there=False)
    tab.reload()
    shows(tab, "#waiting", "command/other")


@pytest.mark.night
def test_curves_and_log_grow_and_values_can_be_read(tab: "Tab", home: Home) -> None:
    attempt = home.attempt(1, 1)
    tab.click("text=train/net")
    for step in range(4):
        ProgressWriter(attempt.progress)(
            step=step, total=4, loss=1 / (step + 1), val_loss=2 / (step + 1)
        )
    attempt.log.write_text("first line\n")
    shows(tab, "pre.log", "first line")
    chart = tab.locator("figure:has-text('val_loss') .drawing")
    playwright.expect(chart.locator(".main-svg").first).to_be_visible()
    with attempt.log.open("a") as log:
        log.write("second line\n")
    shows(tab, "pre.log", "second line")
    chart.hover()
    shows(tab, ".read-out", "val_loss")
    playwright.expect(tab.locator(".read-out")).to_have_text(re.compile(r"step [12](?![.\d])"))
    tab.select_option("select[name=scale]", "log")
    tab.wait_for_url("**scale=log*")
    playwright.expect(tab.locator("select[name=scale]")).to_have_value("log")
    counts(tab, "figure:has-text('val_loss') .drawing .scatterlayer .trace", 2)


@pytest.mark.night
def test_phone_needs_no_horizontal_scrolling_in_both_themes(
    chromium: "Browser", runs_page: Page, home: Home, store: Store
) -> None:
    running, waiting = enqueue(store, "train/net", "command/1")
    claimed(store, running)
    home.attempt(running, 1).folder.mkdir(parents=True)
    paths = ("", "jobs", f"jobs/{running}", f"jobs/{running}/log", f"jobs/{waiting}/hold")
    check_phones(chromium, runs_page.link, (*paths, "curves?job=1"), "main")
    of_runs = ("runs", "runs/1", "runs/compare?run=1&run=2")
    check_phones(chromium, runs_page.link, of_runs, "table.results, tr[data-run]")


@pytest.mark.night
def test_ten_thousand_jobs_are_listed_in_pages(tab: "Tab", store: Store) -> None:
    with store.database.writing():
        jobs = (NewJob(spec=a_spec(name=f"train/net{n}")) for n in range(10_000))
        store.insert_new(store.ensure_run(Path("/nowhere"), "many"), a_context(), jobs, 1.0)
    press(tab, "a")
    tab.wait_for_url("**/jobs")
    playwright.expect(tab.locator("tr[data-job]").first).to_have_attribute("data-job", "10006")
    counts(tab, "tr[data-job]", 100)
    for key, first in (("]", 9906), ("[", 10006)):
        press(tab, key)
        row = tab.locator("tr[data-job]").first
        playwright.expect(row).to_have_attribute("data-job", str(first))
        until_alive(tab, "h1", "Jobs")
    press(tab, "/")
    tab.keyboard.type("net999?")
    press(tab, "Enter")
    playwright.expect(tab.locator("tr[data-job]")).to_have_count(0)  # a glob is of the whole name
    tab.fill("[data-filter]", "*net999?")
    press(tab, "Enter")
    counts(tab, "tr[data-job]", 10)
    counts(tab, "a[rel=next]", 0)


@pytest.mark.night
def test_gigabyte_log_is_read_from_its_end_and_beginning(tab: "Tab", home: Home) -> None:
    log = home.attempt(1, 1).log
    with log.open("wb") as file:
        file.write(b"the first line\n")
        file.seek(1 << 30)
        file.write(b"\n" + b"x" * 10_000_000 + b"\nthe last line\n")
    tab.click("text=train/net")
    shows(tab, "pre.log", "the last line")
    tab.click("text=whole log")
    shows(tab, "pre.log", "the last line")
    tab.click("text=beginning")
    shows(tab, "pre.log", "the first line")


# --- The pages of runs in a real Chromium, driven by Playwright; skipped where one of them is missing


@pytest.fixture
def runs_page(home: Home, store: Store, tmp_path: Path) -> Iterator[Page]:
    """The page of a queue with two runs, which have results, curves, pictures and a report."""
    home.stop_record.write_text("{}")
    root = tmp_path / "project"
    for run, rate in (("night", 0.1), ("night", 0.2), ("day", 0.3)):
        settings = {"lr": rate, "depth": 3}
        result = {"auc": rate, "loss": rate / 2}
        job = a_training(store, root, run, settings=settings, result=result)
        attempt = home.attempt(job, 1)
        attempt.folder.mkdir(parents=True)
        for step in range(4):
            ProgressWriter(attempt.progress)(step=step, total=4, loss=rate / (step + 1))
    folder = root / "runs" / "night"
    (folder / "net&pre 1").mkdir(parents=True)
    (folder / "net&pre 1" / "preview.png").write_bytes(a_png())
    (folder / "drawing.svg").write_text(SVG.replace("<circle", "<script>alert(1)</script><circle"))
    (folder / "report.html").write_text("<h2>net</h2><script>document.title='x'</script>")
    (folder / "report-figures").mkdir()
    (folder / "report-figures" / "01 ROC.svg").write_text(SVG)
    with served(tmp_path) as page:
        yield page


@pytest.fixture
def runs_tab(chromium: "Browser", runs_page: Page) -> Iterator["Tab"]:
    """A tab in which the link to the pages of runs was opened."""
    with a_tab(chromium, runs_page.link) as tab:
        yield tab


def test_run_page_is_sorted_and_links_to_its_jobs_and_its_report_and_drawing_run_no_script(
    chromium: "Browser", runs_page: Page, runs_tab: "Tab"
) -> None:
    leave_out_charts(runs_tab)
    runs_tab.click("nav >> text=Runs")
    runs_tab.click("a.job:has-text('night')")
    reads(runs_tab, "h1", "night")
    rows = runs_tab.locator("table.results tbody tr")
    playwright.expect(rows).to_have_count(2)
    counts(runs_tab, "td.best:has-text('0.2')", 1)
    runs_tab.click("table.results th >> text=auc")
    runs_tab.wait_for_url("**sort=-auc*")
    playwright.expect(rows.first).to_contain_text("command/0.2-3")
    runs_tab.click("table.results th >> text=auc")
    runs_tab.wait_for_url("**sort=auc*")
    playwright.expect(rows.first).to_contain_text("command/0.1-3")
    runs_tab.reload()
    playwright.expect(rows.first).to_contain_text("command/0.1-3")
    runs_tab.click("text=command/0.2-3")
    runs_tab.wait_for_url("**/jobs/2")
    runs_tab.click("p.sub a")
    runs_tab.wait_for_url("**/runs/1")
    context = chromium.new_context()
    tab = context.new_page()
    asked: list[str] = []
    tab.on("dialog", lambda dialog: asked.append(dialog.message))
    tab.goto(runs_page.link)
    root = tab.url
    for path in ("drawing.svg", "report.html"):
        tab.goto(f"{root}runs/1/files/run/{path}")
        assert tab.title() != "x"
    assert not asked
    context.close()


@pytest.mark.night
def test_pictures_and_figures_load_and_open(runs_tab: "Tab", runs_page: Page) -> None:
    runs_tab.goto(f"{runs_tab.url}run/night")
    pictures = runs_tab.locator("figure.picture img")
    playwright.expect(pictures).to_have_count(3)
    for number in range(3):
        picture = pictures.nth(number)
        picture.scroll_into_view_if_needed()
        # the drawing, the preview sheet, and a plot of the report
        runs_tab.wait_for_function(
            "(image) => image.complete && image.naturalWidth > 0", arg=picture.element_handle()
        )
    runs_tab.click("figcaption:has-text('preview.png') >> xpath=.. >> img")
    runs_tab.wait_for_url("**/preview.png**")
    runs_tab.go_back()
    runs_tab.click("figcaption:has-text('01 ROC') >> xpath=.. >> img")
    runs_tab.wait_for_url("**/01%20ROC.svg**")


@pytest.mark.night
def test_runs_are_filtered_selected_by_keys_and_compared(runs_tab: "Tab") -> None:
    until_alive(runs_tab, "nav", "Runs")
    press(runs_tab, "R")
    runs_tab.wait_for_url("**/runs")
    rows = runs_tab.locator("tr[data-run]")
    playwright.expect(rows).to_have_count(2)
    until_alive(runs_tab, "h1", "Runs")
    press(runs_tab, "j", "j")
    playwright.expect(runs_tab.locator("tr.chosen")).to_have_attribute("data-run", "1")
    runs_tab.keyboard.press("c")  # nothing of a run is cancelled
    playwright.expect(runs_tab.locator("#dialog")).not_to_be_visible()
    press(runs_tab, "Enter")
    runs_tab.wait_for_url("**/runs/1")
    runs_tab.go_back()
    runs_tab.check("input[value='1']")
    runs_tab.check("input[value='2']")
    runs_tab.click("text=compare the selected runs")
    runs_tab.wait_for_url("**/runs/compare?run=2&run=1")
    counts(runs_tab, "table.results tbody tr", 3)
    playwright.expect(runs_tab.locator("td.best").first).to_contain_text("0.3")
    until_alive(runs_tab, "h1", "Comparison")
    press(runs_tab, "R")
    runs_tab.wait_for_url("**/runs")
    until_alive(runs_tab, "h1", "Runs")
    press(runs_tab, "/")
    runs_tab.keyboard.type("lr=3e-1")
    press(runs_tab, "Enter")
    runs_tab.wait_for_url("**/runs?q=lr*")
    playwright.expect(rows).to_have_count(1)
    playwright.expect(rows.first).to_contain_text("day")


def test_run_page_updates_itself(runs_tab: "Tab", store: Store, tmp_path: Path) -> None:
    leave_out_charts(runs_tab)
    runs_tab.goto(f"{runs_tab.url}runs")
    until_alive(runs_tab, "h1", "Runs")
    a_training(store, tmp_path / "project", "dusk", settings={"lr": 1}, result={"auc": 1.5})
    playwright.expect(runs_tab.locator("tr[data-run]").first).to_contain_text("dusk")
    runs_tab.click("a.job:has-text('dusk')")
    shows(runs_tab, "table.results", "1.5")


@pytest.mark.night
def test_runs_are_filtered_and_compared_without_javascript(
    chromium: "Browser", runs_page: Page
) -> None:
    context = chromium.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(runs_page.link)
    tab.click("nav >> text=Runs")
    tab.fill("input[name=q]", "depth=3")
    tab.click("text=filter")
    counts(tab, "tr[data-run]", 2)
    tab.check("input[value='1']")
    tab.click("text=compare the selected runs")
    counts(tab, "ul.list li", 1)
    context.close()
