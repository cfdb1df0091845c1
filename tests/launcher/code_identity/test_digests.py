"""Which code decides a result, and which edits of it count."""

import ast
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from launcher.experiments.kind_interface import Settings
from launcher.experiments.kinds import installed_kinds, roots_of
from launcher.provenance.code_identity import WHOLE_CODE, CodeIndex, code_digest
from launcher.provenance.code_identity.digests import IMPORTS
from launcher.provenance.code_identity.modules import ABSENT_MODULE
from launcher.provenance.code_identity.text import read_text
from launcher.system.errors import UsageError
from tests.launcher.toylab import laboratory

# a small laboratory, and edits of it: each has the text before and after in a file, or new files
LAB = {
    "lab/__init__.py": "",
    "lab/work.py": '''\
"""What it is for."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from click import Option
from torch.nn import functional
from torch.utils import checkpoint as unused_library

from lab import loss, registry
from lab.shapes import Square, area
from lab.steps import step

if TYPE_CHECKING:
    from lab.typed import Batch

RATE = 0.1  # per step
NAMES = ["#1"]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Facts(Square):
    """Facts."""

    name: str
    size: int = 3


@registry.register("train", mean=True)
def train(job: Batch, rate: float = 0.5, *, more: int = RATE) -> Facts:
    """Train."""
    from lab.late import late

    value = checked(functional.relu(loss.measured(job, rate)))
    for number in range(2):
        value = step(value, number)
    late(registry.KNOWN)
    return Facts(name=str(more), size=area(value))


def count(values):
    return [value for value in values if value not in NAMES]


def checked(value):
    if value < 0:
        raise ValueError(f"the value {value} is " + "negative", "sign")
    return Option("a text", default=value, help="Size of it.")


NAMES.append("two")
print(count(NAMES))
''',
    "lab/loss.py": '''\
"""The loss."""

from .shapes import area
from .steps import step

SCALE = 2.0


def measured(job: object, rate: float) -> float:
    return half(area(job)) * SCALE + rate + step(1, 2)


def half(value):
    global SCALE
    SCALE = 1.0
    return value / 2


def alone(value):
    """Nothing calls this."""
    return value
''',
    "lab/shapes.py": '''\
"""Shapes."""


class Square:
    side: int = 1


def area(shape: object) -> float:
    return getattr(shape, "side", Square.side) ** 2
''',
    "lab/steps.py": "def step(value, number):\n    return value + number\n",
    "lab/other_steps.py": "def step(value, number):\n    return value - number\n",
    "lab/late.py": "import lab.other_steps\n\n\ndef late(known):\n    return len(known)\n",
    "lab/typed.py": "class Batch:\n    pass\n",
    "lab/registry.py": """\
KNOWN = {}


def register(name: str, *, mean: bool):
    def kept(function):
        KNOWN[name] = function
        return function

    return kept
""",
}
Edit = Mapping[str, tuple[str, str] | str | None]  # None: the file is gone
SAME: Mapping[str, Edit] = {
    "another docstring": {"lab/work.py": ('"""Train."""', '"""Word\n\n    for word."""')},
    "no docstring": {"lab/work.py": ('    """Facts."""\n\n', "")},
    "a docstring that names what is unused": {"lab/loss.py": ('"""The loss."""', '"""alone"""')},
    "another message": {"lab/work.py": ('f"the value {value} is "', 'f"{value}: below zero, "')},
    "a message that names a module": {"lab/work.py": ('f"the value {value} is "', 'f"{value}; python -m lab.typed "')},
    "another help": {"lab/work.py": ('help="Size of it."', 'help="Number of pixels."')},
    "a comment": {"lab/work.py": ("  # per step", "")},
    "another format": {
        "lab/work.py": ('(name=str(more), size=area(value))', '(\n        name=str(\n more), size=area(value),\n    )')
    },
    "a version": {"lab/work.py": ("RATE =", '__version__ = "9"\nRATE =')},
    "an unused function": {"lab/steps.py": ("def step", "def unused(a=1):\n    return a\n\n\ndef step")},
    "no unused function": {
        "lab/loss.py": ('\n\ndef alone(value):\n    """Nothing calls this."""\n    return value\n', "")
    },
    "an unused class": {
        "lab/work.py": (
            "@dataclass(frozen=True)\nclass Facts",
            "@dataclass(frozen=True)\nclass Unused:\n    a: int = 1\n\n"
            "    @property\n    def b(self):\n        return print(self.a)\n\n\n@dataclass(frozen=True)\nclass Facts",
        )
    },
    "an absolute import": {"lab/loss.py": ("from .shapes", "from lab.shapes")},
}  # fmt: skip
OTHER: Mapping[str, Edit] = {
    "a function elsewhere, with a global of that place": {
        "lab/halves.py": "def half(value):\n    global SCALE\n    SCALE = 1.0\n    return value / 2\n",
        "lab/loss.py": (
            "def half(value):\n    global SCALE\n    SCALE = 1.0\n    return value / 2\n",
            "from .halves import half\n",
        ),
    },
    "a word of an error": {"lab/work.py": ('"sign"', '"size"')},
    "a value in a message": {"lab/work.py": ("the value {value} is", "the value {value + 1} is")},
    "a text of another argument": {"lab/work.py": ('Option("a text"', 'Option("an older text"')},
    "the class of an error": {"lab/work.py": ("raise ValueError", "raise TypeError")},
    "a constant": {"lab/loss.py": ("SCALE = 2.0", "SCALE = 3.0")},
    "a constant's type": {"lab/loss.py": ("SCALE = 2.0", "SCALE = 2")},
    "a default": {"lab/work.py": ("rate: float = 0.5", "rate: float = 0.6")},
    "a keyword's default": {"lab/work.py": ("more: int = RATE", "more: int = 1")},
    "a field": {"lab/work.py": ("    size: int = 3", "    size: int = 4")},
    "an added field": {"lab/work.py": ("    size: int = 3", "    size: int = 3\n    new: int = 0")},
    "an annotation": {"lab/work.py": ("rate: float =", "rate: int =")},
    "a decorator's argument": {"lab/work.py": ("mean=True", "mean=False")},
    "a decorator": {"lab/work.py": ("@dataclass(frozen=True)\n", "")},
    "a base class": {"lab/work.py": ("class Facts(Square)", "class Facts")},
    "a base's field": {"lab/shapes.py": ("side: int = 1", "side: int = 2")},
    "a statement at the top": {"lab/work.py": ('NAMES.append("two")', 'NAMES.append("three")')},
    "one more statement": {"lab/work.py": ("RATE =", "print()\nRATE =")},
    "the same statement twice": {"lab/work.py": ("print(count", "NAMES.append('two')\nprint(count")},
    "no statement": {"lab/work.py": ('NAMES.append("two")\n', "")},
    "no global": {"lab/loss.py": ("    global SCALE\n", "")},
    "a comprehension": {"lab/work.py": ("if value not in NAMES", "if value in NAMES")},
    "another indentation": {"lab/work.py": ("    late(registry", "        late(registry")},
    "a text with #": {"lab/work.py": ('"#1"', '"#2"')},
    "a library's name": {
        "lab/work.py": ("from torch.nn import functional", "from torch.nn import modules as functional")
    },
    "a library's function": {"lab/work.py": ("functional.relu", "functional.elu")},
    "an unused library": {"lab/work.py": ("from torch.utils import checkpoint as unused_library\n", "")},
    "an import from another module of ours": {"lab/work.py": ("from lab.steps", "from lab.other_steps")},
    "an import in another module": {"lab/loss.py": ("from .steps", "from .other_steps")},
    "what a module's function does": {"lab/steps.py": ("value + number", "value * number")},
    "what a type is": {"lab/typed.py": ("    pass", "    size: int")},
    "a new plug-in's import": {"lab/late.py": ("import lab.other_steps", "import lab.added"), "lab/added.py": "x = 1\n"},
    "a name in a string": {"lab/work.py": ("RATE =", 'WORD = "alone"\nRATE =')},
    "a name as an attribute": {"lab/work.py": ("RATE =", "WORD = print.alone\nRATE =")},
    "a name as a keyword": {"lab/work.py": ("RATE =", "WORD = dict(alone=1)\nRATE =")},
    "other order": {
        "lab/loss.py": (LAB["lab/loss.py"], LAB["lab/loss.py"].replace("SCALE = 2.0\n", "") + "\n\nSCALE = 2.0\n")
    },
    "an alias": {
        "lab/work.py": (LAB["lab/work.py"], LAB["lab/work.py"].replace("import step", "import step as go").replace("step(v", "go(v"))
    },
    "an attribute of a module": {
        "lab/work.py": (
            LAB["lab/work.py"],
            LAB["lab/work.py"].replace("from lab.steps import step", "import lab.steps").replace("step(v", "lab.steps.step(v"),
        )
    },
    "a name of a module": {
        "lab/work.py": (
            LAB["lab/work.py"],
            LAB["lab/work.py"].replace("from lab import loss, ", "from lab.loss import measured as m\nfrom lab import ").replace("loss.measured(", "m("),
        )
    },
    "an attribute of a library": {
        "lab/work.py": (
            LAB["lab/work.py"],
            LAB["lab/work.py"].replace("from torch.nn import functional\n", "import torch.nn\n").replace("functional.relu", "torch.nn.functional.relu"),
        )
    },
    "an import at the top": {
        "lab/work.py": (
            LAB["lab/work.py"],
            LAB["lab/work.py"].replace("    from lab.late import late\n\n", "").replace("from lab.steps", "from lab.late import late\nfrom lab.steps"),
        )
    },
    "a renamed module": {
        "lab/steps.py": None,
        "lab/deep/__init__.py": "",
        "lab/deep/walk.py": LAB["lab/steps.py"],
        "lab/work.py": ("from lab.steps", "from lab.deep.walk"),
        "lab/loss.py": ("from .steps", "from .deep.walk"),
    },
    "a re-export": {
        "lab/__init__.py": ("", "from lab.steps import step as step\n"),
        "lab/work.py": ("from lab.steps", "from lab"),
    },
    "merged modules": {
        "lab/steps.py": None,
        "lab/shapes.py": (LAB["lab/shapes.py"], LAB["lab/steps.py"] + LAB["lab/shapes.py"]),
        "lab/work.py": ("from lab.steps", "from lab.shapes"),
        "lab/loss.py": ("from .steps", "from .shapes"),
    },
    "a split module": {
        "lab/squares.py": '"""Squares."""\n\n\nclass Square:\n    side: int = 1\n',
        "lab/shapes.py": ("class Square:\n    side: int = 1\n", "from lab.squares import Square\n"),
    },
    "an import that nothing uses": {"lab/work.py": ("import loss, reg", "import loss, steps, reg")},
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of which the modules can be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def write(place: Path, files: Mapping[str, str | None]) -> None:
    for name, text in files.items():
        path = place / name
        if text is None:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def edited(files: Mapping[str, str], edit: Edit) -> dict[str, str | None]:
    """Return the files that an edit writes."""
    new: dict[str, str | None] = {}
    for name, change in edit.items():
        if isinstance(change, tuple):
            before, after = change
            assert before in files[name], f"{name} has no {before!r}"
            assert before != after
            new[name] = files[name].replace(before, after, 1)
        else:
            new[name] = change
    return new


def whole(entry: str = "lab.work:train", *named: str) -> str:
    return CodeIndex().code(entry, (entry.partition(":")[0], *named))[WHOLE_CODE]


@pytest.mark.parametrize("edit", SAME)
def test_edit_without_effect_keeps_the_digest(place: Path, edit: str) -> None:
    write(place, LAB)
    before = whole()
    write(place, edited(LAB, SAME[edit]))
    assert whole() == before


@pytest.mark.parametrize("edit", OTHER)
def test_any_other_change_changes_the_digest(place: Path, edit: str) -> None:
    write(place, LAB)
    before = whole()
    write(place, edited(LAB, OTHER[edit]))
    assert whole() != before


# code that looks a module up without a name that is written somewhere: then all of it counts
LOOKUPS: Mapping[str, Edit] = {
    "globals": {"lab/loss.py": ("return half(", "return globals()['ha' + 'lf'](")},
    "vars": {"lab/loss.py": ("SCALE = 2.0", "SCALE = len(vars())")},
    "vars of it": {"lab/work.py": ("RATE =", "ALL = vars(loss)\nRATE =")},
    "its dictionary": {"lab/work.py": ("RATE =", "ALL = loss.__dict__\nRATE =")},
    "an attribute by a computed name": {"lab/work.py": ("RATE =", "ONE = getattr(loss, print())\nRATE =")},
    "the module as a value": {"lab/work.py": ("RATE =", "ONE = [loss]\nRATE =")},
    "a string": {"lab/work.py": ("RATE =", 'ONE = __import__("lab.loss")\nRATE =')},
    "its package": {
        "lab/__init__.py": ("", "import pkgutil\nALL = [*pkgutil.iter_modules(__path__)]\n")
    },
    "its package from outside": {
        "lab/work.py": ("RATE =", "import lab, pkgutil\nALL = pkgutil.iter_modules(lab.__path__)\nRATE =")
    },
    "the interpreter's modules": {"lab/loss.py": ("SCALE = 2.0", "import sys\nSCALE = sys.modules[__name__]")},
}  # fmt: skip


@pytest.mark.parametrize("how", LOOKUPS)
def test_whole_module_counts_if_any_name_may_be_looked_up_in_it(place: Path, how: str) -> None:
    write(place, LAB)
    write(place, edited(LAB, LOOKUPS[how]))
    looked_up = (place / "lab/loss.py").read_text()
    before = whole()
    write(place, {"lab/loss.py": looked_up.replace("def alone(value):", "def alone(value, new):")})
    assert whole() != before


@pytest.mark.parametrize(
    "definition",
    [
        "@print\ndef f():\n    return 1\n",
        "import functools\n@functools.lru_cache(maxsize=1)\ndef f():\n    return 1\n",
        "def __getattr__(name):\n    return 1\n",
        "def f(a=print()):\n    return 1\n",
        "class F(dict):\n    a = 1\n",
        "class F(metaclass=print):\n    a = 1\n",
        "class F:\n    a = print()\n    b = 1\n",
        "class F:\n    for a in ():\n        pass\n    b = 1\n",
        "def f():\n    return 1\nprint(f)\n",
    ],
)
def test_definition_with_side_effects_counts(place: Path, definition: str) -> None:
    write(place, LAB)
    write(place, {"lab/steps.py": f"{definition}\n{LAB['lab/steps.py']}"})
    before = whole()
    write(place, {"lab/steps.py": f"{definition.replace('1', '2')}\n{LAB['lab/steps.py']}"})
    assert definition.replace("1", "2") == definition or whole() != before


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ('f(\n  "a"\n  "b"\n)', 'f(\n  "a"\n  "c"\n)'),
        ('x = """\n# a\n"""', 'x = """\n# b\n"""'),
        ('x = """\n\n"""', 'x = """\n"""'),
        ("x = f'{y}#1'", "x = f'{y}#2'"),
        ("é = '#'; y = 1", "é = '#'; y = 2"),
        ("if x:\n  y()\nz()", "if x:\n  y()\n  z()"),
        ("x = 1", "x = True"),
        ("x = 'a'", "x = b'a'"),
        ("x = a.b[c].d", "x = a.b[c].e"),
        ("def f(a, /, b): 0\nf", "def f(a, b): 0\nf"),
        ("def f(a, *, b=1): 0\nf", "def f(a, b=1): 0\nf"),
        ("x = lambda a: a", "x = lambda b: a"),
        ("class A:\n  b = 1\n  def f(self): return b\nA", "class A:\n  c = 1\n  def f(self): return b\nA"),
        ("try:\n  import a\nexcept E:\n  a = 0", "try:\n  import b as a\nexcept E:\n  a = 0"),
        ("def f(x):\n  if x:\n    from a import g\n  else:\n    from b import g\n  g()\nf",
         "def f(x):\n  if x:\n    from b import g\n  else:\n    from a import g\n  g()\nf"),
        ("from a import f\nx = f\ndef g(f): return f\ng", "from a import f\nx = f\ndef g(e): return f\ng"),
        ("match a:\n  case {'b': 1, **c}: 0", "match a:\n  case {'b': 1, **d}: 0"),
        ("match a:\n  case [b, *_]: 0", "match a:\n  case [b, *c]: 0"),
        ("broken(", "broken)"),
        ("b'\xff'", "b'\xfe'"),
    ],
)  # fmt: skip
def test_similar_texts_have_different_digests(place: Path, text: str, other: str) -> None:
    digests = []
    for each in (text, other):
        write(place, {"lab0.py": each})
        digests.append(whole("lab0:f"))
    assert digests[0] != digests[1]


def test_package_whose_modules_are_iterated_counts_with_every_plugin(place: Path) -> None:
    goes = "import pkgutil\nfrom lab13 import plugs\nALL = pkgutil.iter_modules(plugs.__path__)\n"
    write(place, {"lab13/__init__.py": "", "lab13/plugs/__init__.py": "", "lab13/work.py": goes})
    before = whole("lab13.work:f")
    write(place, {"lab13/plugs/one.py": "x = 1\n"})
    assert "lab13.plugs.one" in CodeIndex().closure(["lab13.work"])
    assert whole("lab13.work:f") != before


def test_every_import_counts_wherever_it_is_written(place: Path) -> None:
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


@pytest.mark.parametrize(
    "named", ['"lab15.server"', '"lab15.server:main"', '"python -m lab15.server 4"', "'-m lab15.server'"]
)  # fmt: skip
def test_module_named_in_a_string_counts(place: Path, named: str) -> None:
    write(
        place,
        {"lab15/__init__.py": "", "lab15/work.py": f"START = {named}\n", "lab15/server.py": ""},
    )
    assert "lab15.server" in CodeIndex().closure(["lab15.work"])


def test_string_naming_a_module_refers_to_its_content(place: Path) -> None:
    files = {
        "lab16/__init__.py": "",
        "lab16/work.py": 'ONE = "lab16.server"\nTWO = "lab16.client:main"\n',
        "lab16/server.py": "def main():\n    return 1\n",
        "lab16/client.py": "def main():\n    return 2\n",
    }
    write(place, files)
    before = whole("lab16.work:f")
    other = {"lab16/work.py": 'TWO = "lab16.server:main"\nONE = "lab16.client"\n'}
    write(place, other)
    assert whole("lab16.work:f") != before


def test_other_packages_count_if_one_of_their_modules_is_a_root(place: Path) -> None:
    write(
        place, {"lab2.py": "import models2\n", "models2.py": "import depths2\n", "depths2.py": ""}
    )
    assert CodeIndex().closure(["lab2"]) == ("lab2",)
    assert CodeIndex().closure(["lab2", "models2"]) == ("lab2", "models2")


def test_root_package_includes_all_its_modules(place: Path) -> None:
    write(place, {"lab3/__init__.py": "", "lab3/a.py": "", "lab3/deep/__init__.py": ""})
    assert CodeIndex().closure(["lab3"]) == ("lab3", "lab3.a", "lab3.deep")


def test_plugin_counts_as_a_whole_unless_it_registers_itself(place: Path) -> None:
    unused = "def unused():\n    return 1\n\n\n"
    plugs = {
        "lab17/bare.py": "def run():\n    return 1\n",
        "lab17/known.py": "from lab17.work import register\n\n\n@register\ndef run():\n    return 1\n",
    }
    write(place, {"lab17/__init__.py": "", "lab17/work.py": "def register(f):\n    return f\n"})
    write(place, plugs)
    for name, counts in (("bare", True), ("known", False)):
        before = whole("lab17.work:f", f"lab17.{name}")
        write(place, {f"lab17/{name}.py": plugs[f"lab17/{name}.py"] + unused})
        assert (whole("lab17.work:f", f"lab17.{name}") != before) == counts


def test_digests_are_computed_without_imports(place: Path) -> None:
    write(
        place, {"lab4/__init__.py": "1 / 0", "lab4/work.py": "import lab4.more", "lab4/more.py": ""}
    )
    assert CodeIndex().closure(["lab4.work"]) == ("lab4", "lab4.more", "lab4.work")
    assert CodeIndex().code("lab4.work:f", ["lab4.work"])
    assert "lab4" not in sys.modules


def test_missing_module_is_reported_as_absent(place: Path) -> None:
    write(place, {"lab5.py": "x = 1"})
    code = CodeIndex().code("lab5:f", ["lab5", "lab5.x", "nowhere.at.all", "time"])
    assert {name for name, digest in code.items() if digest == ABSENT_MODULE} == {
        "lab5.x",
        "nowhere.at.all",
        "time",
    }
    assert CodeIndex().code("", ()) == {}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("fast.so", b"\x7fELF 1"),
        ("fast.cpython-311-x86_64-linux-gnu.so", b"\x7fELF 1"),
        ("fast.pyc", b"code 1"),
        ("fast.py", b"broken(\n# 1"),
        ("fast.py", b"x = '\xff'  # 1"),
        ("fast.py", b"x = " + b"(" * 5000 + b"1" + b")" * 5000),
    ],
)
def test_unparsable_code_counts_by_its_bytes(place: Path, name: str, content: bytes) -> None:
    if "cpython" in name:
        suffix = next(iter(__import__("importlib.machinery").machinery.EXTENSION_SUFFIXES))
        name = f"fast{suffix}"
    write(place, {"lab18/__init__.py": "", "lab18/work.py": "from lab18.fast import f\nf()\n"})
    path = place / "lab18" / name
    path.write_bytes(content)
    index = CodeIndex(place / "code.json")
    before = index.code("lab18.work:g", ["lab18.work"])
    index.save()
    assert index.opaque_modules == {"lab18.fast": path}
    again = CodeIndex(place / "code.json")
    assert again.code("lab18.work:g", ["lab18.work"]) == before
    assert again.opaque_modules == {"lab18.fast": path}
    path.write_bytes(content.replace(b"1", b"2"))
    assert CodeIndex().code("lab18.work:g", ["lab18.work"])[WHOLE_CODE] != before[WHOLE_CODE]


def test_only_launcher_code_that_resolves_image_ids_counts(place: Path) -> None:
    write(
        place,
        {
            "lab6.py": "from launcher.api import parse_data, write_json, Job\n",
            "lab7.py": "from launcher.api import write_json, Job\n",
        },
    )
    assert CodeIndex().closure(["lab6"]) == ("lab6", "launcher.ids")
    assert CodeIndex().closure(["lab7"]) == ("lab7",)


def test_launcher_names_count_regardless_of_their_module(place: Path) -> None:
    digests = {}
    for text in (
        "from launcher.api import write_json\nx = write_json\n",
        "from launcher.system.files import write_json\nx = write_json\n",
        "from launcher.api import read_json\nx = read_json\n",
    ):
        write(place, {"lab19.py": text})
        digests[text] = whole("lab19:f")
    first, second, third = digests.values()
    assert first == second != third


def test_empty_part_of_a_format_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"def f(value, width):\n    return f'{value:>{width}}'\n"
    before, tree = read_text(text), ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            node.values.append(ast.Constant(""))
    monkeypatch.setattr(ast, "parse", lambda _: tree)
    assert read_text(text) == before


def test_change_report_names_exactly_the_changed_modules(place: Path) -> None:
    write(place, LAB)
    before = CodeIndex().code("lab.work:train", ["lab.work"])
    write(place, edited(LAB, OTHER["what a module's function does"]))
    after = CodeIndex().code("lab.work:train", ["lab.work"])
    assert {name for name in after if after[name] != before[name]} == {WHOLE_CODE, "lab.steps"}


def test_parsed_texts_are_cached_by_content_for_the_next_process(place: Path) -> None:
    write(place, {"lab8.py": "import lab8b", "lab8b.py": ""})
    kept = place / "cache" / "code.json"
    index = CodeIndex(kept)
    before = index.code("lab8:f", ["lab8"])
    index.save()
    assert len(json.loads(kept.read_bytes())[IMPORTS]) == 1
    assert CodeIndex(kept).code("lab8:f", ["lab8"]) == before
    write(place, {"lab8.py": "import lab8c"})  # as long as it was
    assert CodeIndex(kept).code("lab8:f", ["lab8"]) != before


def test_cache_key_covers_all_dependencies(place: Path) -> None:
    write(place, LAB)
    kept = place / "code.json"
    digests = []
    for edit in (
        {},
        OTHER["what a type is"],
        {"lab/typed.py": None},
        {"lab/typed.py": "Batch = 1"},
    ):
        write(place, edited(LAB, edit))
        index = CodeIndex(kept)
        digests.append(index.code("lab.work:train", ["lab.work"]))
        index.save()
        assert digests[-1] == CodeIndex().code("lab.work:train", ["lab.work"])
    assert len({each[WHOLE_CODE] for each in digests}) == len(digests)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b'{"schema": 0, "imports": {}}', b"\xff", b'{"schema":3}',
        b'{"schema":3,"imports":{"a":1},"codes":{"a":[1]},"texts":[]}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["code.json", "code-elements.json"])
def test_damaged_cache_is_ignored(place: Path, content: bytes, name: str) -> None:
    write(place, {"lab9.py": "x = 1"})
    kept = place / "code.json"
    (place / name).write_bytes(content)
    index = CodeIndex(kept)
    assert index.code("lab9:f", ["lab9"]) == CodeIndex().code("lab9:f", ["lab9"])
    index.save()
    assert json.loads(kept.read_bytes())[IMPORTS]


def test_plan_works_without_a_cache(place: Path) -> None:
    write(place, {"lab10.py": "x = 1", "file": ""})
    index = CodeIndex(place / "file" / "code.json")  # a file is where its folder should be
    assert index.code("lab10:f", ["lab10"])
    index.save()


def test_missing_code_is_not_counted(place: Path) -> None:
    write(place, {"lab11/__init__.py": "", "lab11/work.py": "x = 1"})
    assert code_digest("lab11.work:f") == whole("lab11.work:f")
    with pytest.raises(UsageError, match=r"cannot find the module lab11\.gone"):
        code_digest("lab11.work:f", "lab11.gone")


def test_plugin_package_with_a_handwritten_module_list_still_works() -> None:
    toys = laboratory()
    roots = roots_of(toys["train"], {})
    assert roots == ("tests.launcher.toylab",)
    assert set(CodeIndex().closure(roots)) >= {"tests.launcher.toylab", "launcher.ids"}
    assert roots_of(installed_kinds(["command"])["command"], {"argv": ["x"]}) == ()


def test_setting_may_choose_modules_imported_by_name() -> None:
    class Chosen(Settings):
        modules: ClassVar[Mapping[str, Any]] = {"method": lambda name: (f"lab.{name}",)}

    class Kind:
        entry, sources, settings = "lab.work:train", ("lab.extra",), Chosen

    kind: Any = Kind
    assert roots_of(kind, {"method": "sam"}) == ("lab.work", "lab.extra", "lab.sam")
    assert roots_of(kind, {}) == ("lab.work", "lab.extra")


# --- code as it was known: a plug-in that came later and that nothing uses is left out


PLUGS = {
    "lab20/__init__.py": "",
    "lab20/plugs/__init__.py": "",
    "lab20/plugs/one.py": "def one():\n    return 1\n",
    "lab20/work.py": "import pkgutil\n\nfrom lab20 import plugs\n\n\ndef all_of_them():\n"
    "    return [*pkgutil.iter_modules(plugs.__path__)]\n",
}


@pytest.mark.parametrize(
    ("edit", "is_same"),
    [
        ({}, True),
        ({"lab20/plugs/two.py": "RATE = 2\n\n\ndef two():\n    return RATE\n"}, True),
        ({"lab20/plugs/two.py": "from lab20 import work\n\nTWO = work.all_of_them()\n"}, True),
        ({"lab20/plugs/two.py": "@print\ndef _one():\n    return 2\n"}, True),
        ({"lab20/plugs/deep/__init__.py": "", "lab20/plugs/deep/two.py": "TWO = 2\n"}, True),
        # it may change what the others do
        ({"lab20/plugs/two.py": "from lab20.plugs import one\n\none.one = print\n"}, False),
        ({"lab20/plugs/two.py": "print('imported')\n"}, False),
        ({"lab20/plugs/two.py": "def one():\n    return 2\n"}, False),
        ({"lab20/plugs/two.py": "def two(:\n"}, False),
        # it is used by its name
        (
            {
                "lab20/plugs/two.py": "TWO = 2\n",
                "lab20/work.py": ("import plugs\n", "import plugs\nfrom lab20.plugs import two\n"),
            },
            False,
        ),
        # one that was known
        ({"lab20/plugs/one.py": ("return 1", "return 3")}, False),
        ({"lab20/plugs/one.py": None}, False),
    ],
)
def test_later_plugin_is_excluded_unless_it_may_change_the_others(
    place: Path, edit: Edit, is_same: bool
) -> None:
    write(place, PLUGS)
    entry, roots = "lab20.work:all_of_them", ["lab20.work"]
    before = CodeIndex().code(entry, roots)
    write(place, edited(PLUGS, edit))
    known = frozenset(before) - {WHOLE_CODE}
    assert (CodeIndex().code(entry, roots, known)[WHOLE_CODE] == before[WHOLE_CODE]) is is_same


def test_class_of_a_method_that_does_the_work_counts(place: Path) -> None:
    write(place, {"lab24.py": "class Net:\n    def fit(self):\n        return 1\n"})
    before = whole("lab24:Net.fit")
    write(place, {"lab24.py": "class Net:\n    def fit(self):\n        return 2\n"})
    assert whole("lab24:Net.fit") != before


def test_new_optional_import_counts_once_it_exists(place: Path) -> None:
    text = "try:\n    from lab21 import fast\nexcept ImportError:\n    fast = None\n\n\ndef f():\n    return fast\n"
    write(place, {"lab21/__init__.py": "", "lab21/work.py": text})
    before = CodeIndex().code("lab21.work:f", ["lab21.work"])
    write(place, {"lab21/fast.py": "SPEED = 2\n"})
    known = frozenset(before) - {WHOLE_CODE}
    assert CodeIndex().code("lab21.work:f", ["lab21.work"], known)[WHOLE_CODE] != before[WHOLE_CODE]


def test_words_of_code_are_the_names_in_its_text(place: Path) -> None:
    write(
        place, {"lab22.py": 'def f(job):\n    return job.settings["rate"], job.momentum, "a b"\n'}
    )
    words = CodeIndex().words(["lab22"])
    assert {"rate", "momentum", "settings", "a", "b"} <= words
    assert "most" not in words


@pytest.mark.parametrize(
    ("edit", "names"),
    [
        ({"lab23.py": ("return 1", "return 2")}, ("f",)),
        ({"lab23.py": ("RATE = 1", "RATE = 2")}, ("RATE",)),
        ({"lab23.py": ("def g", "def h")}, ("g",)),  # nothing uses h
        ({"lab23.py": ("print(0)", "print(1)")}, ("",)),
        (
            {"lab23.py": ("def g", "def new():\n    return 3\n\n\nNEW = new()\n\n\ndef g")},
            ("NEW", "new"),
        ),
    ],
)
def test_definitions_that_differ_between_two_digests_are_named(
    place: Path, edit: Edit, names: tuple[str, ...]
) -> None:
    text = "RATE = 1\nprint(0)\n\n\ndef f():\n    return 1\n\n\ndef g():\n    return f(), g\n"
    kept, digests = place / "code.json", []
    for files in ({"lab23.py": text}, edited({"lab23.py": text}, edit)):
        write(place, files)
        index = CodeIndex(kept)
        digests.append(index.code("lab23:g", ["lab23"])["lab23"])
        index.save()
    assert CodeIndex(kept).changed_definitions(digests[0], digests[1]) == names
    assert CodeIndex().changed_definitions(digests[0], digests[1]) == ()
