import importlib
import re
from pathlib import Path

import pytest

from launcher.experiments.kinds import installed_kinds
from trueface.jobs.former_settings import FORMER_SETTINGS
from trueface.unlearning.settings import UnlearnSettings

ROOT = Path(__file__).parents[3]
PAGES = {
    path.name: path.read_text(encoding="utf-8")
    for folder in ("docs", "contributing", "benchmarks/studies")
    for path in (ROOT / folder).glob("*.md")
}
TASKS = [path.read_text(encoding="utf-8") for path in (ROOT / "tasks").glob("*.yaml")]
KINDS = [kind for kind in installed_kinds().values() if kind.entry.startswith("trueface.")]
DEFAULT = re.compile(r"\(default: (?:the )?([^ )]+)[^)]*\)$")


@pytest.mark.parametrize("setting", FORMER_SETTINGS)
def test_former_setting_is_a_constant_with_this_value_and_no_setting(setting: str) -> None:
    constant = FORMER_SETTINGS[setting]
    assert vars(importlib.import_module(constant.module))[constant.name] == constant.value
    assert not [kind.name for kind in KINDS if setting in kind.settings.model_fields]
    assert {kind.constants[setting] for kind in KINDS} == {  # type: ignore[attr-defined]  # a JobKind
        f"{constant.module}.{constant.name} = {constant.value:g}"
    }
    row = f"|`{setting}`|`{constant.module}.{constant.name}`|{constant.value:g}|\n"
    assert row in PAGES["tasks.md"]


def test_every_setting_is_on_a_page_or_in_a_task_file() -> None:
    words = set(re.findall(r"\w+", " ".join([*PAGES.values(), *TASKS])))
    settings = {name for kind in KINDS for name in kind.settings.model_fields}
    assert sorted(settings - words) == []


def test_page_has_the_defaults_of_the_methods() -> None:
    rows = re.findall(r"^\|`(\w+)`\|([\w.-]+)\|", PAGES["unlearning.md"], re.MULTILINE)
    shown = {name: value for name, value in rows if not name.startswith("unlearn_")}
    described = {
        name: DEFAULT.search(UnlearnSettings.model_fields[name].description or "") for name in shown
    }
    defaults = {name: found[1] for name, found in described.items() if found}
    assert len(defaults) > 10
    assert {name: shown[name].lower() for name in defaults} == {
        name: f"{float(value):g}" if value[0].isdigit() else value
        for name, value in defaults.items()
    }
