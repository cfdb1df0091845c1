"""Passes that overlap copies with computing, with a stand-in for a GPU, and on a GPU if there is one."""

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trueface.data.batch import Batch
from trueface.data.loading import prefetching, transfers
from trueface.data.loading.prefetching import (
    PINNED_BATCHES,
    PinnedMemory,
    join_batches,
    stack_images,
)
from trueface.data.loading.transfers import LATE, Send, iter_outputs
from trueface.evaluation.inference import evaluate
from trueface.models.detectors import build_detector
from trueface.models.inference import FrozenBackbone
from trueface.runtime.progress import RunContext


class StandIn:
    """Notes copies in their order, and copies late, as a GPU does."""

    def __init__(self, events: list[str]) -> None:
        self.events = events
        self.unread = self.most_unread = 0

    def send(self, values: Tensor) -> Tensor:
        self.events.append(f"send {int(values[0])}")
        return values.clone()

    def fetch(self, values: Tensor) -> Callable[[], Tensor]:
        self.unread += 1
        self.most_unread = max(self.most_unread, self.unread)

        def read() -> Tensor:
            self.unread -= 1
            self.events.append(f"read {int(values[0])}")
            return values.clone()

        return read


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made = StandIn([])
    monkeypatch.setattr(transfers, "open_transfers", lambda _: made)
    return made


def numbers(count: int, events: list[str]) -> Iterator[Tensor]:
    for number in range(count):
        events.append(f"load {number}")
        yield torch.tensor([number])


def doubled(values: Tensor, send: Send) -> tuple[Tensor, ...]:
    return (send(values) * 2, values + 1)


def test_results_are_read_when_later_items_are_under_way(stand_in: StandIn) -> None:
    events = stand_in.events
    passed = [(int(a), [int(b) for b in outputs]) for a, outputs in iter_outputs(
        numbers(5, events), doubled, "cuda:0"
    )]  # fmt: skip
    assert passed == [(number, [2 * number, number + 1]) for number in range(5)]
    assert events.index("read 0") > events.index(f"send {LATE}")
    assert stand_in.most_unread == 2 * (LATE + 1)  # two outputs of each item
    assert stand_in.unread == 0


@pytest.mark.parametrize("count", [0, 1, LATE])
def test_short_pass_yields_all_results(count: int, stand_in: StandIn) -> None:
    passed = [*iter_outputs(numbers(count, stand_in.events), doubled, "cuda:0")]
    assert [int(outputs[0]) for _, outputs in passed] == [2 * number for number in range(count)]


def test_items_without_tensors_keep_their_place(stand_in: StandIn) -> None:
    def only_even(values: Tensor, send: Send) -> tuple[Tensor, ...]:
        return () if int(values) % 2 else doubled(values, send)

    passed = iter_outputs(numbers(5, stand_in.events), only_even, "cuda:0")
    assert [(int(item), len(outputs)) for item, outputs in passed] == [
        (0, 2), (1, 0), (2, 2), (3, 0), (4, 2),
    ]  # fmt: skip


def test_pass_on_the_cpu_reads_nothing_ahead_and_starts_no_thread() -> None:
    events: list[str] = []
    threads = threading.active_count()
    for item, _ in iter_outputs(numbers(3, events), doubled, "cpu"):
        assert events[-1] == f"load {int(item)}"
        assert threading.active_count() == threads


class Mean(nn.Module):
    """A model whose logit is the mean of the pixels."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.float().flatten(1).mean(1, keepdim=True)


def batches(sizes: list[int], side: int = 4) -> Iterator[Batch]:
    rng, begin = torch.Generator().manual_seed(1), 0
    for size in sizes:
        pixels = torch.randint(0, 256, (size, 3, side, side), generator=rng).to(torch.uint8)
        places = torch.arange(begin, begin + size)
        begin += size
        yield Batch(pixels, (places % 2)[:, None].float(), places)


SIZES = [3, 3, 0, 3, 3, 2]


class Quiet(StandIn):
    """A stand-in for batches."""

    def send(self, values: Tensor) -> Tensor:
        return values.clone()

    def fetch(self, values: Tensor) -> Callable[[], Tensor]:
        return values.clone


def test_late_reading_changes_no_prediction_and_no_feature(monkeypatch: pytest.MonkeyPatch) -> None:
    body = FrozenBackbone(build_detector("slim18", weights="none", seed=0))

    def outputs() -> list[np.ndarray]:
        scored = evaluate(Mean(), batches(SIZES), total=sum(SIZES), watch=RunContext())
        features = [values.numpy() for _, values in body.iter_features(batches([3, 1, 2], 16))]
        return [scored.margin, scored.labels, scored.positions, *features]

    plain = outputs()
    monkeypatch.setattr(transfers, "open_transfers", lambda _: Quiet([]))
    assert all(map(np.array_equal, outputs(), plain))


IMAGES = [torch.full((3, 4, 4), number, dtype=torch.uint8) for number in range(5)]


def test_failure_to_pin_is_logged_once_and_batches_stay_in_ordinary_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make = torch.empty

    def fail(*args: object, pin_memory: bool = False, **options: object) -> Tensor:
        if pin_memory:
            raise RuntimeError("CUDA error: out of memory\nmore lines")
        return make(*args, **options)  # type: ignore[call-overload,no-any-return]  # passed on

    monkeypatch.setattr(prefetching, "uses_gpu", lambda: True)
    monkeypatch.setattr(prefetching, "PINNED", PinnedMemory())
    with monkeypatch.context() as patched:
        patched.setattr(torch, "empty", fail)
        for _ in range(2):
            assert torch.equal(stack_images(IMAGES), torch.stack(IMAGES))
    joined = join_batches([torch.stack(IMAGES[:2]), torch.stack(IMAGES[2:])])
    assert torch.equal(joined, torch.stack(IMAGES))
    assert caplog.text.count("batches=not pinned bytes=240 reason=CUDA error: out of memory") == 1
    assert "more lines" not in caplog.text


@pytest.mark.parametrize(
    ("limit", "pinned"), [(256 * PINNED_BATCHES, 1), (255 * PINNED_BATCHES, 0)]
)
def test_batches_beyond_the_limit_are_not_pinned(
    limit: int, pinned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    make = torch.empty

    def ordinary(*args: object, pin_memory: bool = False, **options: object) -> Tensor:
        asked.append(pin_memory)
        return make(*args, **options)  # type: ignore[call-overload,no-any-return]  # passed on

    monkeypatch.setattr(prefetching, "uses_gpu", lambda: True)
    monkeypatch.setattr(torch, "empty", ordinary)
    memory = PinnedMemory(limit)
    assert (memory.allocate((5, 3, 4, 4), torch.uint8) is not None) == bool(pinned)  # 240 bytes
    assert asked == [True] * pinned


def test_images_of_any_layout_are_stacked_and_other_sizes_refused() -> None:
    last = [image.permute(1, 2, 0).contiguous().permute(2, 0, 1) for image in IMAGES]
    assert torch.equal(stack_images([*IMAGES, *last]), torch.stack([*IMAGES, *IMAGES]))
    with pytest.raises(RuntimeError, match="equal size"):
        stack_images([IMAGES[0], IMAGES[0][:, :1, :1]])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_gives_the_same_logits_with_and_without_overlap() -> None:
    model = build_detector("nodown18", weights="none", seed=0).eval().cuda()
    given = [*batches([8] * 12, 64)]
    with torch.inference_mode():
        plain = torch.cat([model(batch.inputs.cuda()).cpu() for batch in given]).squeeze(1)
    scored = evaluate(model, iter(given), total=96, watch=RunContext(device="cuda:0"))
    assert np.abs(scored.margin - plain.double().numpy()).max() < 1e-5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_memory_of_a_long_pass_is_that_of_a_short_one() -> None:
    body = FrozenBackbone(build_detector("slim18", weights="none", seed=0).cuda(), device="cuda:0")
    for _ in body.iter_features(batches([64] * 4, 128)):
        pass
    torch.cuda.reset_peak_memory_stats()
    for _ in body.iter_features(batches([64] * 4, 128)):
        pass
    short = torch.cuda.max_memory_allocated()
    for _ in body.iter_features(batches([64] * 64, 128)):
        pass
    assert torch.cuda.max_memory_allocated() <= 1.1 * short
