"""What a scheduler and a pilot say to each other, and the scheduler's end of a pilot and of its engine."""

import errno
import json
import os
import threading
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.queue.backends.channel import MessageReader, MessageWriter
from launcher.queue.backends.pilot_link import OTHER_VERSION
from launcher.queue.backends.pilot_messages import (
    LONGEST_LINE_BYTES,
    AttemptFinished,
    AttemptStarted,
    Deregistered,
    Drain,
    Draining,
    Heartbeat,
    KillAttempt,
    PilotCommand,
    PilotMessage,
    Registered,
    RenewLease,
    StartAttempt,
    StopAttempt,
    decode_command,
    decode_message,
    encode_command,
    encode_message,
)
from launcher.queue.backends.protocol import (
    CALL_TIMEOUT_S,
    MOST_HUNG_THREADS,
    Backend,
    EngineCalls,
    EngineError,
)
from launcher.queue.jobs.states import Done, Failed, NeverStarted, Stopped
from tests.build import GIB, a_gpu, renamed
from tests.launcher.scheduler.remote.toy_cluster import HELLO, PATIENCE_S, Pilot, ToyClock

# --- the scheduler's end of a pilot, through the pilot's real files


@pytest.fixture
def pilot(tmp_path: Path) -> Pilot:
    return Pilot(tmp_path)


def test_pilot_serves_from_registration_to_deregistration(pilot: Pilot) -> None:
    link = pilot.link()
    link.read(1.0)
    assert link.silent_s(9.0) == inf
    pilot.tell(HELLO, Heartbeat(number=1))
    link.read(2.0)
    served = [link.is_serving]
    assert link.silent_s(5.0) == 3.0
    pilot.tell(Deregistered(why="time limit"))
    link.read(3.0)
    assert [*served, link.is_serving] == [True, False]
    assert link.exit_reason == "time limit"


def test_draining_pilot_gets_no_work(pilot: Pilot) -> None:
    link = pilot.link()
    pilot.tell(HELLO, Heartbeat(number=1))
    link.read(1.0)
    assert link.is_serving
    pilot.tell(Draining(why="SIGTERM"), Heartbeat(number=2))
    link.read(2.0)
    assert (link.is_serving, link.exit_reason) == (False, None)


def test_pilot_with_problems_gets_no_work(pilot: Pilot) -> None:
    link = pilot.link()
    pilot.tell(HELLO._replace(troubles=("/data is not seen",)))
    link.read(1.0)
    assert not link.is_serving


def test_drained_pilot_gets_no_work_from_the_next_scheduler_either(
    pilot: Pilot,
) -> None:
    pilot.tell(HELLO)
    pilot.link().send(Drain())
    link = pilot.link()
    link.read(1.0)
    link.read_sent_attempts()
    assert not link.is_serving


def test_end_is_kept_for_expected_attempts_and_others_are_skipped(pilot: Pilot) -> None:
    link = pilot.link()
    link.track_attempt("1-1")
    pilot.tell(AttemptFinished(attempt="1-1", outcome=Done(at=1.0)), AttemptFinished(attempt="2-1"))
    link.read(1.0)
    assert link.finished_attempts.get("1-1") == AttemptFinished(attempt="1-1", outcome=Done(at=1.0))
    assert link.finished_attempts.get("2-1") is None
    link.untrack_attempt("1-1")
    assert link.finished_attempts.get("1-1") is None


def test_next_scheduler_reads_the_sent_commands_and_sends_only_the_rest(pilot: Pilot) -> None:
    pilot.link().start(["1-1", "2-1"])
    link = pilot.link()
    assert link.read_sent_attempts() == {"1-1", "2-1"}
    link.start(["2-1", "3-1"])
    assert pilot.orders() == [
        StartAttempt(attempt="1-1"),
        StartAttempt(attempt="2-1"),
        StartAttempt(attempt="3-1"),
    ]


def test_partially_written_command_of_a_killed_scheduler_spoils_no_later_one(pilot: Pilot) -> None:
    MessageWriter(pilot.folder.commands_file).append(
        encode_command(StartAttempt(attempt="1-1"))[:-9]
    )
    pilot.link().start(["2-1"])
    assert [order for order in pilot.orders() if order] == [StartAttempt(attempt="2-1")]


def test_unwritable_commands_are_sent_with_the_next_ones(pilot: Pilot) -> None:
    link = pilot.link()
    pilot.folder.commands_file.rename(pilot.folder.folder / "away")
    assert not link.start(["1-1"])
    assert link.unsent
    assert link.error
    (pilot.folder.folder / "away").rename(pilot.folder.commands_file)
    assert link.send()
    assert pilot.orders() == [StartAttempt(attempt="1-1")]


def test_attempt_is_asked_to_stop_once(pilot: Pilot) -> None:
    link = pilot.link()
    link.stop("1-1")
    link.stop("1-1")
    assert len(pilot.orders()) == 1


def test_attempt_is_killed_once_and_also_after_a_stop(
    pilot: Pilot,
) -> None:
    link = pilot.link()
    link.stop("1-1")
    link.kill("1-1")
    link.kill("1-1")
    assert pilot.orders() == [StopAttempt(attempt="1-1"), KillAttempt(attempt="1-1")]


def test_lease_is_renewed_only_for_the_newest_heartbeat(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    leased, free = Pilot(tmp_path / "a", lease_s=4.0), Pilot(tmp_path / "b")
    for pilot in (leased, free):
        pilot.tell(HELLO, Heartbeat(number=1), Heartbeat(number=2))
        pilot.link().read(1.0)
    assert leased.orders() == [RenewLease(beat=2)]
    assert free.orders() == []


def test_messages_of_a_day_are_read_at_once(pilot: Pilot) -> None:
    link = pilot.link()
    pilot.tell(*(Heartbeat(number=number) for number in range(1, 50_001)))
    link.read(1.0)
    assert link.heartbeat == Heartbeat(number=50_000)


def test_invalid_message_line_is_skipped(pilot: Pilot) -> None:
    link = pilot.link()
    MessageWriter(pilot.folder.messages_file).append(
        b"nonsense\n", b'{"say": "future"}\n', encode_message(HELLO)
    )
    assert link.read(1.0) == [HELLO]


# --- calls to an engine: beside the scheduler, one at a time, and not waited for for ever


class Desk:
    """A caller of an engine, with its answers and errors."""

    def __init__(self) -> None:
        self.clock = ToyClock()
        self.came = threading.Semaphore(0)
        self.made = 0
        self.answers: list[object] = []
        self.errors: list[str] = []
        self.calls = EngineCalls(self.make, self.came.release, self.clock)

    def make(self) -> Backend:
        self.made += 1
        return cast(Backend, object())

    def ask(self, answer: object = "answer", hold: threading.Event | None = None) -> None:
        def call(_: Backend) -> object:
            if hold is not None:
                hold.wait(PATIENCE_S)
            if isinstance(answer, Exception):
                raise answer
            return answer

        self.calls.begin(call, self.answers.append, lambda error: self.errors.append(str(error)))

    def asked(self, answer: object = "answer") -> None:
        """Ask, wait, and take the answer in."""
        self.ask(answer)
        self.wait()
        self.calls.deliver_result()

    def wait(self) -> None:
        assert self.came.acquire(timeout=PATIENCE_S)


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.calls.reset_engine()


def test_answer_is_processed_by_the_asking_thread(desk: Desk) -> None:
    assert not desk.calls.deliver_result()
    desk.ask()
    assert desk.calls.is_busy
    desk.wait()
    assert not desk.answers
    assert desk.calls.has_result
    assert desk.calls.deliver_result()
    assert desk.answers == ["answer"]
    assert not desk.calls.is_busy


def test_backend_is_loaded_once(desk: Desk) -> None:
    for _ in range(3):
        desk.asked()
    assert desk.made == 1
    desk.calls.reset_engine()
    desk.asked()
    assert desk.made == 2


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (EngineError("Socket timed out"), "Socket timed out"),
        (KeyError("a fault of ours"), "KeyError: 'a fault of ours'"),
    ],
)
def test_every_exception_of_a_call_is_an_error_of_the_backend(
    desk: Desk, error: Exception, text: str
) -> None:
    desk.asked(error)
    assert desk.errors == [text]
    desk.asked()
    assert desk.answers == ["answer"]


def test_backend_that_cannot_be_loaded_is_loaded_again_by_the_next_call(desk: Desk) -> None:
    def broken() -> NoReturn:
        raise ModuleNotFoundError("No module named 'ray'")

    desk.calls._make = broken
    desk.asked()
    assert desk.errors == ["ModuleNotFoundError: No module named 'ray'"]


def test_late_answer_is_ignored(desk: Desk) -> None:
    hold = threading.Event()
    desk.ask("late", hold)
    desk.clock.now += CALL_TIMEOUT_S
    assert not desk.calls.deliver_result()
    desk.clock.now += 1
    assert desk.calls.deliver_result()
    assert desk.errors == [f"no answer for {CALL_TIMEOUT_S:.0f} s"]
    desk.ask("next")
    desk.wait()
    hold.set()
    desk.wait()
    assert desk.calls.deliver_result()
    assert not desk.calls.deliver_result()
    assert desk.answers == ["next"]


def test_hanging_backend_uses_a_limited_number_of_threads(desk: Desk) -> None:
    hold = threading.Event()
    for _ in range(MOST_HUNG_THREADS):
        desk.ask("late", hold)
        desk.clock.now += CALL_TIMEOUT_S + 1
        assert desk.calls.deliver_result()
    desk.ask("late", hold)
    desk.clock.now += 100 * CALL_TIMEOUT_S
    assert not desk.calls.deliver_result()
    hold.set()
    for _ in range(MOST_HUNG_THREADS + 1):
        desk.wait()
    assert desk.calls.deliver_result()
    assert desk.answers == ["late"]


def test_pilot_whose_messages_cannot_be_decoded_is_of_another_version(pilot: Pilot) -> None:
    link = pilot.link()
    MessageWriter(pilot.folder.messages_file).append(b'{"say":"hello","protocol":7}\n')
    assert link.read(5.0) == []
    assert link.registration == OTHER_VERSION
    assert link.silent_s(5.0) == 0.0
    assert not link.is_serving


# --- the messages, and the files in which they lie


ORDERS = (
    StartAttempt(attempt="63-2"),
    StopAttempt(attempt="63-2"),
    KillAttempt(attempt="63-2"),
    RenewLease(beat=7),
    Drain(),
    Drain(now=True),
)
GPU = a_gpu(
    1, used=3, utilisation=0.5, power_w=71.5, temperature_c=40, driver="550", warnings=("a",)
)
WHOLE_HELLO = Registered(
    version="1", python="/p", host="h", node="n1", pid=7, boot="b", cpus=8, ram=GIB, gpus=(GPU,)
)
NEWS = (
    WHOLE_HELLO,
    Heartbeat(number=3, ram_free=5, gpus=(GPU,), used={"63-2": {GPU.uuid: 5}}),
    AttemptStarted(attempt="63-2"),
    AttemptFinished(attempt="63-2"),
    AttemptFinished(attempt="63-2", outcome=Done(at=3.0, result={"loss": 0.5})),
    AttemptFinished(attempt="63-2", outcome=Failed(at=3.0, error="no", exit_code=3)),
    AttemptFinished(attempt="63-2", outcome=Stopped(at=3.0)),
    AttemptFinished(attempt="63-2", outcome=NeverStarted(at=3.0, why="x", blamed_on="job")),
    Draining(why="idle"),
    Deregistered(why="idle"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("order", ORDERS, ids=repr)
def test_command_survives_a_round_trip(order: PilotCommand) -> None:
    line = encode_command(order)
    assert line.endswith(b"\n")
    assert decode_command(line) == order


@pytest.mark.parametrize("news", NEWS, ids=lambda news: type(news).__name__)
def test_messages_survive_a_round_trip(news: PilotMessage) -> None:
    line = encode_message(news)
    assert line.count(b"\n") == 1
    assert decode_message(line) == news


def test_non_numeric_result_keeps_its_end() -> None:
    ended = AttemptFinished(attempt="1-1", outcome=Done(at=3.0, result={"loss": float("nan")}))
    read = decode_message(encode_message(ended))
    assert isinstance(read, AttemptFinished)
    assert isinstance(read.outcome, Done)


@pytest.mark.parametrize(
    ("message", "word"),
    [
        (StartAttempt("1-1"), "run"),
        (StopAttempt("1-1"), "stop"),
        (RenewLease(1), "lease"),
        (Drain(), "leave"),
        (HELLO, "hello"),
        (KillAttempt("1-1"), "kill"),
        (Heartbeat(1), "beat"),
        (AttemptStarted("1-1"), "began"),
        (AttemptFinished("1-1"), "ended"),
        (Draining("x"), "leaving"),
        (Deregistered("x"), "bye"),
    ],
)
def test_stored_word_of_a_message_does_not_depend_on_its_class_name(
    message: PilotCommand | PilotMessage, word: str
) -> None:
    with renamed(type(message)):
        if isinstance(message, StartAttempt | StopAttempt | KillAttempt | RenewLease | Drain):
            line = encode_command(message)
            assert decode_command(line) == message
        else:
            line = encode_message(message)
            assert decode_message(line) == message
    assert json.loads(line)["say"] == word


def test_outcome_too_long_for_a_line_is_left_to_the_folder() -> None:
    line = encode_message(
        AttemptFinished(attempt="1-1", outcome=Failed(at=3.0, error="x" * LONGEST_LINE_BYTES))
    )
    assert len(line) < LONGEST_LINE_BYTES
    assert decode_message(line) == AttemptFinished(attempt="1-1")


@given(line=st.binary(max_size=60))
def test_invalid_line_is_not_a_message(line: bytes) -> None:
    assert decode_message(line) is None
    assert decode_command(line) is None


@given(
    news=st.sampled_from(NEWS),
    place=st.integers(0, 20),
    value=JSON,
)
def test_no_value_in_a_message_makes_it_another_kind(
    news: PilotMessage, place: int, value: object
) -> None:
    record = json.loads(encode_message(news))
    keys = [key for key in record if key != "say"]
    record[keys[place % len(keys)]] = value
    read = decode_message(json.dumps(record).encode())
    assert read is None or isinstance(read, type(news))
    if isinstance(read, Heartbeat):
        assert 0 <= read.number < 1 << 60
    if isinstance(read, Registered):
        assert 0 <= read.cpus < 1 << 60
        assert read.until is None or 0 <= read.until < 1 << 60


@pytest.mark.parametrize(
    "name", ["index", "total", "used", "utilisation", "power_w", "temperature_c"]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -(10**30), 10**30], ids=str)
def test_gpu_with_an_impossible_number_is_skipped(name: str, value: Any) -> None:
    for news in (WHOLE_HELLO, NEWS[1]):
        record = json.loads(encode_message(news))
        record["gpus"] += [{**record["gpus"][0], name: value}, 3]
        assert decode_message(json.dumps(record).encode()) == news


# --- channel


LINES = st.lists(st.binary(min_size=1, max_size=40).map(lambda text: text.replace(b"\n", b".")))


@given(lines=LINES, cuts=st.lists(st.integers(0, 60), max_size=20))
def test_each_line_is_read_once_however_the_file_grows(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], cuts: list[int]
) -> None:
    file = tmp_path_factory.mktemp("channel") / "to"
    file.touch()
    data, reader, read = (
        b"".join(line + b"\n" for line in lines),
        MessageReader(file),
        list[bytes](),
    )
    for size in [*cuts, len(data)]:
        piece, data = data[:size], data[size:]
        with file.open("ab") as opened:
            opened.write(piece)
        read += reader.lines()
    assert read == lines


def test_reader_continues_at_its_stored_position(tmp_path: Path) -> None:
    file = tmp_path / "to"
    file.write_bytes(b"one\ntwo\n")
    first = MessageReader(file)
    assert [*first.lines()] == [b"one", b"two"]
    file.write_bytes(b"one\ntwo\nthree\n")
    assert [*MessageReader(file, first.offset).lines()] == [b"three"]


def test_overlong_line_is_skipped(tmp_path: Path) -> None:
    file = tmp_path / "to"
    file.write_bytes(b"x" * (3 << 20) + b"\nafter\n")
    reader = MessageReader(file)
    assert b"after" in [line for _ in range(5) for line in reader.lines()]


def test_partial_line_is_closed_by_the_next_append(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "from"
    file.touch()
    writer, write = MessageWriter(file), os.write
    full = [4, 0]

    def write_until_full(descriptor: int, data: bytes) -> int:
        if not full:
            return write(descriptor, data)
        room = full.pop(0)
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, bytes(data[:room]))

    monkeypatch.setattr(os, "write", write_until_full)
    with pytest.raises(OSError, match="No space"):
        writer.append(b'{"say":"first"}\n')
    writer.append(b'{"say":"first"}\n')
    assert [*MessageReader(file).lines()] == [b'{"sa', b'{"say":"first"}']
