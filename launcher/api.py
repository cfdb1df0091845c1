"""The public interface of the launcher: for plugin packages, and for scripts and notebooks that use the queue.

from launcher.api import results, submit, wait

answer = submit(train, 0.1, gpus=1, vram="10GiB")  # a function; a future
answer.result()
run = submit("tasks/quickstart.yaml", settings=["num_epochs=1"])  # a task file
wait(run)
results(run)
"""

import importlib
from typing import TYPE_CHECKING, Any

from launcher.experiments.draft import Draft, Input, condition_of_test, data_of_test, tested
from launcher.ids import (
    DataId,
    ModelId,
    Part,
    Poison,
    Stage,
    Words,
    canonical,
    model_folder_name,
    parse_data,
    parse_model,
    parse_poison,
)
from launcher.queue.workers.memory_share import Share, VramLimit
from launcher.queue.workers.worker_job import Entry, Job
from launcher.system.errors import (
    Error,
    JobError,
    MachineError,
    TaskFileError,
    UnknownName,
    UsageError,
    meant,
    nearest,
)
from launcher.system.files import Json, read_json, write_atomic, write_json
from launcher.system.installation import install_command
from launcher.system.units import format_bytes, parse_bytes

if TYPE_CHECKING:
    from concurrent.futures import CancelledError

    from launcher.experiments.functions.api import submit, submit_many
    from launcher.experiments.functions.executor import Executor
    from launcher.experiments.functions.future import Future, ProgramError, ProgramResult, future
    from launcher.experiments.functions.options import JobOptions
    from launcher.experiments.functions.program_api import submit_program
    from launcher.experiments.functions.task_files import Run, results, unfinished_models, wait
    from launcher.experiments.kind_interface import (
        HasEpochs,
        InheritsSettings,
        KeepsWork,
        Kept,
        Kind,
        NamesConstants,
        NamesModels,
        RanksMetrics,
        ReadsImages,
        RecordsLabels,
        RepeatsWork,
        ReportsValidation,
        Role,
        Settings,
        SharedJob,
        SharedPart,
        SharedWork,
        SharesWork,
        Volume,
        WarnsOfJobs,
        setting,
    )
    from launcher.experiments.planning.load import load, plan
    from launcher.experiments.planning.plan import Plan, PlannedJob
    from launcher.experiments.search.api import Search, search
    from launcher.experiments.taskfile.entries import TaskFile
    from launcher.experiments.taskfile.settings import fault_text
    from launcher.frontends.plugins.joblib.registration import register_joblib
    from launcher.frontends.screens.table_formats import latex_table
    from launcher.frontends.screens.usage_errors import usage_message
    from launcher.frontends.version import version_line
    from launcher.provenance.code_identity import code_digest
    from launcher.queue.gpu.core_shares import CoreShare, core_share

# A worker imports this module before it starts. A module that workers do not need is imported at the first use of
# its name.
_LATE = {
    **dict.fromkeys(
        (
            "HasEpochs",
            "InheritsSettings",
            "KeepsWork",
            "Kept",
            "Kind",
            "NamesConstants",
            "NamesConstants",
            "NamesModels",
            "RanksMetrics",
            "ReadsImages",
            "RecordsLabels",
            "RepeatsWork",
            "ReportsValidation",
            "Role",
            "Settings",
            "SharedJob",
            "SharedPart",
            "SharedWork",
            "SharesWork",
            "Volume",
            "WarnsOfJobs",
            "setting",
        ),
        "launcher.experiments.kind_interface",  # the module imports pydantic
    ),
    "CancelledError": "concurrent.futures",
    "CoreShare": "launcher.queue.gpu.core_shares",
    "Future": "launcher.experiments.functions.future",
    "JobOptions": "launcher.experiments.functions.options",
    "Plan": "launcher.experiments.planning.plan",
    "PlannedJob": "launcher.experiments.planning.plan",
    "Run": "launcher.experiments.functions.task_files",
    "TaskFile": "launcher.experiments.taskfile.entries",
    "code_digest": "launcher.provenance.code_identity",
    "core_share": "launcher.queue.gpu.core_shares",
    "fault_text": "launcher.experiments.taskfile.settings",
    "usage_message": "launcher.frontends.screens.usage_errors",
    "version_line": "launcher.frontends.version",
    "future": "launcher.experiments.functions.future",
    "latex_table": "launcher.frontends.screens.table_formats",
    "load": "launcher.experiments.planning.load",
    "plan": "launcher.experiments.planning.load",
    "register_joblib": "launcher.frontends.plugins.joblib.registration",
    "results": "launcher.experiments.functions.task_files",
    "Executor": "launcher.experiments.functions.executor",
    "Search": "launcher.experiments.search.api",
    "search": "launcher.experiments.search.api",
    "ProgramError": "launcher.experiments.functions.future",
    "ProgramResult": "launcher.experiments.functions.future",
    "submit": "launcher.experiments.functions.api",
    "submit_program": "launcher.experiments.functions.program_api",
    "submit_many": "launcher.experiments.functions.api",
    "unfinished_models": "launcher.experiments.functions.task_files",
    "wait": "launcher.experiments.functions.task_files",
}

__all__ = [
    "CancelledError",
    "CoreShare",
    "DataId",
    "Draft",
    "Entry",
    "Error",
    "Executor",
    "Future",
    "HasEpochs",
    "InheritsSettings",
    "Input",
    "Job",
    "JobError",
    "JobOptions",
    "Json",
    "KeepsWork",
    "Kept",
    "Kind",
    "MachineError",
    "ModelId",
    "NamesConstants",
    "NamesModels",
    "Part",
    "Plan",
    "PlannedJob",
    "Poison",
    "ProgramError",
    "ProgramResult",
    "RanksMetrics",
    "ReadsImages",
    "RecordsLabels",
    "RepeatsWork",
    "ReportsValidation",
    "Role",
    "Run",
    "Search",
    "Settings",
    "Share",
    "SharedJob",
    "SharedPart",
    "SharedWork",
    "SharesWork",
    "Stage",
    "TaskFile",
    "TaskFileError",
    "UnknownName",
    "UsageError",
    "Volume",
    "VramLimit",
    "WarnsOfJobs",
    "Words",
    "canonical",
    "code_digest",
    "condition_of_test",
    "core_share",
    "data_of_test",
    "fault_text",
    "format_bytes",
    "future",
    "install_command",
    "latex_table",
    "load",
    "meant",
    "model_folder_name",
    "nearest",
    "parse_bytes",
    "parse_data",
    "parse_model",
    "parse_poison",
    "plan",
    "read_json",
    "register_joblib",
    "results",
    "search",
    "setting",
    "submit",
    "submit_many",
    "submit_program",
    "tested",
    "unfinished_models",
    "usage_message",
    "version_line",
    "wait",
    "write_atomic",
    "write_json",
]


def __getattr__(name: str) -> Any:
    """Import a name for scripts and notebooks at its first use."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATE[name]), name)


def __dir__() -> list[str]:
    """Return all names, including those that are not imported yet."""
    return sorted({*globals(), *__all__})
