"""Child processes in their own sessions are killed with everything that they started."""

import os
import signal

from launcher.system.child_process import has_ended, kill_child, spawn_child
from launcher.system.process_trees import ATTEMPT_VARIABLE
from launcher.system.processes import identity
from tests.build import until

LEAVES_A_PROCESS = "sleep 60 >/dev/null 2>&1 & echo $!"


def test_child_leads_a_session_and_belongs_to_no_job() -> None:
    variables = {"PATH": os.defpath, "COLOUR": "blue", ATTEMPT_VARIABLE: "/attempt"}
    with spawn_child(["sh", "-c", "env; pwd; read line"], variables) as child:
        assert os.getsid(child.pid) in {child.pid, 0}
        printed = child.communicate()[0].decode().splitlines()
    assert {"COLOUR=blue", "/"} < {*printed}
    assert not any(ATTEMPT_VARIABLE in line for line in printed)


def test_kill_ends_what_an_ended_child_left_in_its_group() -> None:
    with spawn_child(["sh", "-c", LEAVES_A_PROCESS], {"PATH": os.defpath}) as child:
        assert child.stdout is not None
        left = int(child.stdout.readline())
        until(lambda: has_ended(child), "the shell has ended")
        assert child.returncode is None, "it was reaped"
        assert identity(left) is not None
        kill_child(child)
        until(lambda: identity(left) is None, "the process that it left is killed")
        assert child.wait() == 0
        assert has_ended(child)
        kill_child(child)  # its number may be that of another process by now


def test_killed_child_ends_by_the_signal() -> None:
    with spawn_child(["sleep", "60"], {"PATH": os.defpath}) as child:
        assert not has_ended(child)
        kill_child(child)
        assert child.wait() == -signal.SIGKILL
