"""gpus.json says again what the scheduler saw, and no other file is taken for one."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.gpu.snapshot import (
    GpuProcess,
    GpuSnapshot,
    SeenGpus,
    gpu_record,
    read_gpu,
    seen_gpus,
    write_look,
)
from launcher.system.paths import Home

AMOUNTS = st.none() | st.integers(0, 1 << 50)
SHARES = st.none() | st.floats(0, 1)
TEXTS = st.text(max_size=20)
PROCESSES = st.builds(
    GpuProcess,
    pid=st.integers(1, 1 << 22),
    used=AMOUNTS,
    user=st.none() | TEXTS,
    command=st.none() | TEXTS,
    sm=SHARES,
)
GPUS = st.builds(
    GpuSnapshot,
    uuid=TEXTS,
    index=st.integers(0, 15),
    name=TEXTS,
    total=st.integers(0, 1 << 50),
    used=AMOUNTS,
    mig=st.none() | st.integers(0, 6),
    fault=TEXTS,
    warnings=st.lists(TEXTS, max_size=2).map(tuple),
    processes=st.none() | st.lists(PROCESSES, max_size=3).map(tuple),
    utilisation=SHARES,
    power_w=SHARES,
    power_limit_w=SHARES,
    temperature_c=st.none() | st.integers(-40, 120),
    ecc_uncorrected=AMOUNTS,
)
PLAIN: dict[str, Any] = {"uuid": "GPU-1", "index": 0, "name": "A10", "total": 24, "used": None}


@given(GPUS)
def test_a_gpu_is_read_as_it_was_written(gpu: GpuSnapshot) -> None:
    assert read_gpu(json.loads(json.dumps(gpu_record(gpu)))) == gpu


def test_what_the_scheduler_saw_is_seen_with_its_time_and_its_trouble(home: Home) -> None:
    assert seen_gpus(home) is None
    look = SeenGpus(at=3.5, gpus=(GpuSnapshot(**PLAIN),), trouble="nobody can write there")
    write_look(home, look)
    assert seen_gpus(home) == look


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("A10", "expected an object, got 'A10'"),
        ({"uuid": "GPU-1"}, "missing"),
        (PLAIN | {"uuid": None}, "uuid cannot be None"),
        (PLAIN | {"used": "much"}, "used cannot be 'much'"),
        (PLAIN | {"used": True}, "used cannot be True"),
        (PLAIN | {"used": -5}, "used cannot be -5"),
        (PLAIN | {"total": -1}, "total cannot be -1"),
        (PLAIN | {"total": 10**400}, "total cannot be 1000"),
        (PLAIN | {"utilisation": float("nan")}, "utilisation cannot be nan"),
        (PLAIN | {"power_w": float("inf")}, "power_w cannot be inf"),
        (PLAIN | {"processes": [7]}, "expected an object, got 7"),
        (PLAIN | {"processes": [{"used": 7}]}, "pid"),
        (PLAIN | {"warnings": [7]}, "a warning cannot be 7"),
    ],
)
def test_a_record_that_is_no_gpu_is_named_and_no_file_with_it_is_read(
    record: object, said: str, home: Home
) -> None:
    with pytest.raises(ValueError, match=said):
        read_gpu(record)
    home.gpus.write_text(json.dumps({"schema": 1, "at": 1, "gpus": [record]}))
    assert seen_gpus(home) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\n", b"[]", b'{"schema": 2, "at": 1, "gpus": []}', b"[" * 100_000],
)
def test_a_file_that_is_something_else_tells_of_no_gpu(content: bytes, home: Home) -> None:
    home.gpus.write_bytes(content)
    assert seen_gpus(home) is None
