"""The files of a Slurm in a folder: slurm.conf and the files that it names."""

import contextlib
import os
import random
import socket
import stat
from collections.abc import Sequence
from pathlib import Path

PORTS = range(20_000, 32_000)
# seconds; a node that does not answer for about three times as long is down
TIMEOUT = "SlurmdTimeout=60"
NULL_DEVICE = os.makedev(1, 3)

CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld
SlurmdLogFile={folder}/log/slurmd.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
GresTypes=gpu
{timeout}
SlurmctldTimeout=5
KillWait=2
MinJobAge=300
MaxArraySize=1001
MaxJobCount=20000
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1,bf_resolution=1
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=CANCEL GraceTime=5
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=short Nodes=ALL MaxTime=10 State=UP PriorityTier=1 PreemptMode=OFF
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
    "CPUs={cpus} RealMemory=4000 Gres=gpu:{gpus}"
)


def write_configuration(folder: Path, nodes: Sequence[str], *, cpus: int, gpus: int) -> None:
    """Write the configuration, and make the folders and devices that it names.

    Args:
        folder: is there.
        nodes: their names.
        cpus: of each node.
        gpus: of each node.
    """
    for name in ("state", "log", "munge", *(f"spool.{node}" for node in nodes)):
        (folder / name).mkdir()
    (folder / "munge").chmod(0o700)
    key = folder / "munge/key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    for number in range(gpus):  # Slurm refuses ordinary files
        os.mknod(folder / f"gpu{number}", stat.S_IFCHR | 0o666, NULL_DEVICE)
    host = socket.gethostname().partition(".")[0]
    port, *ports = _free_ports(1 + len(nodes))
    lines = [
        NODE.format(name=name, host=host, port=at, cpus=cpus, gpus=gpus)
        for name, at in zip(nodes, ports, strict=True)
    ]
    text = CONF.format(
        host=host,
        port=port,
        folder=folder,
        nodes="\n".join(lines),
        timeout=TIMEOUT,
    )
    (folder / "slurm.conf").write_text(text)
    devices = [
        f"NodeName={node} Name=gpu File={folder}/gpu{number}\n"
        for node in nodes
        for number in range(gpus)
    ]
    (folder / "gres.conf").write_text("AutoDetect=off\n" + "".join(devices))
    (folder / "cgroup.conf").write_text(
        "CgroupPlugin=cgroup/v1\nIgnoreSystemd=yes\nConstrainCores=no\nConstrainRAMSpace=no\n"
    )


def _free_ports(count: int) -> list[int]:
    """Return ports that are free, all different; none of those that the kernel gives to whoever asks for any."""
    with contextlib.ExitStack() as opened:
        ports: list[int] = []
        for port in random.SystemRandom().sample(PORTS, len(PORTS)):
            if len(ports) == count:
                break
            probe = opened.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                ports.append(port)
        return ports
