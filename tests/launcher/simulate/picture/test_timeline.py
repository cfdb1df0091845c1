"""The picture of a replay, its axes and its curve."""

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.scheduler.policy.disciplines import FIFO
from launcher.simulate.picture import (
    MOST_ROWS,
    Story,
    Svg,
    draw_timeline,
    jobs_per_gpu,
    moments,
    queue_lengths,
    slots,
    steps,
)
from launcher.simulate.replay import Span
from tests.launcher.simulate.worlds import a_fleet, a_job, live, replayed

SPACE = "{http://www.w3.org/2000/svg}"


def a_span(job: int, start: float, end: float, *cards: int, ready: float = 0.0) -> Span:
    return Span(job=job, ready=ready, start=start, end=end, cards=cards)


def a_story(cards: int, jobs: int) -> Story:
    """Many short jobs on many cards."""
    asked = [a_job(at, 10.0 + at % 7, at=at / 10, gpus=1 + at % 2) for at in range(jobs)]
    ours = replayed(asked, live(a_fleet(cards)), cards=cards)
    fifo = replayed(asked, live(a_fleet(cards), discipline=FIFO), cards=cards)
    return Story(
        title="<jobs> & GPUs\x07",
        about="a test",
        cards=cards,
        most=2,
        widths={job.index: job.gpus for job in asked},
        spans={"launcher": [*ours.values()], "fifo": [*fifo.values()]},
    )


def test_jobs_that_share_a_card_have_places_of_their_own() -> None:
    spans = [a_span(0, 0, 10, 0), a_span(1, 5, 20, 0, 1), a_span(2, 10, 12, 0)]
    assert [(span.job, card, place) for span, card, place in slots(spans)] == [
        (0, 0, 0),
        (1, 0, 1),
        (1, 1, 0),
        (2, 0, 0),
    ]


def test_a_row_of_cards_is_as_full_as_its_cards_are_on_average() -> None:
    spans = [a_span(0, 0, 10, 0, 1), a_span(1, 2.5, 7.5, 0), a_span(2, 9, 10, 2)]
    table = jobs_per_gpu(spans, cards=3, per_row=2, columns=2, end=10)
    assert table == [pytest.approx([1.25, 1.25]), pytest.approx([0, 0.2])]


def test_the_curve_tells_the_most_that_waited_at_once() -> None:
    spans = [
        a_span(0, 6, 10, 0, ready=1),
        a_span(1, 3, 10, 0, ready=2),
        a_span(2, 8, 8, 0, ready=8),
        a_span(3, 9.5, 10, 0, ready=6),
    ]
    assert queue_lengths(spans, 10, 10.0) == [0, 1, 2, 2, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("most", "marks"),
    [
        (1, [0, 1]),
        (3, [0, 1, 2, 3]),
        (9, [0, 3, 6, 9]),
        (44, [0, 20, 40, 60]),
        (2302, [0, 1000, 2000, 3000]),
    ],
)
def test_marks_are_round(most: float, marks: list[float]) -> None:
    assert steps(most, 4) == marks


@given(st.floats(1, 1e9))
def test_marks_reach_as_far_as_the_values(most: float) -> None:
    marks = steps(most, 4)
    assert marks[-1] >= most * (1 - 1e-6)
    assert 2 <= len(marks) <= 7


@given(st.floats(1e-3, 1e12))
def test_moments_lie_within_the_picture(end: float) -> None:
    marks, unit = moments(end)
    assert unit in {"days", "hours", "minutes", "seconds"}
    assert 4 <= len(marks) <= 12
    assert all(0 <= at <= end * (1 + 1e-6) for at, _ in marks)


def test_moments_are_told_in_the_unit_that_suits_them() -> None:
    assert moments(30 * 86_400)[1] == "days"
    assert moments(8 * 3_600) == ([(at * 3_600.0, f"{at}") for at in range(9)], "hours")
    assert moments(45)[1] == "seconds"


def test_words_are_escaped_and_control_characters_are_dots() -> None:
    svg = Svg(10, 10, title="a<b")
    svg.text(1, 2, 'x & "y"\x00\x1b\ud800')
    root = ET.fromstring(str(svg))
    assert root.findtext(f"{SPACE}title") == "a<b"
    assert root.findtext(f"{SPACE}text") == 'x & "y"···'


@pytest.mark.parametrize(("cards", "jobs"), [(8, 60), (100, 400)])
def test_a_picture_is_well_formed_and_holds_all_within_its_frame(cards: int, jobs: int) -> None:
    story = a_story(cards, jobs)
    text = draw_timeline(story)
    assert text == draw_timeline(story)
    root = ET.fromstring(text)
    _, _, width, height = (float(one) for one in root.attrib["viewBox"].split())
    boxes = [*root.iter(f"{SPACE}rect")]
    assert len(boxes) > 30
    for box in boxes:
        x, y, wide, high = (float(box.attrib[key]) for key in ("x", "y", "width", "height"))
        assert min(x, y) >= 0
        assert wide > 0
        assert high > 0
        assert x + wide <= width + 1
        assert y + high <= height + 1
    assert not re.search(r"nan|inf\b", text)


def test_each_job_of_a_small_machine_has_a_bar_with_its_story() -> None:
    story = a_story(8, 60)
    root = ET.fromstring(draw_timeline(story))
    notes = [note for box in root.iter(f"{SPACE}rect") if (note := box.findtext(f"{SPACE}title"))]
    assert len(notes) == sum(story.widths.values())
    assert any(note.startswith("job 0: 1 GPU, waited 0 s, ran ") for note in notes)


def test_many_cards_share_rows_that_are_named_by_both_ends() -> None:
    root = ET.fromstring(draw_timeline(a_story(MOST_ROWS + 36, 300)))
    words = [element.text for element in root.iter(f"{SPACE}text")]
    assert "0 to 1" in words
    assert "jobs per GPU, at most:" in words


def test_a_world_in_which_nothing_takes_time_has_a_picture() -> None:
    span = a_span(0, 0, 0, 0)
    story = Story(title="t", about="a", cards=1, most=1, widths={0: 1}, spans={"launcher": [span]})
    ET.fromstring(draw_timeline(story))
