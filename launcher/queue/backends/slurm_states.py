"""Parsers for squeue and sinfo: states, reasons and nodes of pilots, and the commands to list and end them.

Pilots are identified by their names, never by Slurm's numbers: a controller that crashes reuses those.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from math import inf
from typing import NamedTuple

from launcher.queue.backends.protocol import (
    NO_NODES,
    AllocationEndCause,
    AllocationState,
    Observation,
)

# the name comes last; ours hold no bar, and only ours are asked for
SQUEUE_FORMAT = "%i|%T|%K|%S|%e|%N|%r|%j"
SINFO_FORMAT = "%N|%T"
_JOB = re.compile(r"[0-9]+(_[0-9]+|_\[[^|]*\])?(\+[0-9]+)?")
_ELEMENT = re.compile(r"(?P<name>.+)_(?P<index>[0-9]{1,9})")
_SILENT = "*"  # the mark of sinfo for a node that does not respond
# set by an administrator, or left from before a restart of the controller: the node may not respond
_UNSURE = re.compile(r"(down|unknown|unk)\b")
_TIMEOUT = re.compile(r"^SlurmdTimeout\s*=\s*([0-9]+)", re.MULTILINE)
_TIMEOUTS_UNTIL_MARKED = (
    3.0  # factor on Slurm's timeout, after which a silent node is marked; measured: 1.6
)
_PING_DELAY_S = 60.0  # a busy controller may be late by that
_NO_REASON = ("None", "(null)", "N/A", "")
_LATEST_TIME = 1e11  # seconds since 1970; a later value is not a time

_WAITING = {
    *("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD"),
    *("SPECIAL_EXIT", "POWER_UP_NODE"),
}
RUNNING = {
    *("RUNNING", "COMPLETING", "STOPPED", "SUSPENDED", "RESIZING", "SIGNALING", "STAGE_OUT"),
    *("UPDATE_DB", "EXPEDITING"),
}
_CAUSES = {
    "COMPLETED": AllocationEndCause.COMPLETED,
    "PREEMPTED": AllocationEndCause.PREEMPTED,
    "NODE_FAIL": AllocationEndCause.NODE_FAILED,
    "BOOT_FAIL": AllocationEndCause.NODE_FAILED,
    "REVOKED": AllocationEndCause.NODE_FAILED,
    "TIMEOUT": AllocationEndCause.TIME_LIMIT,
    "DEADLINE": AllocationEndCause.TIME_LIMIT,
    "OUT_OF_MEMORY": AllocationEndCause.MEMORY,
    "CANCELLED": AllocationEndCause.CANCELLED,
    "FAILED": AllocationEndCause.FAILED,
    "LAUNCH_FAILED": AllocationEndCause.FAILED,
}
_STATES_BY_LIFE = (AllocationState.RUNNING, AllocationState.WAITING, AllocationState.ENDED)


class SqueueRow(NamedTuple):
    """A line of squeue."""

    job: str  # Slurm's number: 12, or 12_3 of an array
    state: str
    element: str  # number of an array's element
    start: str
    end: str
    node: str
    reason: str
    name: str


def parse_squeue(text: str) -> list[SqueueRow]:
    """Parse the output of squeue with `SQUEUE_FORMAT`.

    Raises:
        ValueError: that is something else; then nothing is known.
    """
    return [_row(line) for line in text.splitlines() if line.strip()]


def _row(line: str) -> SqueueRow:
    fields = line.split("|", 6)
    if len(fields) != 7 or not _JOB.fullmatch(fields[0].strip()) or "|" not in fields[6]:
        raise ValueError(f"not a line of squeue: {line[:80]!r}")
    reason, _, name = fields.pop().rpartition("|")
    job, state, element, start, end, node = map(str.strip, fields)
    node, reason = ("" if text in _NO_REASON else text for text in (node, reason))
    return SqueueRow(job, state, element, start, end, node, reason, name)


def split_token(token: str) -> tuple[str, str]:
    """Return the name of Slurm's job and the element of the array: `launcher-ab_17` is number 17 of `launcher-ab`."""
    match = _ELEMENT.fullmatch(token)
    return (match["name"], match["index"]) if match else (token, "")


def observe_rows(
    rows: Iterable[SqueueRow], tokens: Collection[str], nodes: Mapping[str, str] = NO_NODES
) -> dict[str, Observation]:
    """Return the observation of each pilot in the rows. The state is UNKNOWN for pilots without a row.

    A controller that was restored from an older state may start a job again on another node. That job finds the
    folder of its pilot taken, and ends. Its row is not about the pilot.

    Args:
        rows: rows of squeue.
        tokens: the pilots.
        nodes: the nodes that pilots reported, by token.
    """
    by_element: dict[tuple[str, str], list[Observation]] = {}
    for row in rows:
        index = row.element if row.element.isdigit() else ""
        by_element.setdefault((row.name, index), []).append(_observation(row))
    result = {}
    for token in tokens:
        name, index = split_token(token)
        # elements that were cancelled before their start are in the array's own row
        seen = by_element.get((name, index)) or by_element.get((name, "")) or []
        if own := nodes.get(token):
            seen = [
                item for item in seen if item.stage is AllocationState.WAITING or item.node == own
            ]
        result[token] = min(
            seen,
            key=lambda observation: _STATES_BY_LIFE.index(observation.stage),
            default=Observation(stage=AllocationState.UNKNOWN, cause=AllocationEndCause.UNKNOWN),
        )
    return result


def _observation(row: SqueueRow) -> Observation:
    if row.state in _CAUSES:
        cause = _CAUSES[row.state]
        return Observation(
            stage=AllocationState.ENDED, reason=row.reason, cause=cause, node=row.node
        )
    if row.state in _WAITING or (row.state not in RUNNING and not row.node):
        reason = row.reason or ("" if row.state == "PENDING" else row.state.lower())
        return Observation(stage=AllocationState.WAITING, reason=reason, starts_at=_time(row.start))
    # an unknown state of a newer Slurm does not mean an end if it has a node
    reason = "" if row.state == "RUNNING" else row.state.lower()
    return Observation(
        stage=AllocationState.RUNNING, reason=reason, node=row.node, ends_at=_time(row.end)
    )


def _time(text: str) -> float | None:
    """Return seconds since 1970, None if Slurm does not know the time."""
    if not text.isascii() or not text.isdigit():
        return None
    seconds = float(text)
    return seconds if 0 < seconds < _LATEST_TIME else None


def silent_nodes(text: str) -> set[str]:
    """Return the nodes in the output of sinfo with `SINFO_FORMAT` that do not respond.

    Raises:
        ValueError: that is something else; then nothing is known.
    """
    return {node for node, state in _node_states(text) if _SILENT in state}


def unsure_nodes(text: str) -> set[str]:
    """Return the nodes whose states in sinfo's output do not show whether they respond.

    Raises:
        ValueError: the output is something else. Then nothing is known.
    """
    states = _node_states(text)
    return {node for node, state in states if _SILENT not in state and _UNSURE.match(state.lower())}


def silent_node_timeout_s(configuration: str) -> float:
    """Return the seconds until a node that does not respond is marked, even if it is down. Infinite if never.

    Args:
        configuration: the output of `scontrol show config`.
    """
    timeout = _TIMEOUT.search(configuration)
    timeout_s = float(timeout[1]) if timeout else 0.0
    return _TIMEOUTS_UNTIL_MARKED * timeout_s + _PING_DELAY_S if timeout_s else inf


def _node_states(text: str) -> list[tuple[str, str]]:
    states = []
    for line in filter(None, text.splitlines()):
        node, bar, state = line.strip().partition("|")
        if not bar or not node or not state:
            raise ValueError(f"not a line of sinfo: {line[:80]!r}")
        states.append((node, state))
    return states


def live_elements(rows: Iterable[SqueueRow], tokens: Collection[str]) -> list[SqueueRow]:
    """Return the rows of elements of arrays that have not ended."""
    elements = {split_token(token) for token in tokens}
    return [row for row in rows if (row.name, row.element) in elements and row.state not in _CAUSES]


def format_array_ranges(numbers: Iterable[int]) -> str:
    """Return elements of an array as Slurm takes them: 0-9,12."""
    spans: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1] = spans[-1][0], number
        else:
            spans.append((number, number))
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def manual_commands(kind: str, tokens: Iterable[str]) -> tuple[str, ...]:
    """Return the command lines that list these pilots and end them. Empty if an engine has none."""
    if kind != "slurm":
        return ()
    names = ",".join(dict.fromkeys(split_token(token)[0] for token in tokens))
    return f"squeue --me --name={names}", f"scancel --me --name={names}"
