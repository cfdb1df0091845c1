import contextlib
import gzip
import hashlib
import json
import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape

from launcher.frontends.web.run_pictures import MOST_BYTES
from launcher.frontends.web.runs import LISTED, runs_fingerprint
from launcher.queue.home.paths import Home
from launcher.queue.jobs.params import PARAMS
from launcher.queue.jobs.states import Done
from launcher.queue.store.listings import RunRecord
from launcher.queue.store.queue import Store
from launcher.queue.workers.progress.steps import ProgressWriter
from launcher.system.installation import install_command
from tests.build import a_spec, claimed, enqueue, finished, job_row, until
from tests.launcher.queued_again import FAILED, RUN, add
from tests.launcher.web.browser import Page, events, served
from tests.launcher.web.made_runs import SVG, a_png, a_training, done

EVIL = "<script>alert(1)</script>"
REPORT = (
    "<!DOCTYPE html><style>text { fill: red; }</style><h1>report</h1><script>alert(1)</script>"
    '<svg viewBox="0 0 200 90"><title>ROC</title><text>a</text></svg>'
)

ELSEWHERE = (
    "run/../secret.png",
    "run/%2e%2e/secret.png",
    "run/%2e%2e%2fsecret.png",
    "run/..%2f..%2fsecret.png",
    "run//etc/secret.png",
    "run/link.png",
    "run/out/secret.png",
    "run/notes.txt",
    "run/inner/page.html",
    "run/%00.png",
    "run/%ff.png",
    "run/pipe.png",
    "run/inner",
    "run/",
    "attempt-/secret.png",
    "attempt-99999999999999999999/secret.png",
    "output-1-0/secret.png",
    "nothing/secret.png",
    "../../jobs/secret.png",
)


class FigureReader(HTMLParser):
    """Reads the data of charts as a browser does."""

    def __init__(self) -> None:
        super().__init__()
        self.plots: list[dict[str, Any]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "figure" and (data := dict(attrs).get("data-plot")):
            self.plots.append(json.loads(data))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "runs" / "night").mkdir(parents=True)
    return root


@pytest.fixture
def page(home: Home, store: Store, root: Path, tmp_path: Path) -> Iterator[Page]:
    """The page of a queue in which nothing starts, with three runs: two of them have results."""
    home.stop_record.write_text("{}")
    for run, rate in (("night", 0.1), ("night", 0.2), ("day", 0.3)):
        settings = {"lr": rate, "depth": 3}
        a_training(store, root, run, settings=settings, result={"auc": rate, "loss": rate / 2})
    enqueue(store, f"command/{EVIL}", run=EVIL, root=root)
    with served(tmp_path) as page:
        yield page


def shown(page: Page, path: str, text: str) -> str:
    """Wait until a page shows a text, and return it. Results are read in the background."""
    html = ""

    def there() -> bool:
        nonlocal html
        html = page.get(path).text
        return text in html

    until(there, f"{path} shows {text!r}")
    return html


def test_run_page_shows_progress_and_results_and_other_pages_link_to_it(page: Page) -> None:
    html = shown(page, "runs/1", "★")
    assert "<h1>night</h1>" in html
    assert "<b>2</b> done" in html
    for text in ("0.2 <span", 'href="?sort=-auc"', 'href="?sort=loss"', ">lr<"):
        assert text in html
    assert ">depth<" not in html
    assert f'href="{page.root}runs/1"' in page.get("jobs/1").text
    assert f'href="{page.root}run/night"' in page.get("jobs").text
    assert f'href="{page.root}run/' in page.get("").text


def test_only_done_jobs_fill_the_bar_of_a_run(page: Page, store: Store, root: Path) -> None:
    for ends in (Done(at=2.0), FAILED, FAILED):
        (job,) = enqueue(store, f"command/{store.read.last_event()}", run="mixed", root=root)
        finished(store, job, ends)
    (waiting,) = enqueue(store, "command/waiting", run="mixed", root=root)
    store.job_control.cancel([waiting], 2.0)
    bar = '<progress max="4" value="1">1 of 4</progress>'
    for path in ("runs", "run/mixed"):
        answer = page.get(path)
        if answer.status == 303:
            answer = page.get(answer.headers["location"].removeprefix(page.root))
        assert bar in answer.text


def test_run_name_redirects_to_the_newest_run(page: Page) -> None:
    answer = page.get("run/day")
    assert (answer.status, answer.headers["location"]) == (303, f"{page.root}runs/2")
    assert page.get("run/nobody").status == 404
    assert page.get("runs/77").status == 404


def test_run_without_results_is_reported_and_hostile_names_stay_text(
    page: Page, home: Home, store: Store, tmp_path: Path
) -> None:
    html = shown(page, "runs/3", "No results yet")
    assert EVIL not in html
    assert "&lt;script&gt;alert(1)" in html
    listed = page.get("runs").text
    assert EVIL not in listed
    assert "&lt;script&gt;alert(1)" in listed
    named = page.get("run/%3Cscript%3Ealert(1)%3C/script%3E")
    assert named.headers["location"] == f"{page.root}runs/3"
    assert EVIL not in page.get("run/%3Cscript%3Ealert(1)").text
    evil = "</script><script>alert(1)</script>\"' onload='x"
    spec = a_spec("train.py", name="command/evil", settings={PARAMS: {"how": evil}})
    (job,) = done(store, spec, run="own", root=tmp_path)
    report(home, job, **{evil: 0.5})
    run = job_row(store, job).run_id
    html = shown(page, f"runs/{run}?group=how", "1 of 1 job")
    assert "<script>alert" not in html
    figures = FigureReader()
    figures.feed(html)
    (plot,) = figures.plots
    assert plot["lines"][0]["name"] == f"how={evil}"


def test_runs_are_filtered_by_settings_and_names(page: Page) -> None:
    assert page.get("runs").text.count("data-run=") == 3
    assert page.get("runs?q=lr%3D0.3").text.count("data-run=") == 1
    assert page.get("runs?q=depth%3D3+nig").text.count("data-run=") == 1
    assert "No run matches" in page.get("runs?q=lr%3D7").text
    assert "Did you mean &#39;depth&#39;?" in page.get("runs?q=deepth%3D3").text


def test_runs_are_listed_in_pages(page: Page, store: Store, root: Path) -> None:
    for number in range(60):
        enqueue(store, "command/1", run=f"sweep{number}", root=root)
    html = page.get("runs").text
    assert html.count("data-run=") == 50
    assert 'rel="next" href="?before=14"' in html
    older = page.get("runs?before=14").text
    assert older.count("data-run=") == 13
    assert 'rel="prev" href="?after=13"' in older
    assert page.get("runs?before=14&q=sweep").text.count("data-run=") == 10


def test_runs_are_compared_in_one_table(page: Page) -> None:
    html = shown(page, "runs/compare?run=1&run=2&run=77&run=x", "★")
    assert html.count("<tr data-job=") == 3
    for text in (">run</a>", ">lr</a>", "night", "day", "0.3 <span"):
        assert text in html
    assert ">depth</a>" not in html
    assert "Choose runs" in page.get("runs/compare").text


def test_pictures_of_a_run_are_shown_and_sent_unless_too_large(
    page: Page, root: Path, home: Home
) -> None:
    folder = root / "runs" / "night" / "net&pre 1"
    folder.mkdir()
    (folder / "preview.png").write_bytes(a_png())
    attempt = home.attempt(1, 1).folder
    attempt.mkdir(parents=True)
    (attempt / "sheet.svg").write_text(SVG)
    html = shown(page, "runs/1", "preview.png")
    assert 'loading="lazy"' in html
    answer = page.get("runs/1/files/run/net%26pre%201/preview.png")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    assert answer.body == a_png()
    assert page.get("runs/1/files/attempt-1/sheet.svg").body == SVG.encode()
    assert page.get("runs/2/files/attempt-1/sheet.svg").status == 404  # a file of another run
    (folder / "preview.png").unlink()
    assert page.get("runs/1/files/run/net%26pre%201/preview.png").status == 404
    with (root / "runs" / "night" / "sheet.png").open("wb") as file:
        file.truncate(200_000_000)
    html = shown(page, "runs/1", "too large to be shown here")
    assert "files/run/sheet.png" not in html
    answer = page.get("runs/1/files/run/sheet.png")
    assert answer.status == 413
    assert len(answer.body) < MOST_BYTES


def test_drawings_and_a_report_with_its_plots_are_shown_without_scripts(
    page: Page, root: Path
) -> None:
    (root / "runs" / "night" / "report.html").write_text(REPORT)
    plot = root / "runs" / "night" / "report-figures" / "net" / "01 ROC.svg"
    plot.parent.mkdir(parents=True)
    plot.write_text(SVG)
    html = shown(page, "runs/1", "report.html?v=")
    assert ">report-figures/net/01 ROC.svg</figcaption>" in html
    report = page.get("runs/1/files/run/report.html")
    assert report.headers["content-security-policy"].endswith("sandbox")
    figure = page.get("runs/1/files/run/report-figures/net/01%20ROC.svg")
    assert figure.headers["content-type"] == "image/svg+xml"
    assert figure.text == SVG
    evil = f'<svg xmlns="http://www.w3.org/2000/svg">{EVIL}</svg>'
    (root / "runs" / "night" / "evil.svg").write_text(evil)
    answer = page.get("runs/1/files/run/evil.svg")
    policies = answer.headers["content-security-policy"]
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in policies
    assert policies.endswith("sandbox")
    assert "script" not in policies


def test_new_file_in_a_run_folder_is_read_at_once(root: Path) -> None:
    run = RunRecord(
        id=1, name="night", root=str(root), share=1.0, submitted=1.0, started=None, ended=None
    )
    before = runs_fingerprint([run], now=60.0)
    assert runs_fingerprint([run], now=61.0) == before
    (root / "runs" / "night" / "report.html").write_text(REPORT)
    assert runs_fingerprint([run], now=61.0) != before


def test_other_files_are_not_sent(page: Page, root: Path) -> None:
    folder = root / "runs" / "night"
    (root / "runs" / "secret.png").write_bytes(b"secret")
    (folder / "link.png").symlink_to("/etc/passwd")
    (folder / "out").symlink_to(root / "runs")
    (folder / "notes.txt").write_text("secret")
    (folder / "inner").mkdir()
    (folder / "inner" / "page.html").write_text("secret")
    os.mkfifo(folder / "pipe.png")
    for path in ELSEWHERE:
        answer = page.get(f"runs/1/files/{path}")
        assert answer.status == 404, path
        assert b"secret" not in answer.body.replace(b"/secret", b"")
        assert b"root:" not in answer.body


def test_stream_sends_results_when_they_are_read(
    page: Page, home: Home, store: Store, root: Path
) -> None:
    (number,) = enqueue(store, "command/late", run="night", root=root)
    with contextlib.closing(page.stream("runs/1")) as connection:
        heard = events(connection)
        parts: dict[str, str] = {}
        while "★" not in parts.get("results", ""):
            event = next(heard)
            parts[event["id"]] = event["html"]
        claimed(store, number)
        while "Running" not in parts.get("jobs", ""):
            event = next(heard)
            parts[event["id"]] = event["html"]
        assert "command/late" in parts["jobs"]


def report(home: Home, job: int, **values: float) -> None:
    """Let the first attempt of a job report numbers."""
    attempt = home.attempt(job, 1)
    attempt.folder.mkdir(parents=True, exist_ok=True)
    ProgressWriter(attempt.progress)(step=1, total=1, **values)


def test_run_page_has_the_curves_of_all_jobs(page: Page, home: Home) -> None:
    attempt = home.attempt(2, 1)
    attempt.folder.mkdir(parents=True)
    attempt.log.write_text("launcher: step=1 total=2 loss=0.5\nlauncher: step=2 total=2 loss=0.4\n")
    html = shown(page, "runs/1", "1 of 2 jobs has curves; 1 ended without any")
    assert "1 of 2 jobs has curves of loss; 1 ended without any" in html
    assert "lr=0.2 <b>0.4</b>" in html


def test_curves_are_grouped_as_the_address_says(
    page: Page, home: Home, store: Store, tmp_path: Path
) -> None:
    for rate, seed in ((0.1, 1), (0.1, 2), (0.5, 1), (0.5, 2)):
        job = a_training(store, tmp_path, "own", settings={"lr": rate, "seed": seed})
        report(home, job, loss=rate * seed)
    run = store.database.execute("SELECT id FROM runs WHERE name = 'own'").fetchone()["id"]
    html = shown(page, f"runs/{run}", "4 of 4 jobs")
    assert '<option value="lr" selected>' in html
    assert "lr=0.5 <b>0.75</b> 2 jobs" in html
    assert "band: minimum to maximum" in html
    assert ">0.75 (0.5 to 1, 2 jobs)</td>" in html
    html = shown(page, f"runs/{run}?group=seed&band=interval", "seed=2 <b>0.6</b> 2 jobs")
    assert "band: 95 % interval of the mean" in html
    html = shown(page, f"runs/{run}?group=%3C/script%3E%3Cb%3E", "no job has a setting")
    assert "<b>'" not in html
    assert "</script><b>" not in html
    html = shown(page, f"runs/{run}?filter=lr%3D0.5", "2 of 4 jobs match the filter")
    assert "lr=0.1 <b>" not in html


def test_chart_library_is_sent_once_and_compressed(page: Page) -> None:
    html = page.get("runs/1").text
    (address,) = re.findall(r'<script src="([^"]*plotly[^"]*)"', html)
    plain = page.ask(address)
    packed = page.ask(address, Accept_Encoding="gzip, br")
    assert plain.status == packed.status == 200
    assert plain.headers["content-type"].startswith("text/javascript")
    assert "immutable" in plain.headers["cache-control"]
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert hashlib.sha256(plain.body).hexdigest().startswith(address.partition("?v=")[2])
    assert page.ask(address, Cookie="").status == 403
    assert "plotly" not in page.get("jobs").text.partition("<script")[2]


def test_page_without_the_chart_library_says_so_and_keeps_its_tables(
    home: Home, store: Store, root: Path, tmp_path: Path
) -> None:
    job = a_training(store, root, "night", settings={"lr": 0.1})
    report(home, job, loss=0.25)
    (tmp_path / "hides" / "plotly").mkdir(parents=True)
    (tmp_path / "hides" / "plotly" / "__init__.py").touch()
    paths = os.pathsep.join([str(tmp_path / "hides"), os.environ.get("PYTHONPATH", "")])
    with served(tmp_path, environment={**os.environ, "PYTHONPATH": paths}) as page:
        html = shown(page, "runs/1", "1 of 1 job")
        assert "The package plotly is not installed, so there is no chart" in html
        assert escape(install_command("web")) in html
        assert ">0.25</td>" in html
        assert "plotly.min.js" not in html
        assert "plotly is not installed" in page.get(f"jobs/{job}").text
        assert page.get("static/plotly.min.js").status == 404


def test_failed_job_is_shown_after_many_replaced_jobs(page: Page, store: Store) -> None:
    add(store, a_spec(name="command/real"), FAILED)
    again = a_spec(name="command/again")
    for _ in range(LISTED + 1):
        add(store, again, FAILED)
    add(store, again)
    (run,) = {job.run_id for job in store.read.jobs_of_runs_named(RUN)}
    html = page.get(f"runs/{run}").text
    assert "<h2>Failed</h2>" in html
    assert "command/real" in html
    assert "command/again@" not in html


def test_lists_and_legends_show_differing_parameters(
    page: Page, home: Home, store: Store, tmp_path: Path
) -> None:
    jobs = [
        a_training(store, tmp_path, "own", settings={"lr": lr, "epochs": 3}, swept=True)
        for lr in (0.1, 0.02)
    ]
    for job in jobs:
        attempt = home.attempt(job, 1)
        attempt.folder.mkdir(parents=True)
        ProgressWriter(attempt.progress)(step=1, total=1, loss=0.5)
    assert '<span class="quiet">lr=0.02</span>' in page.get("jobs?q=run:own").text
    html = page.get(f"curves?job={jobs[0]}&job={jobs[1]}").text
    assert f"{jobs[0]} lr=0.1 loss <b>" in html
    assert f"{jobs[1]} lr=0.02 loss <b>" in html
    assert "epochs=3" not in html
