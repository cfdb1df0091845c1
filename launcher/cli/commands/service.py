"""`launcher service`: have the machine start the scheduler, so that a reboot delays jobs only."""

import os
import shlex
import shutil
import subprocess
import sys
from enum import Enum, auto
from pathlib import Path

import click
import platformdirs

from launcher.errors import MachineError
from launcher.screens.terminal import remark
from launcher.system.files import write_atomic
from launcher.system.paths import find_home, make_home

NAME = "launcher.service"
BOOTED = Path("/run/systemd/system")  # sd_booted(3): there when systemd started the machine
PATIENCE_S = 30.0  # for an answer of systemctl


class Manager(Enum):
    """What is known of the user's systemd."""

    ANSWERS = auto()
    SILENT = auto()  # the machine runs systemd, but this shell has no way to the user's manager
    ABSENT = auto()


@click.group()
def command() -> None:
    """Start the scheduler when the machine boots.

    \b
    Examples:
      launcher service install
      launcher service install --print
      launcher service remove
    """


@command.command()
@click.option("--print", "only_print", is_flag=True, help="Print the unit file, change nothing.")
def install(only_print: bool) -> None:
    """Write a systemd user unit and enable it; without systemd, say what to put where.

    \b
    Examples:
      launcher service install
      launcher service install --print
    """
    home = find_home(os.environ)
    text = unit(home.folder, sys.executable)
    if only_print:
        click.echo(text, nl=False)
        return
    make_home(home)
    manager = find_manager()
    if manager is Manager.ABSENT:
        remark("this machine runs no systemd for its users; nothing was written")
        remark("where there is cron, add this line with `crontab -e`:")
        click.echo(cron_line(home.folder, sys.executable))
        return
    file = unit_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, text)
    remark(f"wrote {file}")
    enable = ("systemctl", "--user", "enable", "--now", NAME)
    if manager is Manager.ANSWERS:
        _demand("systemctl", "--user", "daemon-reload")
        _demand(*enable)
        remark("the scheduler starts when you log in")
    else:
        remark(f"your systemd does not answer here; log in and run: {shlex.join(enable)}")
    remark("to have it start when the machine does: loginctl enable-linger")


@command.command()
def remove() -> None:
    """Undo `install`; the queue and running jobs stay.

    \b
    Examples:
      launcher service remove
      LAUNCHER_HOME=/data/queue launcher service remove
    """
    file = unit_file()
    if not file.exists():
        remark(f"there is no {file}; nothing was changed")
        remark("a line that you put into a crontab is removed with `crontab -e`")
        return
    manager = find_manager()
    if manager is Manager.ANSWERS:
        _demand("systemctl", "--user", "disable", "--now", NAME)
    else:  # what `disable` does: the link of [Install] goes
        (file.parent / "default.target.wants" / NAME).unlink(missing_ok=True)
    file.unlink()
    if manager is Manager.ANSWERS:
        _demand("systemctl", "--user", "daemon-reload")
    remark(f"removed {file}")


def unit_file() -> Path:
    """Return where the user's unit lies."""
    return platformdirs.user_config_path() / "systemd" / "user" / NAME


def unit(home: Path, python: str) -> str:
    """Return the unit that keeps a home's scheduler; it leaves by itself when nothing is to do."""
    # LAUNCHER_HOME is for those who ask the environment, the argument for the scheduler itself
    return f"""\
[Unit]
Description=launcher, the queue in {_specifiers(str(home)).replace(chr(10), " ")}
StartLimitIntervalSec=300
StartLimitBurst=3

[Service]
Environment={_quoted(f"LAUNCHER_HOME={home}")}
ExecStart={_quoted(python)} -P -m launcher.scheduler {_quoted(str(home)).replace("$", "$$")}
KillMode=process
Delegate=yes
Restart=on-failure
RestartSec=5

[Install]
WantedBy=default.target
"""


def cron_line(home: Path, python: str) -> str:
    """Return the line of a crontab that does the same."""
    argv = shlex.join([python, "-P", "-m", "launcher.scheduler", str(home)])
    setting = f"LAUNCHER_HOME={shlex.quote(str(home))}"
    log = shlex.quote(str(home / "scheduler.log"))
    line = f"@reboot {setting} {argv} >> {log} 2>&1"
    return line.replace("%", r"\%")  # crontab(5): a plain one ends the line


def find_manager(booted: Path = BOOTED) -> Manager:
    """Return whether the user's systemd can be asked."""
    if shutil.which("systemctl") is None:
        return Manager.ABSENT
    if _systemctl("systemctl", "--user", "show-environment").returncode == 0:
        return Manager.ANSWERS
    return Manager.SILENT if booted.is_dir() else Manager.ABSENT


def _demand(*argv: str) -> None:
    """Run systemctl.

    Raises:
        MachineError: it failed; the message holds its output.
    """
    done = _systemctl(*argv)
    if done.returncode:
        raise MachineError(
            f"`{shlex.join(argv)}` failed: {done.stderr.strip()}; "
            "`systemctl --user status` says more"
        )


def _systemctl(*argv: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, 1, "", f"no answer in {PATIENCE_S:.0f} s")


def _quoted(word: str) -> str:
    """Quote a word for a unit file. Source: systemd.syntax(7), Quoting; systemd.unit(5), Specifiers."""
    escaped = word.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'"{_specifiers(escaped)}"'


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")
