"""The curves of a run in a real Chromium, driven by Playwright; skipped where one of them is missing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from launcher.queue.home.paths import Home
from launcher.queue.jobs.params import PARAMS
from launcher.queue.store.queue import Store
from tests.build import a_spec, claimed, enqueue
from tests.launcher.web.browser import Page, served
from tests.launcher.web.chromium import (
    CHROMIUM,
    PHONE,
    a_chromium,
    a_tab,
    check_phones,
    counts,
    reads,
    shows,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on PATH"),
]

EVIL = '</script><script>alert(1)</script><b>%{x}"'
_AXIS = "document.querySelector('.js-plotly-plot')._fullLayout.xaxis.range"
LOSS = "figure:has(figcaption:text-is('loss'))"


@pytest.fixture(scope="module")
def chromium() -> Iterator["Browser"]:
    """A browser that nobody sees."""
    with a_chromium() as browser:
        yield browser


def report(home: Home, job: int, steps: int, *, height: float = 1.0) -> None:
    """Let a running job have reported this many steps."""
    attempt = home.attempt(job, 1)
    attempt.folder.mkdir(parents=True, exist_ok=True)
    lines = (
        {"at": 5.0, "step": step, "total": 40, "metrics": {"loss": height / step}}
        for step in range(1, steps + 1)
    )
    attempt.progress.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


@pytest.fixture
def sweep(home: Home, store: Store) -> list[int]:
    """The running jobs of a sweep: three values with two seeds each, one of the jobs without numbers."""
    home.stop_record.write_text("{}")
    jobs = []
    for place, value in enumerate((0.1, 0.2, EVIL)):
        for seed in (1, 2):
            spec = a_spec(
                "x", name=f"command/{place}-{seed}", settings={PARAMS: {"lr": value, "seed": seed}}
            )
            (job,) = enqueue(store, spec, run="sweep")
            claimed(store, job)
            jobs.append(job)
            if len(jobs) < 6:
                report(home, job, 20 * seed, height=place + seed)
    return jobs


@pytest.fixture
def sweep_page(sweep: list[int], tmp_path: Path) -> Iterator[Page]:
    with served(tmp_path) as page:
        yield page


@pytest.fixture
def tab(chromium: "Browser", sweep_page: Page) -> Iterator["Tab"]:
    """A tab that shows the run; no error may be left in its console, the refusals of its policy among them."""
    with a_tab(chromium, sweep_page.link) as tab:
        tab.goto(f"{tab.url}runs/1")
        tab.locator(".drawing .main-svg").first.wait_for()
        yield tab


def test_all_jobs_are_drawn_in_groups_and_a_live_page_keeps_its_zoom(
    tab: "Tab", home: Home, sweep: list[int]
) -> None:
    reads(tab, ".shown-jobs", "5 of 6 jobs have curves; 1 does not have any yet")
    counts(tab, f"{LOSS} .legend li", 4)
    shows(tab, f"{LOSS} .legend", f"lr={EVIL}")
    shows(tab, f"{LOSS} .legend", "band: minimum to maximum")
    # three lines, and bands of the two groups of two jobs
    counts(tab, f"{LOSS} .scatterlayer .trace", 5)
    counts(tab, f"{LOSS} .js-fill[d]", 2)
    box = tab.locator(f"{LOSS} .drawing .nsewdrag").bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    tab.mouse.move(box["x"] + box["width"] / 4, y)
    shows(tab, ".read-out", "n = 2")
    shows(tab, ".read-out", f"lr={EVIL}")
    tab.mouse.move(box["x"] + box["width"] * 0.9, y)
    shows(tab, ".read-out", "lr=0.1")
    shows(tab, ".read-out", "n = ", there=False)
    tab.mouse.move(5, 5)
    counts(tab, ".read-out", 0)
    tab.mouse.move(box["x"] + box["width"] * 0.25, y)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] * 0.5, y, steps=5)
    tab.mouse.up()
    tab.wait_for_function(f"{_AXIS}[1] < 25")
    zoomed = tab.evaluate(_AXIS)
    tab.click(f"{LOSS} summary")
    report(home, sweep[5], 40)
    reads(tab, ".shown-jobs", "6 of 6 jobs")
    assert tab.evaluate(_AXIS) == zoomed
    counts(tab, f"{LOSS} .plot-container", 1)
    playwright.expect(tab.locator(f"{LOSS} .numbers table")).to_be_visible()


def test_page_without_javascript_has_the_numbers(chromium: "Browser", sweep_page: Page) -> None:
    context = chromium.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(sweep_page.link)
    tab.goto(f"{tab.url}runs/1")
    shows(tab, f"{LOSS} .drawing", "This chart needs JavaScript. The table has its numbers.")
    playwright.expect(tab.locator(f"{LOSS} .undrawn")).to_be_visible()
    tab.click(f"{LOSS} summary")
    shows(tab, f"{LOSS} .numbers", "0.75 (0.5 to 1, 2 jobs)", there=False)
    shows(tab, f"{LOSS} .numbers", "1.5 (1 to 2, 2 jobs)")
    tab.select_option("select[name=group]", "seed")
    tab.click("text=show")
    shows(tab, f"{LOSS} .legend", "seed=2")
    context.close()


def test_chart_fits_a_phone_and_lets_a_finger_scroll(chromium: "Browser", sweep_page: Page) -> None:
    paths = ["jobs/1", "curves?job=1&job=2"]
    check_phones(chromium, sweep_page.link, paths, ".main-svg", themes=["dark"])
    context = chromium.new_context(
        viewport={"width": 390, "height": PHONE[1]}, has_touch=True, is_mobile=True
    )
    tab = context.new_page()
    tab.goto(sweep_page.link)
    tab.goto(f"{tab.url}runs/1")
    tab.locator(f"{LOSS} .drawing .main-svg").first.wait_for()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    drawing = tab.locator(f"{LOSS} .drawing")
    drawing.tap(position={"x": 120, "y": 120})
    shows(tab, ".read-out", "n = 2")
    box = drawing.bounding_box()
    assert box is not None
    touch = context.new_cdp_session(tab)
    x, y = box["x"] + 150, box["y"] + 200
    touch.send(
        "Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]}
    )
    for up in range(20, 220, 20):
        points = [{"x": x, "y": y - up}]
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": points})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    tab.wait_for_function("scrollY > 50")
    context.close()
