"""What a task file says before its sections: name, words of the user, defaults, resources, matrix."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import NamedTuple

from launcher.errors import Problem, UsageError, nearest
from launcher.job_options.notifications import AS_CONFIGURED, RunNotify, read_run_notify
from launcher.job_options.registry import JobRequest
from launcher.job_options.value_types import SHARE
from launcher.kind_interface import Kind, Role
from launcher.taskfile.defaults import (
    Top,
    read_default_labels,
    read_defaults,
    read_sweeps,
    scopes_of,
)
from launcher.taskfile.matrix import (
    Sweep,
)
from launcher.taskfile.overrides import Overrides
from launcher.taskfile.resources import read_request
from launcher.taskfile.scope import Scope
from launcher.taskfile.settings import (
    known_settings,
)
from launcher.taskfile.values import is_null, listed
from launcher.taskfile.yaml_tree import Fields, Given, Node, Scalar, plain_value

MOST_NAME_BYTES = 100
WARM_START = "warm_start"  # the setting by which a kind starts from its own earlier weights

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Reuse(StrEnum):
    """What of earlier runs is used again."""

    RESULTS = "results"  # what is done with the same hash is not done again
    WEIGHTS = "weights"  # all is done again; trainings start from the weights in their folder
    NOTHING = "nothing"  # all is done again, from the beginning


class Header(NamedTuple):
    """What holds for all sections."""

    name: str
    about: str
    phases: tuple[str, ...]
    reuse: Reuse
    share: float | None  # of the machine, beside other runs that wait; None: as it was, 1 at first
    notify: RunNotify  # what its owner is told of it
    pass_env: tuple[str, ...]
    scopes: tuple[Scope, ...]  # one for each combination of the file's matrix
    shared_requests: Mapping[str, JobRequest]  # of kinds whose jobs arise by themselves
    sweeps: tuple[Sweep, ...]


def read_header(
    root: Fields,
    kinds: Mapping[str, Kind],
    overrides: Overrides,
    problems: list[Problem],
    now: float,
    *,
    shared: Collection[str] = (),
) -> Header:
    """Read all but the sections.

    Args:
        root: the file, in today's words.
        kinds: every installed kind, with the words of the user.
        overrides: what the command line sets.
        problems: where complaints are added.
        now: seconds since 1970.
        shared: names of kinds whose jobs arise by themselves: `resources` may speak of them.
    """
    top = {key.text: (key, node) for key, node in root.pairs}
    scope = Scope(kinds=kinds, problems=problems, now=now)
    reuse = _reuse(top, scope)
    forced = dict(overrides.settings)
    kind_forced: dict[str, Given] = dict(overrides.kind_settings)
    if reuse is Reuse.WEIGHTS:
        key, node = top["reuse"]
        kind_forced |= _warm(kinds, key, node, kind_forced)
    request, kind_requests = _resources(top, scope, shared)
    defaults, kind_defaults = read_defaults(top, scope)
    sweeps = read_sweeps(top, scope, tuple(forced))
    scope = replace(
        scope,
        defaults=defaults,
        kind_defaults=kind_defaults,
        forced=forced,
        kind_forced=kind_forced,
        request=request,
        kind_requests=kind_requests,
        forced_resources=tuple(overrides.resources),
        labels=read_default_labels(top, scope),
        forced_labels=overrides.labels,
    )
    about = top["about"][1] if "about" in top else None
    if about is not None and not isinstance(about, Scalar):
        scope.blame(about.place, "wrong-type", "about: expected one line of text")
    return Header(
        name=_name(top, root, scope),
        about=about.text if isinstance(about, Scalar) and not is_null(about) else "",
        phases=_phases(top, scope),
        reuse=reuse,
        share=_share(top, scope),
        notify=_notify(top, scope),
        pass_env=_pass_env(top, scope),
        scopes=tuple(scopes_of(scope, sweeps)),
        shared_requests={name: kind_requests[name] for name in shared if name in kind_requests},
        sweeps=tuple(sweeps),
    )


def name_fault(name: str) -> str | None:
    """Tell why `name` cannot be the name of a run, which is one folder below runs/; None if it can."""
    if not name:
        return "is empty"
    if "/" in name or "\\" in name or name in (".", ".."):
        return "would lead outside its folder: no '/', no '\\', not '.' or '..'"
    if name[0] in "-." or name != name.strip():
        return "begins with '-', '.' or a space, or ends with a space"
    if not name.isprintable():
        return "holds a character that cannot be printed"
    if len(name.encode(errors="replace")) > MOST_NAME_BYTES:
        return f"is longer than {MOST_NAME_BYTES} bytes"
    return None


def _name(top: Top, root: Fields, scope: Scope) -> str:
    if "name" not in top:
        scope.blame(root.place, "no-name", "the file has no name", "begin with 'name: my-study'")
        return ""
    node = top["name"][1]
    if not isinstance(node, Scalar):
        scope.blame(node.place, "wrong-type", "name: expected one word")
        return ""
    if fault := name_fault("" if is_null(node) else node.text):
        scope.blame(
            node.place, "name", f"the name of a run names its folder; {node.text!r} {fault}"
        )
    return node.text


def _reuse(top: Top, scope: Scope) -> Reuse:
    if "reuse" not in top or is_null(top["reuse"][1]):
        return Reuse.RESULTS
    node = top["reuse"][1]
    text = node.text if isinstance(node, Scalar) else ""
    if text in list(Reuse):
        return Reuse(text)
    close = nearest(text, list(Reuse))
    hint = f"did you mean '{close}'?" if close else ""
    scope.blame(node.place, "reuse", f"reuse: expected {_or(Reuse)}", hint)
    return Reuse.RESULTS


def _share(top: Top, scope: Scope) -> float | None:
    if "share" not in top or is_null(top["share"][1]):
        return None
    node = top["share"][1]
    try:
        return SHARE.read(node.text if isinstance(node, Scalar) else "a list", scope.now)
    except UsageError as error:
        hint = "a run with share 3 gets three times as much as one with 1, while both wait"
        scope.blame(node.place, "share", f"share: {error}", hint)
    return None


def _notify(top: Top, scope: Scope) -> RunNotify:
    if "notify" not in top or is_null(top["notify"][1]):
        return AS_CONFIGURED
    node = top["notify"][1]
    try:
        return read_run_notify(plain_value(node))
    except UsageError as error:
        scope.blame(node.place, "notify", f"notify: {error}", "see docs/notify.md")
    return AS_CONFIGURED


def _warm(
    kinds: Mapping[str, Kind], key: Scalar, node: Node, others: Mapping[str, Given]
) -> dict[str, Given]:
    """Return what makes trainings start from the weights that lie in their own folder."""
    if not isinstance(node, Scalar):
        return {}
    warm = replace(node, text="true", plain=True)
    return {
        name: {WARM_START: (key, warm), **others.get(name, {})}
        for name, kind in kinds.items()
        if kind.role is Role.TRAIN and WARM_START in known_settings(kind)
    }


def _phases(top: Top, scope: Scope) -> tuple[str, ...]:
    if "phases" not in top or is_null(top["phases"][1]):
        return ()
    node = top["phases"][1]
    phases = []
    for item in listed(node):
        word = item.text if isinstance(item, Scalar) else ""
        if word in scope.kinds:
            phases.append(word)
            continue
        close = nearest(word, scope.kinds) if word else None
        hint = f"did you mean '{close}'?" if close else f"known: {', '.join(sorted(scope.kinds))}"
        scope.blame(item.place, "phases", "phases: expected the name of a kind of jobs", hint)
    if not listed(node):
        scope.blame(node.place, "phases", "phases: expected at least one kind of jobs")
    return tuple(phases)


def _pass_env(top: Top, scope: Scope) -> tuple[str, ...]:
    if "pass_env" not in top or is_null(top["pass_env"][1]):
        return ()
    names = []
    for node in listed(top["pass_env"][1]):
        if isinstance(node, Scalar) and _VARIABLE.fullmatch(node.text):
            names.append(node.text)
            continue
        hint = "its value comes from the shell in which `launcher run` is typed"
        scope.blame(node.place, "pass-env", "pass_env: expected the name of a variable", hint)
    return tuple(names)


def _resources(
    top: Top, scope: Scope, shared: Collection[str]
) -> tuple[JobRequest, dict[str, JobRequest]]:
    """Return what all jobs ask for, and those of single kinds."""
    request, by_kind = JobRequest(), dict[str, JobRequest]()
    if "resources" not in top or is_null(top["resources"][1]):
        return request, by_kind
    node = top["resources"][1]
    if not isinstance(node, Fields):
        return read_request(node, request, scope), by_kind
    kinds = {*scope.kinds, *shared}
    own = [pair for pair in node.pairs if pair[0].text in kinds]
    general = tuple(pair for pair in node.pairs if pair not in own)
    request = read_request(replace(node, pairs=general), request, scope, also=kinds)
    for key, value in own:
        if not is_null(value):
            by_kind[key.text] = read_request(value, request, scope)
    return request, by_kind


def _or(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}"
