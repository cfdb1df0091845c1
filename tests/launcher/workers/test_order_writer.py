"""Orders that are written before their attempts are claimed."""

import shutil

import pytest

from launcher.system.paths import Home
from launcher.workers.order import OrderWriter, is_untouched


@pytest.fixture
def orders(home: Home) -> OrderWriter:
    """A writer that has written an order ahead."""
    orders = OrderWriter(home)
    orders.prepare(7, 1, "first\n")
    return orders


def test_an_order_that_was_written_ahead_is_not_written_again(
    home: Home, orders: OrderWriter
) -> None:
    spec = home.attempt(7, 1).spec
    before = spec.stat()
    assert orders.holds(7, 1)
    assert not orders.holds(7, 2)
    orders.write(7, 1, "first\n")
    assert (spec.stat().st_ino, spec.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not orders.holds(7, 1), "it is the attempt's now"


def test_an_order_for_another_place_replaces_the_one_that_was_written_ahead(
    home: Home, orders: OrderWriter
) -> None:
    orders.write(7, 1, "2nd\n")
    assert home.attempt(7, 1).spec.read_text() == "2nd\n"


def test_what_was_deleted_meanwhile_is_written_anew(home: Home, orders: OrderWriter) -> None:
    attempt = home.attempt(7, 1)
    shutil.rmtree(attempt.folder)
    assert not orders.holds(7, 1)
    orders.write(7, 1, "first\n")
    assert attempt.spec.read_text() == "first\n"


@pytest.mark.parametrize("number", [1, 2])
def test_the_folder_of_an_attempt_that_was_claimed_is_never_discarded(
    number: int, home: Home, orders: OrderWriter
) -> None:
    orders.write(7, number, "claimed\n")
    orders.discard()
    assert home.attempt(7, number).spec.exists()


def test_what_nobody_claimed_is_discarded_and_a_folder_in_which_anything_else_lies_stays(
    home: Home, orders: OrderWriter
) -> None:
    orders.discard()
    assert not home.attempt(7, 1).folder.exists()
    begun = orders.prepare(8, 1, "first\n")
    begun.started.touch()
    orders.discard()
    assert begun.spec.exists()


def test_a_log_lies_beside_an_order_that_is_written_ahead_and_stays_once_anything_is_in_it(
    home: Home, orders: OrderWriter
) -> None:
    attempt = home.attempt(7, 1)
    assert attempt.log.read_bytes() == b""
    assert is_untouched(attempt)
    attempt.log.write_text("a program's")
    assert not is_untouched(attempt)
    orders.discard()
    assert attempt.log.exists()
