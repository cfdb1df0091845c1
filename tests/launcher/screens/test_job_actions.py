import pytest

from launcher.screens.job_actions import Change, propose
from launcher.states import Failed, ReasonCode
from launcher.store.queue import Store
from tests.build import a_seat, a_spec, claimed, enqueue, job_row


def proposed(store: Store, key: str, job: int) -> Change:
    action = propose(key, [job_row(store, job)], store)
    assert isinstance(action, Change), action
    return action


def refused(store: Store, key: str, job: int) -> str:
    why = propose(key, [job_row(store, job)], store)
    assert isinstance(why, str)
    return why


def running(store: Store, **seat: object) -> int:
    (job,) = enqueue(store, a_spec(name="train/a"))
    assert store.scheduling.claim(job, a_seat(**seat), reason="fits", now=1.0)
    return job


@pytest.mark.parametrize(
    ("device", "reservation", "tail"),
    [
        ("cpu", None, ""),
        ("GPU-1", 2 << 30, " 2 GiB on its GPU stay reserved"),
        ("GPU-1", None, " its GPU stays reserved"),
        ("GPU-1,GPU-2", 2 << 30, " 2 GiB on each of its 2 GPUs stay reserved"),
    ],
)
def test_a_pause_tells_what_stays_reserved_and_a_resumption_ends_it(
    store: Store, device: str, reservation: int | None, tail: str
) -> None:
    job = running(store, device=device, reservation=reservation)
    pause = proposed(store, "p", job)
    assert pause.text == f"pause job {job} train/a?{tail}"
    assert pause.act(store) == [job]
    row = job_row(store, job)
    assert row.paused is not None
    assert row.why.code is ReasonCode.PAUSED
    assert row.why.text.endswith(tail or row.why.text)
    assert "paused already" in refused(store, "p", job)
    assert pause.act(store) == []
    resume = proposed(store, "u", job)
    assert resume.text == f"resume job {job} train/a?"
    assert resume.act(store) == [job]
    assert job_row(store, job).paused is None
    assert refused(store, "u", job) == f"job {job} is not paused"


def test_what_is_about_to_end_is_not_paused(store: Store) -> None:
    job = running(store)
    store.steering.cancel([job], 2.0)
    assert refused(store, "p", job) == f"job {job} is about to end"


def test_a_job_on_a_node_of_a_cluster_is_not_paused(store: Store) -> None:
    job = running(store, boot="pilot:abc")
    assert "on a node of a cluster cannot be paused" in refused(store, "p", job)


def test_a_job_that_was_started_anew_on_a_cluster_is_left_alone(store: Store) -> None:
    (job,) = enqueue(store, a_spec(name="train/a"))
    first = claimed(store, job)
    pause = proposed(store, "p", job)
    store.scheduling.finish(first, Failed(at=2.0, error="", exit_code=1), outputs={}, now=2.0)
    store.steering.retry([job], 3.0)
    store.scheduling.claim(job, a_seat(boot="pilot:abc"), reason="fits", now=4.0)
    assert pause.act(store) == []
    assert job_row(store, job).paused is None
