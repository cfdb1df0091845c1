"""What this host tells of backends, with stand-ins for Slurm's programs and for Ray's interpreter."""

from pathlib import Path

import pytest

from launcher.backends.settings import configured_backends
from launcher.cli.doctor.facts import SLURM, Engine, see_backends
from launcher.system.paths import Home


def seen(home: Home, tmp_path: Path, table: str, path: str = "/nowhere") -> Engine:
    file = tmp_path / "config.toml"
    file.write_text(table)
    environ = {"LAUNCHER_CONFIG": str(file), "PATH": path, "HOME": str(tmp_path)}
    (engine,) = see_backends(configured_backends(environ), environ, home, "")
    return engine


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
    assert seen(home, tmp_path, "[backends.slurm]\ncpus = 2\n").missing == SLURM


def test_partitions_are_those_that_sinfo_lists(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = slurm_of(tmp_path, monkeypatch, "echo main; echo gpu; echo main")
    engine = seen(home, tmp_path, '[backends.slurm]\npartition = "gpu"\n', path)
    assert engine.partitions == ("main", "gpu")
    assert (engine.answers, engine.partition) == (True, "gpu")


def test_what_sinfo_complains_of_is_no_partition(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = slurm_of(tmp_path, monkeypatch, "echo sinfo: error: no controller >&2; exit 1")
    engine = seen(home, tmp_path, "[backends.slurm]\ncpus = 2\n", path)
    assert not engine.answers
    assert engine.complaint == "sinfo: error: no controller"


def test_an_interpreter_is_asked_for_its_ray(home: Home, tmp_path: Path) -> None:
    a_program(tmp_path / "bin", "python", "echo ray 2.60.0")
    table = f'[backends.ray]\npython = "{tmp_path}/bin/python"\n'
    assert seen(home, tmp_path, table).ray == "2.60.0"
    a_program(tmp_path / "bin", "python", "echo PackageNotFoundError: ray >&2; exit 1")
    engine = seen(home, tmp_path, table)
    assert (engine.answers, engine.ray) == (False, "")
    assert "PackageNotFoundError" in engine.complaint


def test_an_interpreter_that_is_not_on_this_host_is_not_asked(home: Home, tmp_path: Path) -> None:
    engine = seen(home, tmp_path, '[backends.ray]\npython = "/cluster/python"\n')
    assert (engine.python, engine.answers) == ("", True)


def test_of_a_file_with_faults_no_backend_is_told(home: Home) -> None:
    assert see_backends(None, {}, home, "") == ()
