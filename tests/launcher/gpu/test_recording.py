"""A recording says again what a machine said, and no other file is taken for one."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import UsageError
from launcher.gpu.recording import Replay, read_recording, record
from launcher.gpu.snapshot import GpuProcess, GpuSnapshot

AMOUNTS = st.none() | st.integers(0, 1 << 50)
SHARES = st.none() | st.floats(0, 1)
TEXTS = st.text(max_size=20)
PROCESSES = st.builds(
    GpuProcess,
    pid=st.integers(1, 1 << 22),
    used=AMOUNTS,
    user=st.none() | TEXTS,
    command=st.none() | TEXTS,
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
    temperature_c=AMOUNTS,
    ecc_uncorrected=AMOUNTS,
)


def a_gpu(**changes: object) -> GpuSnapshot:
    values: dict[str, object] = {
        "uuid": "GPU-1",
        "index": 0,
        "name": "A10",
        "total": 24,
        "used": None,
    }
    return GpuSnapshot(**values | changes)  # type: ignore[arg-type]  # checked by the class


@given(st.lists(st.lists(GPUS, max_size=3).map(tuple), min_size=1, max_size=3))
def test_what_is_recorded_is_replayed_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, looks: list[tuple[GpuSnapshot, ...]]
) -> None:
    path = tmp_path_factory.mktemp("recording") / "gpus.jsonl"
    for at, gpus in enumerate(looks):
        record(path, gpus, at=float(at))

    replay = Replay(path)

    assert [replay.snapshot() for _ in looks] == looks
    assert replay.snapshot() == looks[-1], "the last one stays"
    assert [look.at for look in replay.looks] == list(map(float, range(len(looks))))


def test_a_line_is_json_with_its_schema(tmp_path: Path) -> None:
    record(tmp_path / "gpus.jsonl", [a_gpu()], at=3.5)

    line = json.loads((tmp_path / "gpus.jsonl").read_text())

    assert (line["schema"], line["at"], line["gpus"][0]["used"]) == (1, 3.5, None)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train: xception", "no look at GPUs"),
        ("[]", "expected an object with schema, at and gpus"),
        ('{"schema": 2, "at": 1, "gpus": []}', "schema 2 is not 1"),
        ('{"schema": 1, "at": 1, "gpus": ["A10"]}', "expected an object, got 'A10'"),
        ('{"schema": 1, "at": 1, "gpus": [{"uuid": "GPU-1"}]}', "missing"),
        ('{"schema": 1, "at": 1, "gpus": [{"uuid": null}]}', "uuid cannot be None"),
        ('{"schema": 1, "at": 1, "gpus": [{"used": "much"}]}', "used cannot be 'much'"),
        ('{"schema": 1, "at": 1, "gpus": [{"used": true}]}', "used cannot be True"),
        ('{"schema": 1, "at": 1, "gpus": [{"used": -5}]}', "used cannot be -5"),
        ('{"schema": 1, "at": 1, "gpus": [{"total": -1}]}', "total cannot be -1"),
        ('{"schema": 1, "at": 1, "gpus": [{"utilisation": NaN}]}', "utilisation cannot be nan"),
        ('{"schema": 1, "at": 1, "gpus": [{"power_w": Infinity}]}', "power_w cannot be inf"),
        ('{"schema": 1, "at": 1, "gpus": [{"processes": [7]}]}', "expected an object, got 7"),
        ('{"schema": 1, "at": 1, "gpus": [{"warnings": [7]}]}', "a warning cannot be 7"),
        ("[" * 100_000, "no look at GPUs"),
    ],
)
def test_a_line_that_is_something_else_is_named(line: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "gpus.jsonl"
    record(path, [])
    with path.open("a") as file:
        file.write(f"{line}\n")

    with pytest.raises(UsageError) as refused:
        Replay(path)

    assert f"{path}:2: " in str(refused.value)
    assert said in str(refused.value)


def test_a_process_without_a_pid_is_no_process(tmp_path: Path) -> None:
    path = tmp_path / "gpus.jsonl"
    path.write_text('{"schema": 1, "at": 1, "gpus": [{"processes": [{"used": 7}]}]}\n')

    with pytest.raises(UsageError, match=r"gpus.jsonl:1: .*pid"):
        read_recording(path)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\n"])
def test_a_file_that_cannot_be_read_is_no_recording(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "gpus.jsonl"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(UsageError, match="recording"):
        Replay(path)
