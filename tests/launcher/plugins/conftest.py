"""Fixtures for the tests of plugins: queues as the tests of functions have them."""

from tests.launcher.functions.conftest import alone, home, one_queue, queue

__all__ = ["alone", "home", "one_queue", "queue"]
