"""How long attempts shared their GPUs, what each used of them alone, and how much slower it was beside others.

Nothing of it needs to survive the scheduler: what an attempt taught is stored when it has ended.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from math import exp

from launcher.gpu.monitor import Sight
from launcher.gpu.snapshot import GpuProcess, GpuSnapshot
from launcher.scheduler.policy.co_location import UNKNOWN_LOAD, Load, load_of
from launcher.store.rows import Claim
from launcher.store.usage import LONGEST_S, NOT_MEASURED, Measured, slowdown_per_job
from launcher.system.files import Json
from launcher.system.paths import Home
from launcher.units import median
from launcher.workers.progress.steps import Step, latest

GAP_S = 30.0  # between two looks that lie further apart, anybody may have come and gone
LEAST_S = 5.0  # of steps alone, and as long of steps beside others, before they are compared
LEAST_STEPS = 3
LOADING_S = 60.0  # so long an attempt without a kernel counts as one that still loads
LEAST_USE_S = 0.6  # of looks, before a mean load is one
RECENT_S = 20.0  # after so long a look counts a third in the load of a running attempt
BUSY = 0.05  # a stranger's process that keeps a GPU less busy slows nobody down
LARGE = (
    1 << 30
)  # bytes; likewise one that holds less, where the driver does not tell how busy it is
FULL = 0.9  # while all together keep a GPU no busier, each of them is as busy as alone
MOST_SLOWDOWN = 100.0
LEAST_SHARE = (
    0.5  # of an attempt must have been shared, before its duration says by how much it was slower
)


@dataclass(slots=True)
class _Pace:
    """Steps that were made, and in how many seconds."""

    steps: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float | None:
        """Steps a second; None: too few to tell."""
        if self.seconds < LEAST_S or self.steps < LEAST_STEPS:
            return None
        return self.steps / self.seconds


@dataclass(slots=True)
class _Account:
    """What was seen of one attempt so far."""

    at: float  # of the newest look, monotonic
    began: float  # the first one
    whole: bool  # it was seen from its beginning
    company: int | None = None  # others on its GPUs at that look
    step: Step | None = None
    shared_s: float = 0.0
    shared_others_s: float = 0.0  # the others there were, times the seconds of `shared_s`
    alone: _Pace = field(default_factory=_Pace)
    beside: _Pace = field(default_factory=_Pace)
    others_s: float = 0.0  # the others there were, times the seconds of `beside`
    use_s: float = 0.0  # the use of its GPUs times seconds
    used_s: float = 0.0  # the seconds of those looks
    recent_use_s: float = 0.0  # both again, with looks counting less the older they are
    recent_used_s: float = 0.0
    idle_s: float = 0.0  # those of the newest look, if nothing was used: they count at the next one

    @property
    def recent_load(self) -> float:
        """How busy it kept its GPUs lately, 0 to 1; 0 if that was not measured."""
        return self.recent_use_s / self.recent_used_s if self.recent_used_s > 0 else 0.0

    def count(self, share: float, seconds: float) -> None:
        """Count that it kept its GPUs busy for a share of some seconds."""
        self.use_s += share * seconds
        self.used_s += seconds
        kept = exp(-seconds / RECENT_S)
        self.recent_use_s = self.recent_use_s * kept + share * seconds
        self.recent_used_s = self.recent_used_s * kept + seconds


class SharedTime:
    """Keeps the account of each running attempt, from look to look."""

    def __init__(self, home: Home) -> None:
        """Begin without attempts.

        Args:
            home: where their progress lies.
        """
        self._home = home
        self._accounts: dict[tuple[int, int], _Account] = {}
        self._looked = False

    def enter(
        self, sight: Sight, claims: Collection[Claim], owner: Callable[[int], int | None]
    ) -> None:
        """Take in a look.

        Args:
            sight: a new one.
            claims: the attempts that run.
            owner: returns the job to which a process belongs, None where it is none of ours.
        """
        gpus = {gpu.uuid: gpu for gpu in sight.gpus}
        owners = {
            process.pid: owner(process.pid) for gpu in sight.gpus for process in gpu.processes or ()
        }
        accounts = {}
        for claim in claims:
            if not claim.gpus:
                continue
            key = claim.key
            account = self._accounts.get(key)
            if account is None:
                account = _Account(at=sight.at, began=sight.at, whole=self._looked)
            there = [gpus[uuid] for uuid in claim.gpus if uuid in gpus]
            self._look(account, sight.at, claim, _company(claim, claims, there, owners))
            self._use(account, sight.at, claim.job, there, owners)
            account.at = sight.at
            accounts[key] = account
        self._accounts, self._looked = accounts, True

    def of(self, claim: Claim) -> Measured:
        """Return how an attempt shared its GPUs, as far as that was seen."""
        account = self._accounts.get(claim.key)
        if account is None:
            return NOT_MEASURED
        return Measured(
            shared_s=account.shared_s if account.whole else None,
            slowdown=_slowdown(account),
            others=_others(account),
            sm=account.use_s / account.used_s if account.used_s >= LEAST_USE_S else None,
        )

    def load(self, claim: Claim) -> Load:
        """Return what a running attempt does to its GPUs lately, as far as it was measured."""
        account = self._accounts.get(claim.key)
        if account is None:
            return UNKNOWN_LOAD
        enough = account.used_s >= LEAST_USE_S and account.recent_used_s > 0
        return load_of(
            account.recent_use_s / account.recent_used_s if enough else None,
            slowdown_per_job(_slowdown(account), _others(account)),
            measured=True,
            steps=account.step is not None,
        )

    def record(self, key: tuple[int, int]) -> dict[str, Json]:
        """Return what is known of the load of a running attempt, for a scheduler that takes over.

        Args:
            key: its job and number.
        """
        account = self._accounts.get(key)
        if account is None:
            return {}
        return {"load": account.recent_load, "load_s": account.recent_used_s}

    def adopt(self, key: tuple[int, int], record: Mapping[str, Json], now: float) -> None:
        """Take over what the scheduler before us knew; what cannot be true counts as not known.

        Args:
            key: of an attempt, its job and number.
            record: with what `record` returned.
            now: monotonic seconds.
        """
        match record:
            case {"load": int() | float() as load, "load_s": int() | float() as seconds} if (
                0 <= load <= 1 and 0 < seconds <= LONGEST_S
            ):
                account = _Account(at=now, began=now, whole=False)
                account.count(load, seconds)
                self._accounts[key] = account

    def _look(self, account: _Account, at: float, claim: Claim, company: int) -> None:
        """Count the time since the last look, and the steps that were made in it."""
        passed_s = at - account.at
        step = latest(self._home.attempt(*claim.key).progress)
        before, account.company = account.company, company
        last, account.step = account.step, step
        if before is None or passed_s <= 0:
            return
        if passed_s > GAP_S:
            account.whole = False
            return
        if company or before:
            account.shared_s += passed_s
            account.shared_others_s += max(company, before) * passed_s
        if before != company or last is None or step is None:
            return
        steps, seconds = step.step - last.step, step.at - last.at
        if steps < 0 or not 0 < seconds <= GAP_S:  # it began anew, or a clock was set
            return
        pace = account.beside if company else account.alone
        pace.steps += steps
        pace.seconds += seconds
        account.others_s += company * seconds

    def _use(
        self,
        account: _Account,
        at: float,
        job: int,
        there: Iterable[GpuSnapshot],
        owners: dict[int, int | None],
    ) -> None:
        """Count how busy it keeps its GPUs, while others do not keep it from that.

        A program that has just ended looks idle until that is known: an idle look counts once another
        one has seen that the attempt goes on. On a full GPU each process gets less than it would alone: what it
        is seen to do then counts only if it is more than was known.
        """
        passed_s = at - account.at
        account.count(0.0, account.idle_s)
        account.idle_s = 0.0
        if not 0 < passed_s <= GAP_S:
            return
        for gpu in there:
            known = [process for process in gpu.processes or () if process.sm is not None]
            own = [process.sm or 0.0 for process in known if owners[process.pid] == job]
            total = sum(process.sm or 0.0 for process in known)
            reported = gpu.utilisation == 0 or bool(known)  # a process that did nothing is not
            loading = account.used_s == 0 and at < account.began + LOADING_S
            if not own and reported and not loading:
                account.idle_s += passed_s
            elif own:
                share = min(1.0, sum(own))
                if not account.company or total <= FULL or share > account.recent_load:
                    account.count(share, passed_s)


def _company(
    claim: Claim,
    claims: Iterable[Claim],
    there: Iterable[GpuSnapshot],
    owners: dict[int, int | None],
) -> int:
    """Return how many others there are on an attempt's GPUs: on that of them where there are most."""
    ours = [
        {uuid for uuid in other.gpus if uuid in claim.gpus}
        for other in claims
        if other.job != claim.job
    ]
    counts = [0]
    for gpu in there:
        processes = gpu.processes or ()
        reports_use = any(process.sm is not None for process in processes)
        strangers = [process for process in processes if owners[process.pid] is None]
        busy = sum(_disturbs(process, reports_use=reports_use) for process in strangers)
        counts.append(sum(gpu.uuid in shared for shared in ours) + busy)
    return max(counts)


def _disturbs(process: GpuProcess, *, reports_use: bool) -> bool:
    """Tell whether a stranger's process uses a GPU so that others notice it.

    Args:
        process: a stranger's.
        reports_use: the driver tells of processes there how busy they are; then one of which it does not is idle.
    """
    if process.sm is not None:
        return process.sm >= BUSY
    return not reports_use and (process.used is None or process.used >= LARGE)


def _slowdown(account: _Account) -> float | None:
    """Return how much slower its steps were beside others than alone; None: too few steps to tell."""
    alone, beside = account.alone.rate, account.beside.rate
    if alone is None or beside is None:
        return None
    return min(MOST_SLOWDOWN, max(1.0, alone / beside))


def _others(account: _Account) -> float:
    """Return the mean number of others beside which the slowdown was measured, or will be by the duration."""
    if _slowdown(account) is not None:
        return max(1.0, account.others_s / account.beside.seconds)
    return max(1.0, account.shared_others_s / account.shared_s) if account.shared_s > 0 else 1.0


def slowdown_by_duration(
    seconds: float, shared_s: float | None, alone: Collection[float]
) -> float | None:
    """Return how much slower an attempt without steps was beside others: by how long its like takes alone.

    Args:
        seconds: how long it took.
        shared_s: how long of that it shared its GPU; None: unknown.
        alone: how long those alike took that shared theirs with nobody.
    """
    if shared_s is None or not alone or not LEAST_S <= shared_s <= seconds:
        return None
    left_s = median(alone) - (seconds - shared_s)  # what of its work was done in company
    if shared_s < LEAST_SHARE * seconds or left_s <= 0:
        return None
    return min(MOST_SLOWDOWN, max(1.0, shared_s / left_s))
