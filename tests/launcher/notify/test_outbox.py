from datetime import datetime, time

from launcher.job_options.notifications import Event
from launcher.notify.messages import (
    LEAST_TRIES,
    LONGEST_PAUSE_S,
    MOST,
    MOST_HELD,
    MOST_SINGLE,
    PAUSE_S,
    due,
    failed,
    gathered,
    is_quiet,
    next_due_s,
    posted,
    sent,
    without_target,
)
from launcher.notify.settings import NotifySettings, Quiet
from launcher.notify.state import Delivery, Notices

NOW = 1_000_000.0
SETTINGS = NotifySettings(retry_s=3600.0)


def delivery(name: str = "a", target: str = "mail", **changes: object) -> Delivery:
    values: dict[str, object] = {
        "id": name,
        "target": target,
        "at": NOW,
        "events": (Event.RUN_ENDED,),
        "title": f"title of {name}",
        "text": f"text of {name}",
    }
    return Delivery(**values | changes)  # type: ignore[arg-type]  # of a test


def of(*deliveries: Delivery) -> Notices:
    return Notices(outbox=deliveries)


def ids(deliveries: list[Delivery]) -> list[str]:
    return [each.id for each in deliveries]


def test_each_target_gets_its_oldest_message_first_and_one_at_a_time() -> None:
    notices = of(delivery("a"), delivery("b"), delivery("c", "chat"))
    assert ids(due(notices, (), NOW)) == ["a", "c"]
    assert ids(due(notices, ("mail",), NOW)) == ["c"]
    assert ids(due(sent(notices, "a"), (), NOW)) == ["b", "c"]


def test_a_failed_message_is_tried_again_later_and_later() -> None:
    notices, now, pauses = of(delivery()), NOW, []
    for _ in range(12):
        notices = failed(notices, "a", "no route", NotifySettings(retry_s=1e9), now)
        assert due(notices, (), now) == []
        pauses.append(next_due_s(notices, now))
        now += pauses[-1]
        assert ids(due(notices, (), now)) == ["a"]
    assert pauses[:3] == [PAUSE_S, 2 * PAUSE_S, 4 * PAUSE_S]
    assert pauses[-1] == LONGEST_PAUSE_S
    assert notices.outbox[0].answer == "no route"


def test_a_message_that_fails_for_too_long_is_given_up_and_that_is_kept() -> None:
    notices, now = of(delivery()), NOW
    while notices.outbox:
        notices = failed(notices, "a", "no route", SETTINGS, now)
        now += next_due_s(notices, now)
    assert now - NOW >= SETTINGS.retry_s
    (given_up,) = notices.given_up
    assert (given_up.target, given_up.title, given_up.why) == ("mail", "title of a", "no route")


def test_a_clock_that_jumps_ahead_gives_nothing_up_at_once() -> None:
    notices = failed(of(delivery()), "a", "no route", SETTINGS, NOW)
    for turn in range(1, LEAST_TRIES - 1):
        notices = failed(notices, "a", "no route", SETTINGS, NOW + turn * 1e7)
        assert len(notices.outbox) == 1


def test_a_clock_that_is_set_back_keeps_nothing_waiting() -> None:
    notices = failed(of(delivery()), "a", "no route", SETTINGS, NOW)
    assert ids(due(notices, (), NOW - 86_400)) == ["a"]


def test_what_came_in_quiet_hours_is_one_message_afterwards() -> None:
    night = [delivery(name, at=NOW + number, quiet=True) for number, name in enumerate("abc")]
    notices = gathered(of(*night, delivery("d", "chat", quiet=True)), (), NOW + 100, quiet=False)
    digest, other = sorted(notices.outbox, key=lambda each: each.target, reverse=True)
    assert other == delivery("d", "chat")
    assert digest.title.startswith("3 messages of ")
    for name in "abc":
        assert f"title of {name}" in digest.text
        assert f"text of {name}" in digest.text
    assert digest.facts["LAUNCHER_EVENT"] == "digest"
    assert digest.facts["LAUNCHER_MESSAGES"] == "3"
    assert gathered(notices, (), NOW + 200, quiet=False) == notices
    assert set(ids(due(notices, (), NOW + 200))) == {other.id, digest.id}


def test_what_was_tried_before_the_quiet_hours_stays_a_message_of_its_own() -> None:
    tried = delivery("a", quiet=True, tries=1, tried=NOW)
    assert gathered(of(tried), (), NOW, quiet=False) == of(tried)


def test_many_messages_at_once_are_one_but_for_that_under_way() -> None:
    few = of(*(delivery(str(number)) for number in range(MOST_SINGLE)))
    assert gathered(few, (), NOW, quiet=False) == few
    many = posted(few, [delivery("more"), delivery("c", "chat")], NOW)
    one_under_way = posted(many, [delivery("most")], NOW)
    notices = gathered(one_under_way, ("0",), NOW, quiet=False)
    assert ids(list(notices.outbox))[:2] == ["0", "c"]
    assert notices.outbox[-1].title.startswith("6 messages of ")
    assert not notices.outbox[-1].quiet


def test_a_long_night_does_not_fill_the_outbox() -> None:
    notices = Notices()
    for number in range(3 * MOST):
        fresh = posted(notices, [delivery(str(number), quiet=True)], NOW)
        notices = gathered(fresh, (), NOW, quiet=True)
        assert len(notices.outbox) <= MOST_HELD
    assert not notices.given_up
    (digest,) = gathered(notices, (), NOW, quiet=False).outbox
    assert digest.title.startswith(f"{3 * MOST} messages of ")
    assert not digest.quiet


def test_quiet_hours_are_those_of_the_local_day() -> None:
    quiet = Quiet(begins=time(22), ends=time(7))
    night = datetime(2026, 11, 22, 23, 30).astimezone().timestamp()
    noon = datetime(2026, 11, 22, 12, 0).astimezone().timestamp()
    assert is_quiet(quiet, night)
    assert not is_quiet(quiet, noon)
    assert not is_quiet(None, night)


def test_more_than_so_many_messages_do_not_wait() -> None:
    notices = posted(Notices(), [delivery(str(number)) for number in range(MOST + 2)], NOW)
    assert len(notices.outbox) == MOST
    assert notices.outbox[0].id == "2"
    assert [each.title for each in notices.given_up] == ["title of 0", "title of 1"]


def test_messages_to_a_target_that_is_gone_are_given_up() -> None:
    notices = without_target(of(delivery("a"), delivery("b", "chat")), ["chat"], NOW)
    assert ids(list(notices.outbox)) == ["b"]
    assert "no such target any more" in notices.given_up[0].why


def test_an_answer_to_a_message_that_is_gone_changes_nothing() -> None:
    assert failed(of(), "a", "late", SETTINGS, NOW) == of()
    assert sent(of(), "a") == of()
