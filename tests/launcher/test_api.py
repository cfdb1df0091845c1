"""`launcher.api`: the names that laboratories import."""

import pytest

from launcher import api

NAMES_OF_0_2 = [
    "DataId",
    "Draft",
    "Entry",
    "Error",
    "Input",
    "Job",
    "JobError",
    "Json",
    "Kind",
    "MachineError",
    "ModelId",
    "Part",
    "Plan",
    "PlannedJob",
    "Poison",
    "Portion",
    "Role",
    "Settings",
    "Share",
    "Stage",
    "TaskFile",
    "TaskFileError",
    "UnknownName",
    "UsageError",
    "Words",
    "canonical",
    "load",
    "model_folder_name",
    "nearest",
    "parse_data",
    "parse_model",
    "parse_poison",
    "plan",
    "read_json",
    "write_atomic",
    "write_json",
]


@pytest.mark.parametrize("name", NAMES_OF_0_2)
def test_a_name_of_version_0_2_is_still_there(name: str) -> None:
    assert getattr(api, name) is not None
    assert name in api.__all__
