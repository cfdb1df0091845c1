"""Folders and names that are not UTF-8 text: commands refuse them with a message."""

import os
from pathlib import Path

import pytest

from launcher.queue.store.queue import Store
from tests.launcher.conftest import Launcher

BYTES = os.fsdecode(b"bad\xff")
MESSAGE = "'bad\\udcff' is not UTF-8 text, so a queue cannot store it"


@pytest.mark.parametrize(
    "words",
    [
        ("add", "--run", "rr", "--", "true"),
        ("add", "--run", "rr", "--dry-run", "--", "true"),
        ("run", "t.yaml", "--detach"),
        ("run", "t.yaml", "--dry-run"),
    ],
)
def test_a_run_in_a_folder_that_is_not_utf8_is_refused(
    launcher: Launcher,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
) -> None:
    folder = tmp_path / BYTES
    folder.mkdir()
    (folder / "t.yaml").write_text("name: t\ncommand: [{name: a, argv: ['true']}]\n")
    monkeypatch.chdir(folder)
    said = launcher.refused(*words)
    assert "bad\\udcff' is not UTF-8 text, so a queue cannot store it. Use another name" in said
    assert store.read.jobs() == []


def test_program_of_the_default_run_starts_in_a_folder_that_is_not_utf8(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / BYTES).mkdir()
    monkeypatch.chdir(tmp_path / BYTES)
    launcher.well("add", "--", "touch", "made")
    launcher.well("wait", "1")
    assert (tmp_path / BYTES / "made").exists()


@pytest.mark.parametrize("words", [("results", BYTES), ("group", BYTES, "--limit", "2")])
def test_a_name_that_is_not_utf8_is_refused(
    launcher: Launcher, store: Store, words: tuple[str, ...]
) -> None:
    assert MESSAGE in launcher.refused(*words)
    assert store.read.group_limits() == []
