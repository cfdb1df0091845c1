"""The command that stores a package's code, and the digests of jobs after a restructuring."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from launcher.code_identity import PROMISE_FILE, SNAPSHOT_FILE, WHOLE_CODE, CodeIndex
from launcher.code_snapshot import main
from launcher.errors import UsageError

Files = Mapping[str, str | None]

BEFORE: Files = {
    "toy/__init__.py": "",
    "toy/work.py": """\
from launcher.api import parse_data, write_json
from toy import steps
from toy.loading import load

RATE = 0.1


def train(job):
    write_json(parse_data(job), steps.step(load(job), RATE))
""",
    "toy/testing.py": "from toy.loading import load\n\n\ndef test(job):\n    return load(job)\n",
    "toy/steps.py": """\
def step(values, rate):
    return [value - rate * gradient(value) for value in values]


def gradient(value):
    return 2 * value
""",
    "toy/loading.py": "def load(path):\n    return [float(line) for line in open(path)]\n",
    "toy/methods/__init__.py": "import pkgutil\n\n\ndef names():\n"
    "    return [each.name for each in pkgutil.iter_modules(__path__)]\n",
    "toy/methods/one.py": "def one():\n    return 1\n",
    "toy/methods/two.py": "def two():\n    return 2\n",
    "toy/listing.py": "from toy import methods\n\n\ndef compare(job):\n    return methods.names()\n",
}
# `step` is called otherwise, `gradient` is part of it, a module is new, another is gone
AFTER: Files = {
    "toy/work.py": """\
from launcher.api import parse_data, write_json
from toy.data import images
from toy.optimization import descend

RATE = 0.1


def train(job):
    descended = descend(images(job), rate=RATE)
    write_json(parse_data(job), descended)
""",
    "toy/testing.py": "from toy.data import images\n\n\ndef test(job):\n    return images(job)\n",
    "toy/steps.py": None,
    "toy/loading.py": None,
    "toy/optimization.py": """\
SLOPE = 2


def descend(values, rate):
    return [value - rate * SLOPE * value for value in values]
""",
    "toy/data.py": """\
def images(path):
    with open(path) as file:
        return list(map(float, file))
""",
    "toy/methods/registry.py": "import pkgutil\n\n\ndef module_names(path):\n"
    "    return [each.name for each in pkgutil.iter_modules(path)]\n",
    "toy/methods/__init__.py": "from toy.methods.registry import module_names\n\n\n"
    "def names():\n    return module_names(__path__)\n",
}
TRAIN, TEST = ("toy.work:train", ("toy.work",)), ("toy.testing:test", ("toy.testing",))
COMPARE = ("toy.listing:compare", ("toy.listing",))
ONE = ("toy.testing:test", ("toy.testing", "toy.methods.one"))
ALL = (TRAIN, TEST, COMPARE, ONE)
Job = tuple[str, Sequence[str]]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of which the modules can be imported, with a package."""
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path, BEFORE)
    return tmp_path


def write(place: Path, files: Files) -> None:
    for name, text in files.items():
        path = place / name
        if text is None:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def edit(place: Path, name: str, before: str, after: str) -> None:
    text = (place / name).read_text()
    assert before in text
    (place / name).write_text(text.replace(before, after))


@contextmanager
def edited(place: Path, name: str, before: str, after: str) -> Iterator[None]:
    """Edit a file, and restore it afterwards."""
    text = (place / name).read_text()
    edit(place, name, before, after)
    yield
    (place / name).write_text(text)


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def snapshot(*words: str) -> str:
    ended = run(*words)
    assert ended.exit_code == 0, ended.output
    return ended.output


def whole(job: Job, known: frozenset[str] | None = None) -> str:
    return CodeIndex().code(*job, known)[WHOLE_CODE]


def digests(jobs: Sequence[Job] = ALL) -> list[str]:
    return [whole(job) for job in jobs]


@pytest.fixture
def before(place: Path) -> list[str]:
    """The digests of jobs before a restructuring, whose results are promised."""
    found = digests()
    snapshot("take", "toy")
    assert digests() == found
    write(place, AFTER)
    assert all(now != then for now, then in zip(digests(), found, strict=True))
    snapshot("promise", "toy")
    return found


def test_promised_code_has_the_digests_of_the_snapshot(place: Path, before: list[str]) -> None:
    assert digests() == before
    kept = place / "code.json"
    for _ in range(2):  # the second reads what the first has stored
        index = CodeIndex(kept)
        assert [index.code(*job)[WHOLE_CODE] for job in ALL] == before
        index.save()
    modules = CodeIndex(kept).code(*TRAIN)
    assert {"toy.optimization", "toy.data"} <= modules.keys()
    assert "toy.steps" not in modules


EDITS: tuple[tuple[str, str, str, list[Job]], ...] = (
    ("toy/optimization.py", "SLOPE = 2", "SLOPE = 3", [TRAIN]),
    ("toy/optimization.py", "rate * SLOPE", "rate + SLOPE", [TRAIN]),
    ("toy/data.py", "float", "int", [TRAIN, TEST, ONE]),
    ("toy/testing.py", "return images(job)", "return images(str(job))", [TEST, ONE]),
    ("toy/methods/one.py", "return 1", "return 3", [COMPARE, ONE]),
    ("toy/methods/registry.py", "each.name", "each", [COMPARE, ONE]),
    # an import for its effects, in both directions
    ("toy/work.py", "RATE =", "import torch.effect\n\nRATE =", [TRAIN]),
    ("toy/data.py", "def", "print()\n\n\ndef", [TRAIN, TEST, ONE]),
    # nothing that counts
    ("toy/optimization.py", "def descend", "def unused():\n    pass\n\n\ndef descend", []),
    ("toy/optimization.py", "SLOPE = 2", "SLOPE = 2  # of a square", []),
)


def test_edit_makes_only_the_jobs_stale_that_reach_it(place: Path, before: list[str]) -> None:
    for name, old, new, stale in EDITS:
        with edited(place, name, old, new):
            now = digests()
        changed = [job for job, one, then in zip(ALL, now, before, strict=True) if one != then]
        assert changed == stale, (name, new)


def test_removed_statement_of_a_promised_module_is_an_edit(place: Path) -> None:
    write(place, {"toy/data.py": "print()\n\n\ndef images():\n    pass\n"})
    write(place, {"toy/testing.py": "import toy.data\n\n\ndef test(job):\n    return job\n"})
    then = whole(TEST)
    snapshot("take", "toy")
    edit(place, "toy/data.py", "print()", "")
    assert whole(TEST) != then
    edit(place, "toy/data.py", "\n\n\ndef", "print()\n\n\ndef")
    assert whole(TEST) == then
    edit(place, "toy/testing.py", "import toy.data", "")
    assert whole(TEST) != then


def test_new_plugin_changes_nothing_for_jobs_that_do_not_use_it(
    place: Path, before: list[str]
) -> None:
    index = CodeIndex()
    rows = {
        job: frozenset(index.code(*job)) - {WHOLE_CODE} for job in ALL
    }  # rows of the new version
    write(
        place,
        {
            "toy/methods/mine.py": "from toy.data import images\n\n\ndef mine():\n    return images\n"
        },
    )
    assert digests([TRAIN, TEST]) == before[:2]
    # new jobs would list it
    assert [whole(job) == then for job, then in zip(ALL[2:], before[2:], strict=True)] == [
        False
    ] * 2
    assert [whole(job, rows[job]) for job in ALL] == before
    # in rows that were made with the code of the snapshot, modules have their names of then
    old = {"toy", "toy.listing", "toy.methods", "toy.methods.one", "toy.methods.two"}
    assert whole(COMPARE, frozenset(old)) == before[2]
    # a job that uses it has a digest that changes with it
    mine = ("toy.testing:test", ("toy.testing", "toy.methods.mine"))
    then = whole(mine)
    edit(place, "toy/methods/mine.py", "return images", "return images, 1")
    assert whole(mine) != then
    edit(place, "toy/methods/mine.py", "return images, 1", "return images")
    assert whole(mine) == then


def test_promised_module_that_came_later_is_no_plugin(place: Path, before: list[str]) -> None:
    old = frozenset({"toy", "toy.listing", "toy.methods", "toy.methods.one"})  # before `two`
    assert "toy.methods.registry" in CodeIndex().closure(COMPARE[1], old)
    (place / "toy/methods/two.py").unlink()
    assert whole(COMPARE, old) != before[2]  # a promised module that the package lists is gone


def test_code_that_the_snapshot_lacks_has_its_own_digest(place: Path, before: list[str]) -> None:
    write(
        place,
        {
            "toy/extra.py": "from toy.data import images\n\n\ndef extra(job):\n    return images(job)\n"
        },
    )
    extra = ("toy.extra:extra", ("toy.extra",))
    for _ in range(2):  # as a module of the user, and as one of the authors
        then = whole(extra)
        edit(place, "toy/data.py", "float", "int")
        assert whole(extra) != then
        edit(place, "toy/data.py", "int", "float")
        snapshot("promise", "toy")
    assert digests() == before


def test_modules_of_other_packages_are_read_from_the_disk(place: Path, before: list[str]) -> None:
    write(
        place,
        {
            "mine/__init__.py": "",
            "mine/sam.py": "from toy.testing import test\n\n\ndef sam():\n    return test\n",
        },
    )
    job = ("toy.work:train", ("toy.work", "mine.sam"))
    now = whole(job)
    for name in (SNAPSHOT_FILE, PROMISE_FILE):
        (place / "toy" / name).rename(place / name)
    present = whole(job)
    write(place, {**BEFORE, "toy/data.py": None, "toy/optimization.py": None})
    (place / "toy/methods/registry.py").unlink()
    assert whole(job) == now != present
    edit(place, "mine/sam.py", "return test", "return [test]")
    assert whole(job) != now


def test_jobs_that_use_a_changed_definition_run_again_once(place: Path, before: list[str]) -> None:
    edit(place, "toy/optimization.py", "SLOPE = 2", "SLOPE = 3")
    snapshot("promise", "toy", "--changed", "toy.optimization.SLOPE")
    changed = digests()
    assert [now == then for now, then in zip(changed, before, strict=True)] == [False, *[True] * 3]
    # it stays done over the next restructuring, in which the definition gets another name
    for name in ("SLOPE", "descend"):
        edit(place, "toy/optimization.py", name, f"{name}_OF_SQUARE")
    edit(place, "toy/work.py", "import descend", "import descend_OF_SQUARE as descend")
    ended = run("promise", "toy")
    assert ended.exit_code == 1
    assert "replace it in `changed` by the definition that does its work now" in ended.output
    edit(place, f"toy/{PROMISE_FILE}", 'optimization.SLOPE"', 'optimization.SLOPE_OF_SQUARE"')
    assert whole(TRAIN) not in {before[0], changed[0]}
    snapshot("promise", "toy")
    assert digests() == changed
    # each change counts
    edit(place, "toy/optimization.py", "SQUARE = 3", "SQUARE = 2")
    snapshot("promise", "toy", "--changed", "toy.optimization.SLOPE_OF_SQUARE")
    assert whole(TRAIN) not in {before[0], changed[0]}
    assert digests()[1:] == before[1:]


def test_changed_definition_must_exist(before: list[str]) -> None:
    for name in ("toy.optimization", "toy.optimization.none", "SLOPE"):
        ended = run("promise", "toy", "--changed", name)
        assert ended.exit_code == 1
        assert f"toy has no definition {name}. Write MODULE.NAME." in ended.output
    assert digests() == before


def test_check_lists_what_is_not_as_promised(place: Path, before: list[str]) -> None:
    assert before
    assert snapshot("check", "toy") == ""
    edit(place, "toy/optimization.py", "SLOPE = 2", "SLOPE = 3")
    write(place, {"toy/extra.py": "", "toy/methods/two.py": None})
    ended = run("check", "toy")
    assert ended.exit_code == 1
    assert ended.output.split() == [
        "toy.extra",
        "toy.methods.two",
        "toy.optimization.SLOPE",  # and not the definition that uses it
    ]


def test_changes_since_the_snapshot_are_named(place: Path, before: list[str]) -> None:
    kept = place / "code.json"
    edit(place, "toy/optimization.py", "rate * SLOPE", "rate + SLOPE")
    for _ in range(2):
        index = CodeIndex(kept)
        now = index.code(*TRAIN)[WHOLE_CODE]
        assert index.changes_since_snapshot(before[0], now) == ("toy.optimization.descend",)
        assert index.changes_since_snapshot(now, now) == ()
        assert index.changes_since_snapshot(before[0], before[0]) == ()
        index.save()
    snapshot("promise", "toy", "--changed", "toy.optimization.descend")
    index = CodeIndex(kept)
    now = index.code(*TRAIN)[WHOLE_CODE]
    assert index.changes_since_snapshot(before[0], now) == ("toy.optimization.descend",)
    edit(place, "toy/data.py", "float", "int")
    index = CodeIndex(kept)
    later = index.code(*TRAIN)[WHOLE_CODE]
    since = index.changes_since_snapshot
    assert since(now, later) == ("toy.data.images",)
    assert since(before[0], later) == ("toy.data.images", "toy.optimization.descend")


def test_cached_digest_is_not_used_after_a_change_of_the_files(
    place: Path, before: list[str]
) -> None:
    kept = place / "code.json"

    def cached() -> str:
        index = CodeIndex(kept)
        found = index.code(*TRAIN)[WHOLE_CODE]
        index.save()
        return found

    assert cached() == before[0]
    promise = (place / "toy" / PROMISE_FILE).read_bytes()
    for name in (SNAPSHOT_FILE, PROMISE_FILE):
        (place / "toy" / name).unlink()
    assert cached() != before[0]
    snapshot("take", "toy")
    assert cached() == whole(TRAIN) != before[0]
    (place / "toy" / PROMISE_FILE).write_bytes(promise)
    assert cached() == whole(TRAIN)


def test_equal_code_gives_equal_files(place: Path) -> None:
    contents = []
    for _ in range(2):
        snapshot("take", "toy", "--replace")
        contents.append(
            [(place / "toy" / name).read_bytes() for name in (SNAPSHOT_FILE, PROMISE_FILE)]
        )
    assert contents[0] == contents[1]
    assert len(json.loads(contents[0][1])["modules"]) == 9


@pytest.mark.usefixtures("place")
def test_promise_needs_a_snapshot_and_a_snapshot_is_not_replaced() -> None:
    assert "Run `python -m launcher.code_snapshot take toy`." in run("promise", "toy").output
    assert "toy has no snapshot" in run("check", "toy").output
    assert "is not a top-level package" in run("promise", "nowhere").output
    snapshot("take", "toy")
    ended = run("take", "toy")
    assert ended.exit_code == 1
    assert "exists. Run `python -m launcher.code_snapshot promise toy`" in ended.output
    for name in ("toy.work", "nowhere"):
        assert "is not a top-level package" in run("take", name).output


@pytest.mark.parametrize("name", [SNAPSHOT_FILE, PROMISE_FILE])
@pytest.mark.parametrize("content", [b"", b"{}", b'{"schema": 2, "modules": {}}', b"<<<<<<<\n{"])
def test_damaged_file_is_an_error(place: Path, name: str, content: bytes) -> None:
    snapshot("take", "toy")
    (place / "toy" / name).write_bytes(content)
    with pytest.raises(UsageError, match=rf"{name} is damaged, or of another version\. "):
        whole(TRAIN)
    if name == PROMISE_FILE:
        ended = run("promise", "toy")
        assert ended.exit_code == 1
        assert f"{name} is damaged" in ended.output


# the same text in two modules, which uses another definition in each
TWINS: Files = {
    f"toy/{module}.py": f"SCALE = {scale}\n\n\ndef loss(value):\n    return SCALE * value\n"
    for module, scale in (("left", 2), ("right", 3))
}
TWO = ("toy.run:work", ("toy.run", "toy.both"))


@pytest.mark.parametrize(
    "text",
    [
        # the function of a job type, which another module defines
        "from toy.left import loss as work\n",
        "from toy.left import *\n\nwork = print(loss)\n",
        # a definition that the function uses
        "from toy.left import loss\n\n\ndef work(job):\n    return loss(job)\n",
        "from toy import left as chosen\n\n\ndef work(job):\n    return chosen.loss(job)\n",
        "def work(job):\n    from toy.left import loss\n\n    return loss(job)\n",
        "import os\n\nif os.sep:\n    import toy.left as chosen\n\nwork = chosen.loss\n",
        # a name that is looked up by its text
        "import toy.run\nfrom toy.left import loss\n\n\ndef work(job):\n    return getattr(toy.run, job)\n",
    ],
)
def test_import_of_an_equal_text_from_another_module_is_an_edit(place: Path, text: str) -> None:
    both = "import toy.left\nimport toy.right\n\nALL = toy.left.loss, toy.right.loss\n"
    write(place, {**TWINS, "toy/both.py": both, "toy/run.py": text})
    then = whole(TWO)
    snapshot("take", "toy")
    edit(place, "toy/both.py", "ALL", "EVERY")  # all results are as before
    snapshot("promise", "toy")
    assert whole(TWO) == then
    edit(place, "toy/run.py", "left", "right")
    assert run("check", "toy").exit_code == 1
    assert whole(TWO) != then


LATER_EDITS = (
    ("toy/optimization.py", "def descend(values, rate)", "def descend(values, rate=1)"),
    ("toy/optimization.py", "SLOPE = 2", "SLOPE = 2.0"),
    ("toy/optimization.py", "SLOPE = 2", "SLOPE = 2\nSLOPE += 1"),
    ("toy/optimization.py", "def descend", "@print\ndef descend"),
    ("toy/work.py", "import images", "import labels as images"),
    ("toy/work.py", "images(job)", "images(str(job))"),
    ("toy/work.py", "def train(job)", "def train(job=None)"),
    ("toy/work.py", "import parse_data", "import DataId as parse_data"),
    ("toy/data.py", "list(map", "tuple(map"),
    ("toy/data.py", "def images", "if True:\n    float = int\n\n\ndef images"),
    ("toy/data.py", "def images", "import sys\n\nsys.path.append('x')\n\n\ndef images"),
    ("toy/__init__.py", "", "import toy.data\n\ntoy.data.open = None\n"),
)


def test_edit_after_the_promise_makes_a_job_stale(place: Path, before: list[str]) -> None:
    write(place, {"toy/data.py": (place / "toy/data.py").read_text() + "\n\nlabels = images\n"})
    snapshot("promise", "toy")
    assert whole(TRAIN) == before[0]
    for name, old, new in LATER_EDITS:
        with edited(place, name, old, new):
            assert whole(TRAIN) != before[0], (name, new)
            assert run("check", "toy").exit_code == 1, (name, new)
    assert whole(TRAIN) == before[0]


def test_name_that_another_definition_gets_is_an_edit(place: Path, before: list[str]) -> None:
    more = "\n\ndef ascend(values, rate):\n    return values\n"
    write(place, {"toy/optimization.py": (place / "toy/optimization.py").read_text() + more})
    snapshot("promise", "toy")
    assert whole(TRAIN) == before[0]
    for name, other in (("ascend", "x"), ("descend", "ascend"), ("x", "descend")):
        edit(place, "toy/optimization.py", f"def {name}(", f"def {other}(")
    assert whole(TRAIN) != before[0]


def test_second_package_keeps_its_jobs_over_its_own_snapshot(
    place: Path, before: list[str]
) -> None:
    assert before
    write(
        place,
        {
            "mine/__init__.py": "",
            "mine/sam.py": "from toy.optimization import descend\n\n\ndef sam(job):\n    return descend(job)\n",
        },
    )
    job = ("toy.work:train", ("toy.work", "mine.sam"))
    then = whole(job)
    snapshot("take", "mine")  # its old code uses a name that the old code of toy lacks
    assert whole(job) == then
    edit(place, "mine/sam.py", "descend(job)", "descend(job, 1)")
    assert whole(job) != then


@pytest.mark.parametrize("name", [SNAPSHOT_FILE, PROMISE_FILE])
def test_missing_file_is_an_error(place: Path, before: list[str], name: str) -> None:
    (place / "toy" / name).unlink()
    with pytest.raises(UsageError, match=rf"{name} is missing, but .* is there\. Restore it"):
        whole(TRAIN)
    assert f"{name} is missing" in run("promise", "toy").output
