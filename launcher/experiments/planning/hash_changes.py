"""Why the hash of a job differs from that in the queue, in a few words."""

import json
from collections.abc import Collection, Mapping, Sequence

from launcher.experiments.kind_interface import REVISIONS
from launcher.experiments.planning.plan import PlannedJob
from launcher.experiments.taskfile.settings import shorten_pair
from launcher.ids import read_words
from launcher.provenance.code_identity import WHOLE_CODE, CodeIndex
from launcher.queue.jobs.context import INPUTS, OUTPUTS
from launcher.queue.store.rows import JobRow
from launcher.system.files import Json

MOST_CHANGES = 3  # listed in a reason, which is one line
LONGEST_VALUE = 40  # characters of a setting that was changed


def join_changes(changes: Sequence[str]) -> str:
    """Return the first changes for one line, and `…` if there are more."""
    return ", ".join(changes[:MOST_CHANGES]) + (", …" if len(changes) > MOST_CHANGES else "")


def hash_changes(
    job: PlannedJob,
    row: JobRow,
    repeated_jobs: Sequence[str],
    definitions: Sequence[str],
    *,
    left_out: Collection[str] = (),
    revisions: Sequence[str] = (),
) -> tuple[str, ...]:
    """Return in a few words each why the hash differs; the settings in `left_out` are left out.

    `revisions` are those that the row does not have, if they are known.
    """
    before, decisive = row.spec, json.loads(job.identity.settings or "{}")
    settings = [
        key
        for key in sorted({*job.settings, *before.settings})
        if job.settings.get(key) != before.settings.get(key)
        # a setting that was added later was not changed
        and (key in before.settings or key in decisive)
    ]
    changes = [
        _format_setting_change(before.settings, job.settings, key)
        for key in settings
        if key not in left_out
    ]
    changes += _code_changes(job, row, definitions)
    if job.images != before.images:
        changes.append(f"images {before.images} → {job.images}")
    words = read_words(before.words)
    if job.words != words:
        names = {*job.words.subsets, *job.words.modifiers, *words.subsets, *words.modifiers}
        changes.append(f"folders of {', '.join(sorted(names))} changed")
    if repeated_jobs:
        changes.append(f"{repeated_jobs[0]} runs again")
    if not changes and not settings:
        return tuple(revisions or decisive.get(REVISIONS, ())) or ("inputs changed",)
    return tuple(changes)


def _code_changes(job: PlannedJob, row: JobRow, definitions: Sequence[str]) -> list[str]:
    """Return in a few words each what of the code differs: `definitions`, or what none of them shows."""
    before, now = row.spec.sources, job.sources
    if before.get(WHOLE_CODE) == now.get(WHOLE_CODE):
        return []
    if len(definitions) > MOST_CHANGES:
        more = len(definitions) - MOST_CHANGES
        return [f"code of {', '.join(definitions[:MOST_CHANGES])} and {more} more"]
    if not definitions:
        return ["other code"]
    return [
        f"{name} {_short_digest(before.get(name))} → {_short_digest(now.get(name))}"
        if name in before or name in now
        else f"{name} changed"
        for name in definitions
    ]


def other_definitions(job: PlannedJob, row: JobRow, index: CodeIndex | None) -> tuple[str, ...]:
    """Return the definitions whose code differs from the code in the queue, those of removed modules last.

    If the definitions of a module are no longer known, the module is listed instead. A module that was only renamed
    is not listed.
    """
    before, now = row.spec.sources, job.sources
    if before.get(WHOLE_CODE) == now.get(WHOLE_CODE):
        return ()
    known, present = set(before.values()), set(now.values())
    changed = [name for name in now if name != WHOLE_CODE and now[name] not in known]
    removed = [name for name in before if name not in now and before[name] not in present]
    names: list[str] = []
    for module in changed:
        definitions: Sequence[str] = ()
        if index is not None and module in before:
            definitions = index.changed_definitions(before[module], now[module])
        names += [f"{module}.{name}" if name else module for name in definitions] or [module]
    return (*names, *removed)


def _format_setting_change(
    old_settings: Mapping[str, Json], new_settings: Mapping[str, Json], key: str
) -> str:
    """Return the change of a setting: of files the other ones, otherwise both values, shortened if they are long."""
    old, new = old_settings.get(key), new_settings.get(key)
    if key in (INPUTS, OUTPUTS) and isinstance(old, list) and isinstance(new, list):
        changes = []
        for word, names, others in (("added", new, old), ("removed", old, new)):
            if files := [name for name in names if name not in others]:
                more = f" and {len(files) - 1} more" if len(files) > 1 else ""
                changes.append(f"{files[0]}{more} {word}")
        if changes:
            return f"{key}: {', '.join(changes)}"
    pair = shorten_pair(
        _format_setting(old_settings, key), _format_setting(new_settings, key), LONGEST_VALUE
    )
    return f"{key} {' → '.join(pair)}"


def _format_setting(settings: Mapping[str, Json], key: str) -> str:
    if key not in settings:
        return "unset"
    value = settings[key]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short_digest(digest: str | None) -> str:
    return "absent" if digest is None else f"{digest[:4]}…"
