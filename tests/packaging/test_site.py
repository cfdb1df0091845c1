"""The documentation site: it builds without a broken link, and asks no other host for anything."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.build import until
from tests.launcher.web.chromium import CHROMIUM, a_chromium, a_tab
from tests.searched_words import PAGES_OF_WORDS

pytest.importorskip("material", reason="the site is built by mkdocs-material, of the extra `docs`")

TREE = Path(__file__).parents[2]
# files that a browser fetches with a page; a link to another host is only followed by a reader
FETCHED = re.compile(r"<(?:link|script|img|iframe|source)\b[^>]*\b(?:href|src)=\"?(https?:)?//")
NEEDS_CHROMIUM = pytest.mark.skipif(
    CHROMIUM is None or find_spec("playwright") is None, reason="Chromium or playwright is missing"
)
PATIENCE_S = 60.0
WIDE_PAGES = (
    "index",
    "tasks",
    "measured",
    "commands",
    "parts",
    "watching",
    "scripting",
    "environment",
    "api",
    "studies",
    "benchmarks/RESULTS",
)  # tables, pictures
# wider than the window: the page, a picture, or a table that cannot be moved to its end
OVERFLOW = """() => {
  const width = document.documentElement.clientWidth;
  const wide = document.documentElement.scrollWidth > width ? ["the page"] : [];
  for (const element of document.querySelectorAll("article img, article table")) {
    const inner = element.closest(".md-typeset__scrollwrap");
    if (!inner && element.getBoundingClientRect().right > width + 1) wide.push(element.outerHTML.slice(0, 80));
  }
  return wide;
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = ("mkdocs", "build", "--strict", "--config-file", ".ci/mkdocs.yml")
    done = subprocess.run(
        [sys.executable, "-m", *command, "--site-dir", folder],
        cwd=TREE,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.night
def test_readme_is_the_first_page_with_working_links_and_pictures(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    near = {link for link in re.findall(r"(?:href|src)=\"?([^\"#\s>]+)", text) if ":" not in link}
    assert {"CITATION.cff", "top-busy.svg", "tasks.html", "CONTRIBUTING.html"} <= near
    assert not [link for link in near if not (site / link).exists()]


@pytest.mark.night
def test_pages_load_nothing_from_other_hosts(site: Path) -> None:
    pages = list(site.glob("**/*.html"))
    assert len(pages) > 15
    assert not [page.name for page in pages if FETCHED.search(page.read_text(encoding="utf-8"))]


@pytest.mark.night
def test_search_index_contains_every_page(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    searched = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert {page.name for page in site.glob("*.html")} - {"404.html", "index.html"} <= searched


@pytest.mark.night
def test_command_page_contains_every_command(site: Path) -> None:
    text = (site / "commands.html").read_text(encoding="utf-8")
    assert 'id="launcher-add"' in text
    assert 'id="trueface-report"' in text


@pytest.mark.night
def test_pages_show_job_types_and_dashboard_keys(site: Path) -> None:
    keys = (site / "keys.html").read_text(encoding="utf-8")
    anchors = ("train", "unlearn", "forget", "command", "resources", "old-names")
    assert not [name for name in anchors if f'id="{name}"' not in keys]
    assert "next section, previous section" in (site / "watching.html").read_text("utf-8")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Write nothing to the terminal."""


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    """The site's address on a server of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.night
@NEEDS_CHROMIUM
def test_search_finds_the_pages_of_a_word(served: str) -> None:
    with a_chromium() as browser, a_tab(browser, f"{served}/index.html") as tab:
        field = tab.locator(".md-search__input")
        results = tab.locator(".md-search-result__item a[href*='gpus.html']")

        def search() -> bool:
            field.fill("")
            field.press_sequentially("reservation")
            tab.wait_for_timeout(500)
            return results.count() > 0

        until(search, "the page on GPUs is among the results", PATIENCE_S)
        assert any("reservation" in text.lower() for text in results.all_inner_texts())


@pytest.mark.night
@NEEDS_CHROMIUM
@pytest.mark.parametrize("width", [1400, 400])
def test_pages_are_not_wider_than_the_window(served: str, width: int) -> None:
    with a_chromium() as browser, a_tab(browser, f"{served}/index.html") as tab:
        tab.set_viewport_size({"width": width, "height": 900})
        for page in WIDE_PAGES:
            tab.goto(f"{served}/{page}.html")
            assert tab.evaluate(OVERFLOW) == [], page


@NEEDS_CHROMIUM
@pytest.mark.night
def test_search_of_the_site_shows_the_page_of_each_word_among_the_first_three(served: str) -> None:
    wrong = {}
    with a_chromium() as browser, a_tab(browser, f"{served}/index.html") as tab:
        for word, page in PAGES_OF_WORDS.items():
            tab.goto(f"{served}/index.html?q={quote(word)}")
            found = tab.locator(".md-search-result__item > a")
            found.first.wait_for(state="attached")
            links = [link.get_attribute("href") or "" for link in found.all()[:3]]
            if not any(f"/{page}.html" in link for link in links):
                wrong[word] = links
    assert not wrong
