"""The README and the pages below docs/ say what is so: every block is run, planned or read.

`python -m tests.test_documents --write` renews the lines of code to which pages link.
"""

import ast
import contextlib
import csv
import functools
import importlib.util
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
import yaml

from launcher.api import load, plan
from launcher.frontends.cli.main import cli
from launcher.frontends.cli.verb_table import OTHER_NAMES, VERBS
from launcher.queue.home.paths import Home
from tests.documents import (
    EXTENDING,
    PAGES,
    TREE,
    Block,
    Command,
    blocks,
    commands,
    dotted_names,
    files,
    link_fault,
    links,
    options,
    quoted,
)
from tests.notebooks import NOTEBOOKS, execute, texts_of
from tests.nvml.standin import GIB, Devices
from tests.printed_output import first_difference, screen_lines
from tests.sandbox import INTERRUPT, Sandbox, a_sandbox
from trueface import __main__ as program
from trueface.cli.main import cli as trueface
from trueface.data.made.sample import SampleSpec, make_sample

SHOWS_OUTPUT = (
    "LAUNCHER_TESTS_SHOW_OUTPUT"  # variable: a difference is followed by the whole output
)
WIDTH = 100  # columns of the README
README_LINES = 150  # one sitting; what needs more has a page below docs/

# These run the tests themselves: the Makefile must have the target.
TARGETS = {
    "source .venv/bin/activate": "the sandbox has its commands",
    "make demo": "the whole demo, minutes; tests/e2e walks the same path",
    "make test": "all tests, this one among them",
    "make check": "the linters, which run before the tests",
    "make quick": "a part of the tests",
    "make night": "the rest of the tests",
}
CLASSIC = "python -m trueface --name R"  # trains for minutes; its flags are parsed
MOST_PAGES_OF_A_CLONE = 10
RUN = ("sh", "yaml", "toml", "python", "console")
# output of the block above, output of another machine or state, and files, pictures and commands that are not run
SHOWN = ("text", "example", "plain")
MOST_EXAMPLES = 25
# A page whose examples use the script of the README.
SCRIPT = re.compile(r"`train\.py`[^.]{0,40}\[README\]")
# Blocks that are part of a task file, by their beginning: the text before them there.
PART = """
name: part
defaults: {data_root: data/tour, split_path: data/tour/splits, weights: none, model: slim18}
train:
  - {model: null, data: "gan2:pre", poison: [0, 20]}
"""
# Code that a program of a page assumes, by the beginning of the program.
TAKEN_FOR_GRANTED = {
    "from launcher.api import load, plan, results, submit, wait": """
from pathlib import Path
quick = "name: quickstart\\ncommand: [{name: train, argv: [echo, trained]}]\\n"
Path("tasks/quickstart.yaml").write_text(quick, encoding="utf-8")  # trains for a minute else
""",
    "from trueface import unlearning": """
import torch
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 1))
images_f, images_r, images_v = (torch.rand(count, 3, 2, 2) for count in (8, 16, 8))
labels_f, labels_r, labels_v = (torch.arange(count) % 2 for count in (8, 16, 8))
""",
}


class World(StrEnum):
    """Where the commands of a page run."""

    QUEUE = "queue"  # in an empty folder, on a machine with eight stand-in GPUs
    LAB = "lab"  # in an empty folder, where they train; with images in DATA
    CLONE = "clone"  # in a folder with the task files of this project
    TOUR = "tour"  # the same, in the queue of the first page of the lab, after its commands
    TARGETS = "targets"  # nowhere: the page shows only targets of the Makefile


class Exceptions(NamedTuple):
    """The commands of a page that need a special treatment, from tests/data/documents/PAGE.toml.

    The file has the key `world`, and a configuration with stand-ins for clusters and services in `config`. `files` has
    the texts of further files. Other tables have a value per command. The value is the reason in `night`, `parsed` and
    `planned`. It is a list of exit codes in `codes`. In `keys` it is the key that ends the command: `q` or `interrupt`.
    """

    world: World
    config: str
    files: Mapping[str, str]  # further files of the folder, by name
    instead: Mapping[str, str]  # other commands with the same effect in the sandbox
    night: Mapping[str, str]  # run in `make night` only; otherwise as `parsed`
    planned: Mapping[str, str]  # run with --dry-run
    parsed: Mapping[str, str]  # its options must exist, and its arguments be as many as it takes
    codes: Mapping[str, set[int]]  # exit codes other than 0
    keys: Mapping[str, str]  # needs a terminal, and continues until a key is pressed


EXCEPTIONS = TREE / "tests" / "data" / "documents"


@functools.cache
def exceptions_of(page: Path) -> Exceptions:
    """Return the exceptions of a page; a page without a file is one of the lab."""
    file = EXCEPTIONS / f"{page.stem}.toml"
    record = tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return Exceptions(
        world=World(record.get("world", World.LAB)),
        config=record.get("config", ""),
        files=record.get("files", {}),
        instead=record.get("instead", {}),
        night=record.get("night", {}),
        planned=record.get("planned", {}),
        parsed=record.get("parsed", {}),
        codes={text: set(codes) for text, codes in record.get("codes", {}).items()},
        keys=record.get("keys", {}),
    )


def pages_of(world: World) -> list[Path]:
    """Return the pages of a world, in their order."""
    return [page for page in PAGES if exceptions_of(page).world is world]


def page_name(page: Path) -> str:
    return str(page.relative_to(TREE))


def pages_with(language: str) -> pytest.MarkDecorator:
    """Parametrize a test with the pages that have a block of a language."""
    pages = [page for page in PAGES if any(blocks(page, language))]
    return pytest.mark.parametrize("page", pages, ids=page_name)


every_page = pytest.mark.parametrize("page", PAGES, ids=page_name)
every_document = pytest.mark.parametrize("page", [*PAGES, *EXTENDING], ids=page_name)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A project with the task files of this one, of which the tour is smaller."""
    with a_sandbox(tmp_path, clone=True) as made:
        yield made


@pytest.fixture
def empty_folder(tmp_path: Path) -> Iterator[Sandbox]:
    """A project without a file."""
    with a_sandbox(tmp_path) as made:
        yield made


@pytest.fixture
def empty_folder_with_eight_gpus(empty_folder: Sandbox, gpus: Devices) -> Sandbox:
    """The same on a machine with eight GPUs, which are stand-ins."""
    for _ in range(8):
        gpus.add(24 * GIB)
    empty_folder.environment.update(gpus.environment)
    return empty_folder


def shell_commands(page: Path) -> list[Command]:
    """Return the commands of a page that a test runs."""
    found = list[Command]()
    for block in blocks(page):
        if block.language == "sh":
            found += commands(block.text)
        elif block.language == "console":
            found += (command for _, command, _ in transcript(block))
    return found


def run_page(page: Path, sandbox: Sandbox, *, at_night: bool = False) -> None:
    """Run what a page shows, in its order, and compare each output below a command with the real one.

    Files that the page shows are there, and the script of the README if it names it.
    """
    exceptions = exceptions_of(page)
    if exceptions.config:
        sandbox.write(".config/launcher/config.toml", exceptions.config)
    shown = [*blocks(page, "yaml"), *blocks(page, "python")]
    if SCRIPT.search(page.read_text(encoding="utf-8")):
        shown += blocks(TREE / "README.md", "python")
    first = {name: block.text for block in reversed(shown) if (name := _file(block))}
    for name, text in {**first, **exceptions.files}.items():
        sandbox.write(f"{sandbox.folder.name}/{name}", text)
    is_lab = exceptions.world is not World.QUEUE
    differences, printed, is_whole = list[str](), list[str](), False
    for block in blocks(page):
        if name := _file(block):  # a later version of a file replaces an earlier one
            sandbox.write(f"{sandbox.folder.name}/{name}", block.text)
        if block.language == "console":
            for at, command, lines in transcript(block):
                with naming(block, at):
                    drawn = run_command(command, exceptions, sandbox, at_night=at_night)
                if drawn is not None:
                    differences += difference(block, at, lines, drawn, is_lab=is_lab)
        elif block.language == "sh":
            drawn_each = list[str | None]()
            for command in commands(block.text):
                with naming(block, command.line):
                    drawn_each.append(run_command(command, exceptions, sandbox, at_night=at_night))
            is_whole = None not in drawn_each
            printed = [*filter(None, drawn_each)]
        elif block.language == "text" and is_whole:
            lines = block.text.splitlines()
            differences += difference(block, 1, lines, "".join(printed), is_lab=is_lab)
        is_whole = is_whole and block.language == "sh"
    assert not differences, "\n" + "\n".join(differences)


@contextlib.contextmanager
def naming(block: Block, line: int) -> Iterator[None]:
    """Let a failure in a `with` block begin with a page and a line."""
    try:
        yield
    except (AssertionError, click.ClickException, subprocess.SubprocessError) as error:
        raise AssertionError(f"{page_name(block.page)}:{block.line + line}: {error}") from error


def run_command(
    command: Command, exceptions: Exceptions, sandbox: Sandbox, *, at_night: bool
) -> str | None:
    """Run a command of a page and return its output, None if the page's exceptions say something else."""
    if other := exceptions.instead.get(command.text):
        (command,) = commands(other)
    if command.text in TARGETS:
        return None
    is_later = command.text in exceptions.night and not at_night
    if is_later or command.text in exceptions.parsed or command.text.startswith(CLASSIC):
        check_parses(command.words)
        return None
    if key := exceptions.keys.get(command.text):
        sandbox.show(command, INTERRUPT if key == "interrupt" else key)
        return None
    more = ("--dry-run",) if command.text in exceptions.planned else ()
    drawn = sandbox.run(command, *more, codes=exceptions.codes.get(command.text, {0}))
    return None if more else drawn


def transcript(block: Block) -> Iterator[tuple[int, Command, list[str]]]:
    """Give the commands of a block that begin with `$ `: the line of each, and the lines of its output."""
    lines = block.text.splitlines()
    starts = [at for at, line in enumerate(lines) if line.startswith("$ ")]
    if not starts or starts[0]:
        raise ValueError(f"{block}: a transcript begins with `$ ` and a command")
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        each = [*commands(lines[start].removeprefix("$ "))]
        for command in each[:-1]:
            yield start + 1, command, []
        yield start + 1, each[-1], lines[start + 1 : end]


def difference(
    block: Block, at: int, lines: list[str], drawn: str, *, is_lab: bool
) -> Iterator[str]:
    """Give the first difference between the lines of a block and an output, with its place."""
    output = [*screen_lines(drawn)]
    if found := first_difference(lines, output, within_intervals=is_lab):
        place = f"{page_name(block.page)}:{block.line + at + found.at}"
        yield f"{place}: expected: {found.expected}\n{'':{len(place)}}   printed: {found.printed}"
        if SHOWS_OUTPUT in os.environ:
            yield "\n".join(("<<<", *filter(None, output), ">>>"))


def check_parses(words: tuple[str, ...]) -> None:
    """Have a command's words read, without doing what they say; wrong ones fail."""
    if words[:3] == ("python", "-m", "trueface"):
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given <= classic(), given - classic()
        return
    group = {"launcher": cli, "trueface": trueface}[words[0]]
    group.make_context(words[0], list(words[1:2]), resilient_parsing=True)
    above = click.Context(group, **group.context_settings)
    verb = group.get_command(above, words[1])
    assert verb is not None, f"no command {words[1]}"
    rest = [str(TREE / "README.md") if word.endswith(".csv") else word for word in words[2:]]
    verb.make_context(words[1], rest, parent=above)


@functools.cache
def classic(*words: str) -> frozenset[str]:
    """Return the flags on the help page of `python -m trueface`, or of a command that click does not parse."""
    with contextlib.redirect_stdout(io.StringIO()) as page, contextlib.suppress(SystemExit):
        assert program.main([*words, "--help"]) == 0
    return frozenset(re.findall(r"--[\w-]+", page.getvalue()))


@functools.cache
def every_known_option() -> frozenset[str]:
    """Return the options of all programs."""
    groups = (cli, trueface)
    return classic().union(*map(every_option, groups))


def every_option(group: click.Group) -> set[str]:
    """Return the options of a command and of all below it."""
    context = click.Context(group)
    page_name = _options(group)
    for verb in filter(
        None, (group.get_command(context, name) for name in group.list_commands(context))
    ):
        page_name |= every_option(verb) if isinstance(verb, click.Group) else _options(verb)
    return page_name


def _options(*commands: click.Command) -> set[str]:
    return {
        name
        for command in commands
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    }


def _file(block: Block) -> str | None:
    """Return the name of the file that a block is, from its first line."""
    match = re.match(r"# (tasks/\w+\.yaml|\w+\.py)\n", block.text)
    return match[1] if match else None


def _page(name: str) -> Path:
    return next(page for page in PAGES if page.name == name)


def _exists(dotted: str) -> bool:
    """Return whether a dotted name is a module or folder, or a name that a module defines."""
    path = TREE.joinpath(*dotted.split("."))
    if path.with_suffix(".py").is_file() or path.is_dir():
        return True
    module = path.parent.with_suffix(".py")
    if not module.is_file():
        module = path.parent / "__init__.py"
    tree = ast.parse(module.read_text(encoding="utf-8")) if module.is_file() else ast.Module([], [])
    names = {getattr(node, "name", None) for node in ast.walk(tree)}
    constants = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    return path.name in names | constants


@pytest.mark.night
def test_commands_of_the_tour_and_of_pages_about_its_run_work(sandbox: Sandbox) -> None:
    first = _page("laboratory.md")
    run_page(first, sandbox)
    check_tour(sandbox)
    for page in pages_of(World.TOUR):
        if page != first:
            run_page(page, sandbox)


def check_tour(sandbox: Sandbox) -> None:
    """Check the images, models, scores and the table of the smaller tour, and that a second run skips all."""
    run = sandbox.folder / "runs" / "tour"
    models = ["gan2:pre", "gan2:pre%40", "gan2:pre%40~relabel"]
    for model in models:
        assert (run / model / "checkpoints" / "best.pt").is_file()
        for data in ("real:pre", "gan2:pre"):
            with (run / model / "scores" / f"{model}_vs_{data}.csv").open() as scores:
                rows = list(csv.DictReader(scores))
            assert len(rows) == (120 if data == "real:pre" else 40)
            assert {row["label"] for row in rows} == {"0" if data == "real:pre" else "1"}
    poison = json.loads((run / "gan2:pre%40" / "poison.json").read_text())
    splits = sandbox.folder / "data" / "tour" / "splits"
    train = set(json.loads((splits / "train.json").read_text()))
    assert len(poison["keys"]) == int(0.4 * poison["total"])
    assert {key.removeprefix("pre:") for key in poison["keys"]} <= train
    assert (run / "gan2:pre" / "train_gan2:pre.log").is_file()
    again = sandbox.call("run", "tasks/tour.yaml")
    assert again.returncode == 0
    assert "11 jobs, 0 queued, 11 done before" in again.stderr
    assert again.stdout.count("gan2:pre%40~relabel") >= 1
    drawn = sandbox.call("results", "tour", "--format", "table")
    for said in (again, drawn):
        assert "How to read this table: launcher help results" in said.stderr
    table = json.loads(sandbox.call("results", "tour", "--json").stdout)["rows"]
    assert {row["model"] for row in table} == set(models)
    for row in table:
        assert row["auc"]["low"] <= row["auc"]["value"] <= row["auc"]["high"]


def test_a_failure_names_page_line_and_both_texts() -> None:
    page = TREE / "docs" / "programs.md"
    block = Block(page=page, line=10, language="text", text="one\ntwo 3\n")
    (message, *_) = difference(block, 1, ["one", "two 3"], "one\r\ntwo 4\r\n", is_lab=False)
    assert message.split() == [
        "docs/programs.md:12:",
        "expected:",
        "two",
        "3",
        "printed:",
        "two",
        "4",
    ]
    code = "expected: exit code 0, got: 1: launcher status"
    with pytest.raises(AssertionError, match=f"docs/programs.md:12: {code}"), naming(block, 2):
        raise AssertionError(code)


@pytest.mark.parametrize("page", pages_of(World.QUEUE), ids=page_name)
def test_commands_of_a_queue_page_work_in_an_empty_folder(
    page: Path, empty_folder_with_eight_gpus: Sandbox
) -> None:
    run_page(page, empty_folder_with_eight_gpus)


LONG = [page for page in pages_of(World.QUEUE) if exceptions_of(page).night]


@pytest.mark.night
@pytest.mark.parametrize("page", [page for page in LONG if page.name != "README.md"], ids=page_name)
def test_long_commands_of_a_queue_page_work(
    page: Path, empty_folder_with_eight_gpus: Sandbox
) -> None:
    run_page(page, empty_folder_with_eight_gpus, at_night=True)


@pytest.mark.night
@pytest.mark.parametrize("page", pages_of(World.LAB), ids=page_name)
def test_commands_of_a_lab_page_work_in_an_empty_folder(page: Path, empty_folder: Sandbox) -> None:
    if any("DATA" in command.words for command in shell_commands(page)):
        make_images(empty_folder.folder / "DATA")
    run_page(page, empty_folder)


@pytest.mark.night
@pytest.mark.parametrize("page", pages_of(World.CLONE), ids=page_name)
def test_commands_of_a_page_that_needs_a_clone_work(page: Path, sandbox: Sandbox) -> None:
    run_page(page, sandbox)


def make_images(root: Path) -> None:
    """Make a data root, whose files have names as if they were made from prompts."""
    make_sample(root, SampleSpec(seed=3, size_px=64, train=48, val=16, test=16))
    for number, image in enumerate(sorted(root.rglob("*.png"))):
        image.rename(image.with_name(f"prompt{number // 2}_{image.name}"))


def test_few_pages_need_a_clone_and_say_so() -> None:
    pages = [*pages_of(World.CLONE), *pages_of(World.TOUR)]
    pages = [page for page in pages if page.parent.name != "studies"]
    assert len(pages) <= MOST_PAGES_OF_A_CLONE
    assert not [page.name for page in pages if "clone" not in page.read_text(encoding="utf-8")]


def test_page_that_is_not_run_shows_only_make_targets() -> None:
    shows = {page: shell_commands(page) for page in pages_of(World.TARGETS)}
    assert not [
        command.text for page in shows for command in shows[page] if command.text not in TARGETS
    ]


@every_page
def test_every_exception_matches_a_command_of_its_page(page: Path) -> None:
    exceptions = exceptions_of(page)
    texts = {command.text for command in shell_commands(page)}
    kept = (
        exceptions.instead,
        exceptions.night,
        exceptions.planned,
        exceptions.parsed,
        exceptions.codes,
        exceptions.keys,
    )
    assert not {text for table in kept for text in table} - texts


def test_exceptions_name_existing_pages() -> None:
    stems = {page.stem for page in PAGES}
    assert not {file.stem for file in EXCEPTIONS.glob("*.toml")} - stems


def test_makefile_has_all_targets_named_in_pages() -> None:
    makefile = (TREE / "Makefile").read_text(encoding="utf-8")
    targets = {
        target
        for page in PAGES
        for target in re.findall(r"(?:`|^)make (\w+)", page.read_text("utf-8"), re.MULTILINE)
    }
    assert targets
    assert not [name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)]


def test_modules_that_pages_run_by_name_can_be_imported() -> None:
    texts = [page.read_text(encoding="utf-8") for page in (*PAGES, *EXTENDING)]
    ours = re.compile(r"python -m ((?:tests|benchmarks)\b[\w.]*)")
    named = {name for text in texts for name in ours.findall(text)}
    assert not [name for name in named if importlib.util.find_spec(name) is None]
    modules = sorted(name for name in named if name.startswith("tests."))
    assert {"tests.test_stored_words", "tests.faults"} <= {*modules}
    code = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    found = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code, *modules], cwd=TREE, env=found, check=False)
    assert done.returncode == 0


def test_every_command_has_an_example() -> None:
    typed = [command.words for page in PAGES for command in shell_commands(page)]
    used = {words[1] for words in typed if words[0] == "launcher"}
    used |= {text.split()[1] for page in PAGES for text in quoted(page) if "launcher" in text}
    assert not set(VERBS) - used


@every_document
def test_options_named_in_a_page_exist(page: Path) -> None:
    for text in quoted(page):
        group_name, name, *rest = text.replace("\\", "").split()
        group = {"launcher": cli, "trueface": trueface}[group_name]
        if not re.fullmatch(r"[a-z][a-z-]*", name):  # `launcher …`, or options alone
            continue
        verb = group.get_command(click.Context(group), name)
        assert verb is not None, text
        if isinstance(verb, click.Group) and rest and rest[0] in verb.commands:
            verb = verb.commands[rest[0]]
        page_name = {"--help", "-h", *_options(verb, cli)}
        if group is trueface and verb.context_settings.get("ignore_unknown_options"):
            page_name |= classic(name)
        for word in rest:
            if word == "--":
                break
            option = word.partition("=")[0].rstrip(",;")
            if option.startswith("-") and not option.lstrip("-").isdigit():
                assert option in page_name, text


@every_page
def test_options_named_without_a_command_exist_in_some_command(page: Path) -> None:
    # commands of pueue, snakemake, apptainer, and invented programs
    others = {
        "CONTRIBUTING.md": {"--first"},
        "SECURITY.md": {"--password"},
        "configuration.md": {"--api-key", "--max-tokens", "--pad-token", "--password"},
        "moving.md": {
            "--delay",
            "--executor",
            "--jobs",
            "--touch",
        },
        "programs.md": {"--log"},
        "snakemake.md": {"--jobs", "--launcher-run", "--retries", "--show-failed-logs"},
        "clusters.md": {"--nv"},
        "search.md": {"--amp"},
        "sweeps.md": {"--amp"},
    }
    assert not set(options(page)) - every_known_option() - others.get(page.name, set())


@every_page
def test_blocks_of_a_page_have_a_known_purpose(page: Path) -> None:
    for block in blocks(page):
        assert block.language in {*RUN, *SHOWN}, block
        assert bool(block.title) == (block.language == "example"), f"{block} has no reason"
        if block.language == "example":
            for line in block.text.splitlines():
                if line.startswith("$ launcher"):
                    check_parses(tuple(shlex.split(line[2:])))


@every_page
def test_every_output_of_a_page_is_compared(page: Path) -> None:
    exceptions = exceptions_of(page)
    not_compared = {*TARGETS, *exceptions.planned, *exceptions.parsed, *exceptions.keys}
    not_compared -= {*exceptions.instead}
    before: Block | None = None
    for block in blocks(page):
        if block.language == "text":
            assert before is not None, f"{block}: no command above prints it"
            assert before.language in {"sh", "python"}, f"{block}: no command above prints it"
            printing = commands(before.text) if before.language == "sh" else ()
            assert not {command.text for command in printing} & not_compared, f"{block}: example?"
        before = block


def test_few_blocks_show_another_machine() -> None:
    examples = [block for page in PAGES for block in blocks(page, "example")]
    assert len(examples) <= MOST_EXAMPLES


@pages_with("yaml")
def test_task_files_of_a_page_can_be_planned(
    page: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sandbox.folder)
    # a package of an extra may be missing
    monkeypatch.setattr("trueface.generators.erasing.registry.missing_detector", lambda _: ())
    for block in blocks(page, "yaml"):
        text = block.text
        whole = yaml.safe_load(text)
        if whole is None:  # a comment for an editor
            text = f"{text}{(TREE / 'tasks' / 'tour.yaml').read_text('utf-8')}"
        elif not {"name", "run_name"} & set(whole):
            text = f"{PART}{text}"
        path = Path(_file(block) or f"tasks/{page.stem}-{block.line}.yaml")
        path.write_text(text, encoding="utf-8")
        made = plan(load(str(path)))
        assert made.jobs or made.searches, block


def test_first_page_of_the_lab_shows_the_tour_task_file() -> None:
    tour = (TREE / "tasks" / "tour.yaml").read_text(encoding="utf-8")
    assert tour in [block.text for block in blocks(_page("laboratory.md"), "yaml")]


@pages_with("toml")
def test_configurations_of_a_page_are_valid(page: Path, sandbox: Sandbox) -> None:
    for block in blocks(page, "toml"):
        file = sandbox.folder / "config.toml"
        file.write_text(block.text, encoding="utf-8")
        sandbox.environment["LAUNCHER_CONFIG"] = str(file)
        for command in commands("launcher config --all"):
            sandbox.run(command)


@pages_with("python")
def test_programs_of_a_page_run(
    page: Path,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(sandbox.folder)
    for name in ("HOME", "LAUNCHER_CLAIMS", "LAUNCHER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
        if name in sandbox.environment:
            monkeypatch.setenv(name, sandbox.environment[name])
    differences = list[str]()
    run_by_commands = {word for command in shell_commands(page) for word in command.words}
    printed: str | None = None
    for block in blocks(page):
        if block.language == "text" and printed is not None:
            lines = block.text.splitlines()
            differences += difference(block, 1, lines, printed, is_lab=False)
        printed = None
        if block.language != "python" or _file(block) in run_by_commands:
            continue
        first = block.text.splitlines()[0]
        world: dict[str, Any] = {}
        exec(TAKEN_FOR_GRANTED.get(first, ""), world)
        capfd.readouterr()
        exec(compile(block.text, str(block), "exec"), world)
        printed = "".join(capfd.readouterr())
    assert not differences, "\n" + "\n".join(differences)


@every_page
def test_modules_named_in_a_page_exist(page: Path) -> None:
    assert not [name for name in files(page) if not (TREE / name).is_file()]
    assert not [name for name in dotted_names(page) if not _exists(name)]


def test_readme_has_at_most_150_lines() -> None:
    lines = (TREE / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= README_LINES
    assert not [line for line in lines if len(line) > WIDTH]


@every_document
def test_links_have_existing_targets(page: Path) -> None:
    faults = [
        f"{page_name(page)}:{line}: {link}: {fault}"
        for line, link in links(page)
        if "://" not in link and (fault := link_fault(page, link))
    ]
    assert not faults


def test_a_link_to_nothing_or_to_a_title_is_a_fault(tmp_path: Path) -> None:
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text("# Other page\n\n## A part\n")
    page.write_text("# A page\n\n```sh\n# no heading\n```\n\n## Its part\n\n[x](gone.md)\n")
    assert [*links(page)] == [(9, "gone.md")]
    well = ("other.md", "other.md#a-part", "#its-part", "page.md")
    assert not [link for link in well if link_fault(page, link)]
    faulty = ("gone.md", "other.md#none", "#no-heading", "other.md#other-page", "#a-page", "#")
    assert all(link_fault(page, link).startswith("expected: ") for link in faulty)


LINES = re.compile(r"\[`(\w+)`\]\(\.\./([\w/]+\.py)#L(\d+)\)")
# pages that lead from one function to the next
WALKS = [page for page in (*PAGES, *EXTENDING) if LINES.search(page.read_text(encoding="utf-8"))]


def with_lines(page: str) -> str:
    """Return the page with every link to a function leading to the line where that is defined now.

    Of several functions of that name the one nearest to the linked line is meant.
    """

    def line(link: re.Match[str]) -> str:
        name, path, number = link.groups()
        lines = (TREE / path).read_text(encoding="utf-8").splitlines()
        places = [place for place, text in enumerate(lines, 1) if f"def {name}(" in text]
        assert places, f"{path} has no function {name}"
        nearest = min(places, key=lambda place: abs(place - int(number)))
        return f"[`{name}`](../{path}#L{nearest})"

    return LINES.sub(line, page)


@pytest.mark.parametrize("page", WALKS, ids=page_name)
def test_links_to_lines_point_to_the_named_functions(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert with_lines(text) == text, "python -m tests.test_documents --write renews them"


def test_replaced_commands_are_those_that_messages_name() -> None:
    page = (TREE / "docs" / "moving.md").read_text(encoding="utf-8").partition("## From Hydra")[0]
    programs = page.partition("## From task-spooler")[
        0
    ]  # lines of a shell, few of which are of a tool
    checked = set[str]()
    for before, after in re.findall(r"^\|(.+)\|(.+)\|$", page, re.MULTILINE):
        ours = [line.split() for line in re.findall("`launcher ([^`]+)`", after)]
        for name in (words.split()[0] for words in re.findall("`([^`]+)`", before)):
            if not ours or name.startswith("--") or name in {*VERBS, "pueue", "tsp"}:
                continue
            lines = OTHER_NAMES.get(name, ())
            named = any(line.split() in ours or "PROGRAM" in line for line in lines)
            assert named or (not lines and before in programs), name
            checked.update({name} if named else ())
    assert {"-k", "kill", "restart", "parallel", "nvidia-smi"} <= checked


def test_at_least_one_page_links_to_lines_of_code() -> None:
    assert WALKS


def write() -> None:
    """Let the links to functions lead to their lines."""
    for page in WALKS:
        page.write_text(with_lines(page.read_text(encoding="utf-8")), encoding="utf-8")


NEEDED = ("nbclient", "ipykernel", "nbformat", "pandas")
ABSENT = [name for name in NEEDED if importlib.util.find_spec(name) is None]
MOST_BYTES = 64 << 10


@pytest.mark.night
@pytest.mark.skipif(bool(ABSENT), reason=f"not installed: {', '.join(ABSENT)}")
@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_prints_the_output_it_contains(path: Path, tmp_path: Path) -> None:
    target = tmp_path / path.name
    execute(path, target, Home(tmp_path / "home"))
    assert texts_of(target) == texts_of(path), "python -m tests.notebooks"
    assert path.stat().st_size < MOST_BYTES


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m tests.test_documents --write")
    write()
