"""Two users with a queue each on the same GPUs: nobody waits for the whole queue of the other."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build import shell, until
from tests.e2e.machine import Machine, name_of, two_users
from tests.nvml.standin import GIB, TAKE, Devices

QUICK = f"{TAKE} sleep 0.5"
MANY = 400  # jobs of which a test sees a few, however busy the machine is


@pytest.fixture
def users(tmp_path: Path, gpus: Devices) -> Iterator[tuple[Machine, Machine]]:
    """Two users with a queue each."""
    with two_users(tmp_path, gpus) as both:
        yield both


def test_wide_job_of_a_peer_user_gets_gpus_and_waiting_jobs_show_the_reason(
    users: tuple[Machine, Machine], gpus: Devices
) -> None:
    one, other = users
    for _ in range(2):
        gpus.add(24 * GIB, used=0)
    first = one.hold(1, gpus=1, vram="20GiB")
    assert first.started or first.cards
    wide = other.hold(1, gpus=2, vram="20GiB")
    other.wait_for_reason(wide.job, "waiting for 2 GPUs")

    later = one.hold(1, gpus=1, vram="20GiB")

    reason = one.wait_for_reason(later.job, "waiting for", name_of(other), "for 2 GPUs")
    assert "and has used less lately (0.0 " in reason
    assert "has used less lately" in reason
    assert re.search(rf"waiting for (user )?{name_of(other)}, wh", one.call("status").stdout)
    assert "has used less lately" in one.show_text(later.job)
    assert not later.started
    first.let_go()
    assert len(wide.cards) == 2
    assert not later.started
    wide.let_go()
    assert len(later.cards) == 1


SPAN = (
    f"{TAKE} b=$(date +%s%N); sleep 0.1; "
    'echo "$CUDA_VISIBLE_DEVICES $b $(date +%s%N)" >"$2/.$$" && mv "$2/.$$" "$2/$$.$3"'
)


def test_exclusive_jobs_share_no_gpu_with_jobs_of_peer_users(
    users: tuple[Machine, Machine], gpus: Devices, tmp_path: Path
) -> None:
    one, other = users
    for _ in range(2):
        gpus.add(24 * GIB, used=0)
    spans = tmp_path / "spans"
    spans.mkdir()
    spans.chmod(0o1777)
    count = 4

    def queue(person: Machine, whose: str, **resources: object) -> list[int]:
        argv = shell(SPAN, str(GIB // 4), str(spans), whose)
        return person.queue_many(argv, count, device="cuda", **resources)

    queue(one, "exclusive", exclusive=True, vram=GIB)
    queue(one, "unknown-exclusive", exclusive=True)
    words = shell(SPAN, str(GIB // 4), str(spans), "theirs")
    for vram in (("--vram=0.5GiB",), ()):
        for _ in range(3):
            other.call("add", "--gpus=1", *vram, "--", *words)
    until(lambda: len([*spans.glob("[0-9]*")]) >= 2 * count + 6, "all are done")

    seen = [(file.suffix, *file.read_text().split()) for file in spans.glob("[0-9]*")]
    for kind, card, begin, end in seen:
        beside = [
            other_kind
            for other_kind, other_card, other_begin, other_end in seen
            if other_card == card and other_begin < end and begin < other_end
        ]
        assert kind == ".theirs" or len(beside) == 1, "it shared its card"
