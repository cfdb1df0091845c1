"""A file of commands, one per line, split like in a shell but without running one; errors look as in task files."""

import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from launcher.system.errors import (
    MOST_PROBLEMS,
    Problem,
    Severity,
    SourceLocation,
    TaskFileError,
    UsageError,
)
from launcher.system.executables import (
    is_assignment,
    missing_program,
    missing_script,
    module_of,
    script_of,
)
from launcher.system.lazy_regex import compile_lazily
from launcher.system.terminal import print_stderr
from launcher.system.text import sanitize_terminal

LONGEST_LINE = 128 * 1024  # bytes: the longest argument of a program in Linux
_SHOWN = 1000  # printed characters of a line that is too long
_MOST_NAMED = 5  # further programs in a message
STDIN = "-"
MOST_COMMANDS = 200_000  # writing that many locks the queue for seconds
_OTHER_FILES = {  # endings of other files → what to do with such a file
    ".py": "To run the program: launcher add -- python {}",
    ".ipynb": "To run the notebook: launcher add -- jupyter execute {}",
    ".yaml": "To run a task file: launcher run {}",
    ".yml": "To run a task file: launcher run {}",
}
_BYTE_ORDER_MARK = "\ufeff"
# blanks, and one word up to its end, or up to an unclosed quote or backslash
_WORD = compile_lazily(
    # without possessive groups, which Python 3.11.2 matches wrongly
    r"""[ \t\r\n]*((?:[^ \t\r\n'"\\]+|\\.|'[^']*'|"[^"\\]*(?:\\.[^"\\]*)*")*)""",
    re.DOTALL,
)
_QUOTING = compile_lazily(r"['\"\\]")
# operators of a shell that a program gets as arguments
OPERATORS = frozenset({"|", "||", "&", "&&", ";", "<", ">", ">>", "2>", "2>&1", "&>"})
# programs that use such arguments themselves
_TAKE_OPERATORS = frozenset({"[", "expr", "find", "test"})
_SET_VARIABLES = "Set variables with env"  # the advice for a word such as SEED=1
_NO_SHELL = "no shell runs, so {!r} is an argument of the program"
_A_SHELL = "write sh -c '…' for a shell"


class BadLine(UsageError):
    """A line without a valid command."""

    def __init__(
        self, code: str, message: str, text: str, offset: int = 0, *, hint: str, last: bool = False
    ) -> None:
        """Describe the problem of a line.

        Args:
            code: Code of the problem.
            message: Message of the problem.
            text: Line.
            offset: Offset of the problem in characters, from 0.
            hint: Remedy.
            last: Whether reading must stop.
        """
        super().__init__(message)
        self.code, self.text, self.offset, self.hint, self.last = code, text, offset, hint, last


class CommandLine(NamedTuple):
    """One command of a file."""

    number: int  # line number, from 1
    text: str  # the line
    argv: tuple[str, ...]


class CommandFile(NamedTuple):
    """The commands of a file, and warnings about them."""

    name: str  # for messages
    commands: tuple[CommandLine, ...]
    warnings: tuple[Problem, ...] = ()


def command_file(source: str) -> CommandFile:
    """Read the commands of a file or of the standard input.

    Args:
        source: Path of the file, or `-`.

    Raises:
        UsageError: the file cannot be read, or contains no command.
        TaskFileError: lists all invalid lines.
    """
    name = "<stdin>" if source == STDIN else source
    if advice := _OTHER_FILES.get(Path(name).suffix):
        how = advice.format(shlex.quote(name))
        raise UsageError(f"--from {name}: expected a list of commands, one per line. {how}")
    with _open_source(source) as stream:
        # enough of an overlong line is read to detect it
        readline = partial(stream.readline, LONGEST_LINE + len(b"\r\n") + 1)
        return read_commands(iter(readline, b""), name)


@contextmanager
def _open_source(source: str) -> Iterator[BinaryIO]:
    if source == STDIN:
        if sys.stdin.isatty():
            print_stderr("reading commands, one per line; Ctrl-D ends the input")
        yield sys.stdin.buffer
        return
    if not source:
        raise UsageError("--from: empty file name. Write a file name, or - for standard input.")
    try:
        with Path(source).open("rb") as stream:
            yield stream
    except (OSError, ValueError) as error:  # ValueError: an invalid file name
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"--from: cannot read {sanitize_terminal(source)}: {why}") from error


def read_commands(lines: Iterable[bytes], file: str) -> CommandFile:
    """Return the commands of some lines without empty lines and comments.

    Args:
        lines: Lines with their ends. Reading stops at a line of a binary file.
        file: Name of the file in messages.

    Raises:
        UsageError: there is no command, or there are too many.
        TaskFileError: lists the problem of each invalid line.
    """
    commands: list[CommandLine] = []
    problems: list[Problem] = []
    odd: Problem | None = None
    for number, line in enumerate(lines, 1):
        try:
            text = _text(line, first=number == 1)
            argv, operator = split_line(text)
        except BadLine as error:
            place = SourceLocation(
                file=file, line=number, column=error.offset + 1, text=error.text, length=1
            )
            problems.append(Problem(error.code, str(error), place=place, hint=error.hint))
            if error.last or len(problems) == MOST_PROBLEMS:
                break
            continue
        if argv:
            commands.append(CommandLine(number, text, tuple(argv)))
            if operator is not None and odd is None:
                odd = _shell_operator_warning(file, number, text, operator)
        if len(commands) > MOST_COMMANDS:
            raise UsageError(
                f"{file} contains more than {MOST_COMMANDS:,} commands. Divide it, for example with "
                "`split -l`."
            )
    if problems:
        raise TaskFileError(problems)
    if not commands:
        raise UsageError(f"{file} does not contain a command. Nothing was queued.")
    return CommandFile(file, tuple(commands), () if odd is None else (odd,))


def _has_operator(command: str) -> bool:
    """Return whether a shell would find an operator outside of quotes."""
    tokens = shlex.shlex(command, posix=False, punctuation_chars=True)
    try:
        return any(set(token) <= set("|&;<>") for token in tokens)
    except ValueError:  # a quotation mark is not closed
        return False


def _shell_operator_warning(file: str, line_number: int, text: str, offset: int) -> Problem:
    """Return the warning that a program gets a shell operator as an argument."""
    word = text[offset:].split()[0]
    return Problem(
        code="no-shell",
        message=_NO_SHELL.format(word),
        severity=Severity.WARNING,
        place=SourceLocation(
            file=file, line=line_number, column=offset + 1, text=text, length=len(word)
        ),
        hint=_A_SHELL,
    )


def _text(line: bytes, *, first: bool) -> str:
    """Return a line as text, without its end.

    Raises:
        BadLine: it is too long, contains bytes that are invalid in arguments, or is not UTF-8.
    """
    content = line.removesuffix(b"\n").removesuffix(b"\r")
    if len(content) > LONGEST_LINE:
        raise BadLine(
            "long-line",
            f"the line has more than {LONGEST_LINE:,} bytes; the rest of the file was not read",
            content[:_SHOWN].decode(errors="replace"),
            hint="let the program read its arguments from a file",
            last=True,
        )
    if (nul := content.find(0)) >= 0:
        raise BadLine(
            "nul-byte",
            "the line contains a NUL byte; the rest of the file was not read",
            *_decode_with_offset(content, nul),
            hint="no argument can contain it; is this a text file?",
            last=True,
        )
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        message = f"the byte 0x{content[error.start]:02x} is not valid UTF-8"
        place = _decode_with_offset(content, error.start)
        raise BadLine("not-utf8", message, *place, hint="save the file as UTF-8") from error
    return text.removeprefix(_BYTE_ORDER_MARK) if first else text


def _decode_with_offset(content: bytes, offset: int) -> tuple[str, int]:
    """Return a printable line, and the offset in it of the character for a byte."""
    return content.decode(errors="replace"), len(content[:offset].decode(errors="replace"))


def split_line(text: str) -> tuple[list[str], int | None]:
    """Return the words of a line as in a shell, and the offset of the first shell operator.

    A word that starts with `#` starts a comment. Variables, globs and operators have no effect.

    Raises:
        BadLine: a quote or a backslash is not closed.
    """
    words: list[str] = []
    operator_at, quotes = None, _QUOTING.search(text)
    for match in _WORD.finditer(text):
        word, at = match[1], match.start(1)
        if not word and at < len(text):
            code, message = "unclosed-quote", f"this {text[at]} is not closed"
            if text[at] == "\\":
                code, message = "lone-backslash", "this backslash escapes nothing"
            raise BadLine(code, message, text, at, hint="write each command on one line")
        if not word or word[0] == "#":
            break
        if operator_at is None and word in OPERATORS:
            operator_at = at
        words.append(shlex.split(word)[0] if quotes and _QUOTING.search(word) else word)
    return words, operator_at


def missing_code(argv: Sequence[str], folder: Path, environment: Mapping[str, str]) -> str:
    """Return that the script or the module of a command line does not exist; empty if it does, or if it is unknown.

    Args:
        argv: Program and arguments.
        folder: Folder in which it starts.
        environment: Environment with its PATH and PYTHONPATH.
    """
    if not module_of(argv):
        return missing_script(argv, folder)
    from launcher.provenance.project_imports import missing_module  # the module parses code

    return missing_module(argv, folder, environment)


def missing_programs(
    file: CommandFile, folder: Path, environment: Mapping[str, str]
) -> Iterator[Problem]:
    """Yield the warning about programs that cannot be started as typed.

    Args:
        file: Commands.
        folder: Folder in which the programs start.
        environment: Environment with their PATH.
    """
    first: dict[str, CommandLine] = {}
    missing: dict[str, str] = {}
    known: set[tuple[str, str]] = set()
    for command in file.commands:
        argv = command.argv
        script = script_of(argv) or module_of(argv)
        if (argv[0], script) in known:
            continue
        known.add((argv[0], script))
        reason = missing_program(argv[0], folder, environment)
        word = argv[0] if reason else script
        reason = reason or missing_code(argv, folder, environment)
        if reason and word not in missing:
            missing[word], first[word] = reason, command
    if not missing:
        return
    program, *others = missing
    text = first[program].text
    notes = ["the jobs will fail unless this is fixed before they start"]
    if len(first[program].argv) > 1 and is_assignment(program):
        notes = [f"{_SET_VARIABLES}: env {text.strip()}"]
    if others:
        named = [f"{other!r} (line {first[other].number})" for other in others[:_MOST_NAMED]]
        more = f", and {len(others) - len(named)} more" if len(others) > len(named) else ""
        notes.append(f"also {', '.join(named)}{more}")
    yield Problem(
        code="missing-program",
        message=missing[program],
        severity=Severity.WARNING,
        place=SourceLocation(
            file=file.name,
            line=first[program].number,
            column=max(0, text.find(program)) + 1,  # 0: the program is quoted
            text=text,
            length=max(1, len(program)),
        ),
        notes=tuple(notes),
    )


def typed_oddities(
    argv: Sequence[str], folder: Path, environment: Mapping[str, str], job: int | None
) -> Iterator[str]:
    """Yield warnings about a program that was queued from a prompt.

    Args:
        argv: Program and arguments.
        folder: Folder in which it starts.
        environment: Environment with its PATH.
        job: Job number; None if several jobs start the program.
    """
    program, *arguments = argv
    if reason := (
        missing_program(program, folder, environment) or missing_code(argv, folder, environment)
    ):
        way = "The jobs will fail unless this is fixed before they start."
        if job is not None:
            way = (
                f"Job {job} will fail unless this is fixed before it starts. "
                f"To remove it: launcher cancel {job}"
            )
        words = program.split()
        if len(words) > 1 and _has_operator(program):
            way = f"For a shell: launcher add -- sh -c {shlex.join(argv)}"
        elif len(words) > 1 and not missing_program(words[0], folder, environment):
            way = f"Remove the quotes: launcher add -- {' '.join([*words, *map(shlex.quote, arguments)])}"
        if arguments and is_assignment(program):
            way = f"{_SET_VARIABLES}: launcher add -- env {shlex.join(argv)}"
        yield f"{reason}. {way}"
    operator = next((word for word in arguments if word in OPERATORS), None)
    if operator and Path(program).name not in _TAKE_OPERATORS:
        yield f"{_NO_SHELL.format(operator)}. For a shell: launcher add -- sh -c '…'"
