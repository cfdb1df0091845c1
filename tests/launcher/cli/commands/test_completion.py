import os
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from launcher.experiments.kinds import installed_kinds
from launcher.frontends.cli import verb_table
from launcher.frontends.cli.complete import VARIABLE, complete_line
from launcher.frontends.cli.main import cli
from launcher.frontends.cli.verb_table import VERBS
from launcher.queue.home.paths import Home
from launcher.queue.store.completion_queries import open_completion_queries
from launcher.queue.store.queue import Store
from tests.build import a_spec, enqueue, finished
from tests.launcher.conftest import Launcher
from tests.shells import a_shell
from tests.terminal import COMMAND, in_a_terminal
from verb_table import table

HARD = "test/gan2:pre&real:pre%50~pgu#sd:pre@lr=0.1,wd=2/real:pre"
TYPED = (  # the beginning of the hard name, as a person writes it
    "test/g",
    "test/gan2:",
    "test/gan2:p",
    r"test/gan2:pre\&re",
    r"test/gan2:pre\&real:pre%50~pgu#s",
    r"test/gan2:pre\&real:pre%50~pgu#sd:pre@lr=",
    "'test/gan2:pre&re",
    '"test/gan2:pre&real:',
)
SHELLS = [
    pytest.param(
        shell, marks=pytest.mark.skipif(shutil.which(shell) is None, reason=f"no {shell} here")
    )
    for shell in ("bash", "zsh", "fish")
]


@pytest.fixture
def tab(home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> "Tab":
    return Tab(monkeypatch, capsys)


class Tab:
    """Requests completions for the end of a line, as bash does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._set, self._said = monkeypatch.setenv, capsys

    def __call__(self, line: str) -> list[str]:
        words = line.split(" ")
        self._set(VARIABLE, "bash_complete")
        self._set("COMP_WORDS", line)
        self._set("COMP_CWORD", str(len(words) - 1))
        self._said.readouterr()
        assert complete_line(cli, dict.fromkeys(VERBS, ""), os.environ) == 0
        said = self._said.readouterr()
        assert said.err == ""
        return [one.removeprefix("plain,") for one in said.out.splitlines() if one]


# --- what is offered


def test_verbs_options_and_their_values_are_offered(tab: Tab) -> None:
    assert tab("launcher re") == ["release", "results", "resume", "retry"]
    assert "--follow" in tab("launcher logs --fo")
    assert tab("launcher results --format ma") == ["markdown"]
    assert tab("launcher service in") == ["install"]
    assert tab("launcher completion ") == ["bash", "zsh", "fish"]


def test_jobs_are_offered_by_name_and_by_number(tab: Tab, store: Store) -> None:
    enqueue(store, *(f"command/{number}" for number in range(12)))
    enqueue(store, HARD, "command/prep")
    assert tab("launcher show test/") == [HARD]
    assert tab("launcher show 1") == ["1", "10", "11", "12", "13", "14"]
    assert tab("launcher show pr") == ["prep"], "a command is known without its kind"
    assert tab("launcher show nothing") == []


def test_jobs_usable_by_the_verb_are_offered_first(tab: Tab, store: Store) -> None:
    done, _, held = enqueue(store, *(f"a/{name}" for name in "dqh"))
    finished(store, done)
    store.job_control.hold([held], 3.0)
    assert tab("launcher release a") == ["a/h", "a/d", "a/q"]
    assert tab("launcher hold a") == ["a/q", "a/d", "a/h"]
    assert tab("launcher retry --failed -n a") == tab("launcher retry --failed a")
    assert tab("launcher cancel --dry-run a") == ["a/q", "a/h", "a/d"]
    assert tab("launcher show a") == ["a/d", "a/h", "a/q"]


def test_runs_and_groups_are_offered(tab: Tab, store: Store) -> None:
    enqueue(store, a_spec(), run="quick")
    store.job_control.set_group_limit("downloads", 2)
    assert tab("launcher results q") == ["quick"]
    assert tab("launcher show run:") == ["run:quick"]
    assert tab("launcher show r") == ["run:quick"]
    assert tab("launcher group d") == ["downloads"]
    assert tab("launcher add --group d") == ["downloads"]
    assert tab("launcher add --after comm") == ["command/1"]


def test_tags_are_offered(tab: Tab, store: Store) -> None:
    (job,) = enqueue(store, "train/a")
    store.job_control.change_tags([job], ["paper", "old"], [])
    assert tab("launcher status tag:") == ["tag:old", "tag:paper"]
    assert tab("launcher tag t") == ["train/a", "tag:old", "tag:paper"]
    assert tab("launcher edit tag:p") == ["tag:paper"]


def test_files_are_offered(tab: Tab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "tasks/a.yaml",
        "tasks/b.YML",
        "tasks/c.txt",
        "tasks/deep/d.yaml",
        ".hidden/e.yml",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert "tasks/" in tab("launcher run ")
    assert ".hidden/" not in tab("launcher run ")
    assert tab("launcher run .h") == [".hidden/"]
    assert tab("launcher run tasks/") == ["tasks/a.yaml", "tasks/b.YML", "tasks/deep/"]
    assert tab("launcher run nowhere/") == []
    assert tab("launcher simulate tr") == ["file,tr"]
    assert tab("launcher add -- pro") == ["file,pro"]
    assert tab("launcher add python tr") == ["file,tr"]


def test_kinds_are_offered(tab: Tab) -> None:
    assert tab("launcher kinds ") == sorted(installed_kinds())


def test_completion_leaves_the_queue_folder_unchanged(tab: Tab, home: Home) -> None:
    mine = Store(home, durable=False)
    enqueue(mine, a_spec())
    mine.close()
    before = {file.name: file.stat().st_mtime_ns for file in home.folder.iterdir()}
    assert tab("launcher show c") == ["command/1"]
    assert {file.name: file.stat().st_mtime_ns for file in home.folder.iterdir()} == before


def test_a_damaged_queue_offers_nothing(tab: Tab, home: Home) -> None:
    home.database.write_bytes(b"no database at all")
    assert tab("launcher show c") == []


@pytest.mark.parametrize(
    "line", ["show \udcff", "results \udcff", "group \udcff", f"show {'9' * 5000}"]
)
def test_invalid_text_or_job_number_matches_nothing(tab: Tab, store: Store, line: str) -> None:
    enqueue(store, a_spec())
    assert tab(f"launcher {line}") == []


def test_name_with_line_breaks_is_not_offered(tab: Tab, store: Store) -> None:
    enqueue(store, "a/two\nlines", "a/one")
    assert tab("launcher show a") == ["a/one"]


# --- the store


def test_names_in_several_runs_are_offered_once(home: Home, store: Store) -> None:
    for run in ("one", "two"):
        enqueue(store, "a/1", f"a/{run}", run=run)
    with open_completion_queries(home.database) as queue:
        assert list(queue.jobs("a/")) == ["a/1", "a/one", "a/two"]
        assert queue.runs("") == ["two", "one"]


# --- declarations


def test_table_of_verbs_is_that_of_the_declarations() -> None:
    declared = table()
    assert {name: getattr(verb_table, name) for name in declared} == declared, (
        "PYTHONPATH=. python .ci/verb_table.py --write renews it"
    )


def test_names_in_other_tools_are_no_verbs_and_lead_to_valid_commands() -> None:
    assert not VERBS.keys() & verb_table.OTHER_NAMES.keys()
    context = click.Context(cli)
    for line in {line for lines in verb_table.OTHER_NAMES.values() for line in lines} - {
        "--version"
    }:
        verb, *words = line.split()
        command = cli.get_command(context, verb)
        assert command is not None
        command.make_context(verb, ["3" if word == "NUMBER" else word for word in words])


def test_completion_imports_neither_verbs_nor_their_dependencies() -> None:
    code = (
        "import sys\nfrom launcher.frontends.cli.complete import complete_line\n"
        "complete_line(None, {'show': ''}, {'COMP_WORDS': 'launcher show a', '_LAUNCHER_COMPLETE': 'x'})\n"
        "import launcher.queue.store.completion_queries, launcher.queue.home.paths\n"
        "heavy = {'pydantic', 'rich', 'textual', 'pynvml', 'yaml', 'launcher.queue.store.queue',"
        " 'launcher.frontends.cli.commands.show'}\n"
        "sys.exit(str(sorted(heavy & set(sys.modules))) if heavy & set(sys.modules) else 0)"
    )
    subprocess.run([COMMAND[0], "-c", code], check=True)


# --- in shells


def test_pipe_receives_only_the_script(launcher: Launcher) -> None:
    for shell in ("bash", "zsh", "fish"):
        said = launcher.well("completion", shell)
        assert VARIABLE in said.out
        assert said.err == ""
    assert launcher("completion", "tcsh").code == 2


def test_terminal_shows_where_to_install_the_script(home: Home) -> None:
    drawn = in_a_terminal("completion", "bash")
    assert drawn.endswith('add to ~/.bashrc:  eval "$(launcher completion bash)"\n')


@pytest.mark.parametrize("shell", SHELLS)
def test_names_with_shell_characters_and_files_in_folders_are_completed(
    home: Home, store: Store, tmp_path: Path, shell: str
) -> None:
    quoted = {  # without its completion none of these names a job
        "b/i": "b/it's $two `words`",
        "'c/i": "c/it's",
        '"d/': r"d/$b`c\d",
        "e/x": "e/x*[y]?~",
    }
    enqueue(store, *("test/other", HARD, *quoted.values()))
    folder = tmp_path / "person"
    (folder / "tasks").mkdir(parents=True)
    (folder / "tasks" / "only one.yaml").touch()
    with a_shell(shell, folder, home.folder) as mine:
        for typed, name in [*((typed, HARD) for typed in TYPED), *quoted.items()]:
            mine.shown = ""
            mine.type(f"launcher show {typed}\t\n")
            mine.until(f"<show><{name}>")
        mine.shown = ""
        mine.type("launcher run ta\to\t--dry-run\n")  # no blank follows the folder
        mine.until("<run><tasks/only one.yaml><--dry-run>")
