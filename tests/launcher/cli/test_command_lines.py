"""Files of commands: their words, comments, and what is wrong with a line."""

import itertools
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.frontends.cli.command_lines import (
    LONGEST_LINE,
    BadLine,
    command_file,
    read_commands,
    split_line,
)
from launcher.system.errors import MOST_PROBLEMS, TaskFileError, UsageError


def words_of(text: str) -> list[tuple[str, ...]]:
    return [line.argv for line in read_commands(as_lines(text.encode()), "x.txt").commands]


def as_lines(content: bytes) -> list[bytes]:
    return content.splitlines(keepends=True)


def refusal_of(content: bytes) -> str:
    with pytest.raises(TaskFileError) as error:
        read_commands(as_lines(content), "x.txt")
    return str(error.value)


def test_invalid_line_is_located_in_the_named_file(tmp_path: Path) -> None:
    file = tmp_path / "jobs.txt"
    file.write_bytes(b"echo ".ljust(LONGEST_LINE, b"a") + b"\r\necho 'b\n")
    with pytest.raises(TaskFileError) as error:
        command_file(str(file))
    assert f"--> {file}:2:" in str(error.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("python train.py --lr 0.1", ["python", "train.py", "--lr", "0.1"]),
        ("  echo\ta  b \r", ["echo", "a", "b"]),
        ("echo 'a b' \"c d\" e\\ f", ["echo", "a b", "c d", "e f"]),
        ("echo '' x''y", ["echo", "", "xy"]),
        ('sh -c "echo \\"$HOME\\" | wc"', ["sh", "-c", 'echo "$HOME" | wc']),
        ("echo $HOME *.txt ~", ["echo", "$HOME", "*.txt", "~"]),
        ("wget http://a/b#c", ["wget", "http://a/b#c"]),
        ("echo a # b 'c", ["echo", "a"]),
        ("echo '# no' \\# comment #'", ["echo", "# no", "#", "comment"]),
        ("echo café 日本", ["echo", "café", "日本"]),
        ("echo a\u00a0b \x0b", ["echo", "a\u00a0b", "\x0b"]),
    ],
)
def test_line_is_split_like_in_a_shell(line: str, words: list[str]) -> None:
    assert split_line(line)[0] == words


@given(st.text("ab #'\"\\\t", max_size=20))
def test_line_is_split_or_refused_like_by_shlex(line: str) -> None:
    uncommented = line  # if a word began with #, shlex would end another word, too
    if "#" in line:
        return
    try:
        expected = shlex.split(uncommented)
    except ValueError:
        with pytest.raises(BadLine):
            split_line(line)
    else:
        assert split_line(line)[0] == expected


def test_all_invalid_lines_are_reported_with_their_locations() -> None:
    assert refusal_of(b"echo ok\necho 'a b\n# 'fine\necho a \\\necho \"c\n") == (
        "error[unclosed-quote]: this ' is not closed\n"
        " --> x.txt:2:6\n"
        "  |\n"
        "2 | echo 'a b\n"
        "  |      ^ write each command on one line\n"
        "\n"
        "error[lone-backslash]: this backslash escapes nothing\n"
        " --> x.txt:4:8\n"
        "  |\n"
        "4 | echo a \\\n"
        "  |        ^ write each command on one line\n"
        "\n"
        'error[unclosed-quote]: this " is not closed\n'
        " --> x.txt:5:6\n"
        "  |\n"
        '5 | echo "c\n'
        "  |      ^ write each command on one line\n"
        "\n"
        "3 errors in x.txt; nothing was queued"
    )


@pytest.mark.parametrize(
    ("line", "place", "message"),
    [
        ("é a\0b".encode(), "x.txt:1:4", "error[nul-byte]: the line contains a NUL byte"),
        (b"echo caf\xe9 x", "x.txt:1:9", "error[not-utf8]: the byte 0xe9 is not valid UTF-8"),
        (b"echo " + b"a" * 1_000_000, "x.txt:1:1", "the line has more than 131,072 bytes"),
    ],
)
def test_line_that_cannot_be_passed_to_a_program_is_refused(
    line: bytes, place: str, message: str
) -> None:
    text = refusal_of(line + b"\n")
    assert message in text
    assert f"--> {place}\n" in text
    assert len(text) < 1000
    assert "\0" not in text


def test_reading_stops_at_an_endless_line_and_after_many_mistakes() -> None:
    def endless(line: bytes, most: int) -> list[bytes]:
        return [line] * most

    reader = iter(endless(b"x" * (LONGEST_LINE + 1), 3))
    with pytest.raises(TaskFileError):
        read_commands(reader, "x")
    assert len([*reader]) == 2
    reader = iter(endless(b"'\n", MOST_PROBLEMS + 5))
    with pytest.raises(TaskFileError, match=f"{MOST_PROBLEMS} errors in x; nothing was queued"):
        read_commands(reader, "x")
    assert len([*reader]) == 5


def test_file_with_too_many_commands_is_refused() -> None:
    with pytest.raises(UsageError, match=r"x contains more than 200,000 commands\. Divide it"):
        read_commands(itertools.repeat(b"true\n"), "x")


@pytest.mark.parametrize("text", ["", "\n\n", "# echo a\n"])
def test_a_file_without_a_command_is_an_error(text: str) -> None:
    with pytest.raises(UsageError, match=r"x\.txt does not contain a command. Nothing was queued"):
        words_of(text)


@pytest.mark.parametrize(
    ("line", "column"), [("a > log", 3), ("a 'b c' && d", 9), ("cat x | wc", 7), ("a;b ;", 5)]
)
def test_shell_operator_causes_a_warning(line: str, column: int) -> None:
    file = read_commands([b"echo '>' \"|\"\n", line.encode()], "x.txt")
    (warning,) = file.warnings
    assert warning.place is not None
    assert (warning.place.line, warning.place.column) == (2, column)
    assert str(warning).startswith("warning[no-shell]: no shell runs, so ")
