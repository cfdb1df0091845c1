"""What a task file says before its sections: name, words of the user, defaults, resources, and the sweeps of its matrix."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import NamedTuple

from launcher.errors import Problem, UsageError, nearest
from launcher.job_options.notifications import AS_CONFIGURED, RunNotify, read_run_notify
from launcher.job_options.registry import JobRequest
from launcher.job_options.value_types import SHARE
from launcher.kind_interface import Kind, Role
from launcher.taskfile.legacy_names import LABELS_RATE, OLD_WORDS, current, percent_of_rate
from launcher.taskfile.matrix import (
    Sweep,
    Swept,
    blame_neutral,
    by_setting,
    combinations,
    is_neutral,
    read_matrix,
    read_sweep,
    without,
)
from launcher.taskfile.overrides import Overrides
from launcher.taskfile.resources import RESOURCE_HINTS, read_request
from launcher.taskfile.scope import Scope
from launcher.taskfile.settings import (
    ALL_WORDS,
    all_settings,
    known_settings,
    old_names,
    unknown_key,
)
from launcher.taskfile.values import is_null, listed
from launcher.taskfile.yaml_tree import Fields, Given, Items, Node, Scalar, plain_value

TOP = (
    "name",
    "about",
    "include",
    "phases",
    "reuse",
    "share",
    "notify",
    "pass_env",
    "subsets",
    "modifiers",
    "defaults",
    "resources",
    "matrix",
    "autotest",
)
Top = Mapping[str, tuple[Scalar, Node]]  # the file's words

_TIED = "[{seed: 1, poison_seed: 7}, …]"


_SWEPT_ROLES = frozenset({Role.TRAIN, Role.METHOD, Role.LABELS, Role.FOLDER})


def read_sweeps(top: Top, scope: Scope, forced: Sequence[str]) -> list[Sweep]:
    """Read the file's sweeps, but for those of settings that the command line sets."""
    if "matrix" not in top or is_null(top["matrix"][1]):
        return []
    sweeps = read_matrix(top["matrix"][1], lambda fields: _sweeps(fields, scope), scope.problems)
    _blame_twice(sweeps, scope)
    for swept in (swept for sweep in sweeps for swept in sweep.first if swept.key.text in forced):
        message = f"--set takes the place of this sweep of {swept.key.text}"
        scope.note(swept.key.place, "matrix", message)
    return list(without(sweeps, lambda swept: swept.key.text in forced))


def _sweeps(fields: Fields, scope: Scope) -> list[Sweep]:
    """Read one mapping of the file's matrix: sweeps for all kinds, and below the name of one."""
    makers = {name: kind for name, kind in scope.kinds.items() if kind.role in _SWEPT_ROLES}
    also = {name for kind in makers.values() for name in known_settings(kind)}
    general: list[tuple[Scalar, Node]] = []
    of_kind: list[Sweep] = []
    for key, value in fields.pairs:
        if key.text in makers and isinstance(value, Fields | Items) and _is_matrix(value):
            kind = makers[key.text]
            read = partial(_sweeps_of, kinds=[kind], name=kind.name, scope=scope)
            of_kind += read_matrix(value, read, scope.problems)
        elif key.text in makers and key.text in also:  # a setting may have the name of a kind
            general.append((key, value))
        elif key.text in makers and makers[key.text].role is not Role.LABELS:
            message = f"matrix: expected sweeps of {key.text} such as {{seed: [1, 2, 3]}}"
            scope.blame(value.place, "wrong-type", message)
        elif key.text in scope.kinds:
            scope.blame(key.place, "matrix", *_not_swept(scope.kinds[key.text]))
        else:
            general.append((key, value))
    rest = replace(fields, pairs=tuple(general))
    return [*_sweeps_of(rest, kinds=[*makers.values()], name=None, scope=scope), *of_kind]


def _is_matrix(node: Fields | Items) -> bool:
    """Tell whether a node is a matrix of a kind's settings; `poison: [0, 20]` is none."""
    return isinstance(node, Fields) or any(isinstance(node, Fields) for node in node.nodes)


def _sweeps_of(
    fields: Fields, *, kinds: Sequence[Kind], name: str | None, scope: Scope
) -> list[Sweep]:
    """Read the sweeps of settings: of the kind of that name, or of any of several kinds."""
    what = f"a setting of {name}" if name else "a setting of anything that makes models"
    sweeps: list[Sweep] = []

    def elsewhere(setting: str) -> str:
        others = [kind for kind in scope.kinds.values() if kind.role in _SWEPT_ROLES]
        if name and any(setting in known_settings(kind) for kind in others):
            return f"settings of several kinds are tied right below matrix: {_TIED}"
        return ""

    for key, value in settings_among(fields.pairs, kinds, what, scope, elsewhere).values():
        sweep = read_sweep(key, value, scope.problems, name)
        if sweep is not None and is_neutral(key.text, scope.kinds.values()):
            blame_neutral(key, scope.problems)
        sweeps += [] if sweep is None else [sweep]
    return sweeps


def _not_swept(kind: Kind) -> tuple[str, str]:
    """Return why a kind is no setting to be swept, and what to write instead."""
    if kind.role is Role.LABELS:
        hint = f"write {kind.name}: [0, 20] in a training's entry, or below defaults"
        return "matrix: several poisons need no matrix", hint
    return f"matrix: {kind.name} makes no model", "a matrix sweeps settings of what makes models"


def _blame_twice(sweeps: Sequence[Sweep], scope: Scope) -> None:
    """Blame a sweep of a setting for all kinds where it is also swept for one of them."""
    every = [swept for sweep in sweeps for swept in sweep.first]
    general = {(swept.key.text, swept.key.place.file) for swept in every if swept.kind is None}
    for swept in every:
        if swept.kind is not None and (swept.key.text, swept.key.place.file) in general:
            message = f"matrix: {swept.key.text} is swept for all kinds and for {swept.kind}"
            hint = "sweep it for the kinds that are meant, each below its name"
            scope.blame(swept.key.place, "matrix", message, hint)


def scopes_of(scope: Scope, sweeps: Sequence[Sweep]) -> Iterable[Scope]:
    """Give the scope of each combination of the file's matrix."""
    for number, chosen in enumerate(combinations(sweeps, scope.problems)):
        by_kind: dict[str, dict[str, Swept]] = {}
        for swept in chosen:
            if swept.kind is not None:
                by_kind.setdefault(swept.kind, {})[swept.key.text] = swept
        general = by_setting(swept for swept in chosen if swept.kind is None)
        yield replace(scope, combination=number, chosen=general, kind_chosen=by_kind)


def read_defaults(top: Top, scope: Scope) -> tuple[Given, dict[str, Given]]:
    """Return the settings of `defaults`: those for all kinds, and by the name of one."""
    by_kind: dict[str, Given] = {}
    if "defaults" not in top or is_null(top["defaults"][1]):
        return {}, by_kind
    node = top["defaults"][1]
    if not isinstance(node, Fields):
        scope.blame(node.place, "wrong-type", "defaults: expected settings: {lr: 0.001}")
        return {}, by_kind
    general: list[tuple[Scalar, Node]] = []
    also = {name for kind in scope.kinds.values() for name in known_settings(kind)}
    for key, value in node.pairs:
        kind = scope.kinds.get(key.text)
        if kind is not None and kind.role is not Role.LABELS and not isinstance(value, Fields):
            kind = None if key.text in also else kind  # a setting may have the name of a kind
        if kind is not None and isinstance(value, Fields):
            by_kind[key.text] = settings_among(
                value.pairs, [kind], f"a setting of {key.text}", scope
            )
        elif kind is None and key.text != LABELS_RATE:
            general.append((key, value))
        elif kind is not None and kind.role is not Role.LABELS and not is_null(value):
            message = f"defaults: expected settings of {key.text} such as {{lr: 0.001}}"
            scope.blame(value.place, "wrong-type", message)
    return settings_among(general, scope.kinds.values(), "a setting of any kind", scope), by_kind


def read_default_labels(top: Top, scope: Scope) -> Node | None:
    """Return `defaults: {poison: 20}`, what every training has that says nothing itself."""
    node = top["defaults"][1] if "defaults" in top else None
    for key, value in node.pairs if isinstance(node, Fields) else ():
        if key.text == LABELS_RATE:
            return percent_of_rate(key, value, scope.problems)
        kind = scope.kinds.get(key.text)
        if kind is not None and kind.role is Role.LABELS and not isinstance(value, Fields):
            return value
    return None


def settings_among(
    pairs: Iterable[tuple[Scalar, Node]],
    kinds: Iterable[Kind],
    what: str,
    scope: Scope,
    hints: Callable[[str], str] = lambda _: "",
) -> dict[str, tuple[Scalar, Node]]:
    """Return the settings among `pairs` by the names of today; blame what is none.

    `hints` may know what to do with a name that is no setting there.
    """
    own = list(kinds)
    names = {name for kind in own for name in known_settings(kind)}
    settings: dict[str, tuple[Scalar, Node]] = {}
    for key, value in pairs:
        now = current(key, own, scope.problems)
        if now.text in settings:
            message = f"{now.text!r} is given twice, by its name of today and by an old one"
            scope.blame(key.place, "duplicate-key", message, "leave one of them out")
        elif now.text in names:
            settings[now.text] = (now, value)
        else:
            also = scope.kinds if len(own) > 1 else ()
            hint = RESOURCE_HINTS.get(now.text, hints(now.text))
            if now.text not in RESOURCE_HINTS and (now.text in OLD_WORDS or now.text in TOP):
                hint = "it is no setting: write it at the top of the file"
            where = all_settings(own[0]) if len(own) == 1 else ALL_WORDS
            problem = unknown_key(
                now, what, names, nearby=also, hint=hint, where=where, old=old_names(own)
            )
            scope.problems.append(problem)
    return settings


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
