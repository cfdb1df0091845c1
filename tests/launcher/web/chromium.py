"""A real Chromium, driven by Playwright: modules that use it skip themselves where one of them is missing."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
PATIENCE_MS = 30_000
WIDE, PHONE = (1400, 900), (400, 800)  # pixels


@contextmanager
def a_chromium() -> Iterator["Browser"]:
    """A browser that nobody sees."""
    from playwright.sync_api import expect, sync_playwright  # a package of the extra `dev`

    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as driver:
        # the sandbox of Chromium does not work for root, nor in most containers
        # and a process for each tab costs more than the tabs
        words = ["--no-sandbox", "--disable-gpu", "--in-process-gpu", "--renderer-process-limit=1"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=words)
        yield browser
        browser.close()


@contextmanager
def a_tab(browser: "Browser", link: str) -> Iterator["Page"]:
    """A tab in which a link was opened; no script of the page may fail, and none of another may run."""
    context = browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]})
    tab = context.new_page()
    tab.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda message: errors.append(message.text) if _is_ours(message) else None)
    tab.on("dialog", lambda dialog: errors.append(f"a script said {dialog.message!r}"))
    tab.goto(link)
    yield tab
    context.close()
    assert not errors, errors


def check_phones(
    browser: "Browser",
    link: str,
    paths: Iterable[str],
    content: str = "h1",
    *,
    themes: Sequence[Literal["light", "dark"]] = ("light", "dark"),
) -> None:
    """Check that no page needs scrolling sideways on a phone.

    Args:
        browser: in which pages are opened.
        link: the server's first link.
        paths: of the pages.
        content: a selector; it is waited for, as some parts of a page come later.
        themes: in which pages are opened.
    """
    for theme in themes:
        context = browser.new_context(
            viewport={"width": PHONE[0], "height": PHONE[1]}, color_scheme=theme, has_touch=True
        )
        tab = context.new_page()
        tab.goto(link)
        root = tab.url
        for path in paths:
            tab.goto(f"{root}{path}")
            tab.locator(content).first.wait_for(timeout=PATIENCE_MS)
            width = tab.evaluate("document.documentElement.scrollWidth")
            assert width <= PHONE[0], path
        context.close()


def leave_out_charts(tab: "Page") -> None:
    """Let the library for charts be missing; to load it takes longer than all else on a page."""
    tab.route("**/plotly*", lambda route: route.abort())


def until_alive(tab: "Page", place: str, text: str) -> None:
    """Wait until a page that was opened shows a text, and its script has begun: it takes keys and asks in dialogs."""
    shows(tab, place, text)
    reads(tab, "#connection", "live")


def shows(tab: "Page", place: str, text: str, *, there: bool = True) -> None:
    """Wait until a place of a page holds a text, or holds it no more."""
    from playwright.sync_api import expect

    found = expect(tab.locator(place))
    (found.to_contain_text if there else found.not_to_contain_text)(text)


def reads(tab: "Page", place: str, text: str) -> None:
    """Wait until a place of a page reads so and no otherwise."""
    from playwright.sync_api import expect

    expect(tab.locator(place)).to_have_text(text)


def counts(tab: "Page", place: str, number: int) -> None:
    """Wait until a page has this number of an element."""
    from playwright.sync_api import expect

    expect(tab.locator(place)).to_have_count(number)


def press(tab: "Page", *keys: str) -> None:
    """Press keys, one after another."""
    for key in keys:
        tab.keyboard.press(key)


def _is_ours(message: "ConsoleMessage") -> bool:
    """Return whether the message is an error of the page, not of a server that refuses or has ended."""
    refused = "net::ERR_" in message.text or "the server responded with a status of" in message.text
    return message.type == "error" and not refused
