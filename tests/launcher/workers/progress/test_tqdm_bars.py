"""Bars as tqdm draws them into a file."""

import io
from collections.abc import Iterator
from typing import Any

import pytest

from launcher.workers.progress.printed_lines import bar_steps, newest_bar
from launcher.workers.progress.steps import Step


def bar(text: str) -> Step:
    step = newest_bar(text.encode(), 7.0)
    assert step is not None, text
    return step


@pytest.mark.parametrize(
    ("text", "shown", "rate"),
    [
        ("train:  30%|███       | 3/10 [00:01<00:02,  3.10it/s, loss=0.2]", "3/10 loss=0.2", 3.1),
        (" 30%|###       | 3/10 [1:00:01<12:00:02, 2.50s/it]", "3/10", 0.4),
        ("  0%|          | 0/10 [00:00<?, ?it/s]", "0/10", None),
        ("30% 3/10 [00:01<00:02,  3.10it/s]", "3/10", 3.1),
        (
            "25%|#| 512k/2.00M [00:01<00:03, 1.50MB/s, loss=1e-3]",
            "512000/2000000 loss=0.001",
            1.5e6,
        ),
        ("10it [00:01,  9.50it/s, acc=0.5, phase=warm]", "10 acc=0.5 phase=warm", 9.5),
        ("3Epoch [00:30, 10.00s/Epoch]", "3", 0.1),
        ("1.20kit [00:01, 1.10kit/s]", "1200", 1100.0),
        ("7img [00:01, 7.00img/s]", "7", 7.0),
        ("30%|\x1b[32m███       \x1b[0m| 3/10 [00:01<00:02,  3.10it/s]", "3/10", 3.1),
        ("epoch 2/9 [warm]: 100%|#| 10/10 [00:01<00:00,  3.10it/s, best of all]", "10/10", 3.1),
    ],
)
def test_the_common_forms_are_read(text: str, shown: str, rate: float | None) -> None:
    step = bar(f"begins\n\r{text}")
    assert str(step) == shown
    assert step.rate == pytest.approx(rate)
    assert step.at == 7.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "loss 3/10 [of all]",
        "30%|███       | 3/10 [00:01<00:02,  3.1",  # the rest is not written yet
        "30% of 3/10 at 5 MB/s",
        "0%| | 0/99999999999999999999 [00:00<?, ?it/s]",
        "[" * 3000 + "/s]",
        "1 " * 3000 + "/s]",
    ],
)
def test_other_text_is_no_bar(text: str) -> None:
    assert newest_bar(text.encode(), 0.0) is None


def test_the_newest_whole_bar_counts() -> None:
    text = "\r10%|#| 1/10 [00:01<00:09, 1.00it/s]\r20%|##| 2/10 [00:02<00:08, 1.00it/s]\r30%|##"
    assert str(bar(text)) == "2/10"


@pytest.fixture
def tqdm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The real one, without the thread that it starts to look after slow bars."""
    real = pytest.importorskip("tqdm").tqdm
    monkeypatch.setattr(real, "monitor_interval", 0)
    return real


def bars(tqdm: Any, *sizes: int, file: io.StringIO, leave: bool) -> Iterator[int]:
    """Go through nested bars."""
    own, *inner = sizes
    name = f"bar of {own}"
    for number in tqdm(range(own), desc=name, file=file, mininterval=0, leave=leave or not inner):
        yield number
        if inner:
            yield from bars(tqdm, *inner, file=file, leave=leave)


@pytest.mark.parametrize("leave", [False, True])
def test_of_nested_bars_the_outer_counts(tqdm: Any, leave: bool) -> None:
    file = io.StringIO()
    drawn = bars(tqdm, 5, 3, 4, file=file, leave=leave)
    for _ in range(40):
        next(drawn)
    text = file.getvalue()
    del drawn  # which closes its bars
    step = bar(text)
    assert step.total == 5
    steps, _ = bar_steps(text.encode(), 0.0)
    assert {step.total for step in steps} == {5}
    assert [step.step for step in steps] == sorted(step.step for step in steps)


@pytest.mark.parametrize("leave", [False, True])
@pytest.mark.parametrize("steps", [900, 1900, 2900])
def test_an_outer_bar_that_was_drawn_long_ago_counts(tqdm: Any, leave: bool, steps: int) -> None:
    file = io.StringIO()
    drawn = bars(tqdm, 5, 1000, file=file, leave=leave)
    for _ in range(steps):
        next(drawn)
    text = file.getvalue().encode()
    del drawn
    inner, outer = newest_bar(text[-4096:], 0.0), newest_bar(text[-4096:], 0.0, lambda: text)
    assert inner is not None
    assert outer is not None
    assert (inner.total, outer.total) == (1000, 5)
    assert outer.step == steps // 1000


def test_bars_one_after_the_other_are_all_told(tqdm: Any) -> None:
    file = io.StringIO()
    for size in (3, 4):
        list(bars(tqdm, size, file=file, leave=True))
    steps, read = bar_steps(file.getvalue().encode(), 0.0)
    assert {step.total for step in steps} == {3, 4}
    assert str(steps[-1]) == "4/4"
    assert read > 0


@pytest.mark.parametrize(
    "line", [b"1" * 4000 + b"/s", b"1%|" * 1300 + b"/s", b"1%" + b" " * 4000 + b"x/s"]
)
def test_many_long_lines_that_are_no_bars_are_read_in_one_go(line: bytes) -> None:
    assert bar_steps(b"\n".join([line] * 256) + b"\n", 0.0)[0] == []
