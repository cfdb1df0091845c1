"""docs/clusters.md lists every setting of [backends.NAME] with its default, and its examples are valid."""

import re
import tomllib
from pathlib import Path

import pytest

from launcher.queue.backends.settings import _KEY_READERS, BackendSettings, read_backends

PAGE = (Path(__file__).parents[3] / "docs" / "clusters.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\|`(\w+)`\|(.+?)\|(.+)\|$", PAGE.partition("## Settings")[2], re.MULTILINE)
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


def test_table_lists_each_setting_once() -> None:
    assert sorted(key for key, _, _ in ROWS) == sorted(_KEY_READERS)


@pytest.mark.parametrize(("key", "default"), [row[:2] for row in ROWS if row[0] != "kind"])
def test_default_of_the_table_is_correct(key: str, default: str) -> None:
    _, read = _KEY_READERS[key]
    field = key if hasattr(BackendSettings, key) else f"{key}_s"
    holds = getattr(BackendSettings(name="x", kind="slurm"), field)
    if default == "–":
        assert holds in {None, ""}
    else:
        assert read(tomllib.loads(f"value = {default.strip('`')}")["value"]) == holds


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_example_is_valid(example: str) -> None:
    faults: list[object] = []
    read_backends(tomllib.loads(example)["backends"], faults)  # type: ignore[arg-type]  # any will do
    assert faults == []
