"""Python processes that follow a snapshot: the texts that they read, and their notes, without a queue."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from launcher.frontends.screens.snapshot_notes import describe_notes
from launcher.provenance.snapshots.attempts import STARTUP_FOLDER, CodeCopy
from launcher.provenance.snapshots.copies import (
    describe_source,
    keep_snapshots,
    note_queueing,
    take_snapshot,
)
from launcher.provenance.snapshots.programs import StartedProgram
from launcher.provenance.snapshots.reference import SnapshotReference
from launcher.provenance.snapshots.startup.launcher_snapshot.notes import (
    ABSENT,
    ENDED,
    NOTES,
    QUEUED,
    STARTED,
    read_notes,
)
from tests.launcher.snapshots.projects import commit, make_environment, write

VALUES = {
    "mod.py": 'V = "old"\n',
    "gone.py": 'V = "old"\n',
    "pkg/__init__.py": 'V = "old"\n',
    "pkg/__main__.py": "from pkg import V\nprint(V)\n",
    "bare/part.py": 'V = "old"\n',
    "scripts/helper.py": 'V = "old"\n',
    "scripts/tool.py": "import helper\nprint(helper.V)\n",
    "text.txt": "old",
    "configs/a.yaml": "old",
    "table.csv": "old",
}


class Project:
    """A project with a copy, whose files were edited after it was made."""

    def __init__(
        self, folder: Path, texts: Mapping[str, str], python: str = sys.executable
    ) -> None:
        self.folder, self.python = folder, python
        write(folder, {**VALUES, **texts})
        (folder / ".gitignore").write_text("ignored/\n__pycache__/\n*.ignored.py\n")
        commit(folder)
        self.home = folder.parent / "home"
        self.home.mkdir()
        self.attempts = self.home / "attempts"
        self.attempt = self.attempts / "none"
        self.queue()

    def queue(self) -> None:
        """Let later attempts be those of a job that is queued now."""
        home, folder = self.home, self.folder
        queued_at = note_queueing(home / "snapshots", str(folder))
        with keep_snapshots(home / "snapshots"):
            snapshot = take_snapshot(
                home / "snapshots", describe_source(home / "snapshots", str(folder))
            )
        copy = str(Path(snapshot.copy).relative_to(home))
        self.copy = CodeCopy(str(home), SnapshotReference(copy, str(folder), None, queued_at))

    def edit(self) -> None:
        """Write the new word into all files, and delete a module."""
        for path in self.folder.rglob("*"):
            if path.is_file() and ".git" not in path.parts:
                path.write_text(path.read_text().replace("old", "new"))
        (self.folder / "gone.py").unlink()
        time.sleep(0.02)  # a tick of the clock that stamps files

    def begin(self, *words: str) -> dict[str, str]:
        """Begin an attempt with a program, and return its environment."""
        self.attempt = self.attempts / f"1-{len([*self.attempts.glob('*')]) + 1}"
        self.attempt.mkdir(parents=True)
        environment = {
            name: text for name, text in os.environ.items() if not name.startswith("PYTHON")
        }
        program = StartedProgram(words, str(self.folder), environment)
        self.copy.begin(str(self.attempt), program, [])
        own = self.copy.variables(environment)
        return {**environment, **own, "LAUNCHER_ATTEMPT": str(self.attempt)}

    def run(self, *words: str, folder: str = ".", **variables: str) -> str:
        """Run Python in an attempt of its own, and return its output."""
        return self.run_program(self.python, *words, folder=folder, **variables)

    def run_program(self, *words: str, folder: str = ".", **variables: str) -> str:
        """Run a program in an attempt of its own, and return its output."""
        environment = {**self.begin(*words), **variables}
        process = subprocess.run(
            words, cwd=self.folder / folder, env=environment, capture_output=True, text=True
        )
        assert process.returncode == 0, process.stderr
        return process.stdout.strip()

    def notes(self) -> list[tuple[str, str]]:
        """Return the notes of the newest attempt, without its start."""
        lines = read_notes(str(self.attempt / NOTES))
        return [
            (kind, text) for kind, text in lines if kind not in {ABSENT, QUEUED, STARTED, ENDED}
        ]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project that was edited."""
    made = Project(tmp_path / "project", {})
    made.edit()
    return made


LOADS = {
    "sys.path with the working folder": "import os; sys.path.insert(0, os.getcwd()); import mod as m",
    "sys.path with a dot": "sys.path.insert(0, '.'); import mod as m",
    "site.addsitedir": "import site, os; site.addsitedir(os.getcwd()); import mod as m",
    "a deleted module": "sys.path.insert(0, '.'); import gone as m",
    "a folder without __init__": "sys.path.insert(0, '.'); import bare.part as m",
    "importlib by path": "from importlib.util import *; s = spec_from_file_location('m', 'mod.py'); "
    "m = module_from_spec(s); s.loader.exec_module(m)",
    "runpy": "import runpy, types; m = types.SimpleNamespace(**runpy.run_path('mod.py'))",
    "exec": "class m: exec(open('mod.py').read())",
    "importlib.resources": "sys.path.insert(0, '.'); import importlib.resources as r\n"
    "class m: exec(r.files('pkg').joinpath('__init__.py').read_text())",
    "pathlib": "from pathlib import Path\nclass m: V = Path('text.txt').read_text()",
    "bytes": "import io\nclass m: V = io.open(b'text.txt', 'rb').read().decode()",
    "a path with links": "import os; os.symlink(os.getcwd(), '../link')\n"
    "class m: V = open('../link/scripts/../text.txt').read()",
    "a backup of the code": "import shutil; shutil.copytree('pkg', '../backup')\n"
    "class m: exec(open('../backup/__init__.py').read())",
    "an archive of the code": "import tarfile, io; b = io.BytesIO(); t = tarfile.open(fileobj=b, mode='w')\n"
    "t.add('mod.py'); t.close(); b.seek(0)\n"
    "class m: exec(tarfile.open(fileobj=b).extractfile('mod.py').read())",
}


def test_ways_to_load_code_in_one_process_give_the_queued_text(project: Project) -> None:
    (project.folder / "mod.py").write_text('V = "new"\n# of another size\n')
    found = {
        name: project.run("-c", f"import sys\n{text}\nprint(m.V)") for name, text in LOADS.items()
    }
    assert found == dict.fromkeys(LOADS, "old")
    assert project.notes() == []


CHILDREN = {
    "a script": "subprocess.run([sys.executable, 'scripts/tool.py'])",
    "a module": "subprocess.run([sys.executable, '-m', 'pkg'])",
    "a text": "subprocess.run([sys.executable, '-c', 'import mod; print(mod.V)'])",
    "a shell": "subprocess.run(['sh', '-c', f'{sys.executable} -m pkg'])",
    "os.system": "os.system(f'{sys.executable} -m pkg')",
    "posix_spawn": "os.waitpid(os.posix_spawn(sys.executable, ['python', '-m', 'pkg'], os.environ), 0)",
    "exec": "os.execv(sys.executable, ['python', '-m', 'pkg'])",
    "another folder": "subprocess.run([sys.executable, 'tool.py'], cwd='scripts')",
    "another PYTHONPATH": "subprocess.run([sys.executable, '-m', 'pkg'], env={**os.environ, 'PYTHONPATH': '.'})",
    "a changed PYTHONPATH": "os.environ['PYTHONPATH'] = '.'; subprocess.run([sys.executable, '-m', 'pkg'])",
    "no PYTHONPATH": "del os.environ['PYTHONPATH']; subprocess.run([sys.executable, '-m', 'pkg'])",
}


def test_children_run_the_queued_text(project: Project) -> None:
    found = {
        name: project.run("-c", f"import os, subprocess, sys\n{text}")
        for name, text in CHILDREN.items()
    }
    assert found == dict.fromkeys(CHILDREN, "old")


POOLS = """# prose: ok, a text of Python
from __future__ import annotations
import multiprocessing, sys
def read(_):
    import mod
    return mod.V
if __name__ == "__main__":
    sys.path.insert(0, ".")
    for way in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(way).Pool(1) as pool:
            print(way, *pool.map(read, [0]), file=open("pools.txt", "a"))
"""


def test_processes_of_multiprocessing_run_the_queued_text(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", {"pools.py": POOLS})
    project.edit()
    project.run("pools.py")
    assert (project.folder / "pools.txt").read_text().split() == [
        *("fork", "old", "spawn", "old", "forkserver", "old"),
    ]


STATE = """# prose: ok, a text of Python
'''docstring'''
from __future__ import annotations
import json, os, sys
own = {name: value for name, value in globals().items() if name in ("__file__", "__name__", "__package__", "__doc__")}
print(json.dumps([own, __spec__ is None, __cached__, sys.argv, sys.path, os.getcwd(), open("text.txt").name]))
"""


def test_script_sees_the_names_of_a_run_without_a_snapshot(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", {"sub/state.py": STATE})
    words = [project.python, "sub/state.py", "a"]
    plain = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    expected = subprocess.check_output(words, cwd=project.folder, env=plain, text=True)
    assert json.loads(project.run(*words[1:])) == json.loads(expected)
    link = tmp_path / "link"
    link.symlink_to(project.folder)
    (project.folder / "sub/state.py").write_text("raise SystemExit(1)")
    found = json.loads(project.run(str(link / "sub/state.py"), "a"))
    assert found[0]["__file__"] == f"{link}/sub/state.py"
    assert found[4][0] == f"{project.folder}/sub"


WRITES = {
    "append": "open('table.csv', 'a').write('+mine')",
    "pathlib": "p = pathlib.Path('table.csv'); p.write_text(p.read_text() + '+mine')",
    "os.open": "d = os.open('table.csv', os.O_WRONLY | os.O_APPEND); os.write(d, b'+mine')",
    "replace": "open('x', 'w').write('old+mine'); os.replace('x', 'table.csv')",
    "a folder": "open('configs/a.yaml', 'w').write('+mine'); os.rename('configs', 'moved'); "
    "os.mkdir('configs'); shutil.move('moved/a.yaml', 'table.csv')",
    "numpy": "import numpy; numpy.savetxt('table.csv', numpy.array(['old+mine']), fmt='%s')",
    "a shell": "os.system('printf +mine >> table.csv')",
    "C": "import ctypes; c = ctypes.CDLL(None); c.fopen.restype = ctypes.c_void_p; "
    "f = ctypes.c_void_p(c.fopen(b'table.csv', b'a')); c.fputs(b'+mine', f); c.fclose(f)",
    "a child": "subprocess.run([sys.executable, '-c', \"open('table.csv', 'a').write('+mine')\"])",
}


def test_file_that_a_job_writes_is_read_as_it_is_now(tmp_path: Path) -> None:
    read = "print(open('table.csv').read().rstrip().endswith('+mine'), os.stat('table.csv').st_size > 4)"
    code = "import os, pathlib, shutil, subprocess, sys\n"
    found, later = {}, {}
    for number, (name, text) in enumerate(WRITES.items()):
        project = Project(tmp_path / f"{number}/project", {})
        time.sleep(0.02)
        found[name] = project.run("-c", f"{code}{text}\n{read}")
        project.copy.note_changes(str(project.attempt))
        time.sleep(0.02)
        later[name] = project.run("-c", f"{code}{read}")  # a retry, or another job
    assert found == dict.fromkeys(WRITES, "True True")
    assert later == found


def test_retry_after_a_crash_reads_what_other_programs_wrote(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", {})
    time.sleep(0.02)
    project.run("-c", WRITES["C"])  # nobody sees its end
    assert project.run("-c", "print(open('table.csv').read())") == "old+mine"
    project.copy.note_changes(str(project.attempt))
    (project.folder / "text.txt").write_text("edited")
    time.sleep(0.02)
    assert project.run("-c", "print(open('text.txt').read())") == "old"


def test_file_that_was_written_before_the_queueing_is_held_again(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", {})
    path, read = project.folder / "configs/a.yaml", "print(open('configs/a.yaml').read())"
    first = project.copy
    code = (
        "import sys; open('configs/a.yaml', 'w').write('old'); print(flush=True)\n"
        "if sys.stdin.readline(): open('configs/a.yaml', 'w').write('mine')\n"
    )
    words = [project.python, "-c", code]
    environment = project.begin(*words)
    pipe = subprocess.PIPE
    with subprocess.Popen(
        words, cwd=project.folder, env=environment, stdin=pipe, stdout=pipe
    ) as job:
        assert job.stdout is not None
        job.stdout.readline()
        time.sleep(0.02)
        project.queue()
        assert project.copy.key == first.key
        path.write_text("edited")
        assert project.run("-c", read) == "old"
        job.communicate(b"\n")
    second, project.copy = project.copy, first
    assert project.run("-c", read) == "mine"  # a retry of the first job
    project.copy = second
    assert project.run("-c", read) == "mine"


def test_temporary_file_in_a_folder_leaves_its_files_held(project: Project) -> None:
    code = "import tempfile; tempfile.TemporaryFile(dir='pkg').close(); import pkg; print(pkg.V)"
    assert project.run("-c", code) == "old"
    assert project.run("-c", "import pkg; print(pkg.V)") == "old"


def test_settings_that_a_shell_script_writes_are_read_as_they_are_and_edits_of_others_are_not(
    project: Project,
) -> None:
    read = "import mod; print(open('configs/a.yaml').read(), open('text.txt').read(), mod.V)"
    script = f'printf made > configs/a.yaml; printf \'V = "made"\' > mod.py; {project.python} -c "{read}"'
    assert project.run_program("sh", "-c", script) == "made old old"
    assert project.notes() == [("program", "sh"), ("changed", "configs/a.yaml")]


def test_file_that_a_shell_script_deletes_is_not_there(project: Project) -> None:
    read = "import os, gone; print(os.path.exists('text.txt'), open('configs/a.yaml').read())"
    for name in ("configs/a.yaml", "table.csv"):
        (project.folder / name).unlink()  # before the start
    (project.folder / "configs").rmdir()
    code = f"rm text.txt mod.py; {project.python} -c \"{read}; open('text.txt')\" || echo missing"
    assert project.run_program("sh", "-c", code) == "False old\nmissing"
    assert project.notes() == [("program", "sh"), ("changed", "text.txt")]


def test_settings_that_a_command_of_os_system_writes_are_read_as_they_are(project: Project) -> None:
    code = (
        "import os; os.system('printf made > configs/a.yaml'); print(open('configs/a.yaml').read())"
    )
    assert project.run("-c", code) == "made"
    assert project.notes() == [("program", "sh"), ("changed", "configs/a.yaml")]


def test_data_that_changed_before_the_start_is_read_as_it_is_and_named(project: Project) -> None:
    assert (
        project.run("-c", "import os; os.stat('table.csv'); print(open('text.txt').read())")
        == "old"
    )
    assert project.notes() == []
    assert project.run("-c", "print(open('table.csv').read())") == "new"
    assert project.notes() == [("edited", "table.csv")]
    assert describe_notes(project.notes()) == (
        "table.csv was not read from the snapshot after a change since the queueing"
    )
    (project.folder / "table.csv").write_text("old")  # with another time
    time.sleep(0.02)
    assert project.run("-c", "print(open('table.csv').read())") == "old"
    assert project.notes() == []


def test_edited_file_that_is_opened_to_read_and_write_is_named(project: Project) -> None:
    (project.folder / "mod.py").write_text('V = "old"\n')
    opens = "open('text.txt', 'r+'), open('scripts/tool.py', 'a+'), open('mod.py', 'r+')"
    more = "os.open('configs/a.yaml', os.O_RDWR), open('bare/part.py', 'a')"
    project.run("-c", f"import os; {opens}, {more}")
    assert project.notes() == [("edited", "text.txt"), ("edited", "configs/a.yaml")]


def test_file_that_changed_unseen_is_kept_when_a_job_replaces_it(project: Project) -> None:
    text = "open('text.txt').read() + '+mine'"
    project.run("-c", f"text = {text}; open('text.txt', 'w').write(text)")
    assert (project.folder / "text.txt").read_text() == "old+mine"
    kept = project.attempt / "replaced/text.txt"
    assert kept.read_text() == "new"
    assert project.notes() == [("kept", f"text.txt, before as {kept}")]
    project.run("-c", f"text = {text}; open('text.txt', 'w').write(text)")
    assert (project.folder / "text.txt").read_text() == "old+mine+mine"


def test_deleted_file_does_not_exist_and_can_be_read(project: Project) -> None:
    code = "import os; print(os.path.exists('gone.py'), open('gone.py').read())"
    assert project.run("-c", code) == 'False V = "old"'


def test_edits_while_only_python_runs_do_not_reach_it(project: Project) -> None:
    edits = (
        "import os, subprocess, sys\n"
        "env = {'PATH': os.environ['PATH']}\n"  # the user, in another shell
        "code = \"open('configs/a.yaml', 'w').write('user'); open('mod.py', 'w').write('V = 1')\"\n"
        "subprocess.run(['git', '--version'], stdout=subprocess.DEVNULL)\n"
        "from posix import posix_spawn\n"
        "os.waitpid(posix_spawn(sys.executable, ['python', '-c', code], env), 0)\n"
        "import mod; print(open('configs/a.yaml').read(), mod.V)"
    )
    assert project.run("-c", edits) == "old old"


def test_what_is_not_held_is_noted_at_once(project: Project) -> None:
    write(project.folder, {"ignored/lab.py": "V = 1", "x.ignored.py": "V = 2"})
    code = (
        "import os, subprocess, sys\n"
        "import ignored.lab\n"
        "exec(open('x.ignored.py').read())\n"
        "subprocess.run([sys.executable, '-I', '-c', '1'])\n"
        "subprocess.run([sys.executable, '-c', '2'], env={})\n"
        "subprocess.run([sys.executable, '-c', '3'], env={**os.environ, 'LAUNCHER_SNAPSHOT': 'off'})\n"
        "subprocess.run('PYTHONPATH=. true', shell=True)\n"
        "subprocess.run(['/usr/bin/env', '-i', 'true'])\n"
        "os.system('env PYTHONPATH=. true')\n"
        "os.system('PYTHONPATH=.:$PYTHONPATH true')\n"
        "subprocess.run(['env', f'PYTHONPATH={os.environ[\"PYTHONPATH\"]}:.', 'true'])\n"
        "open('made.py', 'w').write('V = 3'); import made\n"
        "os._exit(0)"
    )
    project.run("-c", code)
    python = project.python
    assert project.notes() == [
        ("loaded", "ignored/lab.py"),
        ("loaded", "x.ignored.py"),
        ("child", f"{python} -I -c 1, with -I"),
        ("child", f"{python} -c 2, without LAUNCHER_SNAPSHOT"),
        ("child", f"{python} -c 3, without LAUNCHER_SNAPSHOT"),
        ("child", "-c, with LAUNCHER_SNAPSHOT=off"),
        ("program", "sh"),
        ("child", "/bin/sh -c PYTHONPATH=. true, which may replace PYTHONPATH"),
        ("program", "env"),
        ("child", "/usr/bin/env -i true, which may replace PYTHONPATH"),
        ("child", "sh -c env PYTHONPATH=. true, which may replace PYTHONPATH"),
        ("loaded", "made.py"),
    ]


def test_code_of_other_projects_is_named_once_for_each_package(
    project: Project, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    write(other, {"kit/__init__.py": "", "kit/part.py": "", "single.py": ""})
    time.sleep(0.02)
    code = (
        "import json.tool, sys, launcher.system.units, pytest\n"
        f"sys.path.append('{other}')\n"
        f"open('{other}/made.py', 'w').close()\n"
        "import kit.part, single, made"
    )
    project.run("-c", code)
    names = ("kit/__init__.py", "single.py")
    assert project.notes() == [("loaded", f"{other}/{name}") for name in names]


def test_packages_of_an_environment_in_the_project_are_not_noted(project: Project) -> None:
    python = make_environment(project.folder / "ignored/venv")
    (packages,) = (project.folder / "ignored/venv/lib").glob("python3*/site-packages")
    write(packages, {"thing.py": "V = 1"})
    project.run_program(str(python), "-c", "import thing")
    assert project.notes() == []


def test_commands_of_launcher_do_not_follow_the_snapshot(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", {"tool/launcher": "", "src/launcher.py": ""})
    write(tmp_path / "own", {"sitecustomize.py": "print(type(open).__name__)"})
    paths = f"{STARTUP_FOLDER}:{tmp_path}/own"
    found = [
        project.run(*words, folder=folder, PYTHONPATH=paths).split()[0]
        for folder, *words in (
            (".", f"{sys.prefix}/bin/launcher", "--version"),
            ("tool", "-u", "-m", "launcher.__main__", "--version"),
            (".", "tool/launcher"),
            ("src", "-m", "launcher"),
            (".", "-c", "1", "-m", "launcher.cli"),
        )
    ]
    assert found == [*["builtin_function_or_method"] * 2, *["method"] * 3]


def test_own_sitecustomize_and_usercustomize_run(project: Project, tmp_path: Path) -> None:
    own = tmp_path / "own"
    write(own, {"sitecustomize.py": "import sys; sys.own = __file__"})
    environment = project.begin(project.python)
    before = project.copy.variables({**environment, "PYTHONPATH": str(own)})["PYTHONPATH"]
    assert before == f"{STARTUP_FOLDER}:{own}"
    code = "import sys, sitecustomize; print(sys.own, sitecustomize.__file__, sys.path[1])"
    assert project.run("-c", code, PYTHONPATH=before) == " ".join(
        (*[f"{own}/sitecustomize.py"] * 2, str(own))
    )


def test_compiled_modules_do_not_mix_old_and_new(project: Project) -> None:
    stamp = (1e9, 1e9)
    os.utime(project.folder / "mod.py", stamp)  # with the size and time of a compiled form
    subprocess.run([project.python, "-c", "import mod"], cwd=project.folder, check=True)
    code = "import mod, py_compile; print(mod.V, py_compile.compile('mod.py'))"
    value, compiled = project.run("-c", code).split()
    assert value == "old"
    check = "import mod; print(mod.V)"
    assert Path(project.folder, compiled).exists()
    output = subprocess.check_output([project.python, "-c", check], cwd=project.folder, text=True)
    assert output == "new\n"


def test_tests_of_pytest_are_those_of_the_copy(tmp_path: Path) -> None:
    test = "import pathlib\ndef test_it():\n    pathlib.Path('out.txt').write_text('old')\n"
    project = Project(tmp_path / "project", {"test_it.py": test})
    project.edit()
    words = [project.python, "-m", "pytest", "-q", "test_it.py"]
    subprocess.run(words, cwd=project.folder, check=True, capture_output=True)
    project.run(*words[1:])
    assert (project.folder / "out.txt").read_text() == "old"
    subprocess.run(words, cwd=project.folder, check=True, capture_output=True)
    assert (project.folder / "out.txt").read_text() == "new"


def test_mistake_in_a_module_is_reported_as_without_a_snapshot(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", {"wrong.py": "V = '\\d'\ndef f(:\n"})
    code = "import traceback\ntry: import wrong\nexcept SyntaxError: traceback.print_exc(file=sys.stdout)"
    words = [project.python, "-W", "ignore", "-c", f"import sys\n{code}"]
    plain = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    expected = subprocess.check_output(words, cwd=project.folder, env=plain, text=True)
    assert f'File "{project.folder}/wrong.py", line 2' in expected
    assert project.run(*words[1:]) == expected.strip()


def test_functions_of_os_are_pickled_and_work_as_attributes_of_classes(project: Project) -> None:
    code = (
        "import copy, os, pickle, io, shutil, tempfile\n"  # prose: ok, a text of Python
        "class A: open, stat, remove = open, os.stat, os.remove\n"
        "assert A().open('text.txt').read() == 'old' and A().stat('text.txt').st_size == 3\n"
        "assert all(pickle.loads(pickle.dumps(f)) == f for f in (open, os.stat, os.remove))\n"
        "assert copy.deepcopy([open, os.stat]) == [open, os.stat]\n"
        "shutil.rmtree(tempfile.mkdtemp()); assert shutil.rmtree.avoids_symlink_attacks\n"
        "print(open.__name__, isinstance(open(0, closefd=False), io.TextIOWrapper))\n"
    )
    assert project.run("-c", code) == "open True"


def test_missing_snapshot_and_full_disk_do_not_stop_a_program(project: Project) -> None:
    gone = {"LAUNCHER_SNAPSHOT": f"{project.folder}/missing"}
    environment = {**project.begin(project.python), **gone}
    words = [project.python, "-c", "print(1)"]
    process = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert process.stdout == "1\n"
    assert "launcher: cannot follow the snapshot" in process.stderr
    code = (
        "open('table.csv', 'a').write('+mine'); import ignored.lab; print(open('table.csv').read())"
    )
    write(project.folder, {"ignored/lab.py": ""})
    assert project.run("-c", code, LAUNCHER_ATTEMPT="/dev/full") == "new+mine"


def test_older_and_newer_versions_of_python_follow_the_snapshot(project: Project) -> None:
    code = (
        "import pathlib, mod, gone, subprocess, sys\n"
        "out = subprocess.check_output([sys.executable, 'scripts/tool.py']).decode().split()\n"
        "print(mod.V, gone.V, pathlib.Path('text.txt').read_text(), *out)"
    )
    found = {
        str(python): project.run_program(str(python), "-c", code)
        for version in ("3.8", "3.9", "3.10", "3.12", "3.13", "3.14")
        if (python := _python(version)) is not None
    }
    assert found == dict.fromkeys(found, "old old old old")


def _python(version: str) -> str | None:
    """Return an interpreter of a version, if the machine has one."""
    try:
        process = subprocess.run(
            [f"python{version}", "-c", "import sys; print(sys.executable)"],
            capture_output=True,
            text=True,
        )
    except OSError:
        return None
    return process.stdout.strip() or None
