"""The bar of `wait` in a notebook and a terminal."""

import sys

import pytest

from launcher.functions.task_files import bar, html
from launcher.states import State

STATES = {1: State.DONE, 2: State.FAILED, 3: State.RUNNING, 4: State.QUEUED}


def test_a_notebook_gets_plain_html() -> None:
    text = html(STATES)
    assert text.startswith('<progress value="2" max="4"></progress> 2 of 4 · ')
    assert "1 running" in text
    assert "1 failed" in text


def test_without_jobs_the_bar_is_no_error() -> None:
    assert 'value="0" max="1"' in html({})


def test_a_terminal_gets_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with bar(show=True) as show:
        show(STATES)
    drawn = capsys.readouterr()
    assert "2/4" in drawn.err
    assert drawn.out == ""
