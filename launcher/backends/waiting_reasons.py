"""Why jobs that wait for pilots of a backend do not start, in one line."""

import time
from collections import Counter
from collections.abc import Sequence

from launcher.backends.backend_pilots import BackendPilots
from launcher.backends.pilot import Pilot
from launcher.backends.pilot_rules import TRIES, Life
from launcher.system.text import harmless
from launcher.units import format_estimate, format_seconds

NEVER_S = 1.0  # an engine that has never answered is late then
MOST = 600  # characters of what an engine said
LATE_S = 15.0  # an engine that takes longer is reported
GONE_FOR_GOOD = "If that node is permanently lost: launcher cancel, then launcher retry its jobs"


def line(text: str) -> str:
    """Return what a program said as a line that can be shown."""
    joined = " ".join(text.split())
    return harmless(joined if len(joined) <= MOST else f"{joined[: MOST - 1]}…")


def reason(group: BackendPilots, now: float, wall: float, *, with_log: bool = True) -> str:
    """Return why no further pilot takes the work that waits, in a line; '' where nothing is known to say.

    Args:
        group: the pilots of a backend.
        now: by the clock.
        wall: seconds since 1970.
        with_log: tell what the last pilot printed that could not work.
    """
    if not group.calls.answered and group.calls.late_s > NEVER_S:  # of no pilot anything is known
        return f"no response since {_clock(wall - group.calls.late_s, wall)}"
    parts = [_obstacle(group, now, wall, with_log=with_log), *_on_their_way(group, wall)]
    if not any(parts):
        parts = [_full(group, now)]
    return "; ".join(filter(None, parts))


def _obstacle(group: BackendPilots, now: float, wall: float, *, with_log: bool) -> str:
    name, pace = group.settings.name, group.pace
    if not group.configured:
        return f"[backends.{name}] was removed from config.toml, so its pilots end after their jobs"
    if group.disk:
        return f"no pilot is submitted to {name}: {line(group.disk)}"
    if group.trouble:
        since = f"since {_clock(group.trouble_since, wall)}"
        return f"no response {since} ({line(group.trouble)}), so nothing is submitted"
    if group.calls.late_s > LATE_S:
        return f"no response for {format_seconds(group.calls.late_s)}"
    pause_s = pace.pause_s(now)
    if pace.refusal:
        again = f"; tried again in {format_seconds(pause_s)}" if pause_s else ""
        return f"a pilot could not be submitted: {line(pace.refusal)}{again}"
    if pace.failures:
        return _failures(group, pause_s, with_log=with_log)
    return ""


def _clock(at: float, now: float) -> str:
    """Return a time of the day, before today with its date; unlike a span it does not change while it is shown."""
    then = time.localtime(at)
    today = then[:3] == time.localtime(now)[:3]
    return time.strftime("%H:%M" if today else "%Y-%m-%d %H:%M", then)


def _failures(group: BackendPilots, pause_s: float, *, with_log: bool) -> str:
    name, pace = group.settings.name, group.pace
    number = pace.failures
    what = f"the last pilot of {name}" if number == 1 else f"the last {number} pilots of {name}"
    text = f"{what} failed: {line(pace.failure)}"
    if with_log and pace.log and pace.failure not in pace.log:
        text += f"; its log ends with: {line(pace.log)}"
    if pace.log == "":
        text += f"; it printed nothing (check that the nodes see {group.root})"
    if pause_s and number >= TRIES:
        text += (
            f"; the next one is tried in {format_seconds(pause_s)}, "
            f"or at once after a change of [backends.{name}]"
        )
    return text


def _on_their_way(group: BackendPilots, wall: float) -> list[str]:
    name, pilots = group.settings.name, group.all
    waiting = [pilot for pilot in pilots if pilot.life is Life.WAITING]
    starting = [pilot for pilot in pilots if pilot.life in {Life.STARTING, Life.SUBMITTED}]
    silent = [pilot for pilot in pilots if pilot.life in {Life.SILENT, Life.STRANDED}]
    parts = []
    if waiting:
        parts.append(f"{_pilots(len(waiting), 'waits', 'wait')} in {name}{_why(waiting, wall)}")
    if starting:
        parts.append(f"{_pilots(len(starting), 'starts', 'start')} in {name}{_where(starting)}")
    parts += [f"{pilot.label} {_silence(pilot)}" for pilot in silent[:1]]
    return parts


def _pilots(number: int, singular: str, plural: str) -> str:
    return f"1 pilot {singular}" if number == 1 else f"{number} pilots {plural}"


def _why(waiting: Sequence[Pilot], wall: float) -> str:
    seen = [pilot.observation for pilot in waiting if pilot.observation is not None]
    reasons = [
        name for name, _ in Counter(filter(None, (each.reason for each in seen))).most_common(2)
    ]
    starts = [each.starts_at for each in seen if each.starts_at is not None]
    parts = [line(" and ".join(reasons))] if reasons else []
    if starts and (estimate := format_estimate(min(starts), wall)):
        parts.append(f"estimated start {estimate.removeprefix('at ')}")
    return f": {', '.join(parts)}" if parts else ""


def _where(pilots: Sequence[Pilot]) -> str:
    nodes = sorted({pilot.node for pilot in pilots} - {""})
    more = f" and {len(nodes) - 2} more" if len(nodes) > 3 else ""
    return f" on {', '.join(nodes[: 2 if more else 3])}{more}" if nodes else ""


def _silence(pilot: Pilot) -> str:
    span = format_seconds(min(pilot.silent_s, 1e9))
    if pilot.life is Life.STRANDED:
        return (
            f"has ended, but its node does not respond (silent for {span}), so its jobs may still run. "
            f"{GONE_FOR_GOOD}"
        )
    return f"has been silent for {span}; its jobs start again only after its engine reports its end"


def _full(group: BackendPilots, now: float) -> str:
    settings, held, wait_s = group.settings, group.held, group.wait_s(now)
    if held >= settings.pilots:
        which = "the pilot" if held == 1 else f"all {held} pilots"
        return (
            f"{which} of {settings.name} {'is' if held == 1 else 'are'} busy "
            f"(limit: pilots = {settings.pilots} in [backends.{settings.name}])"
        )
    if wait_s > 0:
        return f"the next pilot is submitted to {settings.name} in {format_seconds(wait_s)}"
    return ""
