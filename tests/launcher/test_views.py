import json

from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.progress import Step
from launcher.states import State
from launcher.store.store import Store
from launcher.views import GLYPHS, ORDER, columns, harmless, iso, job_line, tabbed, tally
from tests.build import a_spec, claimed, enqueue, job_row

STEERING = "\x1b]0;title\x07\x1b[2J\r\n\t\x9b31m\u202e\x00"


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_no_text_can_steer_a_terminal(text: str) -> None:
    assert harmless(text).isprintable()


@settings(max_examples=50, deadline=None)
@given(st.text().filter(str.isprintable))
def test_plain_text_is_shown_as_it_is(text: str) -> None:
    assert harmless(text) == text


def test_control_characters_become_visible() -> None:
    assert harmless("\x1b[31mred\udcff\n") == "\\x1b[31mred\\udcff\\n"


def test_every_state_has_a_place_and_a_glyph() -> None:
    assert set(GLYPHS) == set(ORDER) == set(State)
    assert len(set(GLYPHS.values())) == len(State)


def test_a_tally_names_only_what_there_is() -> None:
    assert tally({}) == "no jobs"
    assert tally({State.QUEUED: 3, State.RUNNING: 1, State.DONE: 0}) == "1 running · 3 queued"


def test_times_for_machines_are_utc() -> None:
    assert iso(0.0) == "1970-01-01T00:00:00Z"


def test_columns_line_up() -> None:
    rows = [("a", "1", "x"), ("bbb", "100", "")]
    assert columns(rows, right=frozenset({1})) == ["a      1  x", "bbb  100"]
    assert columns([]) == []


def test_a_line_for_pipes_has_one_record_a_line_whatever_a_job_is_called(store: Store) -> None:
    (job,) = enqueue(store, a_spec(name=f"command/{STEERING}"))
    line = job_line(job_row(store, job), None)
    text = tabbed([line.columns()])
    assert "\n" not in text
    assert text.count("\t") == 5
    assert text.replace("\t", "").isprintable()
    assert json.loads(json.dumps(line.record()))["id"] == job


def test_a_running_job_tells_how_far_it_is(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    claimed(store, job)
    step = Step(at=1.0, step=3, total=9, metrics={"note": STEERING})
    assert job_line(job_row(store, job), step).note.startswith("3/9 note=\\x1b")
    assert job_line(job_row(store, job), None).note == "fits"


def test_a_waiting_job_tells_how_many_it_needs(store: Store) -> None:
    names = ["command/a", "command/b", "command/c"]
    *_, c = enqueue(store, *(a_spec(name=name) for name in names), needs={names[2]: names[:2]})
    assert job_line(job_row(store, c), None).note == "needs 2 more jobs"
