"""What ran where: by node, also on nodes whose pilots are long gone."""

from launcher.screens.history_view import columns, draw, record
from launcher.states import Done, Outcome, Stopped
from launcher.store.history import History, NodeUse, Past, Spent, nodes_of
from launcher.store.queue import Store
from launcher.store.rows import PILOT
from tests.build import a_seat, a_spec, enqueue

HOUR = 3600.0
NOW = 1_795_262_400.0
PLACES = {"": ("local", "desk"), "launcher-1": ("slurm", "n1"), "launcher-2": ("slurm", "n1")}


def attempt(store: Store, pilot: str, outcome: Outcome, device: str = "cpu") -> None:
    (job,) = enqueue(store, a_spec())
    seat = a_seat(boot=f"{PILOT}{pilot}", device=device, cpus=2) if pilot else a_seat()
    claim = store.scheduling.claim(job, seat, reason="fits", now=outcome.at - HOUR)
    assert claim is not None
    store.scheduling.finish(claim, outcome, outputs={}, now=outcome.at)


def past(store: Store) -> Past:
    return History(store.database, 0.0, NOW).past(PLACES)


def test_attempts_are_summed_up_by_the_node_that_their_pilots_were_on(store: Store) -> None:
    attempt(store, "launcher-1", Done(at=NOW), device="GPU-0,GPU-1")
    attempt(store, "launcher-2", Stopped(at=NOW, by="preempted"))
    attempt(store, "", Done(at=NOW))
    attempt(store, "launcher-9", Done(at=NOW))

    there = {(node.backend, node.node): node for node in past(store).nodes}

    assert there["slurm", "n1"] == NodeUse(
        node="n1", backend="slurm", attempts=2, done=1, gpu_seconds=2 * HOUR, core_seconds=4 * HOUR
    )
    assert there["local", "desk"].core_seconds == HOUR
    assert there["", ""].attempts == 1, "a pilot of which nothing is on record"


def test_one_machine_needs_no_section_of_nodes(store: Store) -> None:
    attempt(store, "", Done(at=NOW))
    shown = "\n".join(line.text for line in draw(past(store), 100))
    assert "NODE" not in shown
    assert "NODE" in "\n".join(line.text for line in draw(past(store), 100, ["node"]))
    assert [row[0] for row in columns(past(store))].count("node") == 0


def test_several_nodes_have_a_section(store: Store) -> None:
    attempt(store, "", Done(at=NOW))
    attempt(store, "launcher-1", Done(at=NOW))
    shown = "\n".join(line.text for line in draw(past(store), 100))
    assert "NODE" in shown
    assert "n1" in shown
    assert ("node", "n1", "slurm", "1", "1", "0.0", "7200.0") in columns(past(store))
    assert [row["node"] for row in record(past(store))["nodes"]] == ["n1", "desk"]  # type: ignore[index,call-overload,union-attr]


def test_nodes_with_most_work_come_first() -> None:
    uses = [
        Spent("test", 0, 0, attempts=1, gpu_s=0, core_s=HOUR, pilot=""),
        Spent("test", 0, 0, attempts=1, gpu_s=0, core_s=2 * HOUR, pilot="launcher-1"),
    ]
    assert [node.node for node in nodes_of(uses, PLACES)] == ["n1", "desk"]
