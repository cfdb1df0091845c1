"""Control groups: the folder for a new group as the kernel reports it, and the processes of a real group."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from launcher.queue.home.daemon_control import scheduler_pid, wake
from launcher.queue.home.paths import Home
from launcher.queue.home.scheduler_start import ensure_scheduler
from launcher.queue.jobs.context import WorkerEnvironment
from launcher.queue.jobs.states import Done, Lost, State
from launcher.queue.store.queue import Store
from launcher.queue.workers.attempt_handles import AdoptedAttempt, inspect_attempt
from launcher.queue.workers.fork_server_handles import ForkServer
from launcher.system import cgroups
from launcher.system.cgroups import (
    base_of,
    folder_of,
    group_members,
    path_of,
    read_group_folder,
    unavailability_reason,
)
from launcher.system.mounts import parse_mounts, read_mountinfo
from launcher.system.process_trees import send_signal
from launcher.system.processes import identity
from tests.build import (
    a_claim,
    a_spec,
    an_attempt,
    end_everything,
    ended,
    enqueue,
    gone,
    job_row,
    judged,
    lines_of,
    on_record,
    outcome_of,
    program_of,
    run_attempt,
    shell,
    started,
    supervisor_of,
    until,
)

PURE = "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
OLD = "36 31 0:33 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
HYBRID = f"{OLD}41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
SLICE = "/user.slice/user-1000.slice"
SERVICE = f"{SLICE}/user@1000.service/app.slice/launcher.service"
NEEDS_GROUPS = pytest.mark.skipif(
    bool(unavailability_reason()),
    reason=f"no control group can be made here: {unavailability_reason()}",
)
DAEMON = """
import os, subprocess, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve("/bin/sh", ["sh", "-c", "echo $$; exec sleep 60"], {})
    os._exit(0)
os.wait()
"""


# --- reports of the kernel


@pytest.mark.parametrize(
    ("mountinfo", "cgroup", "folder"),
    [
        (PURE, f"0::{SERVICE}\n", f"/sys/fs/cgroup{SERVICE}"),  # delegated to the user
        (PURE, f"0::{SLICE}/session-3.scope\n", f"/sys/fs/cgroup{SLICE}/session-3.scope"),
        (PURE, "0::/\n", "/sys/fs/cgroup"),
        (HYBRID, "4:memory:/a\n1:name=systemd:/b\n0::/c\n", "/sys/fs/cgroup/unified/c"),
        (OLD, "4:memory:/a\n", None),  # version 1 alone
        (OLD, "4:memory:/a\n0::/c\n", None),
        ("", "0::/c\n", None),
        (
            PURE,
            "0::/../../other\n",
            None,
        ),  # the file of a container that sees no group above its own
        (PURE.replace(" / ", " /docker/7 "), "0::/docker/7/x\n", "/sys/fs/cgroup/x"),
        (PURE.replace(" / ", " /docker/7 "), "0::/elsewhere\n", None),
        (PURE.replace("/fs/cgroup", r"/a\\040b"), "0::/c\n", "/sys/a b/c"),
        (PURE, "0::/c (deleted)\n", "/sys/fs/cgroup/c"),
    ],
)
def test_cgroup_of_a_process_is_found_where_the_kernel_shows_it(
    mountinfo: str, cgroup: str, folder: str | None
) -> None:
    mountinfo = mountinfo.replace("\\\\", "\\")
    assert folder_of(mountinfo, cgroup) == (None if folder is None else Path(folder))


def test_line_without_a_file_system_is_not_a_mount() -> None:
    assert not [*parse_mounts("30 23 0:26 / /sys\nnothing\n")]
    assert path_of("nothing\n12:cpu:/a\n") is None


def test_supervisors_cgroup_is_not_a_base_for_others() -> None:
    base = Path("/sys/fs/cgroup/app")
    assert base_of(base) == base
    assert base_of(base / "launcher-12-345") == base
    assert base_of(base / "launcher-1-2" / "launcher-12-345") == base
    assert base_of(base / "launcher-1-2" / "mine") == base / "launcher-1-2" / "mine"
    assert base_of(base / "launcher.service") == base / "launcher.service"


def test_record_names_only_the_cgroup_of_its_own_supervisor() -> None:
    me = identity(os.getpid())
    assert me is not None
    for text in ("/sys/fs/cgroup", "/sys/fs/cgroup/user.slice", f"/tmp/{cgroups.name_of(me)}"):
        assert cgroups.read_recorded_group(me, text) is None


@NEEDS_GROUPS
def test_attempt_runs_in_the_cgroup_of_its_supervisor_which_is_removed_with_it(home: Home) -> None:
    fork_server = ForkServer(home, WorkerEnvironment())
    attempt, outcome = run_attempt(fork_server, home, a_spec(*shell("cat /proc/self/cgroup")))
    record = json.loads(on_record(attempt)[0])
    group = Path(record["group"])
    assert isinstance(outcome, Done)
    assert [line for line in lines_of(attempt.log) if line.endswith(f"/{group.name}")]
    until(lambda: not group.exists(), "the supervisor has left and its group is removed")
    fork_server.close()


# --- a real one


@NEEDS_GROUPS
def test_unmarked_daemon_of_a_killed_supervisor_is_killed_before_the_next_attempt(
    fork_server: ForkServer, home: Home
) -> None:
    attempt = an_attempt(home, a_spec(*shell(f"{sys.executable} -c '{DAEMON}'; sleep 60")))
    supervised = started(fork_server, attempt)
    until(lambda: lines_of(attempt.log), "the daemon lives")
    daemon, program = int(lines_of(attempt.log)[0]), program_of(attempt)
    group = Path(json.loads(on_record(attempt)[0])["group"])
    assert {daemon, program, supervised.supervisor.who.pid} <= set(group_members(group))
    send_signal(supervised.supervisor.who.pid, signal.SIGKILL)
    until(lambda: gone(supervised.supervisor.who.pid), "the supervisor is gone")
    supervised.supervisor.channel.close()
    orphan = inspect_attempt(a_claim(pid=supervised.supervisor.who.pid).supervisor, attempt)
    assert isinstance(orphan, AdoptedAttempt)
    assert not gone(daemon)
    send_signal(program, signal.SIGKILL)
    assert ended(orphan.descriptor)
    assert isinstance(judged(attempt), Lost)
    assert gone(daemon)
    assert not group.exists()


@NEEDS_GROUPS
def test_cgroup_created_by_an_attempt_is_emptied_and_removed(
    fork_server: ForkServer, home: Home
) -> None:
    script = """
        group="$1$(sed -n 's/^0:://p' /proc/self/cgroup)"; mkdir "$group/inner"
        (setsid sh -c 'echo 0 > "$1/inner/cgroup.procs"; echo $$; exec sleep 60' sh "$group" &)
        until grep -q inner /proc/[0-9]*/cgroup 2>/dev/null; do sleep 0.02; done; sleep 0.1
    """
    (mount,) = [each for each in parse_mounts(read_mountinfo()) if each.kind == "cgroup2"][:1]
    attempt, outcome = run_attempt(fork_server, home, a_spec(*shell(script, mount.mount_point)))
    assert isinstance(outcome, Done)
    (inner,) = lines_of(attempt.log)
    assert gone(int(inner))
    group = Path(json.loads(on_record(attempt)[0])["group"])
    until(lambda: not group.exists(), "the group is removed")


@NEEDS_GROUPS
def test_empty_cgroups_of_dead_supervisors_are_removed_and_those_of_living_ones_kept(
    fork_server: ForkServer,
) -> None:
    folder = read_group_folder()
    assert folder is not None
    stale = base_of(folder) / f"{cgroups.PREFIX}{os.getpid()}-1"  # another start time than ours
    stale.mkdir()
    fork_server.request_supervisor()
    idle = fork_server.receive_supervisor()
    assert idle is not None
    living = base_of(folder) / cgroups.name_of(idle.who)
    until(living.exists, "the supervisor has its group")
    cgroups.remove_dead_groups()
    assert not stale.exists()
    assert living.exists()
    idle.channel.close()


# --- a scheduler that a job has started


def test_scheduler_started_by_a_job_can_be_killed_without_ending_other_jobs(
    home: Home, store: Store, tmp_path: Path
) -> None:
    """The outer job's supervisor becomes the parent of all that the dead scheduler had started."""
    inner = Home(tmp_path / "inner")
    gate = tmp_path / "gate"
    script = (
        "import os, pathlib, sys, time\nfrom launcher.queue.home.scheduler_start import ensure_scheduler\n"
        "from launcher.queue.home.paths import Home, make_home\nfrom launcher.queue.store.queue import Store\n"
        "os.environ['LAUNCHER_CLAIMS'] = sys.argv[3]\n"  # a job gets none of ours
        "home = Home(pathlib.Path(sys.argv[1]))\nmake_home(home)\nStore(home).close()\n"
        "ensure_scheduler(home)\nprint('ready', flush=True)\n"
        "while not os.path.exists(sys.argv[2]): time.sleep(0.01)\n"
    )
    fork_server = ForkServer(home, WorkerEnvironment())
    claims = os.environ["LAUNCHER_CLAIMS"]
    words = (sys.executable, "-c", script, str(inner.folder), str(gate), claims)
    outer = started(fork_server, an_attempt(home, a_spec(*words)))
    until(lambda: lines_of(outer.attempt.log) == ["ready"], "the job has started a scheduler")
    queue = Store(inner, durable=False)
    (job,) = enqueue(queue, a_spec(*shell('echo "$$"; exec sleep 60')))
    wake(inner)
    program = program_of(inner.attempt(job, 1))
    write = inner.stop_record
    write.write_text('{"now": false}')  # nobody restarts the scheduler
    scheduler = scheduler_pid(inner)
    assert scheduler is not None
    send_signal(scheduler, signal.SIGKILL)
    until(lambda: gone(scheduler), "the scheduler is gone")
    supervisor = supervisor_of(inner.attempt(job, 1))

    gate.touch()

    assert isinstance(outcome_of(outer), Done)
    assert not gone(supervisor)
    assert not gone(program)
    write.unlink()
    ensure_scheduler(inner)
    wake(inner)
    send_signal(program, signal.SIGKILL)
    until(lambda: job_row(queue, job).state is State.FAILED, "its end is recorded and taken in")
    assert job_row(queue, job).attempts == 1
    queue.close()
    fork_server.close()
    end_everything(inner)
