"""How many pilots the work could use that waits."""

from launcher.backends.pilot_rules import Demand
from launcher.backends.settings import BackendSettings
from launcher.context import WorkerEnvironment
from launcher.job import Resources
from launcher.scheduler.dispatch import WaitingLane, demands
from launcher.store.rows import Lane

BOX = BackendSettings(name="box", kind="local", cpus=4, gpus=2, pilots=3, time_s=3600.0)
FARM = BackendSettings(name="farm", kind="slurm", cpus=8, pilots=2)


def lane(
    jobs: int,
    *on: str,
    group: str = "",
    limit: float | None = None,
    paths: tuple[str, ...] = (),
    **asked: object,
) -> WaitingLane:
    resources = Resources(**{"device": "cpu", **asked})  # type: ignore[arg-type]
    wanted = Lane(
        group=group,
        resources=resources,
        environment=WorkerEnvironment(),
        on=on or ("box",),
        limit=limit,
    )
    return WaitingLane(lane=wanted, jobs=jobs, paths=paths)


def pilots(*lanes: WaitingLane, **left: int) -> dict[str, int]:
    wanted = demands(lanes, {"box": BOX, "farm": FARM}, left)
    return {name: demand.pilots for name, demand in wanted.items()}


def test_as_many_pilots_as_the_jobs_fill() -> None:
    assert pilots(lane(1)) == {"box": 1}
    assert pilots(lane(4)) == {"box": 1}
    assert pilots(lane(5)) == {"box": 2}
    assert pilots(lane(2, cpus=3)) == {"box": 2}


def test_gpus_count_as_cores_do() -> None:
    assert pilots(lane(4, device="cuda")) == {"box": 2}
    assert pilots(lane(2, device="cuda", gpus=2)) == {"box": 2}


def test_what_one_backend_cannot_run_at_once_is_work_for_the_next_one() -> None:
    assert pilots(lane(20, "box", "farm")) == {"box": 3, "farm": 1}
    assert pilots(lane(20, "farm", "box")) == {"farm": 2, "box": 1}


def test_job_that_no_pilot_can_hold_asks_for_none() -> None:
    assert pilots(lane(3, cpus=5)) == {}
    assert pilots(lane(3, gpus=3, device="cuda")) == {}
    assert pilots(lane(3, limit=7200.0)) == {}
    assert pilots(lane(3, "box", "farm", cpus=5)) == {"farm": 2}


def test_job_of_a_backend_that_is_not_configured_asks_for_none() -> None:
    assert pilots(lane(3, "elsewhere")) == {}
    assert pilots(lane(3, "local")) == {}


def test_group_that_is_full_asks_for_none() -> None:
    assert pilots(lane(9, group="few"), few=0) == {}
    assert pilots(lane(9, group="few"), lane(9, group="few", cpus=2), few=4) == {"box": 1}


def test_demand_tells_what_its_jobs_need_to_see_once() -> None:
    wanted = demands(
        [lane(1, paths=("/a", "/b")), lane(1, paths=("/a",), cpus=2)], {"box": BOX}, {}
    )
    assert wanted == {"box": Demand(jobs=2, slots=2, paths=("/a", "/b"))}


def test_paths_are_those_of_the_nodes() -> None:
    box = BOX._replace(paths={"/local": "/shared"})
    wanted = demands([lane(1, paths=("/local/lab", "/b"))], {"box": box}, {})
    assert wanted["box"].paths == ("/shared/lab", "/b")


def test_interpreter_that_is_to_be_seen_is_that_of_the_nodes() -> None:
    job = lane(1)._replace(interpreter="/local/bin/python")
    shared = BOX._replace(paths={"/local": "/shared"})
    for box, paths in [
        (BOX, ("/local/bin/python",)),
        (shared, ("/shared/bin/python",)),
        (shared._replace(python="/opt/bin/python"), ("/opt/bin/python",)),
        (shared._replace(python="python3"), ()),  # found on the node by its PATH
    ]:
        assert demands([job], {"box": box}, {})["box"].paths == paths
