from datetime import time
from pathlib import Path

import pytest

from launcher.job_options.notifications import AS_CONFIGURED, Event, RunNotify
from launcher.notify.settings import (
    NotifySettings,
    Quiet,
    Target,
    configured_notify,
    read_notify,
)
from launcher.system.config import Fault

DESK = {"command": ["notify-send", "launcher"]}


def test_a_table_says_who_is_told_of_what_and_when() -> None:
    faults: list[Fault] = []
    table = {
        "events": ["run-ended"],
        "quiet": "22:00-07:30",
        "bundle": "10s",
        "gpu-idle": "1h",
        "mail": {"url_file": "/etc/mail.url", "timeout": "5s"},
        "desk": {**DESK, "events": ["gpu-failed", "gpu-idle"]},
        "chat": {"url-env": "CHAT_URL"},
    }
    settings = read_notify(table, faults)
    assert faults == []
    assert settings == NotifySettings(
        events=(Event.RUN_ENDED,),
        quiet=Quiet(begins=time(22), ends=time(7, 30)),
        bundle_s=10.0,
        gpu_idle_s=3600.0,
        targets=(
            Target(name="mail", url_file=Path("/etc/mail.url"), timeout_s=5.0),
            Target(
                name="desk",
                command=("notify-send", "launcher"),
                events=(Event.GPU_FAILED, Event.GPU_IDLE),
            ),
            Target(name="chat", url_env="CHAT_URL"),
        ),
    )
    assert settings.of_machine == {Event.RUN_ENDED, Event.GPU_FAILED, Event.GPU_IDLE}


def test_a_table_with_one_target_tells_it_everything() -> None:
    settings = read_notify({"desk": DESK}, [])
    assert settings.events == tuple(Event)
    assert (settings.quiet, settings.bundle_s, settings.gpu_idle_s) == (None, 60.0, 1800.0)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("quiet", "22-7", "notify.quiet: expected hours of the local day"),
        ("quiet", "25:00-07:00", "notify.quiet: expected hours of the local day"),
        ("quiet", "07:00-07:00", "begins and ends at the same minute"),
        ("quiet", 7, "notify.quiet: expected hours"),
        ("bundle", 60, 'notify.bundle: expected a time, such as "1m"'),
        ("bundle", "0s", "notify.bundle: expected a time"),
        ("gpu_idle", "soon", "notify.gpu_idle: expected a time"),
        ("events", "all", "'all' is no event"),
        ("events", ["run_ended"], "did you mean 'run-ended'?"),
        ("events", [1], "expected events such as run-ended"),
        ("events", 3, "expected events such as run-ended"),
        ("quite", "22:00-07:00", "did you mean 'quiet'?"),
        ("mail", "mailto://me", "a target is a table, [notify.mail]"),
        ("mail", {}, "notify.mail says not where to: expected one of url, url_file"),
        ("mail", {"url": "a://b", "command": ["c"]}, "notify.mail has url and command"),
        ("mail", {"url": "example.org"}, "notify.mail.url: expected an address as apprise has it"),
        ("mail", {"url": "json://a\nb"}, "notify.mail.url: expected an address"),
        ("mail", {"url_file": "mail.url"}, "url_file must be an absolute path"),
        ("mail", {"url_env": "NOT A NAME"}, "notify.mail.url_env: expected the name of a variable"),
        ("mail", {"command": "notify-send"}, "notify.mail.command: expected a list of words"),
        ("mail", {"command": []}, "notify.mail.command: expected a list of words"),
        ("mail", {"command": ["a\0b"]}, "notify.mail.command: expected a list of words"),
        ("mail", {**DESK, "to": "me"}, "'to' is not a key of [notify.mail]"),
        ("mail", {**DESK, "events": ["done"]}, "notify.mail.events: 'done' is no event"),
        ("a b", DESK, "'a b' cannot name a target"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(key: str, value: object, expected: str) -> None:
    faults: list[Fault] = []
    settings = read_notify({key: value, "desk": DESK}, faults)
    assert settings.targets[-1].name == "desk"
    places = {place[:2] for place, _ in faults}
    assert places == {("notify", key)}
    assert any(expected in message for _, message in faults), faults


def test_a_table_without_a_target_tells_nobody_and_says_so() -> None:
    faults: list[Fault] = []
    read_notify({"bundle": "1m"}, faults)
    read_notify("mailto://me", faults)
    (first, second) = faults
    assert first == (
        ("notify",),
        "notify: there is no target; add one, such as [notify.mail]",
    )
    assert second == (("notify",), "notify: expected a table, such as [notify]")


def test_the_file_of_a_user_is_read_and_one_without_the_table_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    environ = {"LAUNCHER_CONFIG": str(file)}
    file.write_text("[run]\ndetach = true\n")
    assert configured_notify(environ) is None
    file.write_text('[notify.desk]\ncommand = ["true"]\n')
    settings = configured_notify(environ)
    assert settings is not None
    assert [target.name for target in settings.targets] == ["desk"]


@pytest.mark.parametrize(
    ("hours", "at", "holds"),
    [
        (("22:00", "07:00"), "21:59", False),
        (("22:00", "07:00"), "22:00", True),
        (("22:00", "07:00"), "23:59", True),
        (("22:00", "07:00"), "00:00", True),
        (("22:00", "07:00"), "06:59", True),
        (("22:00", "07:00"), "07:00", False),
        (("12:00", "13:00"), "11:59", False),
        (("12:00", "13:00"), "12:30", True),
        (("12:00", "13:00"), "13:00", False),
    ],
)
def test_quiet_hours_may_go_over_midnight(hours: tuple[str, str], at: str, holds: bool) -> None:
    begins, ends = map(time.fromisoformat, hours)
    assert Quiet(begins=begins, ends=ends).holds(time.fromisoformat(at)) is holds


def test_a_message_goes_to_those_who_want_one_of_its_events() -> None:
    settings = read_notify(
        {"events": ["run-ended"], "desk": DESK, "phone": {**DESK, "events": ["gpu-failed"]}}, []
    )
    ended, failed = frozenset({Event.RUN_ENDED}), frozenset({Event.FIRST_FAILURE})
    assert settings.receivers(ended, AS_CONFIGURED) == ("desk",)
    assert settings.receivers(failed, AS_CONFIGURED) == ()
    assert settings.receivers(ended | {Event.GPU_FAILED}, AS_CONFIGURED) == ("desk", "phone")
    # what a run says counts for all, or for those that it names
    of_run = RunNotify(events=(Event.FIRST_FAILURE,))
    assert settings.receivers(failed, of_run) == ("desk", "phone")
    assert settings.receivers(ended, of_run) == ()
    assert settings.receivers(failed, RunNotify(events=(Event.FIRST_FAILURE,), to=("phone",))) == (
        "phone",
    )
    assert settings.receivers(ended, RunNotify(to=("desk", "gone"))) == ("desk",)
    assert settings.receivers(ended | failed, RunNotify(events=())) == ()
