"""The manual pages are those of the commands as they are, and man can read them."""

import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from launcher.cli.main import VERBS
from tests.packaging.manual_pages import FOLDER, pages

TREE = Path(__file__).parents[2]


def test_the_pages_say_what_the_commands_say() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}
    assert written == pages(), "python -m tests.packaging.manual_pages"


def test_every_verb_has_a_page() -> None:
    names = {path.name for path in FOLDER.iterdir()}
    assert names == {"launcher.1", "trueface.1", *(f"launcher-{verb}.1" for verb in VERBS)}


def test_an_installation_brings_the_pages() -> None:
    setup = ConfigParser()
    setup.read(TREE / "setup.cfg")
    assert (TREE / setup["options.data_files"]["share/man/man1"].strip()).parent == FOLDER


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff sets the pages")
def test_a_page_is_set_without_a_warning() -> None:
    command = ["groff", "-man", "-Tutf8", "-ww", "-P-cbou"]
    paths = sorted(str(path) for path in FOLDER.iterdir())
    done = subprocess.run([*command, *paths], capture_output=True, text=True, check=True)
    assert not done.stderr
    assert re.search(r"--vram SIZE\n\s+GPU\s+memory\s+that\s+is\s+reserved", done.stdout)
    assert re.search(r"\n +launcher add -- python train.py --lr 0.1\n", done.stdout)
