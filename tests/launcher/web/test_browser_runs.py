"""The pages of runs in a real Chromium, driven by Playwright; skipped where one of them is missing."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from launcher.store.queue import Store
from launcher.system.paths import Home
from launcher.workers.progress.steps import Progress
from tests.launcher.web.browser import Page, served
from tests.launcher.web.chromium import CHROMIUM, a_chromium, a_tab, check_phones, until_alive
from tests.launcher.web.made_runs import SVG, a_png, a_training

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

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
def served_page(home: Home, store: Store, tmp_path: Path) -> Iterator[Page]:
    """The page of a queue with two runs, which have results, curves, pictures and a report."""
    home.stop.write_text("{}")
    root = tmp_path / "project"
    for run, rate in (("night", 0.1), ("night", 0.2), ("day", 0.3)):
        settings = {"lr": rate, "depth": 3}
        result = {"auc": rate, "loss": rate / 2}
        job = a_training(store, root, run, settings=settings, result=result)
        attempt = home.attempt(job, 1)
        attempt.folder.mkdir(parents=True)
        for step in range(4):
            Progress(attempt.progress)(step=step, total=4, loss=rate / (step + 1))
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
def tab(chromium: "Browser", served_page: Page) -> Iterator["Tab"]:
    """A tab in which the link was opened; no error may be left in its console."""
    with a_tab(chromium, served_page.link) as tab:
        yield tab


def test_a_run_is_opened_ordered_and_leads_to_its_jobs(tab: "Tab") -> None:
    tab.click("nav >> text=Runs")
    tab.click("a.job:has-text('night')")
    playwright.expect(tab.locator("h1")).to_have_text("night")
    rows = tab.locator("table.results tbody tr")
    playwright.expect(rows).to_have_count(2)
    playwright.expect(tab.locator("td.best:has-text('0.2')")).to_have_count(1)
    tab.click("table.results th >> text=auc")
    tab.wait_for_url("**sort=-auc*")
    playwright.expect(rows.first).to_contain_text("command/0.2-3")
    tab.click("table.results th >> text=auc")
    tab.wait_for_url("**sort=auc*")
    playwright.expect(rows.first).to_contain_text("command/0.1-3")
    tab.reload()
    playwright.expect(rows.first).to_contain_text("command/0.1-3")
    tab.click("text=its curves")
    playwright.expect(tab.locator("svg.chart").first).to_be_visible()
    tab.go_back()
    tab.click("text=command/0.2-3")
    tab.wait_for_url("**/jobs/2")
    tab.click("p.sub a")
    tab.wait_for_url("**/runs/1")


@pytest.mark.night
def test_pictures_and_figures_load_and_are_opened(tab: "Tab", served_page: Page) -> None:
    tab.goto(f"{tab.url}run/night")
    pictures = tab.locator("figure.picture img")
    playwright.expect(pictures).to_have_count(3)
    for number in range(3):
        picture = pictures.nth(number)
        picture.scroll_into_view_if_needed()
        # the drawing, the preview sheet, and a plot of the report
        tab.wait_for_function(
            "(image) => image.complete && image.naturalWidth > 0", arg=picture.element_handle()
        )
    tab.click("figcaption:has-text('preview.png') >> xpath=.. >> img")
    tab.wait_for_url("**/preview.png**")
    tab.go_back()
    tab.click("figcaption:has-text('01 ROC') >> xpath=.. >> img")
    tab.wait_for_url("**/01%20ROC.svg**")


def test_a_report_and_a_drawing_run_no_script(chromium: "Browser", served_page: Page) -> None:
    context = chromium.new_context()
    tab = context.new_page()
    asked: list[str] = []
    tab.on("dialog", lambda dialog: asked.append(dialog.message))
    tab.goto(served_page.link)
    root = tab.url
    for path in ("drawing.svg", "report.html"):
        tab.goto(f"{root}runs/1/files/run/{path}")
        assert tab.title() != "x"
    assert not asked
    context.close()


@pytest.mark.night
def test_runs_are_filtered_chosen_by_keys_and_compared(tab: "Tab") -> None:
    until_alive(tab, "nav", "Runs")
    tab.keyboard.press("R")
    tab.wait_for_url("**/runs")
    rows = tab.locator("tr[data-run]")
    playwright.expect(rows).to_have_count(2)
    until_alive(tab, "h1", "Runs")
    tab.keyboard.press("j")
    tab.keyboard.press("j")
    playwright.expect(tab.locator("tr.chosen")).to_have_attribute("data-run", "1")
    tab.keyboard.press("c")  # nothing of a run is cancelled
    playwright.expect(tab.locator("#dialog")).not_to_be_visible()
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/runs/1")
    tab.go_back()
    tab.check("input[value='1']")
    tab.check("input[value='2']")
    tab.click("text=compare the chosen runs")
    tab.wait_for_url("**/runs/compare?run=2&run=1")
    playwright.expect(tab.locator("table.results tbody tr")).to_have_count(3)
    playwright.expect(tab.locator("td.best").first).to_contain_text("0.3")
    until_alive(tab, "h1", "Comparison")
    tab.keyboard.press("R")
    tab.wait_for_url("**/runs")
    until_alive(tab, "h1", "Runs")
    tab.keyboard.press("/")
    tab.keyboard.type("lr=0.30")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/runs?q=lr*")
    playwright.expect(rows).to_have_count(1)
    playwright.expect(rows.first).to_contain_text("day")


def test_a_run_renews_itself(tab: "Tab", store: Store, tmp_path: Path) -> None:
    tab.goto(f"{tab.url}runs")
    until_alive(tab, "h1", "Runs")
    a_training(store, tmp_path / "project", "dusk", settings={"lr": 1}, result={"auc": 1.5})
    playwright.expect(tab.locator("tr[data-run]").first).to_contain_text("dusk")
    tab.click("a.job:has-text('dusk')")
    playwright.expect(tab.locator("table.results")).to_contain_text("1.5")


@pytest.mark.night
def test_a_phone_needs_no_scrolling_sideways_in_either_theme(
    chromium: "Browser", served_page: Page
) -> None:
    paths = ("runs", "runs/1", "runs/compare?run=1&run=2")
    check_phones(chromium, served_page.link, paths, "table.results, tr[data-run]")


@pytest.mark.night
def test_without_javascript_runs_are_filtered_and_compared(
    chromium: "Browser", served_page: Page
) -> None:
    context = chromium.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(served_page.link)
    tab.click("nav >> text=Runs")
    tab.fill("input[name=q]", "depth=3")
    tab.click("text=filter")
    playwright.expect(tab.locator("tr[data-run]")).to_have_count(2)
    tab.check("input[value='1']")
    tab.click("text=compare the chosen runs")
    playwright.expect(tab.locator("ul.list li")).to_have_count(1)
    context.close()
