"""The manual pages are made from the commands, and man can read them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.frontends.cli.verb_table import VERBS

TREE = Path(__file__).parents[2]
# as in the environment in which a wheel is built
WITHOUT = ("numpy", "torch", "PIL", "scipy", "sklearn", "jinja2", "starlette", "textual")
PROGRAM = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({WITHOUT!r}))
runpy.run_path(".ci/manual_pages.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("manuals") / "man"
    subprocess.run([sys.executable, "-c", PROGRAM, made], cwd=TREE, check=True)
    return made


def test_every_command_has_a_manual_page(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert names == {"launcher.1", "trueface.1", *(f"launcher-{verb}.1" for verb in VERBS)}


def test_manual_page_contains_the_help_of_its_command(folder: Path) -> None:
    page = (folder / "launcher-add.1").read_text(encoding="utf-8")
    assert "launcher add \\-\\- python train.py \\-\\-lr 0.1\n" in page
    assert "audit\\fR\nFind mistakes" in (folder / "trueface.1").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff sets the pages")
def test_manual_page_is_formatted_without_warnings(folder: Path) -> None:
    command = ["groff", "-man", "-Tutf8", "-ww", "-P-cbou"]
    paths = sorted(str(path) for path in folder.iterdir())
    done = subprocess.run([*command, *paths], capture_output=True, text=True, check=True)
    assert not done.stderr
    assert re.search(r"--vram SIZE\n\s+GPU\s+memory\s+to\s+reserve\s+on\s+each\s+GPU", done.stdout)
    assert re.search(r"\n +launcher add -- python train.py --lr 0.1\n", done.stdout)
