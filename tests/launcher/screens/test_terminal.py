import io
import json
import math
import os
import subprocess

import pytest

from launcher.screens.terminal import HIGH, WIDE, coloured, say_json, speaks_unicode, terminal_size
from launcher.store.queue import Store
from tests.build import a_spec, enqueue
from tests.launcher.conftest import Launcher
from tests.terminal import COMMAND, in_a_terminal

ESCAPE = "\x1b["


@pytest.mark.parametrize(
    ("environ", "known"),
    [
        ({}, True),
        ({"LANG": "en_US.UTF-8"}, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, False),  # Python's own word, not the terminal's
        ({"LANG": "C", "LC_CTYPE": "de_DE.UTF-8"}, True),
        ({"LC_ALL": "C", "LANG": "en_US.UTF-8"}, False),
        ({"LANG": "de_DE.ISO-8859-1"}, False),
        ({"LANG": "en_US.utf8", "TERM": "dumb"}, False),
        ({"LC_ALL": "", "LC_CTYPE": "", "LANG": ""}, True),
    ],
)
def test_the_environment_tells_whether_a_terminal_knows_unicode(
    environ: dict[str, str], known: bool
) -> None:
    assert speaks_unicode(environ) is known


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_a_pipe_has_colours_only_when_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], wanted: bool
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, text in environ.items():
        monkeypatch.setenv(name, text)
    assert coloured(io.StringIO()) is wanted


def test_a_terminal_has_colours_and_no_color_takes_them_away(store: Store) -> None:
    enqueue(store, a_spec())
    assert ESCAPE in in_a_terminal("status", colour=True)
    assert ESCAPE not in in_a_terminal("status")


@pytest.mark.parametrize("words", [("--color", "never", "status"), ("status", "--color=never")])
def test_the_option_stands_before_or_behind_the_verb(store: Store, words: tuple[str, ...]) -> None:
    enqueue(store, a_spec())
    assert ESCAPE not in in_a_terminal(*words, colour=True)


def test_colours_can_be_had_where_the_environment_wants_none(store: Store) -> None:
    enqueue(store, a_spec())
    assert ESCAPE in in_a_terminal("status", "--color", "always")


@pytest.mark.parametrize("words", [("--ascii", "status"), ("status", "--ascii")])
def test_plain_characters_are_enough(store: Store, words: tuple[str, ...]) -> None:
    enqueue(store, "command/世界")
    drawn = in_a_terminal(*words)
    assert drawn.isascii()
    assert "o command/????" in drawn


def test_a_terminal_of_another_locale_gets_plain_characters_by_itself(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue(store, a_spec())
    monkeypatch.setenv("LC_ALL", "C")
    assert "WAITING" in in_a_terminal("status")
    assert in_a_terminal("status").isascii()


def test_a_pipe_has_full_names_whatever_the_locale(store: Store) -> None:
    enqueue(store, "command/世界")
    told = subprocess.run(
        [*COMMAND, "status"], env=os.environ | {"LC_ALL": "C"}, check=True, capture_output=True
    )
    assert "command/世界" in told.stdout.decode()


def test_a_pipe_never_has_an_escape(launcher: Launcher, store: Store) -> None:
    enqueue(store, a_spec())
    assert ESCAPE not in launcher("status").out
    assert "NO_COLOR" not in os.environ


def test_a_terminal_that_does_not_know_its_size_has_the_usual_one() -> None:
    ours, theirs = os.openpty()  # of 0 columns
    with os.fdopen(theirs, "w") as stream:
        assert terminal_size(stream) == (WIDE, HIGH)
    os.close(ours)


def test_json_has_null_where_it_has_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    say_json({"rows": [{"auc": (math.inf, "x"), "n": 2}], "loss": math.nan})
    record = {"schema": 1, "rows": [{"auc": [None, "x"], "n": 2}], "loss": None}
    assert json.loads(capsys.readouterr().out) == record
