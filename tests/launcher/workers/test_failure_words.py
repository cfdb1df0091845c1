"""The line of a log that names a program's error, in the forms of the tools that print it."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.queue.workers.exit_outcome import LOG_END_BYTES
from launcher.queue.workers.failure_words import find_failure_words, find_last_error
from launcher.queue.workers.progress.printed_lines import MOST_CHARACTERS

CONTROL_CODES = str.maketrans({"␍": "\r", "␛": "\x1b", "␈": "\x08"})


def read_logs() -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    """Return the parts of failed_logs.txt, and each log's end with the line that names the error."""
    parts: dict[str, str] = {}
    logs: dict[str, tuple[str, str]] = {}
    text = (Path(__file__).parent / "failed_logs.txt").read_text(encoding="utf-8")
    for paragraph in text.removesuffix("\n").split("\n\n")[1:]:
        head, *lines = paragraph.split("\n")
        words = lines.pop(0)[2:] if head.startswith("# ") else ""
        end = "".join(
            parts[line[2:]] if line.startswith("@ ") else f"{line[2:]}\n".translate(CONTROL_CODES)
            for line in lines
        ).replace("␀\n", "")
        if words:
            assert head[2:] not in logs, head
            logs[head[2:]] = end, words
        else:
            parts[head[2:]] = end
    return parts, logs


PARTS, LOGS = read_logs()
KEY, TRACE, EPOCHS = PARTS["key error"], PARTS["traceback"], PARTS["epochs"]
BAR = "\r 44%|████▍     | 4/9 [00:00<00:00, 1220.25it/s, loss=0.31]"


@pytest.mark.parametrize(("end", "words"), LOGS.values(), ids=LOGS)
def test_line_that_names_the_error_is_found(end: str, words: str) -> None:
    assert find_failure_words(end.encode()) == words
    assert find_failure_words(f"{EPOCHS}{end}".replace("\n", "\r\n").encode()) == words


def test_error_above_more_output_than_a_buffer_contains_does_not_count() -> None:
    assert find_failure_words(f"{KEY}{EPOCHS}".encode()) == "KeyError: 'age'"
    assert find_failure_words(f"{KEY}{EPOCHS * 20}".encode()) == EPOCHS.splitlines()[-1]


@pytest.mark.parametrize(
    "end", ["", "\n \t\r\n", BAR, "====\n+---+\n│ │\n", "wandb: Synced 5 files\n", "\0" * 100]
)
def test_log_of_passed_lines_names_no_error(end: str) -> None:
    assert find_failure_words(end.encode()) == ""


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (KEY, "KeyError: 'age'"),
        (f"{KEY}{BAR}", "KeyError: 'age'"),
        (f"{KEY}epoch 2\n{BAR}", "epoch 2"),
        (f"error: no cache\nepoch 2\n{BAR}", "epoch 2"),
    ],
)
def test_error_of_a_killed_program_counts_only_if_nothing_follows(end: str, words: str) -> None:
    assert find_failure_words(end.encode(), was_killed=True) == words


@pytest.mark.parametrize("before", [f"{TRACE}ValueError: ", "loading\n"])
def test_long_line_is_cut_at_its_end(before: str) -> None:
    end = before + "no rows " * 99
    assert find_failure_words(end.encode()) == end.splitlines()[-1][:MOST_CHARACTERS] + "…"


def test_line_that_begins_above_the_end_does_not_count() -> None:
    for end, words in [("Error: torn\n", ""), ("torn", ""), ("torn\rwhole", "whole")]:
        assert find_failure_words(end.encode(), is_cut=True) == words


LINES = sorted({line for end, _ in LOGS.values() for line in end.splitlines()})
PREFIXES = ["", "[rank0]: ", "1: ", "(f pid=7) ", "  ", "| ", BAR, "\x1b[31m", "\x08", "\udcff"]


@given(st.lists(st.tuples(st.sampled_from(PREFIXES), st.sampled_from(LINES)), max_size=40))
@settings(max_examples=100)
def test_lines_in_any_order_are_read(lines: list[tuple[str, str]]) -> None:
    end = "\n".join(map("".join, lines)).encode("utf-8", "surrogateescape")
    words = find_failure_words(end)
    assert len(words) <= MOST_CHARACTERS + 1
    assert not {"\n", "\r"} & {*words}
    assert words.strip() == words


@pytest.mark.parametrize(
    "unit",
    ["a", "1", "%|", "[", "|", ": ", 'File "', "A.", "(", "━1", "error: ", "x\n", "\x08", "\x1b["],
)
def test_repeated_text_is_read(unit: str) -> None:
    end = (unit * LOG_END_BYTES).encode()[:LOG_END_BYTES]
    assert len(find_failure_words(end)) <= MOST_CHARACTERS + 1


def test_last_error_counts_only_if_nothing_was_printed_after_it() -> None:
    error = b'Traceback (most recent call last):\n  File "a.py", line 1\nKeyError: 91\n'
    bar = b"100%|#####| 32/32 [00:01<00:00, 18.24it/s]"
    assert find_last_error(error + bar) == "KeyError: 91"
    assert find_last_error(error + b"used the default instead\n") == ""
    assert find_last_error(b"val_acc: 0.93\n") == ""
