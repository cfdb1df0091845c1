"""The picture of a replay: bars, curves, words, and that it is the same each time."""

import base64
import re
import xml.etree.ElementTree as ET

import pytest

from launcher.simulate.baselines import Study, study
from launcher.simulate.machine import Span, Workload, fit
from launcher.simulate.picture import MOST_BARS, draw_timeline, queue_lengths, slots
from tests.launcher.simulate.worlds import a_fleet, a_job, assuming

SPACE = "{http://www.w3.org/2000/svg}"


def a_span(job: int, start: float, end: float, *cards: int, ready: float = 0.0) -> Span:
    return Span(job=job, ready=ready, start=start, end=end, cards=cards)


def a_study(cards: int, jobs: int) -> Study:
    """Many short jobs on many cards."""
    asked = [a_job(at, 10.0 + at % 7, at=at / 10, gpus=1 + at % 3) for at in range(jobs)]
    fleet = a_fleet(cards)
    return study(fit(asked, fleet), assuming(fleet), policies=("launcher", "fifo"))


def bars(root: ET.Element) -> list[ET.Element]:
    """The bars of all jobs."""
    groups = [group for group in root.iter(f"{SPACE}g") if "Poly" in group.attrib.get("id", "")]
    return [path for group in groups for path in group.iter(f"{SPACE}path")]


def words(root: ET.Element) -> set[str | None]:
    return {text.text for text in root.iter(f"{SPACE}text")}


def test_jobs_that_share_a_card_have_places_of_their_own() -> None:
    spans = [a_span(0, 0, 10, 0), a_span(1, 5, 20, 0, 1), a_span(2, 10, 12, 0)]
    assert [(span.job, card, place) for span, card, place in slots(spans)] == [
        (0, 0, 0),
        (1, 0, 1),
        (1, 1, 0),
        (2, 0, 0),
    ]


def test_the_curve_tells_how_many_wait_at_each_time() -> None:
    spans = [
        a_span(0, 6, 10, 0, ready=1),
        a_span(1, 3, 10, 0, ready=2),
        a_span(2, 8, 8, 0, ready=8),
        a_span(3, 9.5, 10, 0, ready=6),
    ]
    times, lengths = queue_lengths(spans)
    assert times == [0, 1, 2, 3, 6, 6, 9.5]
    assert lengths == [0, 1, 2, 1, 0, 1, 0], "of what happens at once the starts come first"


def test_each_job_of_a_small_machine_has_a_bar_on_each_of_its_cards() -> None:
    done = a_study(8, 60)
    text = draw_timeline("night <&> $x_1$.csv", done)
    assert text == draw_timeline("night <&> $x_1$.csv", done)
    root = ET.fromstring(text)
    assert len(bars(root)) == sum(job.gpus for job in done.workload.jobs)
    assert "60 jobs of night <&> $x_1$.csv on 8x24GiB" in words(root)
    assert {"GPU", "waiting", "jobs on", "1 GPU", "2 GPUs", "3 to 4 GPUs"} <= words(root)
    assert any(word and word.startswith("fifo: at most ") for word in words(root))
    assert "minutes since the first submission" in words(root)
    assert not re.search(r"nan|inf\b", text)


def test_so_many_bars_that_none_would_be_wider_than_a_line_are_an_image() -> None:
    spans = [a_span(0, at, at + 1.0, at % 3) for at in range(MOST_BARS + 1)]
    load = Workload((a_job(0),))
    done = Study(assuming(a_fleet(3)), load, (), 0.0, {"launcher": spans})
    root = ET.fromstring(draw_timeline("many.csv", done))
    assert not bars(root)
    (image,) = root.iter(f"{SPACE}image")
    data = image.attrib["{http://www.w3.org/1999/xlink}href"].removeprefix("data:image/png;base64,")
    assert base64.b64decode(data).startswith(b"\x89PNG")
    assert "hours since the first submission" not in words(root), "6,000 s are not three hours"
    assert "minutes since the first submission" in words(root)


@pytest.mark.parametrize("name", ["t.csv", "日本.csv"])
def test_a_world_in_which_nothing_takes_time_has_a_picture(name: str) -> None:
    load = Workload((a_job(0, 0.0),))
    done = Study(assuming(a_fleet(1)), load, (), 0.0, {"launcher": [a_span(0, 0, 0, 0)]})
    assert f"1 job of {name} on 1x24GiB" in words(ET.fromstring(draw_timeline(name, done)))
