import json
import socket

import pytest

from trueface.jobs.ranks.server_client import Server
from trueface.runtime.errors import MachineError


class Ended:
    """A server's process that has ended."""

    def wait(self) -> int:
        return 3


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> tuple[Server, socket.socket]:
    """A client whose server is this test."""
    client = Server.__new__(Server)
    client.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.kept = []
    client._process = Ended()  # type: ignore[assignment]  # all that is asked of it
    return client, theirs


def answer(server: socket.socket, **facts: object) -> None:
    server.send(json.dumps(facts).encode())


def test_the_end_of_a_rank_that_comes_while_another_is_asked_for_is_kept(
    other: tuple[Server, socket.socket],
) -> None:
    client, server = other
    answer(server, name="ended", pid=1, code=-9)
    answer(server, name="forked", pid=2)
    with server:
        assert client.fork()[0] == 2
        assert [end["pid"] for end in client.kept] == [1]
        assert client.ended() == [{"name": "ended", "pid": 1, "code": -9}]
        answer(server, name="ended", pid=2, code=0)
        assert client.ended() == [{"name": "ended", "pid": 2, "code": 0}]
    assert client.ended() is None
    client.control.close()


def test_a_server_that_could_not_begin_is_a_problem_of_the_machine(
    other: tuple[Server, socket.socket],
) -> None:
    client, server = other
    server.close()
    with pytest.raises(MachineError, match=r"has ended \(exit code 3\)"):
        client.fork()
    client.control.close()
