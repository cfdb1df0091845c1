import json
import stat
import time
from pathlib import Path

import pytest

from launcher.job_options.notifications import Event
from launcher.notify.notices import Failing, GivenUp, Notices, write_notices
from launcher.system.paths import Home
from tests.launcher.conftest import Launcher
from tests.receivers import a_mailbox, a_silent_server


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    monkeypatch.setenv("LAUNCHER_CONFIG", str(path))
    path.write_text('[notify.desk]\ncommand = ["true"]\nevents = ["out-of-memory"]\n')
    path.chmod(0o600)
    return path


def test_a_test_message_reaches_every_target_and_says_which_it_does_not(
    launcher: Launcher, config: Path
) -> None:
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
    assert mail["Subject"].endswith(": a test")


def test_a_test_that_reaches_all_ends_well_and_programs_can_read_it(
    launcher: Launcher,
    config: Path,
) -> None:
    answer = launcher("notify", "--test", "--json")
    assert answer.code == 0
    assert json.loads(answer.out)["results"] == [{"target": "desk", "sent": True, "answer": ""}]


def test_who_is_told_of_what_is_listed_without_secrets(launcher: Launcher, config: Path) -> None:
    config.write_text(f'{config.read_text()}[notify.chat]\nurl = "slack://aaa/bbb/s3cret"\n')
    answer = launcher("notify")
    everything = ",".join(Event)
    assert [line.split("\t") for line in answer.out.splitlines()] == [
        ["target", "desk", "command true", "out-of-memory"],
        ["target", "chat", "slack://•••", everything],
    ]


def test_what_waits_and_what_was_given_up_is_listed(
    launcher: Launcher,
    config: Path,
    home: Home,
) -> None:
    waits = Failing(title="study ended", at=time.time(), tries=2, next=0.0, answer="no route")
    lost = GivenUp(at=time.time(), target="mail", title="study failed", why="refused")
    write_notices(home, Notices(cursor=3, failing={"desk": waits}, given_up=(lost,)))
    assert stat.S_IMODE(home.notify.stat().st_mode) == 0o600
    rows = [line.split("\t") for line in launcher("notify").out.splitlines()]
    assert rows[1:] == [
        ["waiting", "desk", "study ended", "no route"],
        ["given up", "mail", "study failed", "refused"],
    ]
    record = json.loads(launcher("notify", "--json").out)
    assert record["configured"] is True
    assert record["process"] is None
    assert record["waiting"][0]["tries"] == 2
    assert record["given_up"][0]["answer"] == "refused"


def test_without_a_table_nobody_is_told_and_a_test_is_refused(
    launcher: Launcher, config: Path
) -> None:
    config.write_text("")
    assert launcher("notify").out == ""
    answer = launcher("notify", "--test")
    assert answer.code == 2
    assert 'config.toml has no table [notify]; see "Messages" in docs/screens.md' in answer.err


def test_a_fault_in_the_table_is_told_with_its_line(launcher: Launcher, config: Path) -> None:
    config.write_text('[notify]\nretry = "at night"\n[notify.desk]\ncommand = ["true"]\n')
    answer = launcher("notify")
    assert answer.code == 2
    assert f"{config}:2: notify.retry: expected a time" in answer.err


def test_what_has_no_effect_any_more_is_noted(launcher: Launcher, config: Path) -> None:
    config.write_text('[notify]\nquiet = "22:00-07:00"\n[notify.desk]\ncommand = ["true"]\n')
    note = f"note: {config}:2: notify.quiet has no effect any more: messages are sent at once\n"
    for verb in ("notify", "config"):
        answer = launcher(verb)
        assert (answer.code, answer.err) == (0, note)


def test_the_defaults_that_hold_show_no_address(launcher: Launcher, config: Path) -> None:
    config.write_text('[notify]\nretry = "5h"\n[notify.chat]\nurl = "slack://a/b/s3cret"\n')
    rows = [line.split("\t") for line in launcher("config").out.splitlines()]
    assert ["notify.retry", "5h", f"{config}:2"] in rows
    assert ["notify.chat.url", "slack://•••", f"{config}:4"] in rows


def test_the_check_of_the_machine_names_a_target_that_cannot_be_used(
    launcher: Launcher, config: Path, tmp_path: Path
) -> None:
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
        "no-such-program is not in PATH, or is no program",
    ]
    assert findings["notify good"][0] == "ok"
    assert f"chmod 600 {tmp_path}/url" in findings["notify open"][1]
    assert findings["notify here"][0] == "warning"
    assert "other users may read config.toml" in findings["notify here"][1]
    assert "apprise knows no service of this address" in findings["notify odd"][1]
    assert "s3cret" not in answer.out
    config.write_text('[notify]\nretry = "x"\n')
    assert "notify.retry: expected a time" in launcher("doctor").out


TASK = "name: study\nnotify: {to: [dsk]}\ncommand:\n  - {argv: [true]}\n"


def test_a_run_that_tells_nobody_is_warned_of(
    launcher: Launcher, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(TASK)
    answer = launcher("run", "study.yaml", "--dry-run")
    assert "warning: notify: config.toml has no target 'dsk'; did you mean 'desk'?" in answer.err
    answer = launcher("run", "study.yaml", "--dry-run", "--set", "notify=run-ended")
    assert answer.err == ""
    config.write_text("")
    answer = launcher("run", "study.yaml", "--dry-run", "--set", "notify=run-ended")
    assert "warning: notify: no message of study is sent: config.toml has no table" in answer.err
    answer = launcher("run", "study.yaml", "--dry-run", "--set", "notify=false")
    assert answer.err == ""
    config.write_text("[notify]\nretry = 3\n")
    answer = launcher("run", "study.yaml", "--dry-run", "--set", "notify=true")
    assert "no message of study is sent" in answer.err


def test_what_is_wrong_with_the_word_notify_is_told_with_its_place(
    launcher: Launcher, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config.exists()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(TASK.replace("{to: [dsk]}", "run-end"))
    answer = launcher("run", "study.yaml")
    assert answer.code == 2
    assert "error[notify]: notify: 'run-end' is no event; did you mean 'run-ended'?" in answer.err
    assert " --> study.yaml:2:9" in answer.err
