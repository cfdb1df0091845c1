"""The web server: access, the pages, live updates, and changes to jobs."""

import asyncio
import contextlib
import json
import os
import re
import resource
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from launcher.frontends.screens.queue_view import job_table, running_table, waiting_table
from launcher.frontends.web import live
from launcher.frontends.web import page as pages
from launcher.frontends.web.live import EventStreams
from launcher.frontends.web.page import Address, PageContent
from launcher.frontends.web.steering import KEYS
from launcher.frontends.web.view import QueueReader, QueueView
from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from launcher.queue.workers.progress.steps import ProgressWriter
from tests.build import DEADLINE_S, a_spec, claimed, enqueue, gone, in_state, job_row, until
from tests.launcher.web.browser import Page, events, served
from tests.screens import an_idle_screen

EVIL = "command/<script>alert(1)</script>"


@pytest.fixture
def page(home: Home, store: Store, tmp_path: Path) -> Iterator[Page]:
    """The page of a queue in which nothing starts, with three jobs."""
    home.stop_record.write_text("{}")
    enqueue(store, "command/one", EVIL, "train/net")
    with served(tmp_path) as page:
        yield page


def test_pages_need_the_link_or_its_cookie(page: Page, tmp_path: Path) -> None:
    for path in (
        "/",
        page.root,
        f"{page.root}jobs",
        f"{page.root}static/app.js",
        "/?token=x",
        "/x",
    ):
        answer = page.ask(path, Cookie="")
        assert answer.status == 403
        assert "command" not in answer.text
    assert page.ask(page.root, Cookie=f"{page.cookie}x").status == 403
    assert page.ask("/", Cookie=page.cookie).status == 404
    (tmp_path / "other").mkdir()
    with served(tmp_path / "other") as other:
        assert page.ask(page.root, Cookie=other.cookie).status == 403


def test_only_the_loopback_is_served_and_no_other_host_or_origin_despite_a_cookie(
    page: Page,
) -> None:
    assert page.get("", Host="evil.example").status == 421
    assert page.get("", Origin="http://evil.example").status == 403
    question = {"question": "hold job 1 command/one? It starts only after it is released"}
    assert page.post("jobs/1/hold", question, Origin="http://evil.example").status == 403
    assert page.ask(f"{page.root}jobs/1/hold", method="POST").status == 403  # says no origin
    socketed = page.get("", Upgrade="websocket", Connection="Upgrade", Origin="http://evil.example")
    assert socketed.status == 403
    listening = Path(f"/proc/{page.process.pid}/net/tcp").read_text().splitlines()
    ours = [line.split()[1] for line in listening if line.split()[1].endswith(f":{page.port:04X}")]
    assert ours
    assert all(address.startswith("0100007F:") for address in ours)
    assert not any(
        line.split()[1].endswith(f":{page.port:04X}")
        for line in Path(f"/proc/{os.getpid()}/net/tcp6").read_text().splitlines()[1:]
    )


def test_every_page_escapes_names_and_forbids_foreign_scripts_and_caching(page: Page) -> None:
    for path in (
        "",
        "jobs",
        "jobs/2",
        "jobs/2/log",
        "jobs/2/hold",
        "curves?job=2",
        "jobs?q=%3Cb%3E",
    ):
        answer = page.get(path)
        assert answer.status == 200
        assert "<script>alert" not in answer.text
        assert "<b>&" not in answer.text
    assert "&lt;script&gt;alert(1)" in page.get("jobs/2").text
    for answer in (page.get(""), page.get("jobs/77"), page.ask("/", Cookie="")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


def test_tables_have_the_columns_of_the_terminal_and_run_and_node_if_several(
    page: Page, store: Store
) -> None:
    claimed(store, 1)
    screen = an_idle_screen()
    sparse = {"run", "node", "priority"}
    wanted = [
        [column.name for column in table.columns if column.name not in sparse]
        for table in (running_table(screen), waiting_table(screen))
    ]
    html = page.get("").text
    assert _titles(html) == wanted
    host = rf"host: \S+/{os.cpu_count()} cores .*memory \S+ GiB .*disk \S+ .iB free"
    assert re.search(host, re.sub(r"<[^>]*>", "", html))
    assert _titles(page.get("jobs").text) == [
        ["", *(column.name for column in job_table([], 0.0).columns)]
    ]
    store.job_control.set_priority([2], 3)
    enqueue(store, "command/other", run="other")
    html = page.get("").text
    assert _titles(html)[1] == ["job", "id", "run", "priority", "why"]
    assert '<td class="quiet" data-label="run">other</td>' in html
    assert '<td class="num" data-label="priority">3</td>' in html


def _titles(html: str) -> list[list[str]]:
    """Return the titles of each table of jobs."""
    heads = re.findall(r"<thead><tr>(.*?)</tr></thead>", html, re.DOTALL)
    return [re.findall(r"<th[^>]*>([^<]*)</th>", head) for head in heads]


def test_missing_pages_and_jobs_are_reported(page: Page) -> None:
    assert "job 77 does not exist" in page.get("jobs/77").text
    for path in ("jobs/77", "nothing", "jobs/1/eat", "static/none.js", "jobs/1/log/raw"):
        assert page.get(path).status == 404
    assert page.get("jobs/1/log?attempt=3").status == 404


def test_change_is_applied_only_if_it_is_confirmed_and_possible(page: Page, store: Store) -> None:
    for question in ("", "yes", "cancel job 2 command/one?"):
        answer = page.post("jobs/1/cancel", {"question": question})
        assert answer.status == 409
        assert "cancel job 1 command/one?" in answer.text
    assert in_state(store, 1, State.QUEUED)
    assert "only a held job can be released" in page.get("jobs/1/release").text
    answer = page.post("jobs/1/release", {"question": "release job 1 command/one?"})
    assert answer.status == 409
    assert in_state(store, 1, State.QUEUED)
    asked = page.get("jobs/1/hold").text
    told = "hold job 1 command/one? It starts only after it is released"
    assert told in asked
    answer = page.post("jobs/1/hold", {"question": told})
    assert answer.status == 303
    assert in_state(store, 1, State.HELD)
    assert "job 1 command/one held" in page.ask(answer.headers["location"]).text
    again = page.ask(answer.headers["location"]).text
    assert "job 1 command/one held</p>" not in again


def question(page: Page, verb: str) -> str:
    text = page.get(f"jobs/1/{verb}").text
    return text.partition('name="question" value="')[2].partition('"')[0]


def test_text_is_changed_only_if_it_is_as_shown(page: Page, store: Store) -> None:
    def asked() -> str:
        return question(page, "note")

    first = asked()
    assert page.post("jobs/1/note", {"question": first, "text": "one\r\ntwo"}).status == 303
    assert job_row(store, 1).owner_note == "one\ntwo"
    again = page.post("jobs/1/note", {"question": first, "text": "three"})
    assert again.status == 409
    assert "The job has changed in the meantime" in again.text
    assert "three</textarea>" in again.text
    assert page.post("jobs/1/note", {"text": "three"}).status == 409
    longest = "\N{GRINNING FACE}" * 10_000
    assert page.post("jobs/1/note", {"question": asked(), "text": longest}).status == 303
    too_long = page.post("jobs/1/note", {"question": asked(), "text": "x" * 10_001})
    assert "the note has 10,001 characters. Use at most 10,000" in too_long.text
    assert page.post("jobs/1/note", {"question": asked(), "text": ""}).status == 303
    assert job_row(store, 1).owner_note == ""


def test_tags_are_edited_as_words_and_searched_by_tag(page: Page, store: Store) -> None:
    def asked() -> str:
        return question(page, "tag")

    answer = page.post("jobs/1/tag", {"question": asked(), "text": " paper  abl-1 paper"})
    assert answer.status == 303
    assert "tags: abl-1, paper" in page.ask(answer.headers["location"]).text
    assert 'value="abl-1 paper"' in page.get("jobs/1/tag").text
    for place, there in (("tag:paper", True), ("tag:abl*", True), ("tag:other", False)):
        assert ('data-job="1"' in page.get(f"jobs?q={place}").text) is there
    for wrong in ("+paper", "a b=c !", "x" * 65):
        refused = page.post("jobs/1/tag", {"question": asked(), "text": wrong})
        assert refused.status == 409
        assert "is not a tag; a tag is one word" in refused.text
    assert page.post("jobs/1/tag", {"question": asked(), "text": "abl-1"}).status == 303
    assert store.job_control.tags_of([1]) == {1: ["abl-1"]}


def test_script_keys_match_the_verbs(page: Page) -> None:
    script = page.get("static/app.js").text
    table = script.partition("const verbs = {")[2].partition("}")[0]
    keys = {key.strip(' "'): verb.strip(' "') for key, verb in _pairs(table)}
    assert keys == {key: verb for verb, key in KEYS.items()}
    help_text = page.get("").text.partition('id="help"')[2]
    assert all(f"<kbd>{key}</kbd>" in help_text for key in KEYS.values())


def _pairs(table: str) -> list[tuple[str, str]]:
    entries = [entry.rpartition(":") for entry in table.split(",") if entry.strip()]
    return [(key.strip(), verb.strip()) for key, _, verb in entries]


def test_read_only_page_changes_nothing(home: Home, store: Store, tmp_path: Path) -> None:
    home.stop_record.write_text("{}")
    enqueue(store, "command/one")
    with served(tmp_path, "--read-only") as page:
        assert "jobs/1/hold" not in page.get("jobs/1").text
        for verb in KEYS:
            assert page.get(f"jobs/1/{verb}").status == 403
            assert page.post(f"jobs/1/{verb}", {"question": "", "text": "x"}).status == 403
        answer = page.post("jobs/1/hold", {"question": "hold job 1 command/one?"})
        assert answer.status == 403
        assert "read-only" in answer.text
    assert in_state(store, 1, State.QUEUED)


def test_stream_sends_only_changed_parts_and_follows_progress_files(
    page: Page, home: Home, store: Store
) -> None:
    with contextlib.closing(page.stream("jobs")) as connection:
        heard = events(connection)
        first = {event["id"]: event for event in (next(heard), next(heard))}
        assert set(first) == {"head", "list"}
        assert f'data-version="{first["list"]["version"]}"' in page.get("jobs").text
        store.job_control.hold([1], 1.0)
        changed = {event["id"]: event for event in (next(heard), next(heard))}
        assert "held" in changed["list"]["html"]
    with contextlib.closing(page.stream("jobs/3")) as connection:
        heard = events(connection)
        parts = {}
        while "events" not in parts:
            event = next(heard)
            parts[event["id"]] = event
        store.job_control.hold([3], 1.0)
        changed_parts = set()
        while "events" not in changed_parts:
            changed_parts.add(next(heard)["id"])
        assert "log" not in changed_parts
        store.job_control.release([3], 2.0)
        claimed(store, 3)
        attempt = home.attempt(3, 1)
        attempt.folder.mkdir(parents=True)
        ProgressWriter(attempt.progress)(step=1, total=4, loss=0.5)
        attempt.log.write_text("a line of the log\n")
        arrived: dict[str, str] = {}
        while not ({"curves", "log"} <= arrived.keys()) or "a line" not in arrived["log"]:
            event = next(heard)
            arrived[event["id"]] = event["html"]
        assert re.search("<svg|steps|loss", arrived["curves"])


def test_too_many_streams_are_refused_and_the_server_continues(page: Page) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    heads: list[int] = []
    with contextlib.ExitStack() as opened:
        for _ in range(15):  # as many as the kernel accepts at one go
            connections = [opened.enter_context(page.stream()) for _ in range(20)]
            heads += map(_status, connections)
    assert {200, 503} == set(heads)
    assert heads.count(200) <= 60
    until(lambda: page.get("").status == 200, "the page answers again")
    assert (soft, hard) == resource.getrlimit(resource.RLIMIT_NOFILE)


@pytest.mark.parametrize("says", [b"", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"])
def test_unauthenticated_connections_do_not_block_the_owner(page: Page, says: bytes) -> None:
    with contextlib.ExitStack() as opened, contextlib.closing(page.stream()) as stream:
        heard = events(stream)
        assert next(heard)["id"]
        for number in range(260):
            stranger = socket.create_connection(("127.0.0.1", page.port), timeout=DEADLINE_S)
            opened.callback(stranger.close)
            with contextlib.suppress(ConnectionError):
                stranger.sendall(says)
            if number % 20 == 19:  # a longer burst waits a second for the kernel to send it again
                assert page.get("").status == 200
        page.post("jobs/1/hold", {})  # and an open page goes on
        assert page.get("jobs").status == 200
        stream.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            assert stream.recv(1), "it was not closed"


def _status(connection: socket.socket) -> int:
    try:
        head = connection.recv(12)
    except ConnectionResetError:  # it was refused before its request was read
        return 503
    return int(head.split()[1]) if head else 503


def test_oversized_or_invalid_request_is_refused(page: Page) -> None:
    assert page.get("jobs?q=" + "x" * 100_000).status == 414
    assert page.get("jobs/" + "9" * 4300).status == 414
    assert page.get("jobs/" + "9" * 4000).status == 404
    large = page.post("jobs/1/hold", {"question": "x" * 200_000})
    assert large.status == 413
    with socket.create_connection(("127.0.0.1", page.port), timeout=DEADLINE_S) as connection:
        here = f"127.0.0.1:{page.port}"
        head = f"POST {page.root}jobs/1/hold HTTP/1.1\r\nHost: {here}\r\nOrigin: http://{here}\r\n"
        length = "Transfer-Encoding: chunked\r\n\r\n"
        connection.sendall(f"{head}Cookie: {page.cookie}\r\n{length}".encode())
        connection.sendall(b"20001\r\n" + b"x" * 0x20001 + b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
    assert "Traceback" not in page.errors.read_text()
    with socket.create_connection(("127.0.0.1", page.port)) as connection:
        connection.sendall(b"no http at all\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert page.get("").status == 200


def test_missing_queue_shows_how_to_start_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "none yet")
    monkeypatch.setenv("LAUNCHER_HOME", str(home.folder))
    with served(tmp_path) as page:
        assert "There is no queue in this folder yet" in page.get("").text
        assert page.get("jobs").status == 404
        assert page.get("jobs/1/hold").status == 404
    assert not home.folder.exists()


def test_dead_scheduler_is_reported(home: Home, store: Store, tmp_path: Path) -> None:
    enqueue(store, "command/one")
    with served(tmp_path, "--read-only") as page:
        assert scheduler_pid(home) is None
        assert "No scheduler is running" in page.get("").text
        home.stop_record.write_text("{}")
        assert "The queue is stopped" in page.get("").text


def test_log_is_sent_unchanged(page: Page, home: Home, store: Store) -> None:
    claimed(store, 3)
    log = home.attempt(3, 1).log
    log.parent.mkdir(parents=True)
    log.write_bytes(b"<b>\x1b[31m\xff\n" * 10_000)
    answer = page.get("jobs/3/log/raw")
    assert answer.body == log.read_bytes()
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_log_that_is_cut_while_it_is_sent_ends_there(page: Page, home: Home, store: Store) -> None:
    claimed(store, 3)
    log = home.attempt(3, 1).log
    log.parent.mkdir(parents=True)
    log.touch()
    os.truncate(log, 256 << 20)  # more than the network takes before anything is read
    with contextlib.closing(page.stream("jobs/3/log/raw")) as answer:
        received, size = answer.recv(1000), 0
        assert b"200 OK" in received
        os.truncate(log, 1000)
        while not received.endswith(b"\r\n0\r\n\r\n"):  # the last chunk: RFC 9112, 7.1
            more = answer.recv(1 << 20)
            assert more, "the connection was closed before the end"
            received, size = received[-10:] + more, size + len(more)
    assert size < 256 << 20
    assert "LocalProtocolError" not in page.errors.read_text()


def test_token_is_not_logged_and_a_signal_ends_the_server(page: Page, home: Home) -> None:
    page.ask("/?token=wrong", Cookie="")
    with contextlib.closing(page.stream()) as connection:
        assert next(events(connection))
        page.process.send_signal(signal.SIGTERM)
        until(lambda: gone(page.process.pid), "the server ends")
    secret = page.link.partition("token=")[2]
    written = page.errors.read_text()
    assert secret not in written
    assert "Traceback" not in written
    assert f"ssh -N -L {page.port}:127.0.0.1:{page.port}" in written
    logs = [file for file in home.folder.rglob("*") if file.is_file()]
    assert all(secret.encode() not in file.read_bytes() for file in logs)


ADDRESS = Address(path="curves")


@pytest.fixture
def reader(home: Home, store: Store) -> Iterator[QueueReader]:  # there is a queue
    reader = QueueReader(home, "/x/", read_only=True)
    with contextlib.closing(reader):
        yield reader


async def records(stream: AsyncIterator[bytes]) -> AsyncIterator[dict[str, str]]:
    """Give what a browser gets of a stream; fail when nothing comes in time."""
    while True:
        piece = await asyncio.wait_for(anext(stream), DEADLINE_S)
        for line in piece.splitlines():
            if line.startswith(b"data: "):
                yield json.loads(line.removeprefix(b"data: "))


def test_page_that_cannot_be_rendered_is_reported_and_recovers(
    reader: QueueReader, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "POLL_INTERVAL_S", 0.01)
    values = {"jobs": [], "plots_list": [], "left_out": 0}
    faulty = [True]

    def fill(view: QueueView, address: Address) -> PageContent:  # as every page
        if faulty:
            raise ZeroDivisionError("of a page")
        return PageContent(title="curves", values=values)

    async def watched() -> None:
        streams = EventStreams(reader)
        stream = streams.open(pages.WebPage(name="curves", path="curves", context=fill), ADDRESS)
        assert stream is not None
        arrived = records(stream)
        told = await anext(arrived)
        assert "ZeroDivisionError" in told["trouble"]
        faulty.clear()
        arrived_parts = [await anext(arrived) for _ in range(4)]
        assert {"trouble": ""} in arrived_parts
        assert {"head", "jobs", "plots"} <= {part.get("id") for part in arrived_parts}
        streams.close()

    asyncio.run(watched())
    assert "of a page" in caplog.text


def test_change_during_the_drawing_of_a_page_is_drawn_next(
    reader: QueueReader, home: Home, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "POLL_INTERVAL_S", 0.01)
    monkeypatch.setattr(live, "RENEW_S", 1e9)
    monkeypatch.setattr(live, "SHARE", 1.0)
    enqueue(store, a_spec())
    drawn: list[int] = []

    def fill(view: QueueView, address: Address) -> PageContent:
        with contextlib.closing(Store(home, durable=False)) as store:
            drawn.append(len(store.read.jobs()))
            if len(drawn) == 1:
                enqueue(store, a_spec(name="command/2"))
        return PageContent(title="curves", values={"jobs": [], "plots_list": [], "left_out": 0})

    async def watched() -> None:
        streams = EventStreams(reader)
        page = pages.WebPage(name="curves", path="curves", context=fill)
        stream = streams.open(page, ADDRESS)
        assert stream is not None
        while len(drawn) < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # ten looks
        streams.close()

    asyncio.run(asyncio.wait_for(watched(), DEADLINE_S))
    assert drawn == [1, 2]
