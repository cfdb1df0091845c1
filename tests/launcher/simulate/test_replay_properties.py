"""Properties of a replay of any jobs on any machine, under every policy."""

from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.frontends.simulate.baselines import POLICIES, lower_bound, run_study
from launcher.frontends.simulate.machine import SimulatedCluster, parse_cluster, select_feasible
from launcher.frontends.simulate.picture import bar_places, queue_lengths
from launcher.frontends.simulate.queue import RuntimeKnowledge
from launcher.frontends.simulate.trace import TraceJob
from launcher.queue.scheduler.policy.disciplines import POLICIES_BY_NAME
from tests.launcher.simulate.worlds import GIB, assuming, most_at_once, streams

FLEETS = st.sampled_from(
    [
        *map(parse_cluster, ("1x24GiB", "2x24GiB", "4x24GiB", "1x80GiB+2x24GiB")),
        *map(
            parse_cluster, ("1x12GiB+2x24GiB+1x40GiB", "2x(2x24GiB)", "1x80GiB+2x(1x24GiB+1x12GiB)")
        ),
    ]
)
SLOWDOWNS = st.sampled_from([1.0, 1.3, 2.0, 3.0])
ROUNDING_S = 1e-6


@given(
    jobs=streams(),
    fleet=FLEETS,
    slowdown=SLOWDOWNS,
    most=st.integers(1, 3),
    foresight=st.sampled_from(RuntimeKnowledge),
)
@settings(max_examples=150, deadline=None)
def test_every_policy_runs_every_job_once_and_none_beats_the_bound(
    jobs: tuple[TraceJob, ...],
    fleet: SimulatedCluster,
    slowdown: float,
    most: int,
    foresight: RuntimeKnowledge,
) -> None:
    machines = [{gpu.index for gpu in machine} for machine in fleet.gpus()]
    load = select_feasible(jobs, fleet)
    if not load.jobs:
        return
    world = assuming(fleet, slowdown=slowdown, most=most, foresight=foresight)
    done = run_study(load, world)
    by_index = {job.index: job for job in load.jobs}
    assert [*done.spans] == [*POLICIES]
    for policy, spans in done.spans.items():
        assert sorted(span.job for span in spans) == sorted(by_index), "each ends exactly once"
        for span in spans:
            job = by_index[span.job]
            assert span.ready == job.submitted
            assert span.start >= span.ready
            assert span.end - span.start >= job.seconds - ROUNDING_S
            assert len(set(span.cards)) == job.gpus
            assert any(machine.issuperset(span.cards) for machine in machines), "on one machine"
        for card, total in enumerate(fleet.totals):
            number, crowd_here = most_at_once(spans, card)
            assert number <= (most if POLICIES_BY_NAME[policy].shares_gpus else 1)
            assert sum(by_index[job].vram or 0 for job in crowd_here) <= total
    for outcome in done.outcomes:
        assert outcome.makespan_s >= done.lower_bound - ROUNDING_S
        assert 0 <= outcome.wait_p95_s <= outcome.wait_longest_s
        assert outcome.utilisation is not None
        assert 0 < outcome.utilisation <= 1 + ROUNDING_S


@given(jobs=streams(), fleet=FLEETS, slowdown=SLOWDOWNS)
@settings(max_examples=50, deadline=None)
def test_bound_decreases_with_every_relaxation(
    jobs: tuple[TraceJob, ...], fleet: SimulatedCluster, slowdown: float
) -> None:
    kept = select_feasible(jobs, fleet).jobs
    bounds = [
        lower_bound(kept, fleet.totals, slowdown=slowdown, most=most) for most in (1, 2, 3, 4)
    ]
    more = lower_bound(kept, fleet.totals * 2, slowdown=slowdown, most=1)
    assert bounds[0] >= max(*bounds[1:], more) - ROUNDING_S
    assert bounds[2] >= bounds[3] - ROUNDING_S


@given(jobs=streams(), most=st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_picture_shows_everything_that_ran_and_waited(
    jobs: tuple[TraceJob, ...], most: int
) -> None:
    world = assuming(SimulatedCluster(((24 * GIB,) * 4,)), most=most)
    done = run_study(select_feasible(jobs, world.fleet), world)
    for spans in done.spans.values():
        places = bar_places(spans)
        assert len(places) == sum(len(span.cards) for span in spans)
        assert all(place < most for _, _, place in places)
        times, lengths = queue_lengths(spans)
        assert times == sorted(times)
        assert (min(lengths), lengths[-1]) == (0, 0)
        waited = sum(n * (b - a) for n, a, b in zip(lengths, times, times[1:], strict=False))
        assert abs(waited - sum(span.waited_s for span in spans)) < ROUNDING_S * 1e3
