"""All that a laboratory may import from the launcher."""

from launcher.errors import Error, JobError, MachineError, UnknownName, UsageError, nearest
from launcher.ids import (
    DataId,
    ModelId,
    Part,
    Poison,
    Stage,
    canonical,
    model_folder_name,
    parse_data,
    parse_model,
    parse_poison,
)
from launcher.kinds import Draft, Entry, Input, Job, Kind, Role, Settings, Words
from launcher.records import Json, read_json, write_atomic, write_json

__all__ = [
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
    "Poison",
    "Role",
    "Settings",
    "Stage",
    "UnknownName",
    "UsageError",
    "Words",
    "canonical",
    "model_folder_name",
    "nearest",
    "parse_data",
    "parse_model",
    "parse_poison",
    "read_json",
    "write_atomic",
    "write_json",
]
