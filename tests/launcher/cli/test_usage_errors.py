"""What people get wrong on the command line, and the exact answer: what, where, and what to do next."""

import os
from pathlib import Path

import pytest

from launcher.cli.main import VERBS
from tests.launcher.mistakes import FILE, Mistake, Places, ask, read

MISTAKES = read(FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """Where command lines are typed."""
    return Places(tmp_path_factory.mktemp("mistakes"))


@pytest.mark.parametrize("mistake", MISTAKES, ids=[f"{one.line} [{one.given}]" for one in MISTAKES])
def test_a_wrong_command_line_is_answered_word_by_word(mistake: Mistake, places: Places) -> None:
    if mistake.given == "somebody else's" and os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    assert str(ask(places, mistake)) == str(mistake)


def test_every_verb_is_among_them() -> None:
    words = {one.line.split()[1] for one in MISTAKES if " " in one.line}
    assert set(VERBS) <= words
    assert len({(one.given, one.line) for one in MISTAKES}) == len(MISTAKES) > 100


def test_a_mistake_is_no_success_and_its_answer_goes_to_the_standard_error() -> None:
    for one in MISTAKES:
        assert one.code
        assert one.out == ""
        assert one.err
        assert "Traceback" not in one.err


def test_the_file_is_read_as_it_is_written() -> None:
    text = "\n".join(map(str, MISTAKES))
    assert read(text) == MISTAKES


def test_a_place_is_left_as_it_was_found(places: Places) -> None:
    before = dict(os.environ)
    here = Path.cwd()
    with places.at("a queue") as folder:
        assert Path.cwd() == folder
    assert (dict(os.environ), Path.cwd()) == (before, here)
    assert not folder.exists()
