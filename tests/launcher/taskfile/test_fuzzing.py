"""Spoiled task files, ten thousand in `make fuzz`: each is planned or refused at places that exist, never worse."""

import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import settings as profile

from launcher.experiments.kind_interface import Kind
from launcher.experiments.kinds import COMMAND, installed_kinds
from launcher.experiments.planning.plan_builder import build_plan
from launcher.experiments.taskfile.parser import ParseContext, parse
from launcher.system.errors import Problem, TaskFileError, UsageError
from tests.launcher.toylab import laboratory

TOYS: Mapping[str, Kind] = {**laboratory(), "command": COMMAND}
LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")  # those of YAML 1.1
WORD = re.compile(r"[\w.]+")
BATCHES, BATCH = (10, 1000) if profile.get_current_profile_name() == "fuzz" else (3, 400)
ENVIRONMENT = {"HOME": "/home/me", "RATE": "20", "EMPTY": "", "WORD": "dot"}
EXAMPLES = Path(__file__).parents[3] / "tasks"
INCLUDED = {
    **{path.name: path.read_text() for path in EXAMPLES.glob("*.yaml")},  # they include each other
    "more.yaml": "defaults: {lr: 0.3}\ntrain:\n  - {data: ring:fb}\n",
    "broken.yaml": "train:\n  - {data: rnig:fb, lr: fast}\n",
    "syntax.yaml": "train: [\n",
    "circle.yaml": "include: circle.yaml\n",
}
GOOD = (
    """\
name: toys
about: everything that the language knows
include: [more.yaml]
phases: [shapes, train, unlearn, test, command]
reuse: weights
defaults:
  data_root: ${HOME}/toys
  lr: 1e-3
  train: {epochs: 5, scale: [1, 2]}
resources:
  cpus: 2
  min_vram: auto
  train: {min_vram: 2GiB, gpus: 1, time_limit: 1h30m}
matrix:
  optimizer: [adam, sgd]
shapes:
  - {data_root: toys, size: 5}
train:
  - {model: null, data: dot:pre, poison: [0, 20, f2r-5]}
  - model: dot:pre
    data: "line:shr"
    settings: {model: large}
    matrix:
      frozen: [yes, no]
      scale: {one: 1, two: 2}
  - {data: any:fb, resources: {cpus: 4, device: cuda:1}}
unlearn:
  - {model: poisoned, method: [retrain, pgu], strength: 0.5}
test:
  - {model: dot:pre, data: [real:fb, dot:fb], crops: 2}
autotest: [real:pre, dot:pre]
command:
  - {name: hello, argv: [echo, 5, no, "${RATE}", '$${RATE}']}
""",
    """\
run_name: old
device_override: 'cuda:0'
min_vram: 16000
clean_run: True
only_list: False
train_list:
  - {'model': null, 'data': 'dot:pre'}
  - {'model': 'dot:pre', 'data': 'line:pre&line:shr'}
  - {'model': 'dot:pre#line:pre&line:shr', 'data': 'ring:pre', poison: 50}
test_list: ['real:pre', 'dot:pre']
""",
    """\
name: anchors
train:
  - &first {model: null, data: dot:pre, lr: 0.5, poison: 20}
  - {<<: *first, data: line:pre, lr: 0.25}
unlearn: [retrain, pgu]
autotest: &sets [real:pre, any:shr]
""",
)
BROKEN = tuple(
    path.read_text()
    for path in sorted((Path(__file__).parents[2] / "data" / "broken").glob("*.yaml"))
)
PIECES: tuple[str, ...] = (
    *":&#%~@,[]{}-*!|>'\"\t\n\r ?0`\\",
    *("- ", ": ", "? ", " #", "<<: ", "---\n", "...\n", "%YAML 1.2\n", "!!python/name:os.system "),
    *("null", "~", "no", "on", "1e-4", "1:30", "010", ".inf", ".nan", "2024-01-01", "0x1F", "''"),
    *("9" * 400, "-" + "9" * 30, "1e999", "1e-999", "99999999999TiB", "9" * 5000),
    *("[" * 40, "{a: " * 40, "- " * 40, "]" * 5, "&a ", "*a", "*first", "&a [*a]", "x" * 3000),
    *("é", "点", "\u0301", "😀", "\u202e", "\x85", "\u2028", "\ufeff", "\x07", "\0", "\ud7ff"),
    *("${", "${HOME}", "${NOPE}", "${NOPE:-dot}", "$${", "${EMPTY}", "${RATE"),
    *("dot:pre", "dto:pre", "dot:pre%20", "dot:pre~pgu", "dot:pre@lr=0.1", "dot:pre#dot:pre"),
    *("more.yaml", "broken.yaml", "syntax.yaml", "circle.yaml", "x.yaml", "nothing.yaml"),
    *("train:\n", "matrix: {lr: [1, 2, 3]}", "poison: [20]", "include: ", "defaults: ", "poisoned"),
    "resources: {min_vram: 16000}",
)
SET: tuple[str, ...] = (
    *("lr=3", "lr=fast", "train.lr=[1", "name=other", "resources.cpus=2", "matrix.lr=[1, 2]", "=3"),
    *("lr", "phases=[train]", "poison=${RATE}", "learning_rate=1", "subsets.x=Foo", "lr=\0"),
)


Way = Callable[[str, tuple[str, ...], random.Random], str]


def mutate(text: str, sources: tuple[str, ...], dice: random.Random) -> str:
    """Change a text in one place or in up to five, as tired people, editors and broken disks do."""
    for _ in range(dice.choice((1, 1, 1, 2, 3, 5))):
        way: Way = dice.choice((_lines, _lines, _words, _words, _pieces, _pieces, _bytes, _splice))
        text = way(text, sources, dice)
    return text


def _lines(text: str, sources: tuple[str, ...], dice: random.Random) -> str:
    """Delete, double, swap or indent lines."""
    lines = text.splitlines(keepends=True)
    if not lines:
        return dice.choice(sources)
    first, second = dice.randrange(len(lines)), dice.randrange(len(lines))
    match dice.randrange(5):
        case 0:
            del lines[first]
        case 1:
            lines.insert(second, lines[first])
        case 2:
            lines[first], lines[second] = lines[second], lines[first]
        case 3:
            lines[first] = " " * dice.randint(1, 3) + lines[first]
        case _:
            lines[first] = lines[first].lstrip()
    return "".join(lines)


def _words(text: str, sources: tuple[str, ...], dice: random.Random) -> str:
    """Put a word or a number of some file in the place of another one."""
    found = list(WORD.finditer(text))
    if not found:
        return text
    one = dice.choice(found)
    others: list[str] = WORD.findall(dice.choice(sources))
    word = dice.choice(
        (dice.choice(others), dice.choice(others), f"{text[one.start() : one.end()]}x", "0")
    )
    return text[: one.start()] + word + text[one.end() :]


def _pieces(text: str, _: tuple[str, ...], dice: random.Random) -> str:
    """Put something that YAML or the language means into the text, over some of it or between."""
    start = dice.randrange(len(text) + 1)
    end = min(len(text), start + dice.choice((0, 0, 1, 1, 2, 8, 40)))
    return text[:start] + dice.choice(PIECES) + text[end:]


def _bytes(text: str, _: tuple[str, ...], dice: random.Random) -> str:
    """Replace random bytes. Text that is no longer UTF-8 is refused before parsing."""
    data = bytearray(text.encode())
    for _one in range(dice.randint(1, 3)):
        if data:
            data[dice.randrange(len(data))] = dice.randrange(256)
    return data.decode(errors="replace")


def _splice(text: str, sources: tuple[str, ...], dice: random.Random) -> str:
    """Go on in another file, or lose the rest."""
    other = dice.choice((*sources, ""))
    return text[: dice.randrange(len(text) + 1)] + other[dice.randrange(len(other) + 1) :]


def include(path: str) -> str:
    if path not in INCLUDED:
        raise UsageError(f"no task file {path!r}")
    return INCLUDED[path]


def attempt(
    text: str, kinds: Mapping[str, Kind], settings: tuple[str, ...], *, there: bool
) -> tuple[str, tuple[Problem, ...]]:
    """Read and plan a text, and return the message and its problems, or nothing if a plan was made."""
    around = ParseContext(kinds=kinds, environment=ENVIRONMENT, settings=settings)
    try:
        build_plan(
            parse(text, file="x.yaml", context=around, include=include),
            root=Path("/project"),
            exists=lambda _: there,
            code=lambda *_: {"": "d"},
            content=lambda _: "c",
            is_folder=lambda _: there,
        )
    except TaskFileError as error:
        return str(error), error.problems
    except UsageError as error:
        return str(error), (Problem(code="usage", message=str(error)),)
    return "", ()


def is_location_within_text(
    problem: Problem, texts: Mapping[str, str], settings: tuple[str, ...]
) -> bool:
    """Return whether the line that a problem shows is that line of its file, and the caret in it."""
    place = problem.place
    if place is None:
        return True
    if place.file == "--set":
        return place.line == 1 and place.text in settings and place.column <= len(place.text) + 1
    lines = LINE_BREAK.split(texts[place.file])
    return (
        1 <= place.line <= len(lines)
        and place.text == lines[place.line - 1]
        and 1 <= place.column <= len(place.text) + 1
        and place.length >= 1
    )


def laboratory_task_files() -> tuple[str, ...]:
    """Return the worked examples of this project that are planned quickly; other tests plan all as they are."""
    texts = (path.read_text() for path in sorted(EXAMPLES.glob("*.yaml")))
    return tuple(text for text in texts if text.count("matrix") <= 1)


@pytest.mark.parametrize("there", [True, False])
def test_every_file_is_valid_before_mutation(there: bool) -> None:
    for text in GOOD:
        assert attempt(text, TOYS, (), there=there) == ("", ())


@pytest.mark.hypothesis  # more of it in `make fuzz`
@pytest.mark.parametrize("batch", range(BATCHES))
def test_mutated_file_is_planned_or_refused_at_a_location_within_it(batch: int) -> None:
    dice = random.Random(f"spoiled {batch}")
    worlds = [
        (laboratory_task_files(), installed_kinds()),
        (GOOD, TOYS),
        (GOOD, TOYS),
        (BROKEN, TOYS),
    ]
    refused = planned = 0
    for _ in range(BATCH):
        sources, kinds = dice.choice(worlds)
        text = mutate(dice.choice(sources), sources, dice)
        settings = tuple(dice.sample(SET, dice.choice((0, 0, 0, 1, 2))))
        told, found = attempt(text, kinds, settings, there=dice.random() < 0.2)
        texts = {**INCLUDED, "x.yaml": text}
        lost = [one for one in found if not is_location_within_text(one, texts, settings)]
        assert not lost, (text, settings, lost)
        assert bool(told) == bool(found), (text, settings)
        refused, planned = refused + bool(found), planned + (not found)
    assert refused > BATCH / 5
    assert planned > BATCH / 20
