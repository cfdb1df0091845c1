"""Calls in their file: written by a submitter, read by workers."""

import sys
from pathlib import Path

import pytest

from launcher.errors import MachineError
from launcher.functions.calls import call_of, read_call, write_calls


def test_each_call_is_read_with_its_own_arguments(tmp_path: Path) -> None:
    folder = tmp_path / "functions"
    calls = write_calls(folder, divmod, [(7, 2), (9, 4)], {})
    assert len([*folder.iterdir()]) == 1
    for call, value in zip(calls, [(3, 1), (2, 1)], strict=True):
        function, arguments, keywords = read_call(call_of(call.settings()))
        assert function(*arguments, **keywords) == value


def test_modules_are_looked_for_where_the_submitter_found_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path), "", *sys.path])
    (call,) = write_calls(tmp_path / "functions", abs, [(-1,)], {})
    monkeypatch.setattr(sys, "path", ["/elsewhere"])
    read_call(call)
    assert sys.path[:2] == [str(tmp_path), str(Path.cwd())]
    assert sys.path[-1] == "/elsewhere"


def test_a_call_whose_file_is_gone_says_what_to_do(tmp_path: Path) -> None:
    (call,) = write_calls(tmp_path / "functions", abs, [(-1,)], {})
    with pytest.raises(MachineError, match="submit it again"):
        read_call(call._replace(file=f"{call.file}x"))
