import json
from datetime import datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.job import Terms
from launcher.screens.format import (
    GLYPHS,
    ORDER,
    PAUSED,
    harmless,
    iso,
    moment,
    named,
    tally,
    why,
)
from launcher.screens.job_view import job_view
from launcher.screens.terminal import in_ascii
from launcher.screens.text_table import tabbed
from launcher.states import Done, Failed, State
from launcher.store.queue import Store
from launcher.workers.progress.attempt_progress import Newest
from launcher.workers.progress.steps import Step
from tests.build import a_reason, a_spec, claimed, enqueue, job_row

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
    assert len({in_ascii(glyph) for glyph in (*GLYPHS.values(), PAUSED)}) == len(State) + 1


def test_a_tally_names_only_what_there_is() -> None:
    assert tally({}) == "no jobs"
    assert tally({State.QUEUED: 3, State.RUNNING: 1, State.DONE: 0}) == "1 running · 3 queued"


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(codec=None, categories=["C", "Zs", "Zl", "Zp", "L"])))
def test_each_character_is_shown_by_itself(text: str) -> None:
    assert harmless(text) == "".join(map(harmless, text))


def test_the_first_few_jobs_are_named(store: Store) -> None:
    jobs = enqueue(store, *(a_spec(name=f"train/{letter}\x1b") for letter in "abcd"))
    rows = [job_row(store, job) for job in jobs]
    assert named(rows[:1]) == "train/a\\x1b"
    assert named(rows, 2) == "train/a\\x1b, train/b\\x1b and 2 more"


def test_a_moment_shows_its_seconds_only_where_there_are_some() -> None:
    noon = datetime(2026, 11, 20, 12, 0).timestamp()  # noqa: DTZ001  # local on purpose
    assert moment(noon) == "2026-11-20 12:00"
    assert moment(noon + 5) == "2026-11-20 12:00:05"


def test_times_for_machines_are_utc() -> None:
    assert iso(0.0) == "1970-01-01T00:00:00Z"


def test_a_line_for_pipes_has_one_record_a_line_whatever_a_job_is_called(store: Store) -> None:
    (job,) = enqueue(store, a_spec(name=f"command/{STEERING}"))
    line = job_view(job_row(store, job))
    text = tabbed([line.columns()])
    assert text.count("\n") == 1
    assert text.count("\t") == len(line.columns()) - 1 == 6
    assert text.replace("\t", "").removesuffix("\n").isprintable()
    assert json.loads(json.dumps(line.record()))["id"] == job


def test_a_running_job_tells_how_far_it_is(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    claimed(store, job)
    step = Step(at=1.0, step=3, total=9, metrics={"note": STEERING})
    assert job_view(job_row(store, job), Newest(step)).note.startswith("3/9 note=\\x1b")
    assert job_view(job_row(store, job)).note == "fits"


def test_a_running_job_tells_since_when(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    claimed(store, job)
    assert job_view(job_row(store, job), started=77.0).since == 77.0


def test_a_waiting_job_tells_how_many_it_needs(store: Store) -> None:
    names = ["command/a", "command/b", "command/c"]
    a, _, c = enqueue(store, *(a_spec(name=name) for name in names), needs={names[2]: names[:2]})
    assert why(job_row(store, c)) == "needs 2 more jobs"
    store.scheduling.finish(claimed(store, a), Done(at=2.0), outputs={}, now=2.0)
    assert why(job_row(store, c)) == "needs 1 more job"


def test_a_waiting_job_tells_when_it_may_start(store: Store) -> None:
    at = datetime(2036, 11, 20, 18, 30).timestamp()  # noqa: DTZ001  # local on purpose
    terms = Terms(not_before=at)
    a, b = enqueue(
        store,
        a_spec(name="command/a", terms=terms),
        a_spec(name="command/b", terms=terms),
        needs={"command/b": ["command/a"]},
    )
    assert why(job_row(store, a)) == "not before 2036-11-20 18:30"
    assert why(job_row(store, b)) == "needs 1 more job and not before 2036-11-20 18:30"


def test_a_waiting_job_tells_what_its_lane_lacks(store: Store) -> None:
    a, b, c = enqueue(
        store,
        a_spec(name="command/a", cpus=4),
        a_spec(name="command/b", cpus=4),
        a_spec(name="command/c", cpus=4),
        needs={"command/b": ["command/a"]},
    )
    (first, _) = store.scheduling.ready(2)
    store.scheduling.explain({first.lane_id: a_reason("needs 4 cores, 1 of 8 free")})
    assert why(job_row(store, a)) == why(job_row(store, c)) == "needs 4 cores, 1 of 8 free"
    assert why(job_row(store, b)) == "needs 1 more job"
    store.steering.hold([c], 2.0)
    assert why(job_row(store, c)) == "held by its owner"


def test_a_job_that_failed_tells_of_its_retry(store: Store) -> None:
    (job,) = enqueue(store, a_spec(terms=Terms(retries=2)))
    failed = Failed(at=2.0, error="no network\nat all")
    store.scheduling.finish(claimed(store, job), failed, outputs={}, now=2.0)
    assert why(job_row(store, job)) == "retry 1 of 2 after 10 s: no network"
