"""The user's file is read again when it was changed; while it cannot be understood, nothing is taken for gone."""

from pathlib import Path

import pytest

from launcher.backends.settings import Backends, configured_backends
from launcher.errors import UsageError
from launcher.states import ReasonCode
from launcher.system.config import Followed
from tests.launcher.scheduler.dispatch.conftest import Office
from tests.launcher.scheduler.remote.toy_cluster import World

GOOD = '[backends.toy]\nkind = "slurm"\ncpus = 2\n'
BAD = '[backends.toy]\nkind = "slurm"\ncpus = "many"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


@pytest.fixture
def configured(file: Path) -> Followed[Backends]:
    return Followed({"LAUNCHER_CONFIG": str(file)}, configured_backends, lambda _: None)


def test_without_a_file_there_are_no_backends_and_one_that_is_written_counts(
    configured: Followed[Backends], file: Path
) -> None:
    file.write_text("")
    assert configured() == Backends()
    file.write_text(GOOD)
    assert configured().by_name["toy"].cpus == 2


def test_what_held_before_a_mistake_holds_on(configured: Followed[Backends], file: Path) -> None:
    file.write_text(GOOD)
    before = configured()
    file.write_text(BAD)
    assert configured() == before


def test_a_file_that_was_never_understood_is_no_file_without_backends(
    configured: Followed[Backends], file: Path
) -> None:
    file.write_text(BAD)
    for _ in range(2):
        with pytest.raises(UsageError, match="cpus"):
            configured()
    file.write_text(GOOD)
    assert configured().by_name.keys() == {"toy"}


def test_a_scheduler_that_begins_beside_a_mistake_sends_no_pilot_away(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.need(2)
    world.turn()
    waits, runs = world.cluster.submitted
    world.cluster.run(runs)
    world.by_token[runs].speak(world.clock.now)
    world.turn()

    world.mistake = "config.toml:3: cpus"
    world.new_fleet()
    world.pass_time(30, speaking=[runs])
    assert world.cluster.cancelled == []
    assert not world.by_token[runs].leaving
    assert waits in world.cluster.alive()


def test_a_job_that_waits_meanwhile_is_told_what_is_to_be_corrected(office: Office) -> None:
    def mistaken() -> Backends:
        raise UsageError("config.toml:3: backends.box.cpus: expected a whole number")

    office.dispatch._backends = mistaken
    office.queue("box")
    (reason,) = office.decide().values()
    assert reason is not None
    assert reason.code is ReasonCode.NO_PILOT
    assert "config.toml is to be corrected first: config.toml:3: backends.box.cpus" in reason.text
