"""Scalars in event files, whoever wrote them and wherever reading begins."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.workers.progress.event_files import Scalar, masked_crc, scalars
from tests.launcher.workers.progress.event_writer import event, part, record, simple, tensor

TWO = event("loss", 1, simple(0.5)) + event("loss", 2, simple(0.25), at=1001.0)
READ = [Scalar(1000.0, 1, "loss", 0.5), Scalar(1001.0, 2, "loss", 0.25)]


def test_the_checksum_is_crc_32c() -> None:
    crc = 0xE3069283  # of "123456789": RFC 3720, B.4, and the table of Koopman
    assert masked_crc(b"123456789") == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_the_files_of_tensorboard_itself_are_read(tmp_path: Path) -> None:
    writer = pytest.importorskip("tensorboard.summary").Writer(str(tmp_path))
    for step in range(-1, 5):
        writer.add_scalar("val/acc", step / 4, step, wall_time=1000.0 + step)
    writer.close()
    (path,) = tmp_path.iterdir()
    read, done = scalars(path.read_bytes())
    assert read == [Scalar(1000.0 + step, step, "val/acc", step / 4) for step in range(-1, 5)]
    assert done == path.stat().st_size


@pytest.mark.parametrize("value", [simple(0.5), tensor(0.5)])
def test_both_forms_of_a_scalar_are_read(value: bytes) -> None:
    assert scalars(event("loss", 7, value))[0] == [Scalar(1000.0, 7, "loss", 0.5)]


def test_what_is_no_scalar_is_left_out() -> None:
    two = part(8, b"\x08\x01" + part(4, struct.pack("<2f", 1, 2)))
    text = part(8, b"\x08\x07" + part(8, b"abcd"))
    nameless = event("", 1, simple(1.0))
    image = event("image", 1, part(4, b"\x00" * (1 << 20)))
    broken = record(b"\xff" * 40) + record(b"") + record(b"\x2a\x7f")
    others = event("a", 1, two) + event("b", 1, text) + nameless + image + broken
    assert scalars(others + TWO) == (READ, len(others + TWO))


def test_a_record_that_is_not_whole_yet_is_read_when_it_is() -> None:
    for cut in range(len(TWO)):
        read, done = scalars(TWO[:cut])
        assert read + scalars(TWO[done:])[0] == READ


def test_reading_may_begin_within_a_record() -> None:
    first = event("loss", 0, simple(1.0))
    for cut in range(1, len(first)):
        assert scalars((first + TWO)[cut:])[0] == READ


@pytest.mark.parametrize("place", range(0, 60, 3))
def test_a_damaged_record_costs_no_other_one(place: int) -> None:
    damaged = bytearray(event("loss", 0, simple(1.0)))
    damaged[min(place, len(damaged) - 1)] ^= 0x55
    assert scalars(bytes(damaged) + TWO)[0] == READ


def test_zeros_without_end_are_given_up() -> None:
    assert scalars(b"\0" * (1 << 20)) == ([], 1 << 20)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(data: bytes) -> None:
    read, done = scalars(data)
    assert 0 <= done <= len(data)
    assert scalars(record(data))[1] == len(record(data))
    assert isinstance(read, list)
