"""`launcher config` prints defaults and their sources, and refuses wrong values."""

import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from launcher.frontends.cli.main import Verbs, cli, options_of
from launcher.frontends.cli.verb_table import VERBS
from launcher.frontends.notify.notices import (
    DeadLetter,
    NotificationState,
    RetryState,
    write_notification_state,
)
from launcher.queue.home.paths import Home
from launcher.queue.job_options.notifications import NotifyEvent
from tests.forked import call_launcher
from tests.launcher.conftest import Answer, Launcher
from tests.receivers import a_mailbox, a_silent_server
from tests.terminal import in_a_terminal

Configured = Callable[..., Answer]


@pytest.fixture
def configured(home: Home, tmp_path: Path) -> Configured:
    """The command line of a person with a file of defaults, in a process of its own."""

    def run(text: str | None, *words: str, **environ: str) -> Answer:
        file = tmp_path / "launcher" / "config.toml"
        file.parent.mkdir(exist_ok=True)
        if text is not None:
            file.write_text(text)
        inherited = {key: one for key, one in os.environ.items() if not key.startswith("LAUNCHER_")}
        surroundings = {
            "XDG_CONFIG_HOME": str(tmp_path),
            "LAUNCHER_HOME": str(home.folder),
            **environ,
        }
        done = call_launcher(
            *words,
            folder=Path.cwd(),
            environment=inherited | {key: one for key, one in surroundings.items() if one},
        )
        return Answer(
            code=done.returncode, out=done.stdout, err=done.stderr.replace(str(file), "F")
        )

    return run


SHARED = {
    "log_limit": ("1 GiB", "default"),
    "snapshot_file_limit": ("10 MiB", "default"),
    "sharing.reserve": ("0 B", "default"),
    "sharing.max_per_gpu": ("null", "default"),
    "sharing.adaptive": ("true", "default"),
    "sharing.unknown": ("0.125", "default"),
    "sharing.idle": ("0 s", "default"),
    "sharing.devices": ("null", "default"),
}


def rows(answer: Answer) -> dict[str, tuple[str, str]]:
    """Return each value and where it comes from, by its name."""
    assert answer.code == 0, answer.err
    lines = [line.split("\t") for line in answer.out.splitlines()]
    return {name: (value, source) for name, value, source in lines}


FILE = """\
home = "/fast/queue"
[subsets]
wild = ["InTheWild", "SDXL-*"]
[wait]
timeout = "1h"
[add]
not_before = "+2h"
after = ["prep", "mend"]
cpus = 2
[service.install]
print = true
"""


def test_every_value_is_printed_with_its_source(configured: Configured, tmp_path: Path) -> None:
    file = tmp_path / "launcher" / "config.toml"
    answer = configured(FILE, "config", LAUNCHER_HOME="", LAUNCHER_RUN_DETACH="1")
    assert rows(answer) == {
        "home": ("/fast/queue", f"{file}:1"),
        "subsets.wild": ('["InTheWild", "SDXL-*"]', f"{file}:3"),
        "wait.timeout": ("1h", f"{file}:5"),
        "add.not-before": ("+2h", f"{file}:7"),
        "add.after": ('["prep", "mend"]', f"{file}:8"),
        "add.cpus": ("2", f"{file}:9"),
        "service.install.print": ("true", f"{file}:11"),
        "run.detach": ("1", "LAUNCHER_RUN_DETACH"),
        **SHARED,
    }


def test_long_value_leaves_room_for_its_source(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "c.toml"
    file.write_text(f'[notify.log]\ncommand = ["sh", "-c", "{"x" * 200}"]\n')
    monkeypatch.setenv("LAUNCHER_CONFIG", str(file))
    drawn = in_a_terminal("config", columns=100 + len(str(file)))
    (row,) = [line for line in drawn.splitlines() if line.startswith("notify.log.command")]
    assert f"{file}:2" in row
    assert "SET IN" in drawn


def test_gpu_sharing_rules_are_printed_with_their_source(
    configured: Configured, tmp_path: Path
) -> None:
    file = tmp_path / "launcher" / "config.toml"
    text = '[sharing]\nreserve = "2GiB"\nmax-per-gpu = 2\ndevices = [0, "GPU-8f"]\n'
    found = rows(configured(text, "config", LAUNCHER_HOME=""))
    del found["home"]
    assert found == {
        **SHARED,
        "sharing.reserve": ("2 GiB", f"{file}:2"),
        "sharing.max_per_gpu": ("2", f"{file}:3"),
        "sharing.devices": ('["0", "GPU-8f"]', f"{file}:4"),
    }


def test_environment_overrides_the_file(configured: Configured, home: Home) -> None:
    found = rows(configured(FILE, "config", LAUNCHER_WAIT_TIMEOUT="2h"))
    assert found["home"] == (str(home.folder), "LAUNCHER_HOME")
    assert found["wait.timeout"] == ("2h", "LAUNCHER_WAIT_TIMEOUT")


def test_variable_of_a_repeatable_option_has_values_with_spaces_between(
    configured: Configured,
) -> None:
    swept = {"LAUNCHER_ADD_SWEEP": "x=1,2 y=3"}
    answer = configured(None, "add", "--dry-run", "--name", "a", "--", "echo", "{sweep}", **swept)
    assert answer.out == (
        "command/a@x=1,y=3\techo --x=1 --y=3\ncommand/a@x=2,y=3\techo --x=2 --y=3\n"
    )
    assert rows(configured(None, "config", **swept))["add.sweep"] == (
        "x=1,2 y=3",
        "LAUNCHER_ADD_SWEEP",
    )


def test_queue_folder_is_the_only_value_without_a_file(
    configured: Configured, tmp_path: Path
) -> None:
    state = {"XDG_STATE_HOME": str(tmp_path / "state"), "LAUNCHER_HOME": ""}
    found = rows(configured(None, "config", **state))
    assert found.pop("home")[1] == "default"
    assert found == SHARED


def test_every_option_of_every_verb_is_listed_and_has_a_variable(configured: Configured) -> None:
    found = rows(configured(FILE, "config", "--all"))
    assert found["run.detach"] == ("false", "default")
    assert found["add.grace"] == ("30s", "default")
    assert found["add.cpus"][0] == "2"
    context = click.Context(cli)
    assert isinstance(cli, Verbs)
    for name in VERBS:
        verb = cli.get_command(context, name)
        assert verb is not None
        for key, option in options_of(verb).items():
            assert f"{name}.{key}" in found
            assert option.envvar == f"LAUNCHER_{name}_{key}".upper().replace("-", "_")
    assert "service.install.print" in found


def test_json_separates_source_and_location(configured: Configured, tmp_path: Path) -> None:
    file = tmp_path / "launcher" / "config.toml"
    told = json.loads(configured(FILE, "config", "--json", LAUNCHER_RUN_DETACH="yes").out)
    assert (told["schema"], told["file"], told["exists"]) == (1, str(file), True)
    by_name = {one.pop("name"): one for one in told["values"]}
    assert by_name["add.after"] == {
        "value": ["prep", "mend"],
        "source": "file",
        "where": f"{file}:8",
    }
    assert by_name["run.detach"] == {
        "value": "yes",
        "source": "environment",
        "where": "LAUNCHER_RUN_DETACH",
    }


@pytest.mark.usefixtures("home")
def test_terminal_shows_the_file_and_a_table() -> None:
    lines = in_a_terminal("config", columns=300).splitlines()
    assert lines[0].startswith("file: /")
    assert lines[1].split() == ["NAME", "VALUE", "SET", "IN"]
    narrow = in_a_terminal("config", "--all", columns=50).splitlines()
    assert max(map(len, narrow[1:])) == 50


# --- defaults at work


def test_option_of_the_file_applies_unless_overridden(configured: Configured) -> None:
    text = "[kinds]\njson = true\n[add]\nretries = 3\nhold = true\nafter = []\n"

    def retries(job: int) -> int:
        shown = json.loads(configured(text, "show", str(job), "--json").out)
        assert shown["state"] == "held"
        number: int = shown["spec"]["terms"]["retries"]
        return number

    assert json.loads(configured(text, "kinds").out)["schema"] == 1
    assert configured(text, "add", "--", "true").code == 0
    assert retries(1) == 3
    assert configured(text, "add", "--retries", "2", "--", "true").code == 0
    assert retries(2) == 2
    assert configured(text, "add", "--", "true", LAUNCHER_ADD_RETRIES="4").code == 0
    assert retries(3) == 4


def test_subcommand_has_its_own_defaults(configured: Configured) -> None:
    answer = configured(FILE, "service", "install")
    assert answer.out.startswith("[Unit]")


def test_queue_folder_of_the_file_is_used(configured: Configured, tmp_path: Path) -> None:
    text = f'home = "{tmp_path}/queue"'
    told = json.loads(configured(text, "status", "--json", LAUNCHER_HOME="").out)
    assert told["home"] == f"{tmp_path}/queue"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("detatch = true", "'detatch' is not an option of launcher run. Did you mean 'detach'?"),
        ('detach = "yes"', "run.detach: expected true or false"),
        ("dry_run = 1", "run.dry_run: expected true or false"),
        (
            "taskfiles = 'x'",
            "'taskfiles' is not an option of launcher run (known: accept-code, adopt, all, ",
        ),
    ],
)
def test_unknown_option_is_reported_with_its_location(
    configured: Configured, text: str, complaint: str
) -> None:
    for words in (("run", "tasks/absent.yaml"), ("config",)):
        answer = configured(f"[run]\n{text}\n", *words)
        assert answer.code == 2
        assert answer.err.startswith(f"error: F:2: {complaint}")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("cpus = 0", "add.cpus: expected a whole number from 1 to 100,000, got '0'"),
        ("cpus = 1.5", "add.cpus: expected a whole number from 1 to 100,000, got '1.5'"),
        ("cpus = true", "add.cpus: expected a number or a string"),
        ("cpus = [1, 2]", "add.cpus: expected a number or a string"),
        ('time-limit = "8"', "add.time-limit: '8' has no unit"),
        ("rerun = 'often'", "add.rerun: 'often' is not one of 'again', 'never'."),
    ],
)
def test_invalid_value_is_reported_with_its_location(
    configured: Configured, text: str, complaint: str
) -> None:
    answer = configured(f"[add]\n{text}\n", "add", "--", "true")
    assert answer.code == 2
    assert answer.err.startswith(f"error: F:2: {complaint}")


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("100", """expected a size such as "100MiB", or "none", got 100"""),
        ('"100"', "'100' has no unit. Write 100GiB or 100MiB"),
        ('"10 MB"', "unknown unit 'MB'. Did you mean 10MiB?"),
        ('"1023KiB"', """expected at least 1 MiB, or "none", got '1023KiB'"""),
        ('"0"', """expected at least 1 MiB, or "none", got '0'"""),
        ('"-1GiB"', "expected an amount of memory such as 16GiB, got '-1GiB'"),
        ("true", """expected a size such as "100MiB", or "none", got True"""),
    ],
)
def test_invalid_size_of_logs_is_reported_with_its_location(
    configured: Configured, value: str, complaint: str
) -> None:
    answer = configured(f"\nlog_limit = {value}\n", "status")
    assert (answer.code, answer.err) == (2, f"error: F:2: log_limit: {complaint}\n")


def test_invalid_limit_of_files_of_snapshots_is_reported_with_its_location(
    configured: Configured,
) -> None:
    answer = configured("\nsnapshot_file_limit = 10\n", "status")
    expected = 'error: F:2: snapshot_file_limit: expected a size such as "10MiB", got 10\n'  # prose: ok, an error message
    assert (answer.code, answer.err) == (2, expected)


def test_size_of_logs_is_printed_with_its_place(configured: Configured) -> None:
    for text, shown in (
        ('log_limit = "100MiB"', "100 MiB"),
        ('log_limit = "none"', "none"),
        ('snapshot_file_limit = "2MiB"', "2 MiB"),
    ):
        value, place = rows(configured(text, "config"))[text.partition(" ")[0]]
        assert (value, place[-7:]) == (shown, ".toml:1")


def test_config_reports_the_faults_of_all_verbs_together(configured: Configured) -> None:
    answer = configured("[run]\nforc = true\n[wait]\ntimeout = []\n", "config")
    assert answer.code == 2
    assert [line.strip() for line in answer.err.splitlines()] == [
        "error: F:2: 'forc' is not an option of launcher run. Did you mean 'force'?",
        "F:4: wait.timeout: expected a number or a string",
    ]


def test_broken_file_stops_every_verb_except_help(configured: Configured) -> None:
    broken = "home = "
    answer = configured(broken, "status")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: F:1: not valid TOML: ")
    for words in (("--help",), ("status", "--help"), ("service", "install", "-h"), ("--version",)):
        assert configured(broken, *words).code == 0


def test_backends_are_listed_with_the_lines_that_set_them(
    configured: Configured, tmp_path: Path
) -> None:
    text = 'on = "slurm,local"\n[backends.slurm]\ncpus = 2\ngpu-type = "a100"\n'
    listed = rows(configured(text, "config"))
    file = tmp_path / "launcher" / "config.toml"
    assert listed["on"] == ('["slurm", "local"]', f"{file}:1")
    assert listed["backends.slurm.cpus"] == ("2", f"{file}:3")
    assert listed["backends.slurm.gpu_type"] == ("a100", f"{file}:4")


def test_mistake_in_a_backend_is_reported_with_its_line(configured: Configured) -> None:
    answer = configured("[backends.slurm]\ncpu = 2\n", "config")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: F:2: 'cpu' is not a key of [backends.slurm]")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    monkeypatch.setenv("LAUNCHER_CONFIG", str(path))
    path.write_text('[notify.desk]\ncommand = ["true"]\nevents = ["out-of-memory"]\n')
    path.chmod(0o600)
    return path


def test_test_message_reports_the_result_per_target(launcher: Launcher, config: Path) -> None:
    with a_mailbox() as mailbox, a_silent_server() as port:
        config.write_text(
            f'[notify.mail]\nurl = "{mailbox.url}"\n'
            '[notify.desk]\ncommand = ["sh", "-c", "echo no display; exit 4"]\n'
            f'[notify.hook]\nurl = "json://127.0.0.1:{port}/s3cret"\ntimeout = "1s"\n'
        )
        answer = launcher("notify", "--test")
    assert answer.code == 3
    rows = [line.split("\t") for line in answer.out.splitlines()]
    assert [row[:2] for row in rows] == [["mail", "sent"], ["desk", "failed"], ["hook", "failed"]]
    assert rows[1][2] == "exit code 4: no display"
    assert rows[2][2] == "no answer in 1 s"
    assert "s3cret" not in answer.out + answer.err
    (mail,) = mailbox.mails
    assert mail["Subject"].endswith(": test message")


def test_successful_test_message_has_exit_code_0_and_json_output(
    launcher: Launcher,
    config: Path,
) -> None:
    assert launcher.json("notify", "--test")["results"] == [
        {"target": "desk", "sent": True, "answer": ""}
    ]


def test_targets_and_events_are_listed_without_secrets(launcher: Launcher, config: Path) -> None:
    chat = '[notify.chat]\nurl = "slack://aaa/bbb/s3cret"\n'
    config.write_text(f'[notify]\nretry = "5h"\n{config.read_text()}{chat}')
    answer = launcher("notify")
    everything = ",".join(NotifyEvent)
    assert [line.split("\t") for line in answer.out.splitlines()] == [
        ["target", "desk", "command true", "out-of-memory"],
        ["target", "chat", "slack://•••", everything],
    ]
    rows = [line.split("\t") for line in launcher("config").out.splitlines()]
    assert ["notify.retry", "5h", f"{config}:2"] in rows
    assert ["notify.chat.url", "slack://•••", f"{config}:7"] in rows


def test_pending_and_abandoned_messages_are_listed(
    launcher: Launcher,
    config: Path,
    home: Home,
) -> None:
    waits = RetryState(title="study ended", at=time.time(), tries=2, next=0.0, answer="no route")
    lost = DeadLetter(at=time.time(), target="mail", title="study failed", why="refused")
    write_notification_state(
        home, NotificationState(cursor=3, failing={"desk": waits}, given_up=(lost,))
    )
    assert stat.S_IMODE(home.notify_record.stat().st_mode) == 0o600
    rows = [line.split("\t") for line in launcher("notify").out.splitlines()]
    assert rows[1:] == [
        ["waiting", "desk", "study ended", "no route"],
        ["given up", "mail", "study failed", "refused"],
    ]
    record = launcher.json("notify")
    assert record["configured"] is True
    assert record["process"] is None
    assert record["waiting"][0]["tries"] == 2
    assert record["given_up"][0]["answer"] == "refused"


def test_fault_in_the_notify_table_is_reported_with_its_line(
    launcher: Launcher, config: Path
) -> None:
    config.write_text('[notify]\nretry = "at night"\n[notify.desk]\ncommand = ["true"]\n')
    assert f"{config}:2: notify.retry: expected a time" in launcher.refused("notify")


def test_key_of_a_development_version_is_refused_with_its_line(
    launcher: Launcher, config: Path
) -> None:
    config.write_text(
        "[sharing]\nmps = true\n"
        '[notify]\nquiet = "22:00-07:00"\n[notify.desk]\ncommand = ["true"]\n'
    )
    assert f"{config}:2: 'mps' is not a key of [sharing]" in launcher.refused("gpus")
    config.write_text('[notify]\nquiet = "22:00-07:00"\n[notify.desk]\ncommand = ["true"]\n')
    for verb in ("notify", "config"):
        assert f"{config}:2: 'quiet' is not a key of [notify]" in launcher.refused(verb)


def test_doctor_names_an_unusable_target(launcher: Launcher, config: Path, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("json://localhost/s3cret")
    (tmp_path / "url").chmod(0o644)
    config.write_text(
        '[notify.desk]\ncommand = ["no-such-program"]\n'
        '[notify.good]\ncommand = ["true"]\n'
        f'[notify.open]\nurl_file = "{tmp_path}/url"\n'
        '[notify.here]\nurl = "json://localhost/s3cret"\n'
        '[notify.odd]\nurl = "odd://localhost/s3cret"\n'
    )
    config.chmod(0o644)
    answer = launcher("doctor")
    findings = {row[0]: row[1:] for row in map(str.split, answer.out.splitlines(), "\t" * 99)}
    assert findings["notify desk"][:2] == [
        "trouble",
        "no-such-program is not in PATH or not executable",
    ]
    assert findings["notify good"][0] == "ok"
    assert f"chmod 600 {tmp_path}/url" in findings["notify open"][1]
    assert findings["notify here"][0] == "warning"
    assert "other users can read config.toml" in findings["notify here"][1]
    assert "apprise does not support this address" in findings["notify odd"][1]
    assert "s3cret" not in answer.out
    config.write_text('[notify]\nretry = "x"\n')
    assert "notify.retry: expected a time" in launcher("doctor").out


TASK = "name: study\nnotify: {to: [dsk]}\ncommand:\n  - {argv: [true]}\n"


def test_run_without_a_notification_target_causes_a_warning(
    launcher: Launcher, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(TASK)

    def load_problems(*words: str) -> str:
        return launcher("run", "study.yaml", "--dry-run", *words).err

    assert "notify: config.toml has no target 'dsk'. Did you mean 'desk'?" in load_problems()
    assert load_problems("--set", "notify=run-ended") == ""
    config.write_text("")
    assert launcher("notify").out == ""
    nobody = "warning: notify: run study sends no messages. Add a table"
    assert nobody in load_problems("--set", "notify=run-ended")
    assert load_problems("--set", "notify=false") == ""
    config.write_text("[notify]\nretry = 3\n")
    assert "run study sends no messages" in load_problems("--set", "notify=true")


def test_fault_in_the_word_notify_is_reported_with_its_location(
    launcher: Launcher, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config.exists()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(TASK.replace("{to: [dsk]}", "run-end"))
    answer = launcher.refused("run", "study.yaml")
    assert "error[notify]: notify: 'run-end' is not an event. Did you mean 'run-ended'?" in answer
    assert " --> study.yaml:2:9" in answer
