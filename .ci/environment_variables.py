"""The environment variables of launcher: those that a user sets, and those that jobs and commands get.

docs/environment.md is generated from this list.
"""

from enum import StrEnum
from typing import NamedTuple


class Purpose(StrEnum):
    """The purpose of a variable."""

    SETTING = "setting"  # the user, for every command
    STANDARD = "standard"  # the user; other programs read it as well
    JOB = "job"  # launcher, for the program of a job
    MESSAGE = "message"  # launcher, for the command that sends a message
    INTERNAL = "internal"  # launcher, for its own processes


class Variable(NamedTuple):
    """An environment variable."""

    name: str
    purpose: Purpose
    meaning: str
    default: str = ""  # if it is not set


VARIABLES = (
    Variable(
        "LAUNCHER_HOME",
        Purpose.SETTING,
        "Queue folder. Each folder is a queue of its own.",
        "~/.local/state/launcher",
    ),
    Variable(
        "LAUNCHER_CONFIG",
        Purpose.SETTING,
        "Configuration file.",
        "~/.config/launcher/config.toml",
    ),
    Variable(
        "LAUNCHER_CLAIMS",
        Purpose.SETTING,
        "Folder in which all queues of a machine publish their reservations. Give it to containers that share GPUs.",
        "/dev/shm, or /tmp",
    ),
    Variable(
        "LAUNCHER_COMMAND_OPTION",
        Purpose.SETTING,
        "Default of an option of a command. LAUNCHER_RUN_DETACH=1 is --detach of launcher run. Spaces separate the values "
        "of a repeatable option.",
    ),
    Variable("XDG_STATE_HOME", Purpose.STANDARD, "Folder that contains the queue folder."),
    Variable("XDG_CONFIG_HOME", Purpose.STANDARD, "Folder that contains the configuration."),
    Variable("NO_COLOR", Purpose.STANDARD, "Any value turns colours off."),
    Variable("FORCE_COLOR", Purpose.STANDARD, "Any value turns colours on, also in pipes."),
    Variable("TERM", Purpose.STANDARD, "With dumb, screens are not redrawn and have no colours."),
    Variable(
        "CUDA_VISIBLE_DEVICES",
        Purpose.STANDARD,
        "GPUs that the jobs of this shell may use. A job gets its own value: the UUIDs of its GPUs, or an empty text.",
        "all GPUs",
    ),
    Variable("EDITOR", Purpose.STANDARD, "Editor of launcher edit. VISUAL has priority.", "nano or vi"),
    Variable("VISUAL", Purpose.STANDARD, "Editor of launcher edit.", "EDITOR"),
    Variable("PAGER", Purpose.STANDARD, "Program that shows the long pages of launcher help.", "less"),
    Variable("RAY_ADDRESS", Purpose.STANDARD, "Address of the Ray cluster."),
    Variable("LAUNCHER_JOB", Purpose.JOB, "Number of the job."),
    Variable("LAUNCHER_CPUS", Purpose.JOB, "Number of CPU cores that are reserved for the job."),
    Variable("LAUNCHER_VRAM", Purpose.JOB, "Bytes of memory that are reserved on each GPU."),
    Variable("LAUNCHER_PARAMS", Purpose.JOB, "Swept values of the job, as a JSON object."),
    Variable(
        "LAUNCHER_SNAPSHOT",
        Purpose.JOB,
        "Folder of the snapshot from which the code comes. Set it to off to run the present code.",
    ),
    Variable("LAUNCHER_COMMIT", Purpose.JOB, "Commit of the repository when a snapshot was taken."),
    Variable("LAUNCHER_ATTEMPT", Purpose.JOB, "Folder of the attempt in the queue folder."),
    Variable("LAUNCHER_HOME", Purpose.JOB, "Queue folder of the queue that runs the job."),
    Variable("LAUNCHER_CONFIG", Purpose.JOB, "Configuration file, if the scheduler has the variable."),
    Variable(
        "LAUNCHER_CLAIMS", Purpose.JOB, "Folder of reservations, if the scheduler has the variable."
    ),
    Variable(
        "CUDA_VISIBLE_DEVICES", Purpose.JOB, "UUIDs of the job's GPUs, or an empty text without a GPU."
    ),
    Variable("CUDA_DEVICE_ORDER", Purpose.JOB, "PCI_BUS_ID, the order that NVML uses."),
    Variable("OMP_NUM_THREADS", Purpose.JOB, "Number of CPU cores of the job, unless you set it."),
    Variable("MKL_NUM_THREADS", Purpose.JOB, "Number of CPU cores of the job, unless you set it."),
    Variable("OPENBLAS_NUM_THREADS", Purpose.JOB, "Number of CPU cores of the job, unless you set it."),
    Variable("LAUNCHER_PLACE", Purpose.JOB, "Variables that launcher set for the job. Only for launcher itself."),
    Variable("LAUNCHER_EVENT", Purpose.MESSAGE, "Most important event of the message."),
    Variable("LAUNCHER_EVENTS", Purpose.MESSAGE, "All events of the message, with commas."),
    Variable("LAUNCHER_TITLE", Purpose.MESSAGE, "Title of the message."),
    Variable("LAUNCHER_TEXT", Purpose.MESSAGE, "Text of the message."),
    Variable("LAUNCHER_MESSAGE", Purpose.MESSAGE, "ID of the message. A repetition has the same."),
    Variable("LAUNCHER_HOST", Purpose.MESSAGE, "Name of the machine."),
    Variable("LAUNCHER_RUN", Purpose.MESSAGE, "Name of the run."),
    Variable("LAUNCHER_FOLDER", Purpose.MESSAGE, "Folder of the run."),
    Variable("LAUNCHER_DONE", Purpose.MESSAGE, "Number of jobs that are done."),
    Variable("LAUNCHER_FAILED", Purpose.MESSAGE, "Number of jobs that failed."),
    Variable("LAUNCHER_CANCELLED", Purpose.MESSAGE, "Number of jobs that were cancelled."),
    Variable("LAUNCHER_SKIPPED", Purpose.MESSAGE, "Number of jobs that were skipped."),
    Variable("LAUNCHER_SECONDS", Purpose.MESSAGE, "Duration of the run, in seconds."),
    Variable("LAUNCHER_JOB_NAME", Purpose.MESSAGE, "Name of the first failed job, or of the job. LAUNCHER_JOB is its number."),
    Variable("LAUNCHER_REASON", Purpose.MESSAGE, "Reason of the first failed job, or of the job."),
    Variable("LAUNCHER_STATE", Purpose.MESSAGE, "State of the job, in a message about one job; held in a message about held jobs."),
    Variable("LAUNCHER_HELD", Purpose.MESSAGE, "Number of held jobs, in a message about them."),
    Variable("LAUNCHER_BEFORE", Purpose.INTERNAL, "Environment before the prologue of a site."),
    Variable("LAUNCHER_CALLS_FILE", Purpose.INTERNAL, "Functions of a job in processes that it starts."),
    Variable("LAUNCHER_NODE", Purpose.INTERNAL, "Name of a node of a cluster."),
    Variable("LAUNCHER_PILOT", Purpose.INTERNAL, "Pilot to which a process belongs."),
    Variable("LAUNCHER_RAYLET", Purpose.INTERNAL, "Process that started a Ray actor."),
    Variable("LAUNCHER_SERVER", Purpose.INTERNAL, "Fork server to which a process belongs."),
    Variable("LAUNCHER_SITE", Purpose.INTERNAL, "Variables that the prologue of a site changed."),
)  # fmt: skip
