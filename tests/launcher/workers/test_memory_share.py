import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.system.paths import Attempt
from launcher.workers.memory_share import (
    Report,
    Share,
    VramLimit,
    read_report,
    read_share,
    write_share,
)
from tests.build import Clock

GIB = 1 << 30
CONTEXT = 512 << 20


def test_a_share_without_a_folder_limits_nothing_and_writes_nowhere() -> None:
    share = Share()
    share.report(reserved=1, peak=1, last=True)
    assert share.vram_limit() == VramLimit()
    assert share.cap() is None


def test_a_cap_holds_the_context_and_the_rest_is_the_allocators(tmp_path: Path) -> None:
    write_share(Attempt(tmp_path), cap=8 * GIB, context=CONTEXT)
    share = Share(tmp_path)
    assert share.cap() == 8 * GIB
    assert share.vram_limit().allocator == 8 * GIB - CONTEXT


def test_a_cap_below_the_context_leaves_the_allocator_nothing(tmp_path: Path) -> None:
    write_share(Attempt(tmp_path), cap=1, context=CONTEXT)
    assert Share(tmp_path).vram_limit().allocator == 0


def test_who_is_alone_on_a_card_has_no_cap(tmp_path: Path) -> None:
    write_share(Attempt(tmp_path), cap=None, context=CONTEXT)
    assert read_share(Attempt(tmp_path)) == VramLimit(cap=None, context=CONTEXT)
    assert Share(tmp_path).vram_limit().allocator is None


def test_a_change_is_seen_after_half_a_second(tmp_path: Path) -> None:
    clock = Clock(now=0.0)
    share = Share(tmp_path, clock=clock)
    assert share.cap() is None
    write_share(Attempt(tmp_path), cap=GIB, context=0)
    clock.now = 0.4
    assert share.cap() is None
    clock.now = 0.5
    assert share.cap() == GIB
    write_share(Attempt(tmp_path), cap=None, context=0)
    clock.now = 1.0
    assert share.cap() is None


@pytest.mark.parametrize(
    "text", ["", "[]", '{"schema": 2, "cap": 1, "context": 0}', '{"schema": 1, "cap": "8", "context": 0}',
             '{"schema": 1, "cap": -1, "context": 0}', '{"schema": 1, "context": 0}',
             '{"schema": 1, "cap": null}', '{"schema": 1, "cap": true, "context": 0}'],
)  # fmt: skip
def test_what_cannot_be_understood_changes_nothing(tmp_path: Path, text: str) -> None:
    attempt, clock = Attempt(tmp_path), Clock(now=0.0)
    share = Share(tmp_path, clock=clock)
    write_share(attempt, cap=GIB, context=0)
    assert share.cap() == GIB
    attempt.share.write_text(text)
    clock.now = 1.0
    assert share.cap() == GIB
    assert read_share(attempt) is None
    attempt.share.unlink()
    clock.now = 2.0
    assert share.cap() == GIB


def test_a_file_that_did_not_change_is_not_read_again(tmp_path: Path) -> None:
    attempt, clock = Attempt(tmp_path), Clock(now=0.0)
    write_share(attempt, cap=GIB, context=0)
    share = Share(tmp_path, clock=clock)
    assert share.cap() == GIB
    told = attempt.share.stat()
    attempt.share.write_text(attempt.share.read_text().replace("1", "2"))
    os.utime(attempt.share, ns=(told.st_atime_ns, told.st_mtime_ns))
    clock.now = 1.0
    assert share.cap() == GIB


def test_a_report_is_read_as_it_was_told(tmp_path: Path) -> None:
    Share(tmp_path).report(reserved=3, peak=5, context=CONTEXT, uuid="GPU-8932f937")
    report = read_report(Attempt(tmp_path))
    assert report is not None
    assert report == Report(at=report.at, reserved=3, peak=5, context=CONTEXT, uuid="GPU-8932f937")
    assert [one.name for one in tmp_path.iterdir()] == ["memory.json"]


def test_reports_are_written_once_a_second_but_the_last_one_always(tmp_path: Path) -> None:
    attempt, clock = Attempt(tmp_path), Clock(now=0.0)
    share = Share(tmp_path, clock=clock)

    def told(reserved: int, at: float, *, last: bool = False) -> int | None:
        clock.now = at
        share.report(reserved=reserved, peak=reserved, last=last)
        report = read_report(attempt)
        return None if report is None else report.reserved

    assert told(1, 0.0) == 1
    assert told(2, 0.9) == 1
    assert told(3, 1.0) == 3
    assert told(4, 1.1, last=True) == 4


def test_a_worker_goes_on_when_its_report_cannot_be_written(tmp_path: Path) -> None:
    Share(tmp_path / "gone").report(reserved=1, peak=1)
    assert read_report(Attempt(tmp_path / "gone")) is None


GOOD = {"schema": 1, "at": 5.0, "reserved": 3, "peak": 5, "context": None, "uuid": None}


@pytest.mark.parametrize(
    "change",
    [{"schema": 2}, {"at": "now"}, {"at": float("nan")}, {"reserved": -1}, {"reserved": None},
     {"peak": 1.5}, {"reserved": True}, {"reserved": 1 << 62}],
)  # fmt: skip
def test_nonsense_is_no_report(tmp_path: Path, change: dict[str, object]) -> None:
    Attempt(tmp_path).memory.write_text(json.dumps(GOOD | change))
    assert read_report(Attempt(tmp_path)) is None


@pytest.mark.parametrize("uuid", [7, "", "x" * 101, "GPU\n1"])
def test_an_odd_name_of_a_card_is_left_out(tmp_path: Path, uuid: object) -> None:
    Attempt(tmp_path).memory.write_text(json.dumps(GOOD | {"uuid": uuid}))
    assert read_report(Attempt(tmp_path)) == Report(at=5.0, reserved=3, peak=5)


def test_a_folder_in_a_records_place_is_no_record(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path)
    attempt.memory.mkdir()
    attempt.share.mkdir()
    assert read_report(attempt) is None
    assert read_share(attempt) is None
    assert Share(tmp_path).cap() is None
    Share(tmp_path).report(reserved=1, peak=1)


amounts = st.none() | st.integers(0, 1 << 59)


@settings(max_examples=30, deadline=None)
@given(amounts, st.integers(0, 1 << 59))
def test_a_share_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, cap: int | None, context: int
) -> None:
    attempt = Attempt(tmp_path_factory.mktemp("attempt"))
    write_share(attempt, cap=cap, context=context)
    assert read_share(attempt) == VramLimit(cap=cap, context=context)


def test_a_job_on_several_cards_reports_each_by_its_name(tmp_path: Path) -> None:
    cards = {"GPU-a": 3 * GIB, "GPU-b": 5 * GIB}
    Share(tmp_path).report(reserved=5 * GIB, peak=6 * GIB, cards=cards)
    report = read_report(Attempt(tmp_path))
    assert report is not None
    assert (report.cards, report.uuid, report.reserved) == (cards, None, 5 * GIB)


@pytest.mark.parametrize("cards", [None, [], "x", {"GPU-a": -1}, {"": 1}, {"GPU\n": 1}])
def test_nonsense_about_several_cards_is_left_out(tmp_path: Path, cards: object) -> None:
    record = {"schema": 1, "at": 1.0, "reserved": 1, "peak": 1, "cards": cards}
    Attempt(tmp_path).memory.write_text(json.dumps(record))
    report = read_report(Attempt(tmp_path))
    assert report is not None
    assert report.cards == {}
