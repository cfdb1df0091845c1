"""The recipes of contributing/extending*.md are true: each one's file works in a copy of the project.

A section is a heading, a `python` block whose first line names its file, and a `console` block. Its lines with `$ `
are commands, run without a shell in the copy's root. `> FILE` or `>> FILE` at the end writes the output to a file.
The lines below a command appear in its output, in this order. `…` stands for any text.
"""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pytest

from launcher.queue.home.paths import Home
from tests.build import end_everything
from tests.documents import EXTENDING, TREE, Command, blocks, commands, files
from tests.forked import BIN
from tests.sandbox import DEADLINE_S

THINGS = (
    "detector",
    "family of detectors",
    "augmentation",
    "corruption",
    "attack",
    "purifier",
    "erasing method",
    "part of a training",
    "objective",
    "metric",
    "unlearning method",
    "audit check",
    "job option",
)
MOST_LINES = 36  # lines of a file, with the docstrings that `make check` demands: a longer file is not an example
COPIED = ("launcher", "trueface", "tasks", "setup.cfg")
HEADING = re.compile(r"^## (?P<title>Add an? (?P<thing>[\w ]+))$", re.MULTILINE)
NEXT_HEADING = re.compile(r"^## ", re.MULTILINE)
REDIRECTED = re.compile(r"\s(>>?)\s+(?=\S+$)")
FILE = re.compile(r"# (?P<path>(?:launcher|trueface|tasks)/[\w/]+\.py)\n")


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command, its output lines, and the file for its output with its mode, empty without a file."""

    command: Command
    lines: tuple[str, ...]
    mode: str = "w"
    target: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """How one thing is added."""

    thing: str
    path: str
    code: str
    steps: tuple[Step, ...]

    @property
    def images(self) -> str:
        """A name for the image set that its commands make: equal for equal commands."""
        texts = [step.command.text for step in self.steps if "sample" in step.command.words]
        return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def read_sections(page: Path) -> Iterator[Section]:
    """Give the sections of a page.

    Raises:
        ValueError: a section that has not one file and one list of commands.
    """
    text = page.read_text(encoding="utf-8")
    for heading in HEADING.finditer(text):
        following = NEXT_HEADING.search(text, heading.end())
        end = following.start() if following else len(text)
        first, last = (text.count("\n", 0, place) + 1 for place in (heading.start(), end))
        inside = [block for block in blocks(page) if first < block.line <= last]
        if [block.language for block in inside] != ["python", "console"]:
            raise ValueError(f"{page.name}: '{heading['title']}' wants python, then console")
        code, console = (block.text for block in inside)
        match = FILE.match(code)
        if match is None:
            raise ValueError(f"{inside[0]}: the first line names the file: # trueface/….py")
        yield Section(
            thing=heading["thing"], path=match["path"], code=code, steps=tuple(_steps(console))
        )


def _steps(console: str) -> Iterator[Step]:
    lines = console.replace("\\\n", " ").splitlines()
    numbers: Iterable[int] = (
        sum(line.startswith("$ ") for line in lines[: at + 1]) for at in range(len(lines))
    )
    for number, group in groupby(zip(numbers, lines, strict=True), key=lambda pair: pair[0]):
        shown, *output = [line for _, line in group]
        if number == 0:
            raise ValueError(f"a console begins with a command, not with {shown!r}")
        text, arrow, target, *_ = *REDIRECTED.split(shown.removeprefix("$ "), maxsplit=1), "", ""
        mode = "a" if arrow == ">>" else "w"
        expected = tuple(line for line in output if line.strip())
        for command in commands(text):
            yield Step(command=command, lines=expected, mode=mode, target=target)


def missing_lines(output: str, lines: Iterable[str]) -> list[str]:
    """Return the lines that do not follow each other in the output; `…` stands for any text."""
    rest = iter([_spaced(printed) for printed in output.splitlines()])
    patterns = {line: re.escape(_spaced(line)).replace("…", ".*") for line in lines}
    return [
        line
        for line, pattern in patterns.items()
        if not any(re.search(pattern, printed) for printed in rest)
    ]


def _spaced(line: str) -> str:
    """Return a line with one space in place of tabs and columns."""
    return " ".join(line.split())


SECTIONS = tuple(section for page in EXTENDING for section in read_sections(page))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for image sets: what one section's commands make, the next ones find."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def project(tmp_path: Path) -> Iterator["Project"]:
    """A copy of the project without queue and results."""
    tree = tmp_path / "project"
    for name in COPIED:
        path = TREE / name
        if path.is_dir():
            shutil.copytree(path, tree / name)  # with its byte code
        else:
            shutil.copy(path, tree / name)
    made = Project(tree=tree, home=Home(tmp_path / "home"))
    try:
        yield made
    finally:
        end_everything(made.home)


@dataclass(frozen=True, kw_only=True)
class Project:
    """A copy of the project, and a queue of its own."""

    tree: Path
    home: Home

    def run(self, command: Command) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        environment = self._environment() | dict(command.environment)
        return subprocess.run(
            command.words,
            executable=shutil.which(command.words[0], path=environment["PATH"]),
            cwd=self.tree,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": os.pathsep.join([str(BIN), os.environ["PATH"]]),
            "PYTHONPATH": str(self.tree),
            "LAUNCHER_HOME": str(self.home.folder),
            "TRUEFACE_CACHE": str(self.tree / "cache"),
            "TRUEFACE_WEIGHTS": "none",
        }


@pytest.mark.night
@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.thing.replace(" ", "-"))
def test_commands_of_a_recipe_print_the_shown_output(
    section: Section, project: Project, data: Path
) -> None:
    images = data / section.images
    images.mkdir(exist_ok=True)
    (project.tree / "data").symlink_to(images)
    path = project.tree / section.path
    assert path.parent.is_dir()
    assert not path.exists(), "the file would replace one of the project"
    path.write_text(section.code, encoding="utf-8")
    for step in section.steps:
        ended = project.run(step.command)
        message = f"$ {step.command.text}\n{ended.stdout}"
        assert "Traceback" not in ended.stdout, message
        assert not missing_lines(ended.stdout, step.lines), message
        assert ended.returncode == 0 or step.lines, message
        if step.target:
            with (project.tree / step.target).open(step.mode, encoding="utf-8") as file:
                file.write(ended.stdout)


EARLIER = tuple(read_sections(TREE / "tests/data/earlier_recipes.md"))


@pytest.mark.night
@pytest.mark.parametrize("section", EARLIER, ids=lambda section: section.thing.replace(" ", "-"))
def test_plugin_written_by_an_earlier_page_runs(
    section: Section, project: Project, data: Path
) -> None:
    test_commands_of_a_recipe_print_the_shown_output(section, project, data)


# plans task files, and prints the names of the jobs that would run; with an argument all are recorded as done
PLANS = """
import sys, time
from pathlib import Path
from launcher.experiments.functions.plan_checks import compare
from launcher.experiments.planning.load import plan_files
from launcher.experiments.planning.queue_comparison import Action
from launcher.experiments.planning.submit import submit
from launcher.queue.store.client import context_to_store, open_queue

root = Path.cwd()
with open_queue(make=True) as (_, store):
    for plan in plan_files(["tasks/tour.yaml", "tasks/forget_instances.yaml", "tasks/benchmark.yaml"]):
        compared = compare(store, plan, root, force=False, accept_code=False)
        print(*(each.job.name for each in compared.jobs if each.action is not Action.CACHED))
        if sys.argv[1:]:
            submit(store, root, compared, context_to_store(()), time.time())
            store.database.execute("UPDATE jobs SET state = 'done'")
"""


@pytest.mark.night  # `planning/test_code_changes` tests the same with a toy lab, and faster
def test_new_plugin_file_makes_no_unrelated_job_stale(project: Project) -> None:
    def to_run(*words: str) -> list[str]:
        ended = project.run(Command(words=("python", "-c", PLANS, *words), text="", environment=()))
        assert ended.returncode == 0, ended.stdout
        return ended.stdout.split()

    assert len(to_run("done")) > 40
    assert to_run() == []
    paths = [project.tree / section.path for section in SECTIONS]
    for section, path in zip(SECTIONS, paths, strict=True):
        path.write_text(section.code, encoding="utf-8")
    assert to_run() == []
    for path in paths:
        path.unlink()
    assert to_run() == []


def test_every_plugin_type_has_one_recipe() -> None:
    assert sorted(section.thing for section in SECTIONS) == sorted(THINGS)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.thing.replace(" ", "-"))
def test_recipe_is_short_and_shows_output(section: Section) -> None:
    assert len(section.code.splitlines()) <= MOST_LINES
    assert any(step.lines for step in section.steps)


@pytest.mark.parametrize("page", EXTENDING, ids=lambda page: page.stem)
def test_files_named_in_a_recipe_page_exist(page: Path) -> None:
    written = {section.path for section in SECTIONS}
    assert not [name for name in files(page) - written if not (TREE / name).is_file()]


PAGE = """
## Add a detector

```python
# trueface/models/seen.py
print("seen here")
```

```console
$ python -m trueface.models.seen
seen …
$ launcher add --name quick -- python -c "print(7)"
$ launcher wait quick
```
"""


@pytest.mark.slow
def test_recipe_file_is_imported_from_the_copied_project(
    tmp_path: Path, project: Project, data: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    (section,) = read_sections(page)
    test_commands_of_a_recipe_print_the_shown_output(section, project, data)


@pytest.mark.parametrize(
    ("old", "new"),
    [("python\n#", "sh\n#"), ("# trueface/models/seen.py\n", ""), ("$ python", "python")],
)
def test_recipe_in_another_form_is_rejected(old: str, new: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=r"python|first line|begins with"):
        list(read_sections(page))


def test_output_lines_are_matched_in_order() -> None:
    output = "accuracy\t0.9\n  loss  0.1\ndone"
    assert missing_lines(output, ["accuracy …", "loss 0.1"]) == []
    assert missing_lines(output, ["accuracy 1"]) == ["accuracy 1"]
    assert missing_lines(output, ["done", "loss 0.1"]) == ["loss 0.1"]
