import os
import signal
import sys
import time
from pathlib import Path

import pytest

from launcher.nursery import Nursery
from launcher.paths import Home
from launcher.processes import identity
from launcher.specs import Breed
from launcher.states import Done
from launcher.store.store import Store
from tests.build import (
    PLAIN,
    a_spec,
    an_attempt,
    ended,
    lines_of,
    outcome_of,
    program_of,
    run_attempt,
    shell,
    started,
    until,
)

MANY = 30


def anonymous_kib(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().partition("RssAnon:")[2].split()[0])


def test_many_attempts_leave_nothing_in_the_nursery(home: Home) -> None:
    nursery = Nursery(home, PLAIN)
    run_attempt(nursery, home, a_spec(), job=1000)
    before = anonymous_kib(nursery._pid)
    descriptors = len(list(Path(f"/proc/{nursery._pid}/fd").iterdir()))
    watches = [started(nursery, an_attempt(home, a_spec(), job=job)) for job in range(MANY)]
    assert all(isinstance(outcome_of(one), Done) for one in watches)
    run_attempt(nursery, home, a_spec(), job=1001)
    children = Path(f"/proc/{nursery._pid}/task/{nursery._pid}/children")
    until(lambda: not children.read_text(), "all supervisors are collected")
    assert len(list(Path(f"/proc/{nursery._pid}/fd").iterdir())) == descriptors
    assert anonymous_kib(nursery._pid) - before < 1024
    nursery.close()


def test_a_killed_nursery_says_that_it_is_dead(home: Home) -> None:
    nursery = Nursery(home, PLAIN)
    run_attempt(nursery, home, a_spec(), job=1)
    os.kill(nursery._pid, signal.SIGKILL)
    nursery.ask()
    assert nursery.born() is None
    nursery.close()


def test_a_killed_nurserys_attempts_live_on(home: Home) -> None:
    nursery = Nursery(home, PLAIN)
    attempt = an_attempt(home, a_spec(*shell("read line < go; echo went on")))
    os.mkfifo(attempt.folder / "go")
    one = started(nursery, attempt)
    program_of(attempt)
    os.kill(nursery._pid, signal.SIGKILL)
    nursery.close()
    (attempt.folder / "go").write_text("\n")
    assert isinstance(outcome_of(one), Done)
    assert lines_of(attempt.log) == ["went on"]


def test_a_nursery_goes_when_its_scheduler_does_and_its_attempts_stay(home: Home) -> None:
    nursery = Nursery(home, PLAIN)
    attempt = an_attempt(home, a_spec("sleep", "60"))
    one = started(nursery, attempt)
    program_of(attempt)
    nursery.socket.close()  # as the kernel does for a killed scheduler
    until(lambda: identity(nursery._pid) is None, "the nursery has left")
    nursery.close()
    assert one.ending() is None
    one.stop()
    outcome_of(one)


def test_a_nursery_whose_scheduler_said_goodbye_restarts_none(home: Home, store: Store) -> None:
    nursery = Nursery(home, PLAIN)
    nursery.close()
    assert identity(nursery._pid) is None
    assert not home.restarts.exists()


def test_modules_are_imported_once_for_all_workers(home: Home, tmp_path: Path) -> None:
    (tmp_path / "heavy.py").write_text("import os\nBORN = os.getpid()\n")
    (tmp_path / "kind.py").write_text(
        "import os, sys, heavy\ndef run(job):\n    return {'shared': heavy.BORN != os.getpid()}\n"
    )
    nursery = Nursery(home, Breed(sys.executable, ("heavy",), str(tmp_path)))
    _, outcome = run_attempt(nursery, home, a_spec(name="toy/1", entry="kind:run"))
    assert isinstance(outcome, Done)
    assert outcome.result == {"shared": True}
    nursery.close()


def test_a_nursery_finds_modules_where_its_jobs_would_and_not_where_we_do(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ours.py").write_text("")
    (tmp_path / "kind.py").write_text(
        "import importlib.util\ndef run(job):\n"
        "    return {'found': importlib.util.find_spec('ours') is not None}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for job, (path, found) in enumerate([(str(tmp_path), True), ("", False)], 1):
        nursery = Nursery(home, Breed(sys.executable, (), path))
        _, outcome = run_attempt(nursery, home, a_spec(entry="kind:run"), job=job)
        if found:
            assert isinstance(outcome, Done)
            assert outcome.result == {"found": True}
        else:
            assert "No module named 'kind'" in repr(outcome)
        nursery.close()


def test_an_interpreter_that_is_gone_is_an_error_of_the_machine(home: Home) -> None:
    with pytest.raises(FileNotFoundError):
        Nursery(home, Breed("/no/such/python"))


def test_a_nursery_that_cannot_begin_says_that_it_is_dead(home: Home) -> None:
    nursery = Nursery(home, Breed("/bin/false"))
    nursery.ask()
    assert nursery.born() is None
    nursery.close()


def test_a_nursery_that_still_loads_is_not_waited_for(home: Home, tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text("import time\ntime.sleep(600)\n")
    nursery = Nursery(home, Breed(sys.executable, ("endless",), str(tmp_path)))
    before = time.monotonic()
    nursery.close()
    assert time.monotonic() - before < 10
    assert identity(nursery._pid) is None


def test_interrupting_the_terminal_does_not_reach_the_nursery(home: Home) -> None:
    nursery = Nursery(home, PLAIN)
    run_attempt(nursery, home, a_spec(), job=1)
    os.kill(nursery._pid, signal.SIGINT)
    one = started(nursery, an_attempt(home, a_spec(), job=2))
    assert ended(one.descriptor)
    assert isinstance(outcome_of(one), Done)
    assert os.getsid(nursery._pid) == nursery._pid
    nursery.close()
