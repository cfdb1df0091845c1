"""Properties of every command: help, usage errors, machine errors."""

import itertools
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from launcher.experiments.kind_interface import Settings
from launcher.experiments.kinds import installed_kinds
from launcher.experiments.taskfile.schema.json_schema_types import settings_of
from launcher.experiments.taskfile.schema.value_descriptions import describe_form
from launcher.frontends.cli.verb_table import VERBS
from launcher.queue.home.paths import Home
from launcher.queue.store.queue import Store
from launcher.system.installation import install_command
from tests.build import a_context, a_spec, enqueue
from tests.launcher.conftest import Launcher
from tests.launcher.mistakes import FILE, Mistake, Places, ask, read
from tests.launcher.toylab import Toy, laboratory
from tests.terminal import COMMAND, in_a_terminal

# --- every command


@pytest.mark.parametrize("words", [*VERBS, "service install", "service remove"])
def test_every_verb_has_a_help_page_with_two_examples(launcher: Launcher, words: str) -> None:
    page = launcher.well(*words.split(), "--help").out
    assert "[default: None]" not in page
    assert not re.search(r"^ +It ", page, re.MULTILINE)
    # names are the only texts of any form
    assert {*re.findall(r"(--[a-z-]+) TEXT", page)} <= {"--name", "--note"}
    below = page.partition("\nExamples:\n")[2].splitlines()
    examples = list(itertools.takewhile(lambda line: line.startswith("  "), below))
    assert examples[0].startswith(f"  launcher {words}"), "click has not wrapped the lines"
    assert len(examples) >= 2
    assert all(f"launcher {words}" in example for example in examples)
    assert max(map(len, examples)) <= 80


def test_a_long_option_may_be_written_with_underscores(launcher: Launcher, home: Home) -> None:
    words = ["add", "--dry_run", "--time_limit", "8h", "--name", "a_b", "--", "run_it", "--my_x"]
    assert launcher.well(*words).out == "command/a_b\trun_it --my_x\n"


def test_error_has_a_traceback_only_on_request(launcher: Launcher, home: Home) -> None:
    home.database.write_bytes(b"no database at all, but long enough to look like one " * 100)
    answer = launcher("status")
    assert answer.code == 3
    assert answer.err.startswith("error: the queue's database")
    assert "Traceback" not in answer.err
    assert "Traceback" in launcher("--debug", "status").err


def test_help_of_add_begins_with_examples_and_the_five_most_used_options(
    launcher: Launcher,
) -> None:
    page = launcher.well("add", "--help").out
    headings = re.findall(r"^(\w[\w ]*):(?: |$)", page, re.MULTILINE)
    assert headings[:4] == ["Usage", "Examples", "Common options", "Resources"]
    common = page.partition("Common options:")[2].partition("\n\n")[0]
    names = ["--name", "--gpus", "--after", "--time-limit", "--sweep"]
    assert re.findall(r"^  (--[\w-]+)", common, re.MULTILINE) == names
    assert page.index("without a shell") > page.index(common)


@pytest.mark.parametrize(
    ("words", "unbuffered"), [(["--help"], ""), (["status"], "1"), (["status", "--json"], "")]
)
def test_full_disk_at_output_is_a_machine_error(
    home: Home,
    store: Store,
    words: list[str],
    unbuffered: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    enqueue(store, a_spec())
    with Path("/dev/full").open("w") as full:
        said = subprocess.run(
            [*COMMAND, *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert said.returncode == 3
    assert said.stderr == "error: [Errno 28] No space left on device\n"


def test_unwritable_stop_request_is_a_machine_error(
    launcher: Launcher, home: Home, store: Store
) -> None:
    home.stop_record.mkdir()  # root may write anywhere, but replaces no folder by a file
    answer = launcher("stop")
    home.stop_record.rmdir()
    assert answer.code == 3
    assert answer.err.startswith("error: cannot write ")


def test_queue_folder_of_another_user_is_refused(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    monkeypatch.setenv("LAUNCHER_HOME", str(theirs))
    answer = launcher("add", "--", "true")
    assert answer.code == 3
    assert "belongs to user 12345" in answer.err


def test_concurrent_readers_and_writer_do_not_interfere(home: Home, store: Store) -> None:
    troubles: list[Exception] = []
    finished = threading.Event()

    def read() -> None:
        mine = Store(home)
        try:
            while not finished.is_set():
                mine.read.counts()
                mine.read.open_jobs()
        except Exception as error:  # noqa: BLE001  # whatever it is, the test must see it
            troubles.append(error)
        mine.close()

    readers = [threading.Thread(target=read) for _ in range(8)]
    for reader in readers:
        reader.start()
    for number in range(30):
        enqueue(store, f"command/{number}", context=a_context())
    finished.set()
    for reader in readers:
        reader.join()
    assert troubles == []
    assert len(store.read.jobs()) == 30


def test_damaged_database_is_a_machine_error(launcher: Launcher, home: Home, store: Store) -> None:
    enqueue(store, *(f"command/{number}" for number in range(500)))
    store.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with home.database.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(40 * 4096)
        file.write(b"\xa5" * (size - 40 * 4096))
    answer = launcher("status", "*")
    assert answer.code == 3
    assert "was found damaged" in answer.err
    assert "Traceback" not in answer.err


MISTAKES = read(FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """Where command lines are typed."""
    return Places(tmp_path_factory.mktemp("mistakes"))


@pytest.mark.parametrize("mistake", MISTAKES, ids=[f"{one.line} [{one.given}]" for one in MISTAKES])
def test_invalid_command_line_has_the_exact_expected_message(
    mistake: Mistake, places: Places
) -> None:
    if mistake.given == "somebody else's" and os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    assert str(ask(places, mistake)) == str(mistake)


def test_every_verb_has_an_invalid_command_line() -> None:
    words = {one.line.split()[1] for one in MISTAKES if " " in one.line}
    assert set(VERBS) <= words
    assert len({(one.given, one.line) for one in MISTAKES}) == len(MISTAKES) > 100


def test_mistake_has_a_nonzero_exit_code_and_message_on_stderr() -> None:
    for one in MISTAKES:
        assert one.code
        assert one.out == ""
        assert one.err
        assert "Traceback" not in one.err


def test_file_of_mistakes_round_trips() -> None:
    text = "\n".join(map(str, MISTAKES))
    assert read(text) == MISTAKES


def test_mistakes_leave_their_folders_unchanged(places: Places) -> None:
    before = dict(os.environ)
    here = Path.cwd()
    with places.at("a queue") as folder:
        assert Path.cwd() == folder
    assert (dict(os.environ), Path.cwd()) == (before, here)
    assert not folder.exists()


# --- web


WITHOUT_STARLETTE = """
import sys
sys.modules["starlette"] = None
from launcher.frontends.cli.main import main
main(["web"])
"""


def test_occupied_port_is_named_with_a_remedy(launcher: Launcher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        answer = launcher("web", "--port", str(port))
    assert answer.code == 2
    assert answer.out == ""
    assert f"cannot serve on port {port}: Address already in use. Choose another port" in answer.err


def test_missing_extra_is_reported_with_the_install_command() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", WITHOUT_STARLETTE], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 3
    assert install_command("web") in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("program", ["launcher", "trueface"])
def test_interrupted_start_has_no_traceback(program: str, tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")
    script = tmp_path / "start.py"
    script.write_text(f"from {program}.cli import start\nstart()\n")  # as the installed command
    for words in ([str(script)], ["-m", program, "nonsense"]):
        answer = subprocess.run(
            [sys.executable, *words],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 130, answer
        assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("words", "needless"),
    [
        (
            ["status"],
            "logging ctypes shutil tempfile launcher.queue.scheduler.policy.model launcher.frontends.screens.snapshot_notes "
            "launcher.queue.workers.progress.attempt_progress launcher.queue.workers.progress.buffering",
        ),
        (
            ["add", "--dry-run", "--", "true"],
            "logging ctypes tempfile launcher.queue.workers.progress.attempt_progress",
        ),
    ],
    ids=["status", "add"],
)
def test_short_command_imports_no_module_that_it_does_not_need(
    words: list[str], needless: str, launcher: Launcher
) -> None:
    launcher.well("add", "--hold", "--", "true")
    answer = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "launcher", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = answer.stderr.partition("| launcher\n")[2].splitlines()
    imported = [line.rpartition("|")[2].strip() for line in lines]
    assert "launcher.queue.store.queue" in imported
    assert not {*needless.split()} & {*imported}


def test_job_type_that_is_typed_as_a_command_names_the_task_file(launcher: Launcher) -> None:
    assert "It is a job type: write it in a task file" in launcher.refused("train")


# --- kinds


def test_every_installed_kind_is_listed(launcher: Launcher) -> None:
    lines = [line.split("\t") for line in launcher("kinds").out.splitlines()]
    assert [line[0] for line in lines] == list(installed_kinds())
    assert [
        "command",
        "plain",
        "run any program",
        "launcher",
        "argv,cwd,env,inputs,outputs",
    ] in lines
    train = next(line for line in lines if line[0] == "train")
    assert train[1:4] == ["train", "train or fine-tune a detector", "trueface"]
    assert {"lr", "num_epochs", "seed"} <= set(train[4].split(","))


def test_named_kind_prints_its_settings(launcher: Launcher) -> None:
    lines = [line.split("\t") for line in launcher("kinds", "train", "command").out.splitlines()]
    assert {len(line) for line in lines} == {6}
    by_name = {(line[0], line[1]): line[2:] for line in lines}
    assert list(installed_kinds()["train"].settings.model_fields) == [
        name for kind, name in by_name if kind == "train"
    ]
    assert by_name["train", "num_epochs"] == [
        "a whole number, at least 1",
        "100",
        "Number of epochs",
        "training_epochs",
    ]
    assert by_name["train", "data_root"][1] == "(required)"
    assert by_name["train", "jpeg_qual"][:2] == [
        "a whole number or a list of 2 whole numbers",
        "[75, 75]",
    ]
    assert by_name["command", "argv"][:2] == ["a list of 1 or more strings", "(required)"]


def test_json_of_kinds_has_the_same_content(launcher: Launcher) -> None:
    whole = launcher.json("kinds")
    assert whole["schema"] == 1
    assert [kind["name"] for kind in whole["kinds"]] == list(installed_kinds())
    (command,) = (kind for kind in whole["kinds"] if kind["name"] == "command")
    names = [setting["name"] for setting in command["settings"]]
    assert names == ["argv", "cwd", "env", "inputs", "outputs"]
    (kind,) = launcher.json("kinds", "train", "train")["kinds"]
    assert (kind["role"], kind["package"]) == ("train", "trueface")
    by_name = {setting["name"]: setting for setting in kind["settings"]}
    assert by_name["optimizer"] == {
        "name": "optimizer",
        "type": "adam or adamw or sgd",
        "required": False,
        "default": "adam",
        "description": "Optimizer",
        "old_names": [],
    }
    assert by_name["split_path"]["required"] is True
    assert by_name["lr"]["old_names"] == ["learning_rate"]


@pytest.mark.parametrize("width", [70, 100])
@pytest.mark.usefixtures("home")
def test_lines_fit_the_width_of_the_terminal(width: int) -> None:
    table = in_a_terminal("kinds", columns=width)
    assert table.splitlines()[0].split() == ["KIND", "ROLE", "PACKAGE", "DESCRIPTION"]
    page = in_a_terminal("kinds", "train", "poison", columns=width)
    assert max(map(len, (table + page).splitlines())) <= width
    first, second = page.split("\n\n")
    assert first.startswith("train (train, trueface): train or fine-tune a detector\n")
    assert second.splitlines()[1].split() == ["SETTING", "DEFAULT", "DESCRIPTION"]
    assert "; old name: training_epochs)" in " ".join(first.split())


# --- types in words


class Inner(BaseModel):
    """A model within settings."""

    side: int


class EverySettings(Settings):
    """One setting of each type."""

    whole: int = 1
    bounded: int = Field(1, ge=1, le=9)
    share: float = Field(0.5, gt=0, lt=1)
    flag: bool = False
    text: str = ""
    maybe: int | None = None
    choice: Literal["a", "b", 3] = "a"
    only: Literal["a"] = "a"
    one_or_two: float | tuple[float, float] = 1.0
    mixed: tuple[int, str] = (1, "a")
    bounded_pair: tuple[float, float] = (0.0, 1.0)
    texts: tuple[str, ...] = ()
    some: list[int] = Field(default_factory=list, min_length=2)
    counts: list[bool] = Field(default_factory=list)
    inner: Inner | None = None
    inners: list[Inner] = Field(default_factory=list)
    table: Mapping[str, int] = Field(default_factory=dict)
    anything: Any = None
    path: Path = Path()


WORDS = {
    "whole": "a whole number",
    "bounded": "a whole number from 1 to 9",
    "share": "a number, more than 0 and less than 1",
    "flag": "true or false",
    "text": "a string",
    "maybe": "a whole number or null",
    "choice": "a or b or 3",
    "only": "a",
    "one_or_two": "a number or a list of 2 numbers",
    "mixed": "a list of a whole number, a string",
    "bounded_pair": "a list of 2 numbers",
    "texts": "a list of strings",
    "some": "a list of 2 or more whole numbers",
    "counts": "a list, each true or false",
    "inner": "a mapping or null",
    "inners": "a list, each a mapping",
    "table": "a mapping",
    "anything": "anything",
    "path": "a string",
}


def test_every_type_has_a_plain_description() -> None:
    kind = laboratory()["train"]
    assert isinstance(kind, Toy)
    every = Toy(name="every", role=kind.role, entry=kind.entry, settings=EverySettings)
    told = {name: describe_form(form) for name, form in settings_of(every).items()}
    assert told == WORDS
