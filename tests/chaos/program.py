"""The program of every job of the proof: stamps its start and its end into one file, quickly."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

COMPILER_TIMEOUT_S = 60.0
# stamp FILE JOB SLEEP_MS EXIT_CODE FAILURES: an attempt up to FAILURES ends with 1
SOURCE = r"""
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void stamp(const char *file, const char *what, const char *job, int number) {
    char line[512];
    struct timespec now;
    int out = open(file, O_WRONLY | O_CREAT | O_APPEND, 0600);
    clock_gettime(CLOCK_REALTIME, &now);
    int length = snprintf(line, sizeof line, "%s %s %d %d %lld\n", what, job, number, getpid(),
                          now.tv_sec * 1000000000LL + now.tv_nsec);
    if (out < 0 || write(out, line, length) != length) _exit(70);
    close(out);
}

int main(int count, char **words) {
    if (count != 6) return 64;
    const char *attempt = getenv("LAUNCHER_ATTEMPT");
    const char *dash = attempt ? strrchr(attempt, '-') : NULL;
    int number = dash ? atoi(dash + 1) : 0;
    long sleep_ms = atol(words[3]);
    struct timespec pause = {sleep_ms / 1000, sleep_ms % 1000 * 1000000};
    stamp(words[1], "start", words[2], number);
    nanosleep(&pause, NULL);
    int code = number && number <= atoi(words[5]) ? 1 : atoi(words[4]);
    stamp(words[1], code ? "failed" : "done", words[2], number);
    return code;
}
"""
SCRIPT = """#!/bin/sh
number=${LAUNCHER_ATTEMPT##*-}
stamp() { echo "$1 $job ${number:-0} $$ $(date +%s%N)" >> "$file"; }
file=$1 job=$2
stamp start
sleep "$(printf '%d.%03d' $(($3 / 1000)) $(($3 % 1000)))"
code=$4
if [ "${number:-0}" -gt 0 ] && [ "${number:-0}" -le "$5" ]; then code=1; fi
if [ "$code" -eq 0 ]; then stamp done; else stamp failed; fi
exit "$code"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One process of a job's program, from its own records. Times are seconds since 1970."""

    job: str
    number: int  # number of the attempt; 0: it could not know
    pid: int
    start: float
    end: float | None = None  # None: it was killed
    done: bool = False


def make_program(folder: Path) -> Path:
    """Write the program into `folder` and return its path; a script where nothing compiles."""
    program, source = folder / "stamp", folder / "stamp.c"
    source.write_text(SOURCE, encoding="ascii")
    compiler = shutil.which("cc")
    if compiler is not None:
        words = [compiler, "-O1", "-o", str(program), str(source)]
        if subprocess.run(words, check=False, timeout=COMPILER_TIMEOUT_S).returncode == 0:
            return program
    program.write_text(SCRIPT, encoding="ascii")
    program.chmod(0o700)
    return program


def read_stamps(lines: Iterable[str]) -> list[Ran]:
    """Return every process that stamped its start, in the order of the starts."""
    runs: list[Ran] = []
    open_runs: dict[tuple[str, int], int] = {}  # (job, pid) -> where in `runs`
    for line in lines:
        what, job, number, pid, at = line.split()
        key, when = (job, int(pid)), int(at) / 1e9
        if what == "start":
            open_runs[key] = len(runs)
            runs.append(Ran(job=job, number=int(number), pid=int(pid), start=when))
            continue
        place = open_runs.pop(key)
        runs[place] = replace(runs[place], end=when, done=what == "done")
    return sorted(runs, key=lambda run: run.start)


def file_of(folder: Path) -> Path:
    """Return where the stamps of a proof are kept."""
    return folder / "stamps"


def lines_of(folder: Path) -> list[str]:
    """Return all stamps so far; a last line that is not whole yet is left out."""
    try:
        text = file_of(folder).read_text(encoding="ascii")
    except FileNotFoundError:
        return []
    return text[: text.rfind("\n") + 1].splitlines()


def argv(
    folder: Path, job: str, *, sleep_ms: int, exit_code: int = 0, failures: int = 0
) -> tuple[str, ...]:
    """Return the command line of a job."""
    numbers = (str(sleep_ms), str(exit_code), str(failures))
    return (os.fspath(folder / "stamp"), os.fspath(file_of(folder)), job, *numbers)
