"""The scheduler as a service of the machine, and pilots that a stopped queue leaves behind."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from launcher.frontends.cli.commands.queue_control import (
    BOOTED,
    Manager,
    cron_line,
    find_manager,
    number_of_pilots,
    remaining_pilot_lines,
    unit,
)
from launcher.frontends.cli.main import cli
from launcher.queue.backends.slurm_states import manual_commands
from launcher.queue.home.paths import Home
from launcher.system.errors import MachineError
from launcher.system.files import write_json

ODD = "a b/50%h $HOME \"q\" 'r' \\x ü"


@dataclass(frozen=True)
class Machine:
    """A person's configuration, and a `systemctl` that writes down what it is asked."""

    config: Path
    programs: Path

    @property
    def unit(self) -> Path:
        return self.config / "systemd" / "user" / "launcher.service"

    @property
    def asked(self) -> list[str]:
        log = self.programs / "asked"
        return log.read_text().splitlines() if log.exists() else []

    def systemctl(self, body: str = "exit 0") -> None:
        """Install a systemctl that ends as `body` says."""
        program = self.programs / "systemctl"
        program.write_text(f'#!/bin/sh\necho "$@" >> "{self.programs}/asked"\n{body}\n')
        program.chmod(0o755)

    def service(self, *words: str) -> Result:
        """Run `launcher service …`."""
        return CliRunner().invoke(cli, ["service", *words])

    def well(self, *words: str) -> Result:
        """Run what has to end well."""
        answer = self.service(*words)
        assert answer.exit_code == 0
        return answer


@pytest.fixture
def machine(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine without systemd, until a test installs it."""
    machine = Machine(tmp_path / "config", tmp_path / "bin")
    machine.programs.mkdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(machine.config))
    monkeypatch.setenv("PATH", str(machine.programs))
    return machine


def test_unit_is_rewritten_and_enabled(machine: Machine, home: Home) -> None:
    machine.systemctl()
    machine.unit.parent.mkdir(parents=True)
    machine.unit.write_text("of an older version")
    answer = machine.well("install")
    assert machine.unit.read_text() == unit(home.folder, sys.executable)
    assert machine.asked[-2:] == [
        "--user daemon-reload",
        "--user enable --now launcher.service",
    ]
    assert "loginctl enable-linger" in answer.stderr
    assert answer.stdout == ""


def test_unit_is_only_printed_on_request(machine: Machine, home: Home) -> None:
    machine.systemctl()
    shutil.rmtree(home.folder)
    answer = machine.well("install", "--print")
    assert answer.stdout == unit(home.folder, sys.executable)
    assert not machine.config.exists()
    assert not home.folder.exists()
    assert machine.asked == []


def test_a_service_is_removed(machine: Machine) -> None:
    machine.systemctl()
    machine.service("install")
    machine.well("remove")
    assert not machine.unit.exists()
    assert machine.asked[-2:] == [
        "--user disable --now launcher.service",
        "--user daemon-reload",
    ]


def test_removing_what_was_never_installed_changes_nothing(machine: Machine) -> None:
    machine.systemctl()
    answer = machine.well("remove")
    assert "Nothing was changed" in answer.stderr
    assert machine.asked == []


def test_service_is_removed_when_systemd_does_not_respond(machine: Machine) -> None:
    machine.systemctl()
    machine.service("install")
    enabled = machine.unit.parent / "default.target.wants" / "launcher.service"
    enabled.parent.mkdir()
    enabled.symlink_to(machine.unit)
    machine.systemctl("exit 1")
    machine.well("remove")
    assert not enabled.is_symlink()
    assert not machine.unit.exists()


def test_without_systemd_a_crontab_line_is_printed_instead(machine: Machine, home: Home) -> None:
    answer = machine.well("install")
    assert answer.stdout == cron_line(home.folder, sys.executable) + "\n"
    assert "crontab -e" in answer.stderr
    assert not machine.config.exists()


@pytest.mark.skipif(BOOTED.exists(), reason="systemd started this machine")
def test_systemctl_without_a_running_systemd_counts_as_missing(machine: Machine) -> None:
    machine.systemctl("echo 'Failed to connect to bus' >&2; exit 1")
    answer = machine.well("install")
    assert "@reboot" in answer.stdout
    assert not machine.config.exists()


def test_unresponsive_systemd_is_distinguished_from_a_missing_one(
    machine: Machine, tmp_path: Path
) -> None:
    assert find_manager(tmp_path) is Manager.ABSENT
    machine.systemctl("exit 1")
    assert find_manager(tmp_path) is Manager.SILENT
    assert find_manager(tmp_path / "none") is Manager.ABSENT
    machine.systemctl()
    assert find_manager(tmp_path / "none") is Manager.ANSWERS


def test_error_of_systemctl_is_shown(machine: Machine) -> None:
    machine.systemctl('[ "$2" = enable ] || exit 0; echo "Unit is masked" >&2; exit 1')
    answer = machine.service("install")
    assert isinstance(answer.exception, MachineError)
    assert "enable --now launcher.service` failed: Unit is masked" in str(answer.exception)


def test_queue_of_another_machine_gets_no_service(machine: Machine, home: Home) -> None:
    machine.systemctl()
    write_json(home.record, {"schema": 1, "machine": "ffff", "host": "gpu3"})
    assert isinstance(machine.service("install").exception, MachineError)
    assert not machine.unit.exists()


@pytest.mark.parametrize("place", ["/home/ada/queue", f"/tmp/{ODD}"])
def test_unit_is_valid_for_systemd(tmp_path: Path, place: str) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze here")
    file = tmp_path / "launcher.service"
    file.write_text(unit(Path(place), sys.executable), encoding="utf-8")
    verified = subprocess.run(
        [analyze, "verify", "--user", str(file)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (verified.returncode, verified.stderr) == (0, "")


def test_unusual_paths_of_a_unit_are_quoted_for_systemd() -> None:
    lines = unit(Path('/a b/50% $X "q" \\'), "/opt/my python").splitlines()
    assert r'Environment="LAUNCHER_HOME=/a b/50%% $X \"q\" \\"' in lines
    start = r'ExecStart="/opt/my python" -P -m launcher.scheduler "/a b/50%% $$X \"q\" \\"'
    assert start in lines
    assert "KillMode=process" in lines  # running jobs outlive the scheduler
    assert "Delegate=yes" in lines  # it may make a control group for each supervisor
    assert "Restart=on-failure" in lines
    assert "WantedBy=default.target" in lines


@pytest.mark.parametrize("name", ["home", ODD, "-x;y&z"])
def test_crontab_line_starts_the_scheduler_of_its_queue(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    home.mkdir(parents=True)
    python = tmp_path / "my python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$LAUNCHER_HOME" "$@"\n')
    python.chmod(0o755)
    line = cron_line(home, str(python))
    assert "\n" not in line
    assert "%" not in line.replace(r"\%", "")
    # the line as cron passes it: a backslash before a percent sign goes, the shell gets the rest
    heard = line.removeprefix("@reboot ").replace(r"\%", "%")
    subprocess.run(["/bin/sh", "-c", heard], check=True)
    told = (home / "scheduler.log").read_text(encoding="utf-8").splitlines()
    assert told == [str(home), "-P", "-m", "launcher.scheduler", str(home)]


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


def test_remaining_pilots_are_named_with_commands_that_list_and_end_them(stopped: Home) -> None:
    first, why, shows, ends = remaining_pilot_lines(stopped)
    assert first == "2 pilots of slurm: running on n1 (job 12), waiting"
    assert "slurm does not answer (squeue failed:" in why
    assert "\x1b" not in why
    assert shows == f"  squeue --me --name={RUNS},{WAITS}"
    assert ends == f"  scancel --me --name={RUNS},{WAITS}"
    assert number_of_pilots(stopped) == 2


def test_pilots_without_an_observation_are_counted(stopped: Home) -> None:
    (stopped.folder / "pilots.json").unlink()
    assert [*remaining_pilot_lines(stopped)] == ["2 pilots of unknown state"]


@pytest.mark.parametrize("stage", ["ended", "missing", "expired"])
def test_ended_pilot_is_not_counted(stopped: Home, stage: str) -> None:
    shown = stopped.folder / "pilots.json"
    shown.write_text(shown.read_text().replace('"waiting"', f'"{stage}"'))
    assert number_of_pilots(stopped) == 1


def test_a_queue_without_pilots_has_none(home: Home) -> None:
    assert [*remaining_pilot_lines(home)] == []
    assert number_of_pilots(home) == 0


def test_array_elements_are_named_by_their_array() -> None:
    tokens = [f"{RUNS}_{element}" for element in range(500)]
    assert manual_commands("slurm", tokens)[1] == f"scancel --me --name={RUNS}"
    assert manual_commands("local", tokens) == ()
