"""What is declared of each setting decides hashes, estimates and IDs: it is pinned for all job types.

`python -m tests.trueface.jobs.test_setting_facts` writes the file again after an intended change.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from launcher.experiments.kinds import installed_kinds

GOLDEN = Path(__file__).parents[2] / "data/golden/setting_facts.json"
SETS = ("neutral", "added", "costs")
ORDERED = ("conditions", "models", "folders")
MAPPINGS = ("aliases", "columns", "word_files")
FUNCTIONS = ("modules", "shared")
OWN = ("benchmark", "checkpoint", "classify", "command", "denoiser", "diffuser", "disrupt", "draw", "erase", "erased", "features",
    "forge", "forget", "poison", "purify", "restored", "revise", "sample", "test", "train", "translate",
    "translator", "unlearn")  # fmt: skip


def facts_of(kind: str) -> dict[str, Any]:
    """Return what the settings of a job type declare, as JSON keeps it."""
    settings = installed_kinds([kind])[kind].settings
    return {
        "settings": list(settings.model_fields),
        **{name: sorted(getattr(settings, name)) for name in SETS},
        **{name: list(getattr(settings, name)) for name in ORDERED},
        **{name: dict(sorted(getattr(settings, name).items())) for name in MAPPINGS},
        **{
            name: {key: _name(value) for key, value in sorted(getattr(settings, name).items())}
            for name in FUNCTIONS
        },
        "for_many": settings.for_many,
    }


def _name(function: Any) -> str:
    if isinstance(function, partial):
        return f"{_name(function.func)}{function.args}"
    return f"{function.__module__}.{function.__qualname__}"


@pytest.mark.parametrize("kind", OWN)
def test_declared_facts_of_settings_stay(kind: str) -> None:
    assert facts_of(kind) == json.loads(GOLDEN.read_text(encoding="utf-8"))[kind]


def test_facts_of_every_own_job_type_are_pinned() -> None:
    assert list(json.loads(GOLDEN.read_text(encoding="utf-8"))) == list(OWN)


if __name__ == "__main__":
    text = json.dumps({kind: facts_of(kind) for kind in OWN}, indent=1)
    GOLDEN.write_text(f"{text}\n", encoding="utf-8")
