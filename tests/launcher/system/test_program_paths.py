"""The paths of programs: found when a job is queued, and used when it starts."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from launcher.system.program_paths import (
    ProgramGone,
    Start,
    find_paths,
    program_index,
    use_paths,
    used_paths,
)

SCRIPTS = {
    "env/bin/python": "#!/bin/sh\n",
    "env/bin/tool": "#!{env}/python\n",
    "env/bin/run": "#!/bin/sh\n",
    "s.py": "#!/usr/bin/env python\n",
    "split.py": "#!/usr/bin/env -S python -u\n",
    "odd.py": "#!/usr/bin/env -i python\n",
    "sub.sh": "#!/bin/sh\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An environment with programs, and scripts in the folder of a job."""
    for name, text in SCRIPTS.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("{env}", str(tmp_path / "env/bin")))
        path.chmod(0o755)
    return tmp_path


def start(folder: Path, own: Mapping[str, str] | None = None, path: str = "env/bin") -> Start:
    variables = {"PATH": f"{folder}/{path}:/usr/bin:/bin", "VIRTUAL_ENV": f"{folder}/env"}
    return Start(str(folder), {**variables, **(own or {})}, own or {})


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("python s.py", ["python"]),
        ("env A=1 nice -n 5 python s.py", ["python"]),
        ("timeout -k 5 60 nice -5 python s.py", ["python"]),
        ("./s.py x", ["python"]),
        ("./split.py x", ["python"]),
        ("tool x", ["tool", "env/bin/python"]),
        ("taskset -c 0 python s.py", ["python"]),
        ("flock lock ./env/bin/python s.py", ["./env/bin/python"]),
        ("make --with=tool --python lint", ["tool"]),
        ("env -i tool x", []),  # it starts with another PATH
        ("./odd.py", []),
        ("nowhere x", []),
        ("env", []),
    ],
)
def test_programs_of_a_command_line_are_found(folder: Path, line: str, names: list[str]) -> None:
    found = find_paths(line.split(), start(folder))
    expected = {
        str(folder / name) if "/" in name else name: str(folder / "env/bin" / Path(name).name)
        for name in names
    }
    # the stand-in for Python is a shell script, which needs its environment
    assert {
        name: path
        for name, path in found.items()
        if name[0] != "$" and path.startswith(str(folder))
    } == expected
    assert use_paths(line.split(), start(folder), found) == tuple(line.split())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("python s.py", "{env}/python s.py"),
        ("env A=1 nice -n 5 python s.py", "env A=1 nice -n 5 {env}/python s.py"),
        ("./s.py x", "{env}/python ./s.py x"),
        ("nice ./split.py x", "nice {env}/python -u ./split.py x"),
        ("tool x", "{env}/tool x"),
        ("env PATH={env} python s.py", "env PATH={env} python s.py"),
    ],
)
def test_program_is_the_one_of_the_queueing_if_path_gives_another_one(
    folder: Path, line: str, expected: str
) -> None:
    environment = str(folder / "env/bin")
    argv = line.format(env=environment).split()
    found = find_paths(argv, start(folder))
    (folder / "other").mkdir()
    for name in ("python", "tool"):
        (folder / "other" / name).symlink_to("/bin/sh")
    assert use_paths(argv, start(folder, path="other"), found) == tuple(
        expected.format(env=environment).split()
    )


@pytest.mark.parametrize(
    ("line", "gone"),
    [
        ("python s.py", "env/bin/python"),
        ("nice ./s.py", "env/bin/python"),
        ("{env}/bin/python s.py", "env/bin/python"),
        ("./env/bin/python s.py", "env/bin/python"),
        ("env/bin/run", "env/bin/run"),
        ("tool", "env/bin/tool"),
        ("taskset -c 0 python s.py", "env/bin/python"),
        ("flock lock {env}/bin/tool", "env/bin/tool"),
        ("xvfb-run -a ./env/bin/python s.py", "env/bin/python"),
        ("strace -f tool", "env/bin/tool"),
        ("env -i PATH={env}/bin tool", "env/bin/tool"),
        ("watch -n1 A=1;tool", "env/bin/tool"),
        ("ls --tool -l python.txt", ""),
        ("sh run.sh", "env"),
        ("taskset -c 0 sh run.sh", "env"),
        ("flock lock ./sub.sh", "env"),
        ("taskset -c 0 ./s.py", "env/bin/python"),
        ("bash -c tool", "env"),
        ("ls -l", ""),
    ],
)
def test_deleted_environment_is_named(folder: Path, line: str, gone: str) -> None:
    argv = line.format(env=folder / "env").split()
    found = find_paths(argv, start(folder))
    (folder / "env").rename(folder / "away")
    try:
        used: tuple[str, ...] | str = use_paths(argv, start(folder), found)
    except ProgramGone as error:
        used = error.path
    assert used == (str(folder / gone) if gone else tuple(argv))
    (folder / "away").rename(folder / "env")
    assert use_paths(argv, start(folder), found) == tuple(argv)


def test_programs_of_own_variables_are_those_of_one_job(folder: Path) -> None:
    own = {"PATH": "env/bin:/bin", "VIRTUAL_ENV": "/no/such/folder"}
    found = find_paths(["python"], start(folder, own))
    assert found["PATH=env/bin:/bin:python"] == str(folder / "env/bin/python")
    assert not [name for name in found if name[0] == "$"]
    assert use_paths(["python"], start(folder), found) == ("python",)


def test_links_are_stored_as_they_are_and_known_words_are_not_listed(folder: Path) -> None:
    (folder / "links").mkdir()
    python = folder / "links/python"
    python.symlink_to(folder / "env/bin/python")
    found = find_paths(["python"], start(folder, path="links"))
    assert found["python"] == str(python)
    listed = used_paths(["python"], start(folder), found)
    assert listed[0] == str(python)
    assert str(python) not in used_paths([str(python)], start(folder), found)


@pytest.mark.parametrize(
    "line",
    [
        ("env", "-S", "python s.py"),
        ("env", "-Spython s.py"),
        ("env", "--split-string=python s.py"),
        ("parallel", "python s.py {}", ":::", "1"),
    ],
)
def test_program_in_a_word_of_several_is_needed(folder: Path, line: tuple[str, ...]) -> None:
    found = find_paths(line, start(folder))
    assert str(folder / "env/bin/python") in used_paths(line, start(folder), found)
    (folder / "env").rename(folder / "away")
    with pytest.raises(ProgramGone):
        use_paths(line, start(folder), found)


def test_index_of_a_program_behind_wrappers() -> None:
    assert program_index(["env", "PATH=/x", "A=1", "time", "-p", "python"]) == (5, "/x")
    assert program_index(["nohup", "--", "a"]) == (2, "")
    assert program_index(["env", "-i", "A=1", "a"]) == (3, "/bin:/usr/bin")
    assert program_index(["env", "-S", "a b"])[0] == -1
