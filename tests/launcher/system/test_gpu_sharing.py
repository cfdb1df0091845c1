import os
from pathlib import Path

import pytest

from launcher.system.config import Fault, Followed
from launcher.system.gpu_sharing import Rules, configured_rules, read_rules
from tests.build import GIB


def test_a_table_says_how_gpus_are_shared() -> None:
    faults: list[Fault] = []
    table = {"reserve": "2GiB", "max-per-gpu": 3, "idle": "10m", "devices": [0, "GPU-8f", "1"]}
    assert read_rules(table, faults) == Rules(
        reserve=2 * GIB, max_per_gpu=3, idle_s=600.0, devices=("0", "GPU-8f", "1")
    )
    assert read_rules({}, faults) == Rules()
    assert read_rules({"devices": []}, faults) == Rules(devices=())
    assert read_rules({"devices": 2, "max_per_gpu": 1}, faults).devices == ("2",)
    assert faults == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("reserve", 2),
        ("reserve", "much"),
        ("reserve", "-1GiB"),
        ("max_per_gpu", 0),
        ("max_per_gpu", "2"),
        ("max_per_gpu", True),
        ("idle", 10),
        ("idle", "soon"),
        ("devices", [-1]),
        ("devices", ["cuda:0"]),
        ("devices", [True]),
        ("devices", [1.5]),
    ],
)
def test_what_is_wrong_is_named_and_the_rest_holds(key: str, value: object) -> None:
    faults: list[Fault] = []
    other = {"idle": "1m"} if key != "idle" else {"max_per_gpu": 2}
    rules = read_rules({key: value, **other}, faults)
    ((where, told),) = faults
    assert where == ("sharing", key)
    assert told.startswith(f"sharing.{key}: expected ")
    assert rules in {Rules(idle_s=60.0), Rules(max_per_gpu=2)}


def test_an_unknown_key_or_no_table_at_all_is_told() -> None:
    faults: list[Fault] = []
    assert read_rules({"reserved": "2GiB"}, faults) == Rules()
    assert read_rules(3, faults) == Rules()
    (first, why), (second, expected) = faults
    assert (first, second) == (("sharing", "reserved"), ("sharing",))
    assert "did you mean 'reserve'?" in why
    assert expected == "sharing: expected a table, such as [sharing]"


def test_a_changed_file_holds_from_the_next_look_on_and_a_broken_one_changes_nothing(
    tmp_path: Path,
) -> None:
    file = tmp_path / "config.toml"
    warned: list[str] = []

    def write(text: str) -> None:
        file.write_text(text)
        os.utime(file, (0, len(text)))  # two writes may fall into one tick of a clock

    write("")
    environ = {"LAUNCHER_CONFIG": str(file)}
    rules = Followed(environ, configured_rules, warned.append, Rules())
    assert rules() == Rules()
    write("[sharing]\nmax_per_gpu = 2\n")
    assert rules() == Rules(max_per_gpu=2)
    assert rules() == Rules(max_per_gpu=2)
    write("[sharing]\nmax_per_gpu = true\n")
    assert rules() == Rules(max_per_gpu=2)
    assert rules() == Rules(max_per_gpu=2)
    (told,) = warned
    assert "config.toml:2: sharing.max_per_gpu: expected a whole number of jobs" in told
    write("[sharing]\nmax_per_gpu = 3\n\n")
    assert rules() == Rules(max_per_gpu=3)
