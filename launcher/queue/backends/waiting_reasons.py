"""Why jobs that wait for pilots of a backend do not start, in one line."""

import time
from collections import Counter
from collections.abc import Sequence

from launcher.queue.backends.backend_pilots import BackendPilots
from launcher.queue.backends.pilot_rules import FAILURES_BEFORE_BACKOFF, PilotState
from launcher.queue.backends.tracked_pilot import Pilot
from launcher.system.text import sanitize_terminal
from launcher.system.units import format_estimate, format_seconds

NEVER_S = 1.0  # an engine that has never responded is late after this time
MOST_CHARACTERS = 600  # characters of an engine's message
LATE_S = 15.0  # an engine that takes longer is reported
REMEDY_FOR_LOST_NODE = (
    "If that node is permanently lost: launcher cancel, then launcher retry its jobs"
)


def one_line(text: str) -> str:
    """Return a program's output as one line that can be shown."""
    joined = " ".join(text.split())
    return sanitize_terminal(
        joined if len(joined) <= MOST_CHARACTERS else f"{joined[: MOST_CHARACTERS - 1]}…"
    )


def why_no_pilot_starts(
    group: BackendPilots, now: float, wall: float, *, with_log: bool = True
) -> str:
    """Return why no further pilot accepts the work that waits, in one line. '' if no reason is known.

    Args:
        group: the pilots of a backend.
        now: time by the clock.
        wall: seconds since 1970.
        with_log: include the output of the last pilot that could not work.
    """
    if (
        not group.calls.has_answered and group.calls.elapsed_s > NEVER_S
    ):  # nothing is known of any pilot
        return f"no response since {_format_time(wall - group.calls.elapsed_s, wall)}"
    parts = [
        _why_not_submitted(group, now, wall, with_log=with_log),
        *_describe_pending(group, wall),
    ]
    if not any(parts):
        parts = [_why_at_limit(group, now)]
    return "; ".join(filter(None, parts))


def _why_not_submitted(group: BackendPilots, now: float, wall: float, *, with_log: bool) -> str:
    name, pace = group.settings.name, group.throttle
    if not group.configured:
        return f"[backends.{name}] was removed from config.toml, so its pilots end after their jobs"
    if group.disk_error:
        return f"no pilot is submitted to {name}: {one_line(group.disk_error)}"
    if group.error:
        since = f"since {_format_time(group.error_since, wall)}"
        return f"no response {since} ({one_line(group.error)}), so nothing is submitted"
    if group.calls.elapsed_s > LATE_S:
        return f"no response for {format_seconds(group.calls.elapsed_s)}"
    pause_s = pace.backoff_s(now)
    if pace.refusal:
        again = f"; tried again in {format_seconds(pause_s)}" if pause_s else ""
        return f"a pilot could not be submitted: {one_line(pace.refusal)}{again}"
    if pace.failures:
        return _describe_failures(group, pause_s, with_log=with_log)
    return ""


def _format_time(timestamp: float, now: float) -> str:
    """Return a time of the day, with the date if it is before today. Unlike a span, it stays the same while it is shown."""
    then = time.localtime(timestamp)
    today = then[:3] == time.localtime(now)[:3]
    return time.strftime("%H:%M" if today else "%Y-%m-%d %H:%M", then)


def _describe_failures(group: BackendPilots, pause_s: float, *, with_log: bool) -> str:
    name, pace = group.settings.name, group.throttle
    number = pace.failures
    what = f"the last pilot of {name}" if number == 1 else f"the last {number} pilots of {name}"
    text = f"{what} failed: {one_line(pace.failure)}"
    if with_log and pace.log and pace.failure not in pace.log:
        text += f"; its log ends with: {one_line(pace.log)}"
    if pace.log == "":
        text += f"; it printed nothing (check that the nodes see {group.root})"
    if pause_s and number >= FAILURES_BEFORE_BACKOFF:
        text += (
            f"; the next one is tried in {format_seconds(pause_s)}, "
            f"or at once after a change of [backends.{name}]"
        )
    return text


def _describe_pending(group: BackendPilots, wall: float) -> list[str]:
    name, pilots = group.settings.name, group.all
    waiting = [pilot for pilot in pilots if pilot.state is PilotState.WAITING]
    starting = [
        pilot for pilot in pilots if pilot.state in {PilotState.STARTING, PilotState.SUBMITTED}
    ]
    silent = [pilot for pilot in pilots if pilot.state in {PilotState.SILENT, PilotState.STRANDED}]
    parts = []
    if waiting:
        parts.append(
            f"{_count_pilots(len(waiting), 'waits', 'wait')} in {name}{_describe_waiting(waiting, wall)}"
        )
    if starting:
        parts.append(
            f"{_count_pilots(len(starting), 'starts', 'start')} in {name}{_describe_nodes(starting)}"
        )
    parts += [f"{pilot.label} {_describe_silence(pilot)}" for pilot in silent[:1]]
    return parts


def _count_pilots(number: int, singular: str, plural: str) -> str:
    return f"1 pilot {singular}" if number == 1 else f"{number} pilots {plural}"


def _describe_waiting(waiting_pilots: Sequence[Pilot], wall: float) -> str:
    seen = [pilot.observation for pilot in waiting_pilots if pilot.observation is not None]
    reasons = [
        name for name, _ in Counter(filter(None, (each.reason for each in seen))).most_common(2)
    ]
    starts = [each.starts_at for each in seen if each.starts_at is not None]
    parts = [one_line(" and ".join(reasons))] if reasons else []
    if starts and (estimate := format_estimate(min(starts), wall)):
        parts.append(f"estimated start {estimate.removeprefix('at ')}")
    return f": {', '.join(parts)}" if parts else ""


def _describe_nodes(pilots: Sequence[Pilot]) -> str:
    nodes = sorted({pilot.node for pilot in pilots} - {""})
    more = f" and {len(nodes) - 2} more" if len(nodes) > 3 else ""
    return f" on {', '.join(nodes[: 2 if more else 3])}{more}" if nodes else ""


def _describe_silence(pilot: Pilot) -> str:
    span = format_seconds(min(pilot.silent_s, 1e9))
    if pilot.state is PilotState.STRANDED:
        return (
            f"has ended, but its node does not respond (silent for {span}), so its jobs may still run. "
            f"{REMEDY_FOR_LOST_NODE}"
        )
    return f"has been silent for {span}; its jobs start again only after its engine reports its end"


def _why_at_limit(group: BackendPilots, now: float) -> str:
    settings, held, wait_s = group.settings, group.count_toward_limit, group.submission_wait_s(now)
    if held >= settings.pilots:
        which = "the pilot" if held == 1 else f"all {held} pilots"
        return (
            f"{which} of {settings.name} {'is' if held == 1 else 'are'} busy "
            f"(limit: pilots = {settings.pilots} in [backends.{settings.name}])"
        )
    if wait_s > 0:
        return f"the next pilot is submitted to {settings.name} in {format_seconds(wait_s)}"
    return ""
