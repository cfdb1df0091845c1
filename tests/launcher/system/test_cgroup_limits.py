import os
from pathlib import Path

import pytest

from launcher.system.cgroup_limits import cpu_quota
from launcher.system.memory import read_process_groups
from launcher.system.processes import usable_cores

V2 = {"cgroup.controllers": "cpu memory"}
HALF, QUARTER = "50000 100000\n", "25000 100000\n"


def a_root(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    """Return a root folder with this process's groups and their files."""
    texts = {"proc/self/cgroup": cgroup} | {f"sys/fs/cgroup/{name}": files[name] for name in files}
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def a_group(name: str, quota: int, period: int = 100_000) -> dict[str, str]:
    """Return the files of a group of version 1."""
    return {f"{name}/cpu.cfs_quota_us": f"{quota}\n", f"{name}/cpu.cfs_period_us": f"{period}\n"}


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("", {}, None),
        ("0::/\n", {**V2, "cpu.max": HALF}, (0.5, "")),
        ("0::/a/b\n", {**V2, "a/cpu.max": "max 100000\n", "a/b/cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {**V2, "a/cpu.max": HALF, "a/b/cpu.max": "max 100000\n"}, (0.5, "a")),
        ("0::/a/b\n", {**V2, "a/cpu.max": HALF, "a/b/cpu.max": QUARTER}, (0.25, "a/b")),
        ("0::/a/b\n", {**V2, "a/cpu.max": QUARTER, "a/b/cpu.max": HALF}, (0.25, "a")),
        ("0::/a/b\n", {**V2, "a/cpu.max": HALF, "a/b/cpu.max": HALF}, (0.5, "a")),
        # the path may be the host's
        ("0::/host/slice\n", {**V2, "cpu.max": HALF}, (0.5, "")),
        # version 1
        ("4:memory:/m\n1:cpu:/q\n0::/\n", a_group("cpu", -1) | a_group("cpu/q", 50_000), (0.5, "cpu/q")),
        ("1:cpu:/\n", a_group("cpu", -1), None),
        (
            "3:cpu,cpuacct:/user/x\n",
            a_group("cpu,cpuacct/user", 150_000) | a_group("cpu,cpuacct/user/x", 800_000),
            (1.5, "cpu,cpuacct/user"),
        ),
        ("3:cpu,cpuacct:/user\n", a_group("cpu/user", 300_000, 200_000), (1.5, "cpu/user")),
        ("3:cpuacct:/user\n", a_group("cpuacct/user", 50_000), None),
    ],
)  # fmt: skip
def test_smallest_quota_of_a_cgroup_and_its_ancestors_applies(
    tmp_path: Path, cgroup: str, files: dict[str, str], expected: tuple[float, str] | None
) -> None:
    root = a_root(tmp_path, cgroup, files)
    quota = cpu_quota(root)
    if expected is None:
        assert quota is None
        assert usable_cores(root) == len(os.sched_getaffinity(0))
        return
    share, folder = expected
    assert quota == (share, root / "sys/fs/cgroup" / folder)
    assert usable_cores(root) == 1


def test_cgroup_with_the_quota_is_published_with_all_groups_of_both_hierarchies(
    tmp_path: Path,
) -> None:
    cgroup = "2:memory:/m\n1:cpu,cpuacct:/q/x\n"
    files = a_group("cpu,cpuacct/q", 100_000) | a_group("cpu,cpuacct/q/x", -1)
    root = a_root(tmp_path, cgroup, {**files, "memory/m/memory.max": "max\n"})
    time, space = root / "sys/fs/cgroup/cpu,cpuacct", root / "sys/fs/cgroup/memory"

    def name(folder: Path) -> str:
        return f"{folder.stat().st_dev}:{folder.stat().st_ino}"

    quotas = read_process_groups(root)
    assert quotas.cpu_limit_group == name(time / "q")
    assert quotas.groups == {*map(name, (time / "q/x", time / "q", time, space / "m", space))}
