"""The settings of messages: targets, their addresses, and errors."""

from pathlib import Path

import pytest

from launcher.frontends.notify.addresses import (
    HIDDEN,
    describe_target,
    read_address,
    redact_secrets,
)
from launcher.frontends.notify.settings import (
    NotifySettings,
    NotifyTarget,
    read_configured_notify,
    read_notify_table,
)
from launcher.queue.job_options.notifications import NotifyEvent
from launcher.system.config_tables import Fault
from launcher.system.errors import UsageError

DESK = {"command": ["notify-send", "launcher"]}


def test_table_defines_targets_and_their_events() -> None:
    faults: list[Fault] = []
    table = {
        "events": ["run-ended"],
        "retry": "1h",
        "mail": {"url_file": "/etc/mail.url", "timeout": "5s"},
        "desk": {**DESK, "events": ["first-failure", "out-of-memory"]},
        "chat": {"url-env": "CHAT_URL"},
    }
    settings = read_notify_table(table, faults)
    assert faults == []
    assert settings == NotifySettings(
        events=(NotifyEvent.RUN_ENDED,),
        retry_s=3600.0,
        targets=(
            NotifyTarget(name="mail", url_file=Path("/etc/mail.url"), timeout_s=5.0),
            NotifyTarget(
                name="desk",
                command=("notify-send", "launcher"),
                events=(NotifyEvent.FIRST_FAILURE, NotifyEvent.OUT_OF_MEMORY),
            ),
            NotifyTarget(name="chat", url_env="CHAT_URL"),
        ),
    )


def test_single_target_gets_all_events_with_a_day_of_retries() -> None:
    settings = read_notify_table({"desk": DESK}, [])
    assert (settings.events, settings.retry_s) == (tuple(NotifyEvent), 86_400.0)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("retry", 60, 'notify.retry: expected a time, such as "24h"'),
        ("retry", "0s", "notify.retry: expected a time"),
        ("retry", "soon", "notify.retry: expected a time"),
        ("events", "all", "'all' is not an event"),
        ("events", ["run_ended"], "Did you mean 'run-ended'?"),
        ("events", [1], "expected events such as run-ended"),
        ("events", 3, "expected events such as run-ended"),
        ("retri", "1h", "Did you mean 'retry'?"),
        ("quiet", "22:00-07:30", "'quiet' is not a key of [notify]"),
        ("mail", "mailto://me", "a target is a table, [notify.mail]"),
        (
            "mail",
            {},
            "notify.mail has neither an address nor a command: expected one of url, url_file",
        ),
        ("mail", {"url": "a://b", "command": ["c"]}, "notify.mail has url and command"),
        ("mail", {"url": "example.org"}, "notify.mail.url: expected an address of apprise"),
        ("mail", {"url": "json://a\nb"}, "notify.mail.url: expected an address"),
        ("mail", {"url_file": "mail.url"}, "url_file must be an absolute path"),
        (
            "mail",
            {"url_env": "NOT A NAME"},
            "notify.mail.url_env: expected the name of an environment variable",
        ),
        ("mail", {"command": "notify-send"}, "notify.mail.command: expected a list of words"),
        ("mail", {"command": []}, "notify.mail.command: expected a list of words"),
        ("mail", {"command": ["a\0b"]}, "notify.mail.command: expected a list of words"),
        ("mail", {**DESK, "to": "me"}, "'to' is not a key of [notify.mail]"),
        ("mail", {**DESK, "events": ["done"]}, "notify.mail.events: 'done' is not an event"),
        ("a b", DESK, "'a b' is not a valid name of a target"),
    ],
)
def test_each_fault_is_reported_with_its_location(key: str, value: object, expected: str) -> None:
    faults: list[Fault] = []
    settings = read_notify_table({key: value, "desk": DESK}, faults)
    assert settings.targets[-1].name == "desk"
    places = {place[:2] for place, _ in faults}
    assert places == {("notify", key)}
    assert any(expected in message for _, message in faults), faults


def test_table_without_a_target_is_reported() -> None:
    faults: list[Fault] = []
    read_notify_table({"retry": "1m"}, faults)
    read_notify_table("mailto://me", faults)
    (first, second) = faults
    assert first == (
        ("notify",),
        "notify: no target. Add one, such as [notify.mail].",
    )
    assert second == (("notify",), "notify: expected a table, such as [notify]")


def test_user_file_is_read_and_may_lack_the_table(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    environ = {"LAUNCHER_CONFIG": str(file)}
    file.write_text("[run]\ndetach = true\n")
    assert read_configured_notify(environ) is None
    file.write_text('[notify.desk]\ncommand = ["true"]\n')
    settings = read_configured_notify(environ)
    assert settings is not None
    assert [target.name for target in settings.targets] == ["desk"]


ADDRESS = "mailtos://me:p%40ssw0rd@smtp.example.org?to=you@example.org"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mail.url"
    path.write_text(f"# of the lab\n{ADDRESS}\n")
    path.chmod(0o600)
    return path


def test_address_is_read_from_configuration_file_or_variable(file: Path) -> None:
    assert read_address(NotifyTarget(name="a", url=ADDRESS), {}) == ADDRESS
    assert read_address(NotifyTarget(name="a", url_file=file), {}) == ADDRESS
    assert read_address(NotifyTarget(name="a", url_env="MAIL"), {"MAIL": f"{ADDRESS} "}) == ADDRESS


def test_address_file_readable_by_others_is_refused_with_a_remedy(file: Path) -> None:
    file.chmod(0o640)
    with pytest.raises(UsageError, match=f"other users may read .*: chmod 600 {file}"):
        read_address(NotifyTarget(name="a", url_file=file), {})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "has 0 lines. Write only one address"),
        (f"{ADDRESS}\n{ADDRESS}\n", "has 2 lines"),
        ("s3cret\n", "does not contain an address such as"),
        (f"{ADDRESS}\x07", "does not contain an address such as"),
    ],
)
def test_address_file_without_an_address_is_refused_without_its_content(
    file: Path, content: str, expected: str
) -> None:
    file.write_text(content)
    with pytest.raises(UsageError, match=expected) as refused:
        read_address(NotifyTarget(name="a", url_file=file), {})
    assert "s3cret" not in str(refused.value)
    assert "p%40" not in str(refused.value)


def test_missing_file_or_variable_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*: No such file"):
        read_address(NotifyTarget(name="a", url_file=tmp_path / "none"), {})
    with pytest.raises(UsageError, match="is not a file"):
        read_address(NotifyTarget(name="a", url_file=tmp_path), {})
    with pytest.raises(UsageError, match="the variable MAIL is not set in the scheduler"):
        read_address(NotifyTarget(name="a", url_env="MAIL"), {})


def test_every_part_of_an_address_is_redacted() -> None:
    text = (
        f"cannot send to {ADDRESS}: user me, password p@ssw0rd or p%40ssw0rd, at smtp.example.org"
    )
    clean = redact_secrets(text, ADDRESS)
    assert "ssw0rd" not in clean
    assert "you@example.org" not in clean
    assert clean.endswith("at smtp.example.org")  # the failures are reported
    slack = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general"
    clean = redact_secrets(f"no such channel T1JJ3T3L2/A1BRTD4JD of {slack}", slack)
    assert clean == f"no such channel {HIDDEN}/{HIDDEN} of slack://{HIDDEN}"


def test_target_is_displayed_without_its_secret(file: Path) -> None:
    assert describe_target(NotifyTarget(name="a", url=ADDRESS)) == f"mailtos://{HIDDEN}"
    assert describe_target(NotifyTarget(name="a", url_file=file)) == f"address in {file}"
    assert describe_target(NotifyTarget(name="a", url_env="MAIL")) == "address in $MAIL"
    assert (
        describe_target(NotifyTarget(name="a", command=("notify-send", "hi")))
        == "command notify-send hi"
    )
