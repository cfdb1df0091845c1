import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from launcher.kind_interface.settings import Settings
from launcher.kinds import installed, roots_of
from launcher.system.code_digests import ABSENT, CodeIndex, read_code
from tests.launcher.toylab import laboratory

MODULE = '''\
"""What it is for."""

import os

NAME = "#1"  # of the thing


def twice(value):
    """Return the double."""
    return value * 2
'''
# what says the same, and what does not, each in the place of something
ALIKE = {
    '"""What it is for."""': '"""Another word for it,\n\nand more."""',
    "  # of the thing": "",
    "import os\n": "import os\n\n    # why\n\n",
    '    """Return the double."""\n': "",
    "NAME =": '__version__ = "9"\nNAME =',
    "value * 2\n": "value * 2   \n\n\n",
}
OTHERWISE = {
    '"#1"': '"#2"',
    "value * 2": "value * 3",
    "    return": "    value += 1\n    return",
    "import os": "import sys",
    "twice(value)": "twice(value=1)",
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of which the modules can be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def write(place: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize("before", ALIKE)
def test_comments_docstrings_blank_lines_and_the_version_are_no_code(before: str) -> None:
    other = MODULE.replace(before, ALIKE[before])
    assert other != MODULE
    assert read_code(other.encode()).digest == read_code(MODULE.encode()).digest


@pytest.mark.parametrize("before", OTHERWISE)
def test_any_other_change_is_one_of_the_code(before: str) -> None:
    other = MODULE.replace(before, OTHERWISE[before])
    assert other != MODULE
    assert read_code(other.encode()).digest != read_code(MODULE.encode()).digest


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ('f(\n  "a"\n  "b"\n)', 'f(\n  "a"\n  "c"\n)'),
        ('x = """\n# a\n"""', 'x = """\n# b\n"""'),
        ('x = """\n\n"""', 'x = """\n"""'),
        ("x = f'{y}#1'", "x = f'{y}#2'"),
        ("é = '#'; y = 1", "é = '#'; y = 2"),
        ("if x:\n  y()\nz()", "if x:\n  y()\n  z()"),
        ("broken(", "broken)"),
    ],
)
def test_what_only_looks_like_a_comment_or_a_docstring_is_code(text: str, other: str) -> None:
    assert read_code(text.encode()).digest != read_code(other.encode()).digest


def test_all_that_a_module_imports_counts_wherever_the_import_stands(place: Path) -> None:
    write(
        place,
        {
            "lab1/__init__.py": "",
            "lab1/work.py": "import lab1.loop\nfrom lab1 import loss, nothing\nimport json\n"
            "def late():\n    try:\n        from lab1.sub import deep\n    except ValueError:\n"
            "        import lab1.rescue\n"
            "from typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n    from lab1 import typed\nelse:\n    from lab1 import real\n",
            "lab1/loop.py": "from . import near\nfrom .sub.other import thing\n",
            **{f"lab1/{name}.py": "" for name in ("loss", "near", "rescue", "typed", "real")},
            "lab1/sub/__init__.py": "from lab1 import packaged\n",
            "lab1/packaged.py": "",
            "lab1/sub/deep.py": "",
            "lab1/sub/other.py": "import lab1.loop\n",
            "lab1/alone.py": "",
        },
    )
    names = (
        "loop loss near packaged real rescue sub sub.deep sub.other work".split()  # noqa: SIM905
    )
    assert CodeIndex().closure(["lab1.work"]) == ("lab1", *(f"lab1.{name}" for name in names))


def test_other_packages_count_where_a_module_of_theirs_is_a_root(place: Path) -> None:
    write(
        place, {"lab2.py": "import models2\n", "models2.py": "import depths2\n", "depths2.py": ""}
    )
    assert CodeIndex().closure(["lab2"]) == ("lab2",)
    assert CodeIndex().closure(["lab2", "models2"]) == ("lab2", "models2")


def test_a_package_that_is_a_root_stands_for_all_below_it(place: Path) -> None:
    write(place, {"lab3/__init__.py": "", "lab3/a.py": "", "lab3/deep/__init__.py": ""})
    assert CodeIndex().closure(["lab3"]) == ("lab3", "lab3.a", "lab3.deep")


def test_nothing_is_imported_to_know_what_would_be(place: Path) -> None:
    write(
        place, {"lab4/__init__.py": "1 / 0", "lab4/work.py": "import lab4.more", "lab4/more.py": ""}
    )
    assert CodeIndex().closure(["lab4.work"]) == ("lab4", "lab4.more", "lab4.work")
    assert "lab4" not in sys.modules


def test_a_module_without_source_is_absent(place: Path) -> None:
    write(place, {"lab5.py": "x = 1"})
    index = CodeIndex()
    assert [index.digest(name) for name in ("lab5.x", "nowhere.at.all", "math")] == [ABSENT] * 3
    assert index.digest("lab5") != ABSENT


def test_of_the_launcher_only_what_says_which_images_an_id_names_counts(place: Path) -> None:
    write(
        place,
        {
            "lab6.py": "from launcher.api import parse_data, write_json, Job\n",
            "lab7.py": "from launcher.api import write_json, Job\n",
        },
    )
    assert CodeIndex().closure(["lab6"]) == ("lab6", "launcher.ids")
    assert CodeIndex().closure(["lab7"]) == ("lab7",)


def test_what_was_read_is_kept_for_the_next_process_and_known_by_its_content(place: Path) -> None:
    write(place, {"lab8.py": "import lab8b", "lab8b.py": ""})
    kept = place / "cache" / "code.json"
    index = CodeIndex(kept)
    before = index.closure(["lab8"]), index.digest("lab8")
    index.save()
    assert len(json.loads(kept.read_bytes())["texts"]) == 1
    again = CodeIndex(kept)
    assert (again.closure(["lab8"]), again.digest("lab8")) == before
    write(place, {"lab8.py": "import lab8c"})  # as long as it was
    assert CodeIndex(kept).digest("lab8") != before[1]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"schema": 0, "texts": {}}', b"\xff", b'{"schema":1}']
)
def test_a_cache_that_is_damaged_is_as_if_there_were_none(place: Path, content: bytes) -> None:
    write(place, {"lab9.py": "x = 1"})
    kept = place / "code.json"
    kept.write_bytes(content)
    index = CodeIndex(kept)
    assert index.digest("lab9") == CodeIndex().digest("lab9")
    index.save()
    assert json.loads(kept.read_bytes())["texts"]


def test_a_plan_needs_no_cache(place: Path) -> None:
    write(place, {"lab10.py": "x = 1", "file": ""})
    index = CodeIndex(place / "file" / "code.json")  # a file is where its folder should be
    assert index.digest("lab10") != ABSENT
    index.save()


def test_a_laboratory_that_lists_its_modules_by_hand_goes_on_as_it_is() -> None:
    toys = laboratory()
    roots = roots_of(toys["train"], {})
    assert roots == ("tests.launcher.toylab",)
    assert set(CodeIndex().closure(roots)) >= {"tests.launcher.toylab", "launcher.ids"}
    assert roots_of(installed(["command"])["command"], {"argv": ["x"]}) == ()


def test_a_setting_may_choose_modules_that_are_imported_by_name() -> None:
    class Chosen(Settings):
        modules: ClassVar[Mapping[str, Any]] = {"method": lambda name: (f"lab.{name}",)}

    class Kind:
        entry, sources, settings = "lab.work:train", ("lab.extra",), Chosen

    kind: Any = Kind
    assert roots_of(kind, {"method": "sam"}) == ("lab.work", "lab.extra", "lab.sam")
    assert roots_of(kind, {}) == ("lab.work", "lab.extra")
