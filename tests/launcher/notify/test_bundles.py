from collections.abc import Mapping
from dataclasses import replace

from launcher.job_options.notifications import AS_CONFIGURED, Event, RunNotify
from launcher.notify.bundles import AGAIN_S, STALE_S, Addressed, noted, ripe
from launcher.notify.messages import MOST_TEXT, MOST_TITLE
from launcher.notify.settings import NotifySettings, Target
from launcher.notify.state import Notices
from launcher.states import ReasonCode, State
from launcher.store.news import Failure, News, RunNews
from tests.build import a_reason

DESK = Target(name="desk", command=("true",))
SETTINGS = NotifySettings(targets=(DESK,))
NOW = 1_000_000.0


def run_news(
    *, left: int = 1, at: float = NOW, notify: RunNotify = AS_CONFIGURED, **changes: int
) -> RunNews:
    totals = {State(name): n for name, n in changes.items() if name in set(map(str, State))}
    counted = {name: n for name, n in changes.items() if name not in totals}
    return RunNews(
        id=1,
        name="study",
        root="/lab",
        first_at=at,
        last_at=at,
        open=left,
        totals=totals,
        notify=notify,
        failed=counted.pop("newly_failed", 0),
        **counted,
    )


def failure(job: int = 7, code: ReasonCode = ReasonCode.FAILED, text: str = "boom") -> Failure:
    return Failure(at=NOW, job=job, name=f"train/{job}", run=1, reason=a_reason(text, code))


def sent_at(
    notices: Notices,
    at: float,
    counts: Mapping[State, int] | None = None,
    settings: NotifySettings = SETTINGS,
) -> tuple[Notices, list[Addressed]]:
    return ripe(notices, lambda run, since: counts or {}, settings, "host", at)


def heard(
    notices: Notices, *failures: Failure, now: float = NOW, left: int = 0, **totals: int
) -> Notices:
    news = run_news(left=left, newly_failed=len(failures), at=now, notify=AS_CONFIGURED, **totals)
    upto = (notices.cursor or 0) + 1
    return noted(notices, News(upto=upto, runs=(news,), failures=failures), SETTINGS, now)


def test_a_run_that_goes_on_without_a_failure_is_no_message() -> None:
    notices = heard(Notices(), left=3, done=2)
    assert notices.cursor == 1
    assert sent_at(notices, NOW + 7200) == (notices, [])
    assert not notices.pending


def test_the_end_of_a_run_is_told_once_with_its_counts_and_time() -> None:
    notices = heard(Notices(), left=2)
    notices = heard(notices, left=0, now=NOW + 60, done=108, failed=2)
    assert notices.pending
    assert sent_at(notices, NOW + 100)[1] == []  # more may happen within the minute
    after, (message,) = sent_at(notices, NOW + 130, {State.DONE: 108, State.FAILED: 2})
    assert message.targets == ("desk",)
    assert message.message.title == "study ended: 108 done, 2 failed in 1 m"
    assert "108 done, 2 failed; began " in message.message.text
    assert "folder: /lab/runs/study" in message.message.text
    facts = message.message.facts
    assert facts["LAUNCHER_EVENT"] == "run-ended"
    assert (facts["LAUNCHER_DONE"], facts["LAUNCHER_FAILED"]) == ("108", "2")
    assert facts["LAUNCHER_SECONDS"] == "60"
    assert sent_at(after, NOW + 9000, {State.DONE: 108}) == (after, [])
    assert not after.pending


def test_jobs_of_before_are_told_apart_from_those_that_ran_now() -> None:
    notices = heard(Notices(), left=0, done=100, failed=1)
    _, (message,) = sent_at(notices, NOW + 61, {State.DONE: 3})
    assert message.message.title.startswith("study ended: 3 done in ")
    assert "The run in all: 100 done, 1 failed." in message.message.text


def test_a_run_that_goes_on_within_the_minute_has_not_ended() -> None:
    notices = heard(Notices(), left=0, done=1)
    notices = heard(notices, left=1, now=NOW + 30, done=1)
    assert sent_at(notices, NOW + 500, {State.DONE: 1}) == (notices, [])
    notices = heard(notices, left=0, now=NOW + 600, done=2)
    _, (message,) = sent_at(notices, NOW + 660, {State.DONE: 2})
    assert message.message.title == "study ended: 2 done in 10 m"


def test_a_run_of_which_nothing_ran_is_no_message() -> None:
    notices = heard(Notices(), left=0, done=5)  # results were accepted as they are
    after, messages = sent_at(notices, NOW + 100, {})
    assert (messages, after.runs) == ([], {})


def test_only_the_first_failure_of_a_run_is_told() -> None:
    notices = heard(Notices(), failure(7), failure(8), left=9)
    after, (message,) = sent_at(notices, NOW + 60)
    assert message.message.title == "study: train/7 failed, the first of this run"
    assert "first failure: train/7 (job 7)\n  boom\n  launcher logs 7" in message.message.text
    assert message.message.facts["LAUNCHER_JOB"] == "7"
    assert message.message.facts["LAUNCHER_REASON"] == "boom"
    later = heard(after, failure(9), left=8, now=NOW + 70)
    assert sent_at(later, NOW + 9000)[1] == []


def test_what_happens_within_the_minute_is_one_message() -> None:
    notices = heard(Notices(), failure(7), left=1)
    notices = heard(notices, left=0, now=NOW + 20, failed=1)
    assert sent_at(notices, NOW + 79, {State.FAILED: 1})[1] == []
    notices, (message,) = sent_at(notices, NOW + 80, {State.FAILED: 1})
    assert message.message.events == (Event.RUN_ENDED, Event.FIRST_FAILURE)
    assert "first failure: train/7" in message.message.text
    assert sent_at(notices, NOW + 9000)[1] == []


def test_a_hundred_jobs_out_of_memory_are_one_message_and_no_other_for_an_hour() -> None:
    short = [failure(job, ReasonCode.OUT_OF_MEMORY, "needs 80 GiB") for job in range(1, 11)]
    news = replace(run_news(left=200, newly_failed=100), out_of_memory=100)
    notices = noted(Notices(), News(upto=5, runs=(news,), failures=tuple(short)), SETTINGS, NOW)
    notices, (message,) = sent_at(notices, NOW + 60)
    assert message.message.title == "study: train/1 ran out of memory, and 99 more"
    assert "first failure and out of memory for good: train/1" in message.message.text
    assert "and 90 more jobs out of memory" in message.message.text
    assert set(message.message.events) == {Event.FIRST_FAILURE, Event.OUT_OF_MEMORY}
    notices = heard(notices, failure(300, ReasonCode.OUT_OF_MEMORY), left=99, now=NOW + 100)
    assert sent_at(notices, NOW + 100 + AGAIN_S - 1)[1] == []
    assert len(sent_at(notices, NOW + 100 + AGAIN_S)[1]) == 1


def test_a_note_that_nobody_wants_to_hear_delays_no_other() -> None:
    mail = Target(name="mail", command=("true",), events=(Event.OUT_OF_MEMORY,))
    settings = replace(SETTINGS, targets=(DESK, mail))
    to_mail = run_news(left=9, notify=RunNotify(to=("mail",)), newly_failed=1)
    notices = noted(Notices(), News(upto=1, runs=(to_mail,), failures=(failure(),)), settings, NOW)
    notices, messages = sent_at(notices, NOW + 60, settings=settings)
    assert messages == []
    short = failure(8, ReasonCode.OUT_OF_MEMORY)
    notices = noted(notices, News(upto=2, runs=(to_mail,), failures=(short,)), settings, NOW + 70)
    _, (message,) = sent_at(notices, NOW + 130, settings=settings)
    assert message.targets == ("mail",)


def test_a_run_says_itself_what_its_owner_is_told() -> None:
    silent = run_news(left=0, notify=RunNotify(events=()), newly_failed=1)
    notices = noted(Notices(), News(upto=1, runs=(silent,), failures=(failure(),)), SETTINGS, NOW)
    assert sent_at(notices, NOW + 100, {State.FAILED: 1})[1] == []
    elsewhere = replace(silent, notify=RunNotify(to=("phone",)))
    settings = replace(SETTINGS, targets=(DESK, Target(name="phone", command=("true",))))
    notices = noted(Notices(), News(upto=1, runs=(elsewhere,)), settings, NOW)
    (message,) = sent_at(notices, NOW + 100, {State.DONE: 1}, settings)[1]
    assert message.targets == ("phone",)


def test_a_clock_that_is_set_back_delays_nothing() -> None:
    notices = heard(Notices(), failure(), left=1)
    assert len(sent_at(notices, NOW - 86_400)[1]) == 1
    ended = heard(Notices(), left=0, done=1)
    (message,) = sent_at(ended, NOW - 86_400, {State.DONE: 1})[1]
    assert message.message.facts["LAUNCHER_SECONDS"] == "0"


def test_what_ended_days_ago_is_no_news() -> None:
    old = run_news(left=0, done=3, at=NOW - STALE_S - 1)
    notices = noted(Notices(), News(upto=9, runs=(old,)), SETTINGS, NOW)
    assert (notices.cursor, notices.runs) == (9, {})


def test_a_name_or_an_error_from_outside_has_no_power_over_a_message() -> None:
    evil = Failure(
        at=NOW, job=1, name="a\r\nBcc: you", run=1, reason=a_reason("\x1b[2J" + "x" * 9000)
    )
    _, (message,) = sent_at(heard(Notices(), evil, left=1), NOW + 60)
    title, text = message.message.title, message.message.text
    assert "\n" not in title
    assert "\r" not in title + text
    assert "\x1b" not in text
    assert (len(title) <= MOST_TITLE, len(text) <= MOST_TEXT) == (True, True)
