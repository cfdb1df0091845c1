"""Two users on stand-in cards: who runs when, before and after users yielded to each other; who waits how long.

python -m benchmarks.two_users [PICTURE.svg]

Ada queues sixty jobs for two cards, and Bob three when Ada's have run for a while; each job fills a card for half
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

from launcher.simulate.picture import Svg
from tests.build import shell, until
from tests.e2e.machine import Machine, two_people
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
WIDTH, ROW, LEFT, TOP = 900, 26, 70, 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One program's run."""

    user: str
    card: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What came of two queues."""

    spans: tuple[Span, ...]
    asked: dict[str, tuple[float, ...]]  # user → when each of his jobs was queued
    since: float

    def waits(self, user: str) -> list[float]:
        """Return how long each job of a user waited; his are alike, and start in their order."""
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
        with two_people(place, gpus, scheduler=scheduler) as (ada, bob):
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
        ada.queue_many(argv, MANY, device="cuda", min_vram=20 * GIB)
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
        ada.queue_many(argv, ROUNDS, device="cuda", min_vram=20 * GIB)
        until(lambda: len([*read_spans(spans)]) == 2 * ROUNDS, "all are done", 600)
        ran = sorted(read_spans(spans), key=lambda span: span.begin)
    return [after.begin - span.end for span, after in pairwise(ran) if span.user != after.user]


def draw(stories: dict[str, Story]) -> str:
    """Return who ran when, as SVG: a panel for each story with a row for each card."""
    longest = max(span.end - story.since for story in stories.values() for span in story.spans)
    cards = sorted({span.card for story in stories.values() for span in story.spans})
    panel = TOP + len(cards) * ROW + 30
    picture = Svg(WIDTH, panel * len(stories), title="Two users on the same cards")
    scale = (WIDTH - LEFT - 20) / longest
    for number, (name, story) in enumerate(stories.items()):
        top = number * panel
        waits = story.waits("bob")
        caption = f"{name}: Bob's {FEW} jobs wait {statistics.mean(waits):.1f} s on average"
        picture.text(LEFT, top + 22, f"{caption}, {max(waits):.1f} s at most", size=14, bold=True)
        for user, left in zip(COLOURS, (LEFT, LEFT + 60), strict=True):
            picture.rectangle(left, top + 34, 12, 12, fill=COLOURS[user])
            picture.text(left + 17, top + 44, user.capitalize())
        for span in story.spans:
            x = LEFT + (span.begin - story.since) * scale
            y = top + TOP + cards.index(span.card) * ROW
            width = max(1.0, (span.end - span.begin) * scale - 1)
            note = f"{span.user}, {span.begin - story.since:.2f} to {span.end - story.since:.2f} s"
            picture.rectangle(x, y, width, ROW - 6, fill=COLOURS[span.user], note=note)
        for row, _ in enumerate(cards):
            picture.text(LEFT - 8, top + TOP + row * ROW + 15, f"cuda:{row}", anchor="end")
        bottom = top + TOP + len(cards) * ROW
        x = LEFT + (story.asked["bob"][0] - story.since) * scale
        picture.line([(x, top + TOP - 6), (x, bottom)], stroke=COLOURS["bob"], dashes="3 3")
        picture.text(x + 4, bottom + 14, "Bob asks", size=11, fill=COLOURS["bob"])
        picture.text(WIDTH - 20, bottom + 14, f"{longest:.0f} s", size=11, anchor="end")
    return str(picture)


def main(target: Path) -> None:
    """Tell both stories, draw them, and measure how soon a change is noticed."""
    stories = {name: tell_story(scheduler) for name, scheduler in SCHEDULERS.items()}
    for name, story in stories.items():
        for user in COLOURS:
            waits = story.waits(user)
            click.echo(
                f"{name:6}  {user}: {len(waits)} jobs wait {statistics.mean(waits):.2f} s on average,"
                f" {max(waits):.2f} s at most"
            )
    target.write_text(draw(stories), encoding="utf-8")
    click.echo(f"wrote {target}")
    spans = gaps(SCHEDULERS["after"])
    click.echo(
        f"from another user's end to our start: median {1000 * statistics.median(spans):.0f} ms,"
        f" longest {1000 * max(spans):.0f} ms of {len(spans)}"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "two-users.svg"))
