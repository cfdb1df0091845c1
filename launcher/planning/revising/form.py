"""A job's settings and terms as the text that its owner edits: YAML, in the words of task files."""

import textwrap
from collections.abc import Iterator

from launcher.job_options.registry import job_options
from launcher.planning.revising.form_values import option_text, yaml_text
from launcher.planning.revising.queued_job import QueuedJob

SETTINGS, RESOURCES = "settings", "resources"
WIDTH = 96  # columns of a comment
_ABOUT = (
    "Change values, save the file, and leave the editor: the job is changed then. An empty file, or one without "
    "a change, leaves it as it is. A line that you delete means the default."
)


def form_of(job: QueuedJob, title: str) -> str:
    """Return the text in which a person changes a job.

    Args:
        job: which.
        title: what it is, and what follows when the text is saved; becomes a comment.
    """
    lines = [f"# {line}" for text in (title, _ABOUT) for line in textwrap.wrap(text, WIDTH)]
    return "\n".join([*lines, *_settings(job), "", *_resources(job), ""])


def _settings(job: QueuedJob) -> Iterator[str]:
    yield f"{SETTINGS}:"
    values = job.values
    for name, field in job.kind.settings.model_fields.items():
        if name in values:
            yield _line(name, yaml_text(values[name]), field.description or "")


def _resources(job: QueuedJob) -> Iterator[str]:
    """Give the options that are set, and the others as comments."""
    yield f"{RESOURCES}:"
    others = []
    request = job.request
    for option in job_options().values():
        if text := option_text(option, request):
            yield _line(option.name, text, option.help)
        else:
            others.append(f"  # {option.name}: …  {option.summary}")
    yield "  # not set:"
    yield from others


def _line(name: str, value: str, about: str) -> str:
    line = f"  {name}: {value}"
    return f"{line}  # {about}" if about and "\n" not in about else line
