"""Running jobs that queue jobs themselves: if those lack cores, their reasons name the jobs that hold them.

Two programs that wait for their own jobs on a full machine wait until one program ends or is cancelled.
"""

from collections.abc import Iterable, Sequence

from launcher.queue.home.paths import Home
from launcher.queue.scheduler.policy.co_location import format_job_names
from launcher.queue.scheduler.policy.model import Decision, Wait
from launcher.queue.store.rows import Claim
from launcher.system.errors import pluralize


def find_submitters(home: Home, claims: Iterable[Claim]) -> list[Claim]:
    """Return the running attempts whose programs have queued jobs in this queue."""
    return [claim for claim in claims if home.attempt(*claim.key).queued_jobs.exists()]


def lacks_cores(decisions: Iterable[Decision]) -> bool:
    """Return whether a job waits because there are too few cores."""
    return any(isinstance(each, Wait) and each.lacking_resource == "cores" for each in decisions)


def name_submitters(decisions: Sequence[Decision], claims: Sequence[Claim]) -> list[Decision]:
    """Return decisions in which the reasons of jobs that lack cores name running submitters."""
    if not claims:
        return [*decisions]
    which = format_job_names([str(number) for number in sorted(claim.job for claim in claims)])
    holds = "holds" if len(claims) == 1 else "hold"
    held = sum(claim.cpus for claim in claims)
    holders = f"{which}, which queued other jobs, {holds} {pluralize(held, 'core')}"
    return [
        _with_holders(each, holders)
        if isinstance(each, Wait) and each.lacking_resource == "cores"
        else each
        for each in decisions
    ]


def _with_holders(wait: Wait, holders: str) -> Wait:
    situation = wait.data.get("situation")
    data = {
        **wait.data,
        "need": wait.data.get("need", wait.reason),
        "situation": f"{situation}; {holders}" if situation else holders,
    }
    return wait._replace(reason=f"{wait.reason}; {holders}", data=data)
