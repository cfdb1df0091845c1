"""The documentation site: it builds without a broken link, and asks no other host for anything."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("material", reason="the site is built by mkdocs-material, of the extra `docs`")

TREE = Path(__file__).parents[2]
# what a browser fetches with a page; a link to another host is only followed by a reader
FETCHED = re.compile(r"<(?:link|script|img|iframe|source)\b[^>]*\b(?:href|src)=\"?(https?:)?//")


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


@pytest.mark.slow
def test_the_readme_is_the_first_page_and_its_links_and_pictures_work(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    near = {link for link in re.findall(r"(?:href|src)=\"?([^\"#\s>]+)", text) if ":" not in link}
    assert {"tasks/tour.yaml", "top-busy.svg", "tasks.html", "CONTRIBUTING.html"} <= near
    assert not [link for link in near if not (site / link).exists()]


@pytest.mark.slow
def test_no_page_fetches_anything_from_another_host(site: Path) -> None:
    pages = list(site.glob("**/*.html"))
    assert len(pages) > 20
    assert not [page.name for page in pages if FETCHED.search(page.read_text(encoding="utf-8"))]


@pytest.mark.slow
def test_the_search_knows_every_page(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    searched = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert {page.name for page in site.glob("*.html")} - {"404.html", "index.html"} <= searched


@pytest.mark.slow
def test_the_commands_have_a_page_with_each_verb(site: Path) -> None:
    text = (site / "commands.html").read_text(encoding="utf-8")
    assert 'id="launcher-add"' in text
    assert 'id="trueface-report"' in text
