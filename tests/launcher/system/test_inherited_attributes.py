"""Attributes that a scheduler inherits from the first shell do not decide about all later jobs."""

import json
import os
import subprocess
import sys

import pytest

from launcher.system.inherited_attributes import Attributes, describe_losses, read_attributes

WORSEN = """
import contextlib, ctypes, json, os, sys
from pathlib import Path
from launcher.system.inherited_attributes import read_attributes, reset_inherited_attributes
score = Path("/proc/self/oom_score_adj")
score.write_text("900")
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
ctypes.CDLL(None).personality(0x40000)
worse = read_attributes(0)
reset_inherited_attributes(json.loads(sys.argv[1]))
personality = Path("/proc/self/personality").read_text()
print(json.dumps([worse, read_attributes(0), len(os.sched_getaffinity(0)), int(personality, 16)]))
"""
CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("environment", "cores"), [({}, CORES), ({"SLURM_JOB_ID": "7"}, 1)])
def test_attributes_of_the_first_shell_are_reset(environment: dict[str, str], cores: int) -> None:
    before = read_attributes(0)
    if before.oom_score:
        pytest.skip("the OOM score of this process cannot be lowered to 0")
    words = [sys.executable, "-c", WORSEN, json.dumps(environment)]
    answer = subprocess.run(words, capture_output=True, text=True, check=True)
    worse, after, usable, personality = json.loads(answer.stdout)
    assert Attributes(*worse)[2:] == (900, "idle")
    assert Attributes(*after) == before
    assert (usable, personality) == (cores, 0)


@pytest.mark.parametrize(
    ("scheduler", "shell", "losses"),
    [
        (Attributes(), Attributes(), []),
        (Attributes(no_new_privileges=True), Attributes(), ["no_new_privs, so that sudo fails"]),
        (Attributes(no_new_privileges=True), Attributes(no_new_privileges=True), []),
        (
            Attributes(capabilities=0b100),
            Attributes(capabilities=0b111),
            ["a bounding set without cap_chown and cap_dac_override"],
        ),
        (
            Attributes(capabilities=(1 << 41) - 1 - (1 << 21)),
            Attributes(capabilities=(1 << 41) - 1),
            ["a bounding set without cap_sys_admin"],
        ),
        (
            Attributes(capabilities=0),
            Attributes(capabilities=(1 << 42) - (1 << 38)),
            [
                "a bounding set without cap_perfmon, cap_bpf, cap_checkpoint_restore"
                " and capability 41"
            ],
        ),
        (
            Attributes(capabilities=0),
            Attributes(capabilities=0b11111),
            [
                "a bounding set without cap_chown, cap_dac_override, cap_dac_read_search,"
                " cap_fowner and 1 more"
            ],
        ),
        (Attributes(capabilities=0), Attributes(), []),
        (Attributes(capabilities=0b111), Attributes(capabilities=0b100), []),
        (Attributes(oom_score=200), Attributes(oom_score=100), ["oom_score_adj 200"]),
        (Attributes(oom_score=100), Attributes(oom_score=200), []),
        (Attributes(policy="idle"), Attributes(), ["scheduling class idle"]),
    ],
)
def test_only_what_jobs_lose_by_their_scheduler_is_named(
    scheduler: Attributes, shell: Attributes, losses: list[str]
) -> None:
    assert describe_losses(scheduler, shell) == losses
