import threading
from collections.abc import Callable

import pytest

from launcher.system import answering
from launcher.system.answering import FilesystemTimeout, run_with_timeout
from tests.build import until


@pytest.fixture
def back(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when a server comes back; until then, work with `hang` does not end."""
    monkeypatch.setattr(answering, "TIMEOUT_S", 0.05)
    monkeypatch.setattr(answering, "_abandoned_work", {})
    return threading.Event()


def hang(back: threading.Event) -> Callable[[], object]:
    return lambda: back.wait(60)


def test_run_with_timeout_returns_the_result_of_a_responsive_folder() -> None:
    assert run_with_timeout("/there", lambda: 7) == 7
    with pytest.raises(FileNotFoundError, match="gone"):
        run_with_timeout("/there", lambda: open("/gone"))  # noqa: PTH123, SIM115


def test_hanging_folder_is_abandoned_without_affecting_others(back: threading.Event) -> None:
    tries: list[str] = []
    with pytest.raises(FilesystemTimeout) as given_up:
        run_with_timeout("/hangs", hang(back))
    assert given_up.value.strerror == "the folder /hangs does not respond"
    with pytest.raises(FilesystemTimeout):  # at once: nothing more is begun there
        run_with_timeout("/hangs", lambda: tries.append("again"))
    assert not tries
    assert run_with_timeout("/other", lambda: 7) == 7
    back.set()
    until(lambda: not answering._abandoned_work["/hangs"].empty(), "it has come back")
    assert run_with_timeout("/hangs", lambda: 8) == 8


def test_number_of_abandoned_threads_is_limited(
    back: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "MOST_HANG", 2)
    for folder in ("/a", "/b"):
        with pytest.raises(FilesystemTimeout):
            run_with_timeout(folder, hang(back))
    with pytest.raises(FilesystemTimeout, match="/c"):
        run_with_timeout("/c", lambda: 7)
    back.set()
    until(lambda: not answering._abandoned_work["/a"].empty(), "they have come back")
    assert run_with_timeout("/c", lambda: 7) == 7
