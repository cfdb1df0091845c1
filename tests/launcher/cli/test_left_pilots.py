"""Which pilots are still there when a queue was stopped, and what a person types then."""

import json

import pytest

from launcher.backends.slurm_states import commands_by_hand
from launcher.cli.commands.queue_control import left_pilots, number_of_pilots
from launcher.system.paths import Home

RUNS, WAITS = "launcher-" + "a" * 20, "launcher-" + "b" * 20


@pytest.fixture
def stopped(home: Home) -> Home:
    """A home whose scheduler saw two pilots of an engine that does not answer any more."""
    folder = home.folder / "pilots"
    folder.mkdir(parents=True)
    for token in (RUNS, WAITS):
        (folder / f"{token}.json").write_text("{}")
    why = "slurm does not answer (squeue failed: \x1b[31mno controller): nothing is submitted"
    row = {"backend": "slurm", "token": RUNS, "stage": "running", "node": "n1", "job": "12"}
    record = {
        "schema": 1,
        "at": 1.0,
        "backends": [{"name": "slurm", "kind": "slurm", "reason": why}],
        "pilots": [
            row,
            {**row, "token": WAITS, "stage": "waiting", "node": "", "job": ""},
            {**row, "token": "launcher-" + "c" * 20},  # it has ended: its record is gone
        ],
    }
    (home.folder / "pilots.json").write_text(json.dumps(record))
    return home


def test_each_is_named_with_its_place_and_what_lists_and_ends_it(stopped: Home) -> None:
    first, why, shows, ends = left_pilots(stopped)
    assert first == "2 pilots of slurm: running on n1 (job 12), waiting"
    assert "slurm does not answer (squeue failed:" in why
    assert "\x1b" not in why
    assert shows == f"  squeue --me --name={RUNS},{WAITS}"
    assert ends == f"  scancel --me --name={RUNS},{WAITS}"
    assert number_of_pilots(stopped) == 2


def test_pilots_that_no_scheduler_has_looked_at_are_counted(stopped: Home) -> None:
    (stopped.folder / "pilots.json").unlink()
    assert [*left_pilots(stopped)] == ["2 pilots on record of which nothing has been seen yet"]


@pytest.mark.parametrize("stage", ["ended", "missing", "expired"])
def test_a_pilot_that_is_over_is_not_counted(stopped: Home, stage: str) -> None:
    shown = stopped.folder / "pilots.json"
    shown.write_text(shown.read_text().replace('"waiting"', f'"{stage}"'))
    assert number_of_pilots(stopped) == 1


def test_a_queue_without_pilots_has_none(home: Home) -> None:
    assert [*left_pilots(home)] == []
    assert number_of_pilots(home) == 0


def test_elements_of_an_array_are_named_by_the_array() -> None:
    tokens = [f"{RUNS}_{element}" for element in range(500)]
    assert commands_by_hand("slurm", tokens)[1] == f"scancel --me --name={RUNS}"
    assert commands_by_hand("local", tokens) == ()
