import json
from pathlib import Path

import pytest

from launcher import __version__
from launcher.backends import node_facts
from launcher.backends.channel import Bye, Hello
from launcher.system import memory
from tests.launcher.pilots.conftest import MakeDesk
from tests.launcher.pilots.desk import Desk, a_pilot

AT_ONCE = "from launcher.backends import node_facts; node_facts.PATHS_PATIENCE_S = 0.0"


def refused(desk: Desk) -> str:
    """Return why a pilot cannot serve; it has left."""
    (trouble,) = desk.hello().troubles
    assert desk.bye() == trouble
    assert desk.exit_code() == 3
    assert trouble in desk.log
    return trouble


def test_a_path_that_the_node_does_not_see_is_named(desk_of: MakeDesk, tmp_path: Path) -> None:
    there, missing = tmp_path, tmp_path / "data"
    desk = desk_of(a_pilot(paths=(str(there), str(missing)))).start(code=AT_ONCE)
    assert refused(desk).endswith(f"does not see {missing}")


def test_a_path_that_is_seen_later_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = tmp_path / "data"
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            late.touch()

    assert node_facts._unseen([str(late)], sleep=nap) == []
    assert len(naps) == 3


def test_a_pilot_of_another_version_says_which_it_is(desk_of: MakeDesk) -> None:
    trouble = refused(desk_of(a_pilot(version="0.0.1")).start())
    assert f"has launcher {__version__}, and the queue runs 0.0.1" in trouble
    assert "[backends.local]" in trouble


def test_a_pilot_in_the_folder_of_another_one_says_so(desk_of: MakeDesk, tmp_path: Path) -> None:
    desk = desk_of(a_pilot())
    token = desk.folder.token
    desk.folder.folder.rename(tmp_path / "moved")
    desk.folder = type(desk.folder)(tmp_path / "moved")
    assert f"is the folder of another pilot, {token}" in refused(desk.start())


@pytest.mark.parametrize("text", ["", "{", '{"schema": 2}', "[]", "[" * 5000])
def test_a_spec_that_cannot_be_read_is_told_in_the_log(desk_of: MakeDesk, text: str) -> None:
    desk = desk_of()
    desk.folder.spec.write_text(text)
    desk.start()
    assert desk.exit_code() == 3
    assert "cannot serve: its spec" in desk.log
    assert desk.read() == []


def test_an_engine_that_starts_a_pilot_again_gets_no_second_one(desk_of: MakeDesk) -> None:
    desk = desk_of(a_pilot(idle_s=0.05)).start()
    desk.bye()
    first = desk.process
    news = len(desk.read())
    desk.start()
    assert desk.exit_code() == 3
    assert first is not desk.process
    assert len(desk.read()) == news
    assert [type(item) for item in (desk.news[0], desk.news[-1])] == [Hello, Bye]


@pytest.mark.parametrize(
    ("environment", "time_s", "until"),
    [
        ({}, None, None),
        ({}, 60.0, 1060.0),
        ({"SLURM_JOB_END_TIME": "5000"}, 60.0, 5000.0),
        ({"SLURM_JOB_END_TIME": "Unknown"}, 60.0, 1060.0),
        ({"SLURM_JOB_END_TIME": "9" * 400}, None, None),
    ],
)
def test_the_end_of_an_allocation_is_what_the_engine_says_or_the_wall_time(
    desk_of: MakeDesk, environment: dict[str, str], time_s: float | None, until: float | None
) -> None:
    spec = a_pilot(time_s=time_s)
    facts = node_facts.find_out(desk_of(spec).folder, spec, environment, 1000.0)
    assert facts.hello.until == until


@pytest.mark.parametrize(
    ("environment", "time_s", "limited"),
    [
        ({}, None, False),
        ({"SLURM_JOB_ID": "7"}, None, True),
        ({"SLURM_JOB_ID": "7"}, 60.0, False),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "5000"}, None, False),
    ],
)
def test_a_pilot_that_was_not_told_when_it_ends_says_so(
    desk_of: MakeDesk, environment: dict[str, str], time_s: float | None, limited: bool
) -> None:
    spec = a_pilot(time_s=time_s)
    facts = node_facts.find_out(desk_of(spec).folder, spec, environment, 1000.0)
    assert facts.hello.limited is limited


def test_a_pilot_may_fill_no_more_memory_than_it_was_given(desk_of: MakeDesk) -> None:
    for given, ram in ((1 << 20, 1 << 20), (None, memory.total()), (1 << 60, memory.total())):
        spec = a_pilot(memory=given)
        facts = node_facts.find_out(desk_of(spec).folder, spec, {"SLURMD_NODENAME": "n7"}, 0.0)
        assert (facts.hello.ram, facts.hello.node) == (ram, "n7")


def test_a_spec_of_a_newer_version_that_says_more_is_refused_by_its_version(
    desk_of: MakeDesk,
) -> None:
    desk = desk_of()
    record = json.loads(desk.folder.spec.read_text())
    desk.folder.spec.write_text(json.dumps({**record, "version": "9.0", "colour": "blue"}))
    assert "the queue runs 9.0" in refused(desk.start())
