"""Two users on simulated GPUs: start and wait of each job, with and without yielding to each other.

python -m benchmarks.two_users [PICTURE.svg]

Ada queues sixty jobs for two GPUs, and Bob three when Ada's have run for a while. Each job fills a GPU for half
a second. Both are real schedulers, of two uids where root runs this. Then both queue twenty jobs for one card, and the
time is measured from the end of one user's program to the start of the other's. Noisy machine, nothing is asserted.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import click
from matplotlib.figure import Figure

from benchmarks.table import Row, publish
from tests.build import shell, until
from tests.e2e.machine import Machine, two_users
from tests.nvml.standin import GIB, TAKE, Devices, compile_library

SCHEDULERS = {"before": "benchmarks.selfish_scheduler", "after": "tests.nvml.scheduler"}
COLOURS = {"ada": "#9ec3e6", "bob": "#e8833a"}
# runs for $3 seconds, and says in $2 on which card, from when to when
PROGRAM = (
    f'{TAKE} b=$(date +%s%N); sleep "$3"; '
    'echo "$CUDA_VISIBLE_DEVICES $b $(date +%s%N)" >"$2/.$$" && mv "$2/.$$" "$2/$$"'
)
MANY, FEW, LASTS_S = 60, 3, 0.5
ROUNDS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One program's run."""

    user: str
    card: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Result of two queues."""

    spans: tuple[Span, ...]
    asked: dict[str, tuple[float, ...]]  # user → when each of their jobs was queued
    since: float

    def waits(self, user: str) -> list[float]:
        """Return how long each job of a user waited. All jobs of a user are equal and start in order."""
        begins = sorted(span.begin for span in self.spans if span.user == user)
        return [
            begin - asked for begin, asked in zip(begins, sorted(self.asked[user]), strict=True)
        ]


@contextmanager
def people(cards: int, scheduler: str) -> Iterator[tuple[Machine, Machine, dict[str, Path]]]:
    """Two users on a machine with some cards; and where each program says when it ran."""
    with tempfile.TemporaryDirectory(prefix="two-users-") as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "gpus").mkdir()
        gpus = Devices(place / "gpus", compile_library(place))
        spans = {user: place / user for user in COLOURS}
        for folder in spans.values():
            folder.mkdir()
            folder.chmod(0o1777)
        with two_users(place, gpus, scheduler=scheduler) as (ada, bob):
            for _ in range(cards):
                gpus.add(24 * GIB, used=0)
            yield ada, bob, spans


def read_spans(folders: dict[str, Path]) -> Iterator[Span]:
    """Yield what the programs said."""
    for user, folder in folders.items():
        for file in folder.glob("[0-9]*"):
            card, begin, end = file.read_text().split()
            yield Span(user=user, card=card, begin=int(begin) / 1e9, end=int(end) / 1e9)


def queue_one(person: Machine, folder: Path, lasts_s: float) -> float:
    """Queue one job with a command; return when that was."""
    words = shell(PROGRAM, str(GIB), str(folder), str(lasts_s))
    person.call("add", "--gpus=1", "--vram=20GiB", "--", *words)
    return time.time()


def tell_story(scheduler: str) -> Story:
    """Let Bob come while Ada's queue runs."""
    with people(2, scheduler) as (ada, bob, spans):
        since = time.time()
        argv = shell(PROGRAM, str(GIB), str(spans["ada"]), str(LASTS_S))
        ada.queue_many(argv, MANY, device="cuda", vram=20 * GIB)
        until(lambda: len([*read_spans(spans)]) >= 6, "Ada's queue runs")
        asked = tuple(queue_one(bob, spans["bob"], LASTS_S) for _ in range(FEW))
        until(lambda: len([*read_spans(spans)]) == MANY + FEW, "all are done", 600)
        return Story(
            spans=tuple(read_spans(spans)),
            asked={"ada": (since,) * MANY, "bob": asked},
            since=since,
        )


def gaps(scheduler: str) -> list[float]:
    """Return the times from the end of one user's program to the start of the other's, in s."""
    with people(1, scheduler) as (ada, bob, spans):
        for _ in range(ROUNDS):
            queue_one(bob, spans["bob"], LASTS_S)
        argv = shell(PROGRAM, str(GIB), str(spans["ada"]), str(LASTS_S))
        ada.queue_many(argv, ROUNDS, device="cuda", vram=20 * GIB)
        until(lambda: len([*read_spans(spans)]) == 2 * ROUNDS, "all are done", 600)
        ran = sorted(read_spans(spans), key=lambda span: span.begin)
    return [after.begin - span.end for span, after in pairwise(ran) if span.user != after.user]


def draw(stories: dict[str, Story], target: Path) -> None:
    """Draw who ran when: a panel for each story with a row for each card."""
    cards = sorted({span.card for story in stories.values() for span in story.spans})
    figure = Figure(figsize=(9, 2.2 * len(stories)), layout="constrained")
    panels = figure.subplots(len(stories), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, story) in zip(panels, stories.items(), strict=True):
        waits = story.waits("bob")
        caption = f"{name}: Bob's {FEW} jobs wait {statistics.mean(waits):.1f} s on average"
        axes.set_title(f"{caption}, {max(waits):.1f} s at most", fontsize="medium", loc="left")
        for user, colour in COLOURS.items():
            spans = [span for span in story.spans if span.user == user]
            axes.barh(
                [cards.index(span.card) for span in spans],
                [span.end - span.begin for span in spans],
                left=[span.begin - story.since for span in spans],
                color=colour,
                edgecolor="white",
                label=user.capitalize(),
            )
        asked = story.asked["bob"][0] - story.since
        axes.axvline(asked, color=COLOURS["bob"], linestyle="--", label="Bob asks")
        axes.set_yticks(range(len(cards)), [f"cuda:{row}" for row, _ in enumerate(cards)])
        axes.invert_yaxis()
    panels[0].legend(ncols=3, fontsize="small")
    panels[-1].set_xlabel("s")
    figure.savefig(target)


def main(target: Path) -> None:
    """Simulate both stories, draw them, and measure how soon a change is noticed."""
    stories = {name: tell_story(scheduler) for name, scheduler in SCHEDULERS.items()}
    for name, story in stories.items():
        for user in COLOURS:
            waits = story.waits(user)
            click.echo(
                f"{name:6}  {user}: {len(waits)} jobs wait {statistics.mean(waits):.2f} s on average,"
                f" {max(waits):.2f} s at most"
            )
    draw(stories, target)
    click.echo(f"wrote {target}")
    spans = [1000 * span for span in gaps(SCHEDULERS["after"])]
    means = {name: statistics.mean(story.waits("bob")) for name, story in stories.items()}
    unfair = {"without fair sharing": means["before"]}
    change = "from another user's end to our start"
    rows = [
        Row(what=f"{FEW} jobs behind {MANY}, mean wait, s", ours=means["after"], peers=unfair),
        Row(what=f"{change}, median, ms", ours=statistics.median(spans)),
        Row(what=f"{change}, longest, ms", ours=max(spans)),
    ]
    publish(rows, "planning")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "two-users.svg"))
