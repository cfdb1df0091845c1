"""The editor opened again on what was wrong, in a terminal."""

from pathlib import Path

import pytest

from launcher.store.queue import Store
from tests.build import job_row
from tests.launcher.conftest import Launcher
from tests.terminal import in_a_terminal

# wrong at first, right when it is opened again
MENDED = """#!/bin/sh
if grep -q 'cpu: 1' "$1"; then sed -i 's/cpu: 1/cpus: 1/' "$1"; else sed -i 's/cpus: 2/cpu: 1/' "$1"; fi
"""


@pytest.mark.parametrize(("typed", "cpus", "code"), [("y\n", 1, 0), ("\n", 1, 0), ("n\n", 2, 130)])
def test_what_was_wrong_is_mended_in_the_same_text_or_left(
    launcher: Launcher,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    typed: str,
    cpus: int,
    code: int,
) -> None:
    launcher("add", "--name", "mine", "--hold", "--cpus", "2", "--", "true")
    editor = tmp_path / "editor"
    editor.write_text(MENDED)
    editor.chmod(0o700)
    monkeypatch.setenv("VISUAL", str(editor))
    drawn = in_a_terminal("edit", "mine", typed=typed, code=code)
    assert "did you mean 'cpus'?" in drawn
    assert "edit again? [Y/n]" in drawn
    assert job_row(store, 1).spec.resources.cpus == cpus
    if code:
        kept = Path(drawn.rstrip().rpartition(" ")[2])
        assert "cpu: 1" in kept.read_text()
        kept.unlink()
        kept.parent.rmdir()
