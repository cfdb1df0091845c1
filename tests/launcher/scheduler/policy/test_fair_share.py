"""Yielding between users: over time on shared GPUs, with independent decisions of all, and with false requests among them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.queue.gpu.resources import (
    JOBS,
    MEMORY,
    ForeignReservation,
    core_resource_name,
    resource_name,
)
from launcher.queue.jobs.accounts import (
    OWN_QUEUE_PREFIX,
    PeerScheduler,
    ResourceDemand,
    ResourceUsage,
)
from launcher.queue.jobs.states import ReasonCode
from launcher.queue.scheduler.policy.decide import decide
from launcher.queue.scheduler.policy.fair_share import (
    HOLD_S,
    STARVING_S,
    UNUSED_S,
    YieldPolicy,
    demand_of,
    starving_resource,
)
from launcher.queue.scheduler.policy.model import Decision, Machine, Running, Start, Wait, Waiting
from launcher.system.gpu_sharing import SharingRules
from tests.build import GIB, a_gpu, a_waiting

CARD = 24


def a_peer(
    waited_s: float = 12.0,
    cards: float = 0.0,
    cores: float = 0.0,
    **wish: object,
) -> PeerScheduler:
    """A user who waits for a GPU, or for another resource, with some past usage."""
    asked: dict[str, object] = {"since": 0.0, "gpus": 1, "vram": 20 * GIB}
    return PeerScheduler(
        user="bob",
        waited_s=waited_s,
        demand=ResourceDemand(**asked | wish),  # type: ignore[arg-type]  # as the test says
        usage=ResourceUsage(cards=cards, cores=cores),
    )


def a_machine(cards: int = 1, **changes: object) -> Machine:
    gpus = tuple(a_gpu(index, total=CARD) for index in range(cards))
    machine = Machine(cpus=64, ram=64 * GIB, ram_free=64 * GIB, gpus=gpus)
    return machine._replace(**changes)  # type: ignore[arg-type]  # as the test says


def decided(
    jobs: Sequence[Waiting],
    *peers: PeerScheduler,
    cards: int = 1,
    used: float = 10.0,
    **changes: object,
) -> list[Decision]:
    """What is decided where others wait and we have used so many GPU-seconds."""
    machine = a_machine(cards, peers=peers, use=ResourceUsage(cards=used), **changes)
    return decide(jobs, [], machine)


def large(job: int, **changes: object) -> Waiting:
    """A job that leaves no room for another one on a GPU."""
    waiting = a_waiting(job, device="cuda", vram=20 * GIB)
    return waiting._replace(**changes)  # type: ignore[arg-type]  # as the test says


def on_card(job: int, index: int = 0, ends: float | None = None) -> Running:
    place = Running(job=job, cpus=1, devices=(f"GPU-{index}",), vram=20 * GIB, ends=ends)
    return place._replace(used={f"GPU-{index}": 20 * GIB})


def busy(machine: Machine, *indices: int) -> Machine:
    """The machine while jobs use 20 GiB of these GPUs."""
    gpus = tuple(
        replace(gpu, used=20 * GIB if gpu.index in indices else gpu.used) for gpu in machine.gpus
    )
    return machine._replace(gpus=gpus)


def starts(decisions: list[Decision]) -> list[int]:
    return [decision.job for decision in decisions if isinstance(decision, Start)]


# --- one decision


def test_user_with_more_usage_yields_and_the_reason_names_the_peer() -> None:
    (waits,) = decided([large(1)], a_peer(cards=3.1 * 3600), used=20.4 * 3600)
    assert isinstance(waits, Wait)
    assert waits.code is ReasonCode.YIELDS
    assert waits.reason == (
        "waiting for user bob, who has waited 12 s for 1 GPU and has used less lately "
        "(3.1 GPU-hours, you 20.4)"
    )
    assert waits.data == {"user": "bob", "room": 1, "lacks": "gpu"}


def test_user_with_less_or_equal_usage_starts() -> None:
    for theirs in (10.0, 11.0, 1e9):
        assert starts(decided([large(1)], a_peer(cards=theirs))) == [1]


def test_user_with_more_usage_and_no_running_job_starts_after_a_delay() -> None:
    def yields(since: float, *foreign: ForeignReservation) -> bool:
        peer = a_peer(since, cards=99.0)
        return starts(decided([large(1), large(2)], peer, cards=2, foreign=foreign)) == [1]

    has = ForeignReservation(user="bob", device=resource_name(JOBS, "GPU-9"), amount=1)
    assert not yields(STARVING_S - 1)
    assert yields(STARVING_S)
    assert not yields(STARVING_S, has)


def test_only_the_request_of_the_peer_is_reserved() -> None:
    assert starts(decided([large(1), large(2), large(3)], a_peer(), cards=3)) == [1, 2]


def test_job_that_fits_beside_the_peer_request_starts() -> None:
    small = large(1)._replace(vram=8 * GIB)
    assert starts(decided([small, large(2)], a_peer(vram=10 * GIB))) == [1]


def test_peer_job_of_unknown_memory_is_reserved_the_default_part_of_a_gpu() -> None:
    unknown, part = a_peer(vram=None), CARD / 8
    for took, started in ((CARD - part, [1]), (CARD - part + 1, [])):
        job = large(1)._replace(vram=int(took * GIB))
        assert starts(decided([job], unknown)) == started
    half = SharingRules(unknown=0.5)
    job = large(1)._replace(vram=CARD // 2 * GIB)
    assert starts(decided([job], unknown, rules=half)) == [1]
    assert starts(decided([job._replace(vram=CARD // 2 * GIB + 1)], unknown, rules=half)) == []


@pytest.mark.parametrize("wish", [{"vram": (CARD + 1) * GIB}, {"exclusive": True, "vram": None}])
def test_peer_job_that_shares_no_gpu_is_reserved_a_whole_one(
    wish: dict[str, object],
) -> None:
    small = large(1)._replace(vram=GIB)
    idle = (a_gpu(total=CARD, used=0.5),)  # the driver keeps a little
    assert starts(decided([small], a_peer(**wish), gpus=idle)) == []  # type: ignore[arg-type]
    assert starts(decided([large(1), large(2)], a_peer(**wish), cards=2)) == [1]  # type: ignore[arg-type]


def test_only_a_startable_job_yields_to_the_peer() -> None:
    first = on_card(9)._replace(
        vram=None, used={}, estimated=True, similar="train", unmeasured_s=0.0
    )
    unknown = a_waiting(1, device="cuda")
    jobs = [unknown._replace(similar="train"), unknown._replace(job=2, similar="score")]
    machine = a_machine(peers=(a_peer(),), use=ResourceUsage(cards=10.0))
    measured, yields = decide(jobs, [first], machine)
    assert isinstance(measured, Wait)
    assert "the first similar job, is being measured" in measured.reason
    assert isinstance(yields, Wait)
    assert yields.code is ReasonCode.YIELDS


def test_ending_gpu_is_reserved_for_the_peer_and_jobs_that_end_earlier_start() -> None:
    machine = busy(a_machine(2, peers=(a_peer(gpus=2),), use=ResourceUsage(cards=10.0)), 0)
    running = [on_card(1, ends=100.0)]
    jobs = [large(2, seconds=50.0), large(3, seconds=200.0), large(4)]
    assert starts(decide(jobs, running, machine, now=0.0)) == [2]
    decisions = decide(jobs[1:], running, machine, now=0.0)
    assert [decision.code for decision in decisions if isinstance(decision, Wait)] == [
        ReasonCode.YIELDS
    ] * 2
    assert {decision.data["room"] for decision in decisions if isinstance(decision, Wait)} == {
        False
    }


def test_nothing_is_reserved_for_a_peer_blocked_by_others() -> None:
    theirs = ForeignReservation(user="eve", device="GPU-0", amount=20 * GIB)
    decisions = decided([large(1)], a_peer(gpus=2), cards=2, foreign=(theirs,))
    assert starts(decisions) == [1]


def test_gpus_not_permitted_for_the_peer_are_not_reserved() -> None:
    only = ResourceDemand(since=0.0, gpus=1, vram=20 * GIB, cards=("GPU-1",))
    start, wait = decided([large(1), large(2)], a_peer()._replace(demand=only), cards=2)
    assert isinstance(start, Start)
    assert start.devices == ("GPU-0",)
    assert isinstance(wait, Wait)


def test_cores_and_memory_are_yielded_and_counted_separately() -> None:
    lacks_cores = a_peer(gpus=0, cpus=3, lacks="cores", cores=5.0, cards=1e9)
    machine = Machine(cpus=4, peers=(lacks_cores,), use=ResourceUsage(cores=3600.0 * 5))
    decisions = decide([a_waiting(1), a_waiting(2)], [], machine)
    assert starts(decisions) == [1]
    assert isinstance(decisions[1], Wait)
    assert "who has waited 12 s for 3 CPU cores" in decisions[1].reason
    assert "(0.0 core-hours, you 5.0)" in decisions[1].reason
    lacks_ram = a_peer(gpus=0, ram=6 * GIB, lacks="memory")
    used = ResourceUsage(memory=1e15)
    whole = Machine(cpus=4, ram=8 * GIB, ram_free=8 * GIB, peers=(lacks_ram,), use=used)
    decisions = decide([a_waiting(1, ram=4 * GIB), a_waiting(2, ram=GIB)], [], whole)
    assert starts(decisions) == [2]
    assert isinstance(decisions[0], Wait)
    assert "for 6 GiB of main memory" in decisions[0].reason


@pytest.mark.parametrize(
    "changes",
    [
        {"gpus": 9},
        {"gpus": 0},
        {"vram": 1 << 60},
        {"cpus": 10_000, "lacks": "cores"},
        {"ram": 1 << 60, "lacks": "memory"},
    ],
)
def test_infeasible_peer_request_blocks_no_job(changes: dict[str, object]) -> None:
    peer = a_peer()
    peer = peer._replace(demand=peer.demand._replace(**changes))  # type: ignore[arg-type]  # as the test says
    machine = a_machine(2, peers=(peer,), use=ResourceUsage(10.0, 9.0, 9.0))
    assert not YieldPolicy().with_eligible_peers(machine, 0.0).peers
    decide([large(1), large(2)], [], machine)  # no error without an earlier reading


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=4), st.floats(0, 1e6), st.integers(1, 4))
def test_peer_without_a_waiting_request_blocks_no_job(
    uses: list[float], ours: float, cards: int
) -> None:
    jobs = [large(job) for job in range(cards + 1)]
    alone, among = a_machine(cards), a_machine(cards, use=ResourceUsage(cards=ours))
    assert decide(jobs, [], among) == decide(jobs, [], alone)


# --- over time: everybody decides for himself


@dataclass(slots=True)
class User:
    name: str
    lasts: Callable[[int], float]
    line: list[Waiting]
    use: ResourceUsage = field(default_factory=ResourceUsage)
    running: dict[int, tuple[float, Start]] = field(default_factory=dict)  # job → its end, place
    waited: dict[int, float] = field(default_factory=dict)  # job → since when
    started: dict[int, float] = field(default_factory=dict)
    courtesy: YieldPolicy = field(default_factory=YieldPolicy)
    wishes: bool = True  # whether the request is published
    takes: bool = True  # whether fitting jobs are started

    def peer(self, machine: Machine, now: float) -> PeerScheduler | None:
        """The published data that the others read."""
        first = self.line[: len(machine.gpus)]
        places = [Wait(job=job.job, reason="", lacking_resource="gpu") for job in first]
        wish, number = demand_of(first, places, machine)
        if wish is None or not self.wishes:
            return None
        since = now - self.waited.setdefault(number, now)
        return PeerScheduler(user=self.name, waited_s=since, demand=wish, usage=self.use)


@dataclass(slots=True)
class Cards:
    """Several users on one machine; what one does the others know at once."""

    machine: Machine
    users: list[User]
    now: float = 0.0

    def seen_by(self, user: User) -> Machine:
        others = [other for other in self.users if other is not user]
        foreign = [
            ForeignReservation(user=other.name, device=device, amount=amount)
            for other in others
            for _, start in other.running.values()
            for uuid in start.devices
            for device, amount in ((uuid, start.vram or 0), (resource_name(JOBS, uuid), 1))
        ]
        waiting = [other.peer(self.machine, self.now) for other in others]
        machine = self.machine._replace(
            foreign=tuple(foreign),
            peers=tuple(filter(None, waiting)),
            use=user.use,
        )
        own = user.peer(self.machine, self.now)
        wish = None if own is None else ResourceDemand(since=self.now - own.waited_s)
        places = [
            Running(job=job, cpus=1, devices=start.devices)
            for job, (_, start) in user.running.items()
        ]
        return machine._replace(
            starving_resource=starving_resource(wish, places, machine, self.now)
        )

    def step(self, span_s: float = 1.0) -> None:
        """Let time pass; who had an end decides first, and always before those who only wait."""
        self.now += span_s
        quick: list[User] = []
        for user in self.users:
            cards = sum(len(start.devices) for _, start in user.running.values())
            user.use = user.use.accumulate(ResourceUsage(cards=float(cards)), span_s)
            over = [job for job, (end, _) in user.running.items() if end <= self.now]
            for job in over:
                del user.running[job]
            if over:
                quick.append(user)
        order = quick + [user for user in self.users if user not in quick]
        for _ in range(3):  # a change wakes everybody
            for user in order:
                self._decide(user)

    def _decide(self, user: User) -> None:
        if not user.takes:
            return
        running = [
            Running(
                job=job, cpus=1, devices=start.devices, vram=start.vram,
                ends=end if job in user.waited else None,
            )
            for job, (end, start) in user.running.items()
        ]  # fmt: skip
        machine = user.courtesy.with_eligible_peers(self.seen_by(user), self.now)
        waiting = user.line[: len(machine.gpus) + 1]
        decisions = decide(waiting, running, machine, self.now)
        user.courtesy.record_decisions(decisions, self.now)
        for decision in decisions:
            if isinstance(decision, Start):
                user.running[decision.job] = (self.now + user.lasts(decision.job), decision)
                user.started[decision.job] = self.now
        if starts(decisions):
            user.line = [job for job in user.line if job.job not in user.started]


def endless(count: int = 5000, *, gpus: int = 1) -> list[Waiting]:
    return [
        large(job)._replace(resources=large(job).resources._replace(gpus=gpus))
        for job in range(1, count)
    ]


@settings(max_examples=6, deadline=None)
@given(
    st.integers(1, 4),
    st.lists(st.integers(1, 30), min_size=8, max_size=8),
    st.lists(st.integers(1, 30), min_size=8, max_size=8),
    st.integers(0, 30),
)
def test_two_users_with_endless_queues_get_equal_usage(
    cards: int, ones: list[int], others: list[int], late: int
) -> None:
    ada = User("ada", lambda job: float(ones[job % 8]), endless())
    bob = User("bob", lambda job: float(others[job % 8]), endless())
    world = Cards(a_machine(cards), [ada])
    for _ in range(late):
        world.step()
    world.users.append(bob)
    for _ in range(80 + late):
        world.step()
    longest = max(*ones, *others)
    assert abs(ada.use.cards - bob.use.cards) <= cards * longest
    total = ada.use.cards + bob.use.cards
    assert total >= 0.98 * cards * (world.now - 1), "no card idles"


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 4), st.lists(st.integers(1, 40), min_size=8, max_size=8), st.integers(1, 60))
def test_small_request_starts_at_the_next_end(cards: int, lasts: list[int], asks: int) -> None:
    ada = User("ada", lambda job: float(lasts[job % 8]), endless())
    world = Cards(a_machine(cards), [ada])
    for _ in range(asks):
        world.step()
    next_end = min(end for end, _ in ada.running.values())
    bob = User("bob", lambda _: 5.0, [large(1)])
    world.users.append(bob)
    while not bob.started:
        world.step()
        assert world.now <= max(next_end, asks + 1)


def test_user_with_more_usage_is_served_despite_an_endless_queue() -> None:
    ada, bob = User("ada", lambda _: 20.0, endless()), User("bob", lambda _: 5.0, [large(1)])
    bob.use = ResourceUsage(cards=1e6)
    world = Cards(a_machine(1), [bob, ada])
    world.step()
    assert ada.started
    while not bob.started:
        world.step()
        assert world.now <= STARVING_S + 2, "each leaves the place to the other"


def test_user_with_jobs_in_another_queue_does_not_starve() -> None:
    wish = ResourceDemand(since=0.0, lacks="cores")
    other = ForeignReservation(
        user=f"{OWN_QUEUE_PREFIX}ada", device=core_resource_name(-1), amount=1
    )
    machine = a_machine()
    assert starving_resource(wish, [], machine, STARVING_S - 1) is None
    assert starving_resource(wish, [], machine, STARVING_S) == "cores"
    assert starving_resource(wish, [], machine._replace(foreign=(other,)), STARVING_S) is None
    assert starving_resource(wish, [on_card(1)], machine, STARVING_S) is None
    assert (
        starving_resource(wish._replace(lacks="memory"), [on_card(1)], machine, STARVING_S)
        == "memory"
    )


def test_wide_peer_job_gets_its_gpus_with_minimal_idle_time() -> None:
    ada = User("ada", lambda job: 60.0 + 7 * (job % 5), endless())
    world = Cards(a_machine(4), [ada])
    for _ in range(30):
        world.step()
    bob = User("bob", lambda _: 60.0, endless(2, gpus=4))
    world.users.append(bob)
    asked = world.now
    while not bob.started:
        world.step()
        assert world.now <= asked + 60 + 7 * 5
    before = len(ada.started)
    for _ in range(200):
        world.step()
    assert len(ada.started) > before


@pytest.mark.parametrize("gpus", [1, 4])
def test_peer_that_never_uses_its_reservation_costs_little_and_is_named(gpus: int) -> None:
    ada = User("ada", lambda _: 60.0, endless())
    eve = User("eve", lambda _: 1.0, endless(gpus=gpus), takes=False)
    world = Cards(a_machine(4), [ada, eve])
    complaints = []
    span_s = 4 * 3600
    for _ in range(span_s // 30):
        world.step(30.0)
        complaints += ada.courtesy.complaints
        ada.courtesy.complaints.clear()
    assert (
        ada.use.cards
        >= 0.95 * ResourceUsage().accumulate(ResourceUsage(cards=4.0), float(span_s)).cards
    )
    assert complaints
    assert all("eve" in complaint for complaint in complaints)
    assert "the scheduler of eve waits and does not start although there is room" in complaints[0]


def test_waiting_for_a_false_request_is_bounded_and_reset_by_a_start() -> None:
    courtesy, machine = (
        YieldPolicy(),
        a_machine(1, peers=(a_peer(),), use=ResourceUsage(cards=10.0)),
    )

    def round_at(now: float, machine: Machine) -> bool:
        heeded = courtesy.with_eligible_peers(machine, now)
        decisions = decide([large(1)], [], heeded)
        courtesy.record_decisions(decisions, now)
        return not starts(decisions)

    held = [second for second in range(2000) if round_at(float(second), machine)]
    first = int(UNUSED_S)
    assert held[: first + 1] == [*range(first + 1)]
    assert held[first + 1] == first + HOLD_S, "then he is not heeded for a while"
    assert len(held) <= 4 * (first + 1)
    has = ForeignReservation(user="bob", device=resource_name(JOBS, "GPU-7"), amount=1)
    round_at(2001.0, machine._replace(foreign=(has,)))
    again = [second for second in range(3000, 3400) if round_at(float(second), machine)]
    assert len(again) >= first


LACKS_CORES = {"gpus": 0, "cpus": 3, "lacks": "cores"}
LACKS_MEMORY = {"gpus": 0, "ram": 3 * GIB, "lacks": "memory"}


@pytest.mark.parametrize(
    "wishes",
    [[LACKS_CORES], [LACKS_MEMORY], [LACKS_CORES, LACKS_MEMORY], [LACKS_MEMORY, LACKS_CORES]],
)
def test_idle_queues_delay_others_by_seconds_in_two_hours(
    wishes: Sequence[dict[str, object]],
) -> None:
    courtesy = YieldPolicy()
    machine = Machine(
        cpus=8,
        ram=8 * GIB,
        ram_free=8 * GIB,
        use=ResourceUsage(cores=1e9, memory=1e18),
        peers=tuple(a_peer(**wish) for wish in wishes),  # type: ignore[arg-type]  # as the test says
        foreign=(
            ForeignReservation(user="bob", device=core_resource_name(0xFF), amount=1),
            ForeignReservation(user="bob", device=MEMORY, amount=GIB),
        ),
    )
    delayed = 0
    for second in range(2 * 3600):
        decisions = decide(
            [a_waiting(1, cpus=6, ram=6 * GIB)],
            [],
            courtesy.with_eligible_peers(machine, float(second)),
        )
        courtesy.record_decisions(decisions, float(second))
        delayed += not starts(decisions)
    assert 0 < delayed <= 60 * len(wishes)
    assert {complaint.split(" for ")[0] for complaint in courtesy.complaints} == {
        "user bob gets no precedence"
    }


def test_yielded_reservations_are_compared_by_jobs_instead_of_bytes() -> None:
    # room for one job of theirs, and they have memory for a third of one
    courtesy = YieldPolicy()
    machine = Machine(
        cpus=8,
        ram=8 * GIB,
        ram_free=8 * GIB,
        use=ResourceUsage(memory=1e18),
        peers=(a_peer(**LACKS_MEMORY),),  # type: ignore[arg-type]  # as the test says
        foreign=(ForeignReservation(user="bob", device=MEMORY, amount=GIB),),
    )
    # every fifth second nothing of ours waits, so that room is never left for UNUSED_S without a break
    for second in range(60):
        jobs = [] if second % 5 == 4 else [a_waiting(1, ram=6 * GIB)]
        decisions = decide(jobs, [], courtesy.with_eligible_peers(machine, float(second)))
        courtesy.record_decisions(decisions, float(second))
    assert courtesy.complaints


def test_published_requests_state_the_missing_resources_of_the_first_waiting_job() -> None:
    machine = busy(a_machine(2), 0, 1)
    foreign = (
        ForeignReservation(user="ada", device=core_resource_name(-1), amount=1),
        ForeignReservation(user="ada", device=MEMORY, amount=1),
    )
    jobs = [large(1, group="full"), large(2, visible=("1",)), a_waiting(3, cpus=99)]
    machine = machine._replace(limits={"full": 0}, foreign=foreign)
    wish, job = demand_of(jobs, decide(jobs, [], machine), machine)
    assert wish is not None
    assert (job, wish.gpus, wish.vram, wish.lacks, wish.cards) == (
        2, 1, 20 * GIB, "gpu", ("GPU-1",),
    )  # fmt: skip
    cores = [a_waiting(4, cpus=64, device="cpu")]
    wish, job = demand_of(cores, decide(cores, [], machine), machine)
    assert wish is not None
    assert (job, wish.gpus, wish.cpus, wish.lacks) == (4, 0, 64, "cores")
    assert demand_of([], [], machine) == (None, 0)
