import threading
from collections.abc import Callable

import pytest

from launcher.system import answering
from launcher.system.answering import NoAnswer, within
from tests.build import until


@pytest.fixture
def back(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when a server comes back; until then, work with `hang` does not end."""
    monkeypatch.setattr(answering, "PATIENCE_S", 0.05)
    monkeypatch.setattr(answering, "_given_up", {})
    return threading.Event()


def hang(back: threading.Event) -> Callable[[], object]:
    return lambda: back.wait(60)


def test_work_in_a_folder_that_answers_is_as_if_it_were_done_here() -> None:
    assert within("/there", lambda: 7) == 7
    with pytest.raises(FileNotFoundError, match="gone"):
        within("/there", lambda: open("/gone"))  # noqa: PTH123, SIM115


def test_a_folder_that_hangs_is_given_up_and_others_are_not(back: threading.Event) -> None:
    tries: list[str] = []
    with pytest.raises(NoAnswer) as given_up:
        within("/hangs", hang(back))
    assert given_up.value.strerror == "the folder /hangs does not respond"
    with pytest.raises(NoAnswer):  # at once: nothing more is begun there
        within("/hangs", lambda: tries.append("again"))
    assert not tries
    assert within("/other", lambda: 7) == 7
    back.set()
    until(lambda: not answering._given_up["/hangs"].empty(), "it has come back")
    assert within("/hangs", lambda: 8) == 8


def test_no_more_threads_are_left_alone_than_a_machine_bears(
    back: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "MOST_HANG", 2)
    for folder in ("/a", "/b"):
        with pytest.raises(NoAnswer):
            within(folder, hang(back))
    with pytest.raises(NoAnswer, match="/c"):
        within("/c", lambda: 7)
    back.set()
    until(lambda: not answering._given_up["/a"].empty(), "they have come back")
    assert within("/c", lambda: 7) == 7
