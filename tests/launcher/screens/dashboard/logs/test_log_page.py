"""A log in `launcher top`: opened with one key, searched."""

import threading
from collections.abc import Callable
from pathlib import Path

from launcher.screens.dashboard.log_page import LogPage
from launcher.system.paths import Home
from tests.top import Person, on_the_queue


def test_one_key_opens_the_log_of_the_chosen_job(jobs: list[int], home: Home) -> None:
    async def story(person: Person) -> None:
        await person.press("L")
        assert "[2 log]" in person.text
        assert "epoch 100" in person.text
        await person.press("escape", "j", "j", "L")
        assert "it has not run yet" in person.text

    on_the_queue(home, story)


def test_a_text_is_found_downwards_upwards_and_over_the_end(jobs: list[int], home: Home) -> None:
    log = home.attempt(jobs[0], 1).log
    log.write_text("".join(f"epoch {n}{' Warning' * (n % 100 == 7)}\n" for n in range(300)))

    async def story(person: Person) -> None:
        def at(number: int) -> Callable[[], object]:
            return lambda: f"epoch {number} Warning" in person.highlighted

        await person.press("L", "/")
        assert person.bottom.startswith("search: ")
        await person.type("warning")
        await person.press("enter")
        await person.until(at(7))
        assert "'warning' from the beginning: n next, N before" in person.text
        await person.press("n")
        await person.until(at(107))
        assert "'warning': n next, N before" in person.text
        await person.press("n")
        await person.until(at(207))
        await person.press("n")
        await person.until(at(7))
        await person.press("N")
        await person.until(at(207))
        assert "'warning' from the end: n next, N before" in person.text
        await person.press("/", *"nowhere", "enter")
        await person.until(lambda: "'nowhere' is not in this log" in person.text)
        await person.press("escape")
        assert "[2 log]" in person.text, "the first Esc takes the search away"
        await person.press("G")
        assert "epoch 299" in person.text
        await person.press("escape")
        assert "train/a" in person.chosen

    on_the_queue(home, story)


def test_a_match_far_from_the_end_of_a_huge_log_is_shown(jobs: list[int], home: Home) -> None:
    log = home.attempt(jobs[0], 1).log
    with log.open("wb") as file:
        file.seek(200 << 20)
        file.write(b"\nhere it failed\n")
        file.truncate(1 << 30)

    async def story(person: Person) -> None:
        await person.press("L", "/", *"IT failed", "enter")
        await person.until(lambda: "here it failed" in person.highlighted)
        await person.press("G")
        assert "here" not in person.text

    on_the_queue(home, story)


def test_a_search_shows_how_far_it_is_and_can_be_left() -> None:
    waiting: list[Callable[[], None]] = []
    page = LogPage(waiting.append)
    page.draw(80, 20)
    page.search("text")
    assert waiting == [], "there is no log"
    page.log = Path(__file__)
    page.draw(80, 20)
    page.search("text")
    assert page.place == "searching 'text': 0%; Esc leaves"
    assert page.press("escape")
    assert "searching" not in page.place
    (search,) = waiting
    thread = threading.Thread(target=search)
    thread.start()
    thread.join()
    page.draw(80, 20)
    assert "found" not in page.place


def test_leaving_the_screen_ends_a_search(jobs: list[int], home: Home) -> None:
    log = home.attempt(jobs[0], 1).log
    with log.open("wb") as file:
        file.truncate(1 << 36)  # it would take minutes

    async def story(person: Person) -> None:
        await person.press("L", "/", *"text", "enter")
        assert "searching 'text'" in person.text
        await person.press("ctrl+c")

    assert on_the_queue(home, story) == 0
