import importlib

import pytest

from launcher.kinds import installed_kinds
from trueface.jobs.former_settings import FORMER_SETTINGS


@pytest.mark.parametrize("setting", FORMER_SETTINGS)
def test_former_setting_is_a_constant_with_this_value_and_no_setting(setting: str) -> None:
    constant = FORMER_SETTINGS[setting]
    module = importlib.import_module(constant.module)
    assert vars(module)[constant.name] == constant.value
    kinds = installed_kinds().values()
    assert not [kind.name for kind in kinds if setting in kind.settings.model_fields]
    answers = {kind.constants[setting] for kind in kinds if hasattr(kind, "constants")}
    assert answers == {f"{constant.module}.{constant.name} = {constant.value:g}"}
