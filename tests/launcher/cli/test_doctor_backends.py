"""What is found of backends, with stand-ins for Slurm's programs and for Ray's interpreter."""

from pathlib import Path

import pytest

from launcher.backends.pilots_file import BackendRow, PilotsFile
from launcher.backends.settings import configured_backends
from launcher.cli.machine_checks import Finding, Verdict
from launcher.cli.queue_checks import SLURM, judge_backends
from launcher.system.paths import Home

LUSTRE = "22 1 0:1 / / rw - lustre nodes rw\n"  # of /proc/self/mountinfo
EXT4 = "22 1 0:1 / / rw - ext4 /dev/sda1 rw\n"


def seen(
    home: Home | None, tmp_path: Path, table: str, path: str = "/nowhere", mounts: str = LUSTRE
) -> Finding:
    file = tmp_path / "config.toml"
    file.write_text(table)
    environ = {"LAUNCHER_CONFIG": str(file), "PATH": path, "HOME": str(tmp_path)}
    ((name, finding),) = judge_backends(configured_backends(environ), environ, home, mounts).items()
    assert finding is not None
    return finding._replace(name=name)


def a_program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def slurm_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sinfo: str) -> str:
    for name in SLURM:
        a_program(tmp_path / "bin", name, sinfo)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")
    return str(tmp_path / "bin")


def test_programs_of_slurm_that_are_not_there_are_named(home: Home, tmp_path: Path) -> None:
    found = seen(home, tmp_path, "[backends.slurm]\ncpus = 2\n")
    assert found.name == "backend slurm"
    assert found.verdict is Verdict.TROUBLE
    assert found.summary == "not in PATH: sbatch, squeue, scancel, sinfo"
    assert "slurm-client" in found.advice


@pytest.mark.parametrize(
    ("sinfo", "keys", "verdict", "told", "advice"),
    [
        (
            "echo main; echo gpu; echo main",
            'folder = "/lustre/pilots"',
            *("ok", "Slurm answers, 2 partitions; pilots in /lustre/pilots (lustre)", ""),
        ),
        (
            "echo main; echo gpu",
            'partition = "gpu"\nfolder = "/lustre/pilots"',
            *("ok", "Slurm answers, partition gpu; pilots in /lustre/pilots (lustre)", ""),
        ),
        (
            "echo main; echo gpu",
            'partition = "gpus"',
            *("trouble", "Slurm has no partition 'gpus'; it has main, gpu", "[backends.slurm]"),
        ),
        (
            "echo sinfo: error: no controller >&2; exit 1",
            "cpus = 2",
            *("trouble", "Slurm does not answer: sinfo: error: no controller", "`sinfo`"),
        ),
        (
            "exit 0",
            "cpus = 2",
            *("trouble", "Slurm does not answer: it printed nothing", "SLURM_CONF"),
        ),
    ],
)
def test_slurm_is_asked_for_its_partitions(
    home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sinfo: str,
    keys: str,
    verdict: str,
    told: str,
    advice: str,
) -> None:
    path = slurm_of(tmp_path, monkeypatch, sinfo)
    found = seen(home, tmp_path, f"[backends.slurm]\n{keys}\n", path)
    assert (found.verdict, found.summary) == (verdict, told)
    assert advice in found.advice


def test_pilots_on_a_local_disk_are_warned_of(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = slurm_of(tmp_path, monkeypatch, "echo main")
    table = '[backends.gpu]\nkind = "slurm"\nfolder = "/data/pilots"\n'
    found = seen(home, tmp_path, table, path, EXT4)
    assert found.verdict is Verdict.WARNING
    assert "; but /data/pilots lies on a local disk (ext4)" in found.summary
    assert "`folder` in [backends.gpu]" in found.advice
    assert "(of unknown type)" in seen(home, tmp_path, table, path, "").summary
    assert seen(None, tmp_path, table, path, EXT4).summary == "Slurm answers, 1 partition"


def test_pilots_that_could_not_work_are_warned_of(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = slurm_of(tmp_path, monkeypatch, "echo main")
    reason = "the last 3 pilots of slurm could not work: no module cuda"
    rows = [BackendRow("other", "slurm", reason="no", failures=1)]
    file = PilotsFile(home)
    file.write(rows, [], 0.0)
    assert "could not work" not in seen(home, tmp_path, "[backends.slurm]\n", path).summary
    file.write([*rows, BackendRow("slurm", "slurm", reason=reason, failures=3)], [], 10.0)
    found = seen(home, tmp_path, "[backends.slurm]\n", path)
    assert (found.verdict, found.summary) == (Verdict.WARNING, reason)
    assert "launcher status" in found.advice


def test_pilots_of_this_machine_need_no_shared_folder(home: Home, tmp_path: Path) -> None:
    found = seen(home, tmp_path, "[backends.local]\n", mounts=EXT4)
    assert found == Finding(
        Verdict.OK, "pilots are processes of this machine", name="backend local"
    )


def test_an_interpreter_is_asked_for_its_ray(home: Home, tmp_path: Path) -> None:
    python = f"{tmp_path}/bin/python"
    table = f'[backends.ray]\npython = "{python}"\n'
    a_program(tmp_path / "bin", "python", "echo ray 2.60.0")
    well = seen(home, tmp_path, table)
    assert well.verdict is Verdict.OK
    assert well.summary.startswith(f"ray 2.60.0 in {python}; pilots in ")
    a_program(tmp_path / "bin", "python", "echo Traceback >&2; echo NotFound: ray >&2; exit 1")
    without = seen(home, tmp_path, table)
    assert without.verdict is Verdict.TROUBLE
    assert without.summary == f"{python} has no ray: NotFound: ray"
    assert "launcher-trueface[ray]" in without.advice
    a_program(tmp_path / "bin", "python", "exit 1")
    assert seen(home, tmp_path, table).summary == f"{python} has no ray: it printed nothing"


def test_an_interpreter_that_is_not_on_this_host_is_not_asked(home: Home, tmp_path: Path) -> None:
    found = seen(home, tmp_path, '[backends.ray]\npython = "/cluster/python"\n')
    assert found.verdict is Verdict.UNKNOWN
    assert "`python` in [backends.ray]" in found.advice


def test_of_a_file_with_faults_no_backend_is_told(home: Home) -> None:
    assert judge_backends(None, {}, home, "") == {}
