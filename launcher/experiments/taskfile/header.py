"""The header of a task file: name, defaults, resources, and options of the whole run."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TypedDict

from launcher.experiments.kind_interface import Kind, Role
from launcher.experiments.taskfile.language import Reuse, settings_among
from launcher.experiments.taskfile.legacy_names import LABELS_RATE, percent_of_rate
from launcher.experiments.taskfile.nodes import (
    GivenSetting,
    GivenSettings,
    MappingNode,
    Node,
    ScalarNode,
    as_list,
    is_null,
    plain_value,
)
from launcher.experiments.taskfile.overrides import Overrides
from launcher.experiments.taskfile.scope import EVERY, Layer, Scope, read_resources
from launcher.experiments.taskfile.settings import ALL_WORDS, known_settings
from launcher.queue.job_options.notifications import AS_CONFIGURED, RunNotify, read_run_notify
from launcher.queue.job_options.value_types import SHARE
from launcher.queue.jobs.job import run_name_fault
from launcher.system.environment import variable_fault
from launcher.system.errors import UsageError, did_you_mean, list_known_names, nearest

WARM_START = "warm_start"  # the setting with which a kind starts from its own earlier weights


def read_scope(
    root: MappingNode,
    scope: Scope,
    overrides: Overrides,
    reuse: Reuse,
    shared_keys: Collection[str],
) -> Scope:
    """Return the scope of a file's entries without its matrix.

    Args:
        root: Root of the file.
        scope: Scope with its kinds and problems.
        overrides: Overrides of the command line.
        reuse: Reuse of earlier results or weights.
        shared_keys: Names of kinds whose jobs are created automatically; `resources` may contain them.
    """
    warm = _warm_start_defaults(root, scope.kinds) if reuse is Reuse.WEIGHTS else {}
    forced = {**warm, **overrides.settings}
    scope = replace(
        scope,
        forced={name: {**warm.get(name, {}), **given} for name, given in forced.items()},
        forced_resources=tuple(overrides.resources),
        forced_labels=overrides.labels,
    )
    scope = read_resources(root.find_value("resources"), scope, shared_keys)
    return _with_defaults(root.find_value("defaults"), scope)


def _with_defaults(node: Node | None, scope: Scope) -> Scope:
    """Return the scope with the values of `defaults`: settings for all kinds, for single kinds, and poison."""
    if node is None:
        return scope
    problems = scope.problems
    if not isinstance(node, MappingNode):
        problems.add_error(node, "wrong-type", "defaults: expected settings such as {lr: 0.001}")
        return scope
    every = known_settings(scope.kinds.values(), ALL_WORDS)
    general: list[tuple[ScalarNode, Node]] = []
    layer: dict[str, GivenSettings] = {}
    labels: Node | None = None
    for key, value in node.pairs:
        kind = scope.kinds.get(key.text)
        if key.text == LABELS_RATE:
            labels = percent_of_rate(key, value, problems) if labels is None else labels
        elif kind is not None and isinstance(value, MappingNode):
            what = f"a setting of {kind.name}"
            layer[kind.name] = settings_among(value.pairs, known_settings([kind]), what, problems)
        elif kind is not None and kind.role is Role.LABELS:
            labels = value if labels is None else labels
        elif kind is None or key.text in every.names:  # a setting may have the same name as a kind
            general.append((key, value))
        elif not is_null(value):
            message = f"defaults: expected settings of {kind.name} such as {{lr: 0.001}}"
            problems.add_error(value, "wrong-type", message)
    what = "a setting of any job type"
    layer[EVERY] = settings_among(general, every, what, problems, nearby=scope.kinds)
    return replace(scope, defaults=layer, labels=labels)


def _warm_start_defaults(root: MappingNode, kinds: Mapping[str, Kind]) -> Layer:
    """Return the settings with which trainings start from the weights in their own folder."""
    pair = root.find_pair("reuse")
    if pair is None or not isinstance(pair[1], ScalarNode):
        return {}
    warm = GivenSetting(pair[0], replace(pair[1], text="true", plain=True))
    return {
        name: {WARM_START: warm}
        for name, kind in kinds.items()
        if kind.role is Role.TRAIN and WARM_START in kind.settings.model_fields
    }


class RunHeader(TypedDict):
    """The options of the whole run; see `TaskFile`."""

    name: str
    about: str
    phases: tuple[str, ...]
    reuse: Reuse
    share: float | None
    notify: RunNotify
    pass_env: tuple[str, ...]


def read_header(root: MappingNode, scope: Scope) -> RunHeader:
    """Return the options of the whole run; invalid ones count as not given."""
    return RunHeader(
        name=_read_name(root, scope),
        about=_read_about(root.find_value("about"), scope),
        phases=_read_phases(root.find_value("phases"), scope),
        reuse=_read_reuse(root.find_value("reuse"), scope),
        share=_read_share(root.find_value("share"), scope),
        notify=_read_notify(root.find_value("notify"), scope),
        pass_env=_read_pass_env(root.find_value("pass_env"), scope),
    )


def _read_name(root: MappingNode, scope: Scope) -> str:
    problems, pair = scope.problems, root.find_pair("name")
    if pair is None:
        problems.add_error(root, "no-name", "the file has no name", "add the line 'name: my-study'")
        return ""
    node = pair[1]
    if not isinstance(node, ScalarNode):
        problems.add_error(node, "wrong-type", "name: expected one word")
        return ""
    if fault := run_name_fault("" if is_null(node) else node.text):
        message = f"the run name {node.text!r} {fault}"
        problems.add_error(node, "name", message)
    return node.text


def _read_about(node: Node | None, scope: Scope) -> str:
    if node is not None and not isinstance(node, ScalarNode):
        scope.problems.add_error(node, "wrong-type", "about: expected one line of text")
    return node.text if isinstance(node, ScalarNode) else ""


def _read_reuse(node: Node | None, scope: Scope) -> Reuse:
    text = node.text if isinstance(node, ScalarNode) else ""
    if node is None or text in list(Reuse):
        return Reuse(text or Reuse.RESULTS)
    hint = did_you_mean(nearest(text, list(Reuse)))
    *first, last = Reuse
    message = f"reuse: expected {', '.join(first)} or {last}"
    scope.problems.add_error(node, "reuse", message, hint)
    return Reuse.RESULTS


def _read_share(node: Node | None, scope: Scope) -> float | None:
    try:
        if node is not None:
            share: float = SHARE.read(
                node.text if isinstance(node, ScalarNode) else "a list", scope.now
            )
            return share
    except UsageError as error:
        hint = "a run with share 3 gets three times the GPU time of a run with share 1"
        scope.problems.add_error(node, "share", f"share: {error}", hint)
    return None


def _read_notify(node: Node | None, scope: Scope) -> RunNotify:
    try:
        if node is not None:
            return read_run_notify(plain_value(node))
    except UsageError as error:
        scope.problems.add_error(
            node, "notify", f"notify: {error}", "launcher help messages describes the settings"
        )
    return AS_CONFIGURED


def _read_phases(node: Node | None, scope: Scope) -> tuple[str, ...]:
    phases = []
    nodes = as_list(node)
    for item in nodes:
        word = item.text if isinstance(item, ScalarNode) else ""
        if word in scope.kinds:
            phases.append(word)
            continue
        hint = did_you_mean(nearest(word, scope.kinds) if word else None)
        hint = hint or list_known_names(word, sorted(scope.kinds), "launcher kinds")
        message = "phases: expected the name of a job type"
        scope.problems.add_error(item, "phases", message, hint)
    if node is not None and not nodes:
        scope.problems.add_error(node, "phases", "phases: expected at least one job type")
    return tuple(phases)


def _read_pass_env(node: Node | None, scope: Scope) -> tuple[str, ...]:
    names = []
    for item in as_list(node):
        if isinstance(item, ScalarNode) and not variable_fault(item.text):
            names.append(item.text)
            continue
        hint = "`launcher run` reads its value from your shell"
        message = "pass_env: expected the name of an environment variable"
        scope.problems.add_error(item, "pass-env", message, hint)
    return tuple(names)
