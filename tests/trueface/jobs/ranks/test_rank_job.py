import json
import logging
import socket
from dataclasses import fields, replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from launcher.api import VramLimit, Words
from tests.trueface.jobs.ranks.test_world import a_job
from trueface.cli.classic.train import ClassicJob
from trueface.jobs.ranks import messages, world
from trueface.jobs.ranks.messages import Channel, Message
from trueface.jobs.ranks.rank_job import OWN, Forwarding, facts_of, obey, rank_job


@pytest.fixture
def ends() -> tuple[Channel, Channel]:
    ours, theirs = socket.socketpair()
    return Channel(Connection(ours.detach())), Channel(Connection(theirs.detach()))


def test_a_job_reaches_its_ranks_as_it_is(ends: tuple[Channel, Channel]) -> None:
    words = Words(subsets={"mine": ("A", "B-*")}, modifiers={})
    plain = replace(a_job(), words=words, outputs=(Path("/a/best.pt"),), settings={"lr": 0.1})
    own = {field.name: getattr(plain, field.name) for field in fields(plain)}
    for job in (plain, ClassicJob(**own, saved_as="here")):
        facts = json.loads(json.dumps(facts_of(job)))
        place = world.places(job, 2, "m")[1]
        copy = rank_job(facts, place, ends[0])
        assert type(copy) is type(job)
        for name in {field.name for field in fields(job)} - OWN:
            assert getattr(copy, name) == getattr(job, name), name
        assert (copy.device, copy.cpus) == ("cpu", 4)


def test_a_rank_stops_and_takes_its_limit_as_it_is_told(ends: tuple[Channel, Channel]) -> None:
    job = rank_job(facts_of(a_job()), world.places(a_job(), 2, "m")[0], ends[0])
    obey(job, Message(messages.LIMIT, {"cap": 7, "context": 2}))
    assert job.share.vram_limit() == VramLimit(cap=7, context=2)
    assert not job.stop.is_set()
    obey(job, Message(messages.STOP, None))
    assert job.stop.is_set()


def test_a_rank_tells_its_memory_progress_and_log(ends: tuple[Channel, Channel]) -> None:
    rank, reader = ends
    job = rank_job(facts_of(a_job()), world.places(a_job(), 2, "m")[0], rank)
    job.progress(step=1, total=2, loss=0.5)
    job.share.report(reserved=1, peak=2, uuid="GPU-a", last=True)
    Forwarding(rank).emit(logging.makeLogRecord({"name": "n", "levelno": 20, "msg": "m"}))
    assert [reader.receive() for _ in range(3)] == [
        ("progress", {"step": 1, "total": 2, "loss": 0.5}),
        ("memory", {"reserved": 1, "peak": 2, "context": None, "uuid": "GPU-a", "last": True}),
        ("log", ["n", 20, "m"]),
    ]
    second = rank_job(facts_of(a_job()), world.places(a_job(), 2, "m")[1], rank)
    second.progress(step=1)
    assert not reader.connection.poll()
