import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator

import pytest

from launcher.store.queue import Store
from launcher.system.paths import Home
from launcher.web.live import Streams
from launcher.web.page import Address, Content, Page
from launcher.web.view import QueueReader, View
from tests.build import DEADLINE_S

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


def test_a_page_that_cannot_be_drawn_says_so_and_comes_back(
    reader: QueueReader, caplog: pytest.LogCaptureFixture
) -> None:
    values = {"jobs": [], "plots_list": [], "left_out": 0}
    faulty = [True]

    def fill(view: View, address: Address) -> Content:  # as every page
        if faulty:
            raise ZeroDivisionError("of a page")
        return Content(title="curves", values=values)

    async def watched() -> None:
        streams = Streams(reader)
        stream = streams.open(Page(name="curves", path="curves", fill=fill), ADDRESS)
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
