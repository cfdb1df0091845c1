"""Which changes of a small package the digest of its code notices, and which it ignores."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from launcher.provenance.code_identity import WHOLE_CODE, CodeIndex

Files = Mapping[str, str]

WORK = "from pk.parts import main\n\n\ndef run(job):\n    return main(job)\n"
BY_NAME = "from pk import parts\n\n\ndef run(job):\n    return {}\n"
IMPORTING = "{}\n\n\ndef run(job):\n    return {}.main(job)\n"
MAIN = "def main(job):\n    return job\n"
SHADOWED = (
    "from pk.parts import main\nfrom pk.more import *\n\n\ndef run(job):\n    return main(job)\n"
)

# changes of the text of pk.parts, from which `WORK` imports
CHANGES = (Path(__file__).parents[2] / "data/code_changes.txt").read_text().split("=== ")[1:]
# texts of pk.work that find `main` of pk.parts by a name or another way
FOUND = {
    "a name that is computed": BY_NAME.format("getattr(parts, 'ma' + 'in')(job)"),
    "a module in a dictionary": BY_NAME.format("getattr({1: parts}[1], 'ma' + 'in')(job)"),
    "the names of a module": BY_NAME.format("vars(parts)['ma' + 'in'](job)"),
    "a reader of attributes": BY_NAME.format("__import__('operator').attrgetter('ma' + 'in')(parts)"),
    "a name that is evaluated": BY_NAME.format("eval('parts.ma' + 'in')(job)"),
    "the globals of an imported function": "from pk.parts import other\n\n\ndef run(job):\n    return other.__globals__['ma' + 'in'](job)\n",
    "a module that another one imports": "from pk.third import known\n\n\ndef run(job):\n    return vars(known)['ma' + 'in'](job)\n",
    "an import with a star": "from pk.parts import *\n\n\ndef run(job):\n    return main(job)\n",
    "a sum": IMPORTING.format("import importlib", "importlib.import_module('pk.' + job)"),
    "a format": IMPORTING.format("import importlib", "importlib.import_module('pk.%s' % job)"),
    "a format method": IMPORTING.format("import importlib", "importlib.import_module('pk.{}'.format(job))"),
    "a beginning elsewhere": "from pk.loading import load\n\n\ndef run(job):\n    return load('pk.pa' + job).main(job)\n",
    "its own package": IMPORTING.format("import importlib", "importlib.import_module(f'{__package__}.{job}')"),
    "its own name": IMPORTING.format("import importlib", "importlib.import_module(f'{__name__.rpartition(\".\")[0]}.{job}')"),
    "the name of a package": IMPORTING.format("import importlib, pk", "importlib.import_module(f'{pk.__name__}.{job}')"),
    "a list of words": IMPORTING.format("import importlib", "importlib.import_module('.'.join(['pk', job]))"),
    "a relative name": IMPORTING.format("from importlib import import_module as load", "load('.parts', __package__)"),
    "a computed relative name": IMPORTING.format("from importlib import import_module as load", "load('.' + job, 'pk')"),
    "a file in its folder": IMPORTING.format("from importlib.util import spec_from_file_location as spec", "spec(job, __file__ + job)"),
}  # fmt: skip
# files before, and those that are written then
EDITED: Mapping[str, tuple[Files, Files]] = {
    "a name that a star import adds": ({"work.py": SHADOWED, "parts.py": MAIN, "more.py": "def other(): 0\n"}, {"more.py": "def other(): 0\ndef main(job): return 2\n"}),
    "a name that __all__ adds": ({"work.py": SHADOWED, "parts.py": MAIN, "more.py": f"__all__ = ['other']\ndef other(): 0\n{MAIN}"}, {"more.py": f"__all__ = ['other', 'main']\ndef other(): 0\n{MAIN}"}),
    "a statement of the package": ({"work.py": WORK, "parts.py": MAIN}, {"__init__.py": "import random\n\nrandom.seed(1)\n"}),
    "a package that replaces a function": ({"work.py": WORK, "parts.py": MAIN}, {"__init__.py": "from pk import parts\n\nparts.main = print\n"}),
    "a statement of an inner package": ({"work.py": WORK.replace("pk.", "pk.inner."), "inner/__init__.py": "", "inner/parts.py": MAIN}, {"inner/__init__.py": "import os\n\nos.environ['SIZE'] = '1'\n"}),
    "an import from another module": ({"work.py": WORK, "parts.py": "from pk.one import main\n", "one.py": MAIN, "two.py": MAIN}, {"parts.py": "from pk.two import main\n"}),
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a package."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "pk"


def digest_with(place: Path, files: Files) -> str:
    """Return the digest of the job's code after files were written."""
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    return CodeIndex().code("pk.work:run", ["pk.work"])[WHOLE_CODE]


@pytest.mark.parametrize("change", CHANGES, ids=lambda text: text.partition("\n")[0])
def test_change_of_an_imported_module_counts_unless_it_has_no_effect(
    place: Path, change: str
) -> None:
    title, _, texts = change.partition("\n")
    files = {"__init__.py": "", "work.py": WORK}
    before, after = (
        digest_with(place, files | {"parts.py": text}) for text in texts.split("---\n")
    )
    assert (before != after) == title.startswith("noticed: ")


@pytest.mark.parametrize("case", FOUND)
def test_function_counts_however_it_is_found(place: Path, case: str) -> None:
    files = {
        "__init__.py": "",
        "work.py": FOUND[case],
        "parts.py": f"def other(): 0\n{MAIN}",
        "third.py": "from pk import parts as known\n",
        "loading.py": "import importlib\n\n\ndef load(name):\n    return importlib.import_module(name)\n",
    }
    before = digest_with(place, files)
    changed = {"parts.py": files["parts.py"].replace("return job", "return 2")}
    assert digest_with(place, changed) != before


@pytest.mark.parametrize("case", EDITED)
def test_edit_of_several_files_counts(place: Path, case: str) -> None:
    files, changed = EDITED[case]
    before = digest_with(place, {"__init__.py": "", **files})
    assert digest_with(place, changed) != before
