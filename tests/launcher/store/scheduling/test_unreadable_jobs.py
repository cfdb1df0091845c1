"""Rows that cannot be understood: a newer version wrote them, or something broke them."""

import json
import math
import time
from functools import partial

import pytest

from launcher.context import WorkerEnvironment
from launcher.job import Resources, Terms, read_spec
from launcher.states import ENDED, Done, State
from launcher.store.queue import Store
from launcher.store.rows import Lane, read_lane
from launcher.system.daemon_control import scheduler_pid
from launcher.system.paths import Home
from launcher.system.stored_fields import Unreadable
from tests.build import a_context, a_spec, claimed, enqueue, in_state, job_row, until
from tests.launcher.conftest import Launcher
from tests.launcher.queued import one, put, serve, until_done, until_in


def change(store: Store, table: str, column: str, row: int, text: str) -> None:
    """Write a text where ours would have written another."""
    store.database.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (text, row))


def spec_with(part: str, **fields: object) -> str:
    """A job's spec in which a part has more fields, as a newer version may write it."""
    record = a_spec().record()
    return json.dumps({**record, part: {**record[part], **fields}})  # type: ignore[dict-item]  # a record


def lane_of(store: Store, job: int) -> int:
    (lane,) = store.database.execute("SELECT lane FROM jobs WHERE id = ?", (job,)).fetchone()
    return int(lane)


def break_rows(store: Store) -> dict[int, str]:
    """Queue jobs and break each in another way; return job → what its reason names."""
    jobs = enqueue(
        store,
        *(a_spec(name=f"command/{n}") for n in range(4)),
        *(a_spec(name=f"lane/{n}", terms=Terms(group=f"g{n}")) for n in range(6)),
    )
    (lost,) = enqueue(store, a_spec(name="command/lost"), context=a_context("/somewhere"))
    specs = (spec_with("resources", hosts=2), spec_with("terms", deadline=9.0), "{", "[]")
    for job, spec in zip(jobs, specs, strict=False):
        change(store, "jobs", "spec", job, spec)
    record = json.loads(store.database.execute("SELECT key FROM lanes").fetchone()[0])
    odd = {"group": "", "resources": {**record["resources"], "hosts": 2}, "breed": ["", [], ""]}
    keys = (
        *(json.dumps(one) for one in (odd, {**record, "host": "a"})),
        *("no JSON", "{}"),
        *(json.dumps({**record, **more}) for more in ({"least": {"a": 1}}, {"visible": 3})),
    )
    for job, key in zip(jobs[4:], keys, strict=True):
        change(store, "lanes", "key", lane_of(store, job), key)
    change(store, "contexts", "body", 2, '{"folder": "/"}')
    told = ("'hosts'", "'deadline'", "no JSON", "no record", "'hosts'", "'host'", "no JSON", "lane")
    told_too = ("'least'", "'visible'")
    return {**dict(zip(jobs, told + told_too, strict=True)), lost: "surroundings"}


def test_jobs_that_cannot_be_understood_are_set_aside_and_all_others_run(
    home: Home, store: Store, launcher: Launcher
) -> None:
    broken = break_rows(store)
    below = one(store, "below")
    store.database.execute("INSERT INTO needs (job, need) VALUES (?, ?)", (below, min(broken)))
    store.database.execute("UPDATE jobs SET waits = 1 WHERE id = ?", (below,))
    good = one(store, "good")
    assert launcher("status").code == 0
    serve(home)

    until_done(store, good)
    for job, word in broken.items():
        until(partial(in_state, store, job, *ENDED), f"job {job} has ended")
        row = job_row(store, job)
        assert row.state is State.FAILED, row
        assert word in row.reason, row.reason
        assert "newer launcher" in row.reason
        shown = launcher("show", str(job))
        assert shown.code == 0, shown
    assert job_row(store, below).state is State.SKIPPED
    assert scheduler_pid(home) is not None
    for words in (("status", "--json"), ("status", "*"), ("history",), ("results", "test")):
        assert launcher(*words).code in {0, 2}, words
        assert "Traceback" not in launcher(*words).err


def test_records_of_ended_jobs_that_cannot_be_read_end_no_screen(
    home: Home, store: Store, launcher: Launcher
) -> None:
    odd, strange, noted = put(store, "abc")
    for job in (odd, strange, noted):
        store.scheduling.finish(claimed(store, job), Done(at=2.0), outputs={}, now=time.time())
    change(store, "jobs", "outputs", odd, '{"/a": 1, "/b": ')
    change(store, "jobs", "state", strange, "parked")
    store.database.execute("UPDATE attempts SET outcome = '{' WHERE job = ?", (noted,))
    store.database.execute("UPDATE events SET state = 'parked' WHERE job = ?", (strange,))
    for words in (("status",), ("status", "--json"), ("top", "--once"), ("show", str(noted))):
        said = launcher(*words)
        assert said.code == 0, said
    assert job_row(store, strange).state is State.FAILED
    assert home.exists()


def test_a_running_job_of_a_newer_version_is_watched_and_taken_in(home: Home, store: Store) -> None:
    (job,) = enqueue(store, a_spec("sleep", "0.3"))
    serve(home)
    until_in(store, State.RUNNING, job)
    change(store, "jobs", "spec", job, spec_with("terms", deadline=9.0, grace_s=7.0))
    (claim,) = store.scheduling.claims()
    assert claim.spec.terms == Terms(grace_s=7.0)
    assert "deadline" in claim.unreadable
    until_done(store, job)


@pytest.mark.parametrize(
    ("part", "fields", "named"),
    [
        ("resources", {"hosts": 1}, "'hosts' of resources is unknown"),
        ("resources", {"cpus": "four"}, "'cpus' of resources is 'four'"),
        ("terms", {"grace_s": None}, "'grace_s' of terms is 'None'"),
        ("terms", {"later": True}, "'later' of terms is unknown"),
        ("resources", {"cpus": -3}, "'cpus' of resources is '-3'"),
        ("resources", {"gpus": 65}, "'gpus' of resources is '65'"),
        ("resources", {"ram": -1}, "'ram' of resources"),
        ("resources", {"device": "tpu"}, "'device' of resources is 'tpu'"),
        ("terms", {"rerun": "sometimes"}, "'rerun' of terms is 'sometimes'"),
        ("terms", {"warn_signal": "SIGMORE"}, "'warn_signal' of terms is 'SIGMORE'"),
        ("terms", {"grace_s": math.nan}, "'grace_s' of terms is 'nan'"),
        ("terms", {"time_limit_s": -1}, "'time_limit_s' of terms is '-1'"),
        ("terms", {"retries": -1}, "'retries' of terms is '-1'"),
    ],
)
def test_what_decides_when_and_where_a_job_runs_is_understood_whole_or_refused(
    part: str, fields: dict[str, object], named: str
) -> None:
    with pytest.raises(Unreadable, match=named):
        read_spec(json.loads(spec_with(part, **fields)))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("least", {"a": 1}),
        ("least", None),
        ("least", -1),
        ("visible", 3),
        ("visible", [1]),
        ("signature", ["a"]),
        ("breed", ["", [1], ""]),
        ("resources", {"cpus": -3}),
    ],
)
def test_a_lane_is_understood_whole_or_refused(field: str, value: object) -> None:
    whole = Lane(
        group="g", resources=Resources(device="cuda"), environment=WorkerEnvironment(), least=7
    )
    assert read_lane(whole.key) == whole
    with pytest.raises(Unreadable, match="cpus" if field == "resources" else field):
        read_lane(json.dumps({**json.loads(whole.key), field: value}))


def test_what_only_describes_a_job_may_be_newer() -> None:
    record = a_spec(resources=Resources(cpus=3), terms=Terms(backoff_s=1)).record()
    spec = read_spec(json.loads(json.dumps({**record, "author": "somebody"})))
    assert (spec.resources.cpus, spec.terms.backoff_s) == (3, 1)
    with pytest.raises(Unreadable, match="'argv'"):
        read_spec({**record, "argv": [1]})
    with pytest.raises(Unreadable, match="has no 'name'"):
        read_spec({})
