"""`launcher.api`: the names that laboratories import."""

import subprocess
import sys

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


def test_all_names_are_listed_though_some_are_not_imported_yet() -> None:
    code = (
        "import sys, launcher.api as api; print(set(api.__all__) <= set(dir(api)), "
        "{'cloudpickle', 'launcher.functions', 'launcher.planning', 'rich'} & set(sys.modules))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout == "True set()\n"
    assert all(getattr(api, name) is not None for name in api.__all__)


def test_functions_are_submitted_without_what_plans_task_files() -> None:
    code = (
        "import sys; from launcher.api import submit, submit_many, wait; "
        "print({'launcher.planning', 'launcher.taskfile'} & set(sys.modules))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout == "set()\n"
