"""Regular expressions that are compiled at their first use."""

import importlib
import re
from pathlib import Path

import pytest

import launcher
from launcher.system.lazy_regex import compile_all, compile_lazily


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of the expressions that are compiled from now on."""
    texts: list[str] = []
    compile_now = re.compile

    def record(text: str, flags: int = 0) -> re.Pattern[str]:
        texts.append(text)
        return compile_now(text, flags)

    monkeypatch.setattr(re, "compile", record)
    return texts


def test_pattern_is_compiled_at_its_first_use(compiled: list[str]) -> None:
    pattern = compile_lazily(r"(\w+)=(.*)", re.DOTALL)
    assert not compiled
    for text in ("a=1\n2", "b=3"):
        match = pattern.fullmatch(text)
        assert match is not None
        assert list(match.groups()) == text.split("=")
    assert compiled == [r"(\w+)=(.*)"]
    assert pattern.flags & re.DOTALL


def test_every_pattern_of_the_launcher_compiles(compiled: list[str]) -> None:
    root = Path(launcher.__file__).parent
    for file in root.rglob("*.py"):
        if "= compile_lazily(" in file.read_text(encoding="utf-8"):
            name = ".".join(file.relative_to(root.parent).with_suffix("").parts)
            importlib.import_module(name)
    compile_all()
    assert {r"\w[\w.@/=-]*", r"([0-9]{1,6}):([0-9]{2})"} <= {*compiled}
