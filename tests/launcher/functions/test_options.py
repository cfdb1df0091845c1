"""Options as Python writes them."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from launcher.errors import UsageError
from launcher.functions.options import JobOptions, request_of
from launcher.job_options.registry import job_options


def test_python_takes_every_option_of_the_command_line() -> None:
    assert set(JobOptions.__annotations__) == set(job_options())


@pytest.mark.parametrize(
    ("options", "part", "value"),
    [
        ({"vram": "10GiB"}, "resources.min_vram", 10 << 30),
        ({"vram": 10 << 30}, "resources.min_vram", 10 << 30),
        ({"ram": 5_000_000_000}, "resources.ram", 5_000_000_000),
        ({"gpus": 2}, "resources.gpus", 2),
        ({"gpus": 2}, "resources.device", "cuda"),
        ({}, "resources.device", "cpu"),
        ({"gpus": 0}, "resources.device", "cpu"),
        ({"exclusive": True}, "resources.exclusive", True),
        ({"exclusive": False}, "resources.exclusive", False),
        ({"time_limit": "8h"}, "terms.time_limit_s", 28_800.0),
        ({"time_limit": 90}, "terms.time_limit_s", 90.0),
        ({"time_limit": timedelta(minutes=2)}, "terms.time_limit_s", 120.0),
        ({"grace": 0.5}, "terms.grace_s", 0.5),
        ({"on": ["local"]}, "terms.on", ("local",)),
        ({"priority": -3}, "priority", -3),
        ({"group": None}, "terms.group", ""),
    ],
)
def test_a_value_is_read_as_a_task_file_has_it(
    options: dict[str, Any], part: str, value: object
) -> None:
    given: Any = request_of(options)
    for name in part.split("."):
        given = getattr(given, name)
    assert given == value


def test_a_time_may_be_a_datetime() -> None:
    at = datetime.now().astimezone() + timedelta(hours=1)
    assert request_of({"not_before": at}).terms.not_before == at.timestamp()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cpu": 1}, "did you mean cpus"),
        ({"cpus": 0}, "cpus: expected a whole number"),
        ({"cpus": 1.5}, "cpus: expected a whole number"),
        ({"gpus": True}, "gpus: expected a whole number"),
        ({"vram": "10GB"}, "vram: unknown unit 'GB'"),
        ({"time_limit": 0}, "time_limit: expected more than 0s"),
        ({"time_limit": -1}, "time_limit: expected seconds, not less than 0, got -1$"),
        ({"grace": float("nan")}, "grace: expected seconds, not less than 0, got nan$"),
        ({"time_limit": float("inf")}, "time_limit: expected at most .*h, got inf$"),
        ({"time_limit": 10**400}, "time_limit: expected at most .*h, got 1000"),
        ({"warn": timedelta(seconds=-2)}, r"warn: expected seconds, not less than 0, got datetime"),
        ({"gpus": 1, "device": "cpu"}, "gpus='1' and device='cpu' contradict"),
        ({"warn": "5m"}, "time_limit='8h'"),
        ({"rerun": "often"}, "rerun: expected again or never"),
    ],
)
def test_a_wrong_option_is_named_with_what_was_expected(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        request_of(options)
