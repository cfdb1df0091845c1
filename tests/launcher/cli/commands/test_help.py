"""`launcher help`: pages of the documentation in the terminal."""

import re

import pytest

from launcher.frontends.cli import documents
from launcher.frontends.cli.other_words import PHRASES, phrases_of, without_plural
from tests.launcher.conftest import Launcher
from tests.searched_words import PAGES_OF_WORDS
from tests.terminal import in_a_terminal


def test_all_pages_are_listed_in_groups(launcher: Launcher) -> None:
    lines = [line.split("\t") for line in launcher.well("help").out.splitlines()]
    assert {topic for topic, *_ in lines} == documents.topics().keys() - {documents.INDEX}
    assert len(lines) == len({topic for topic, *_ in lines})
    assert ["glossary", "Glossary", "all terms", "Start"] in lines
    listed = launcher.json("help")["topics"]
    assert [[one["topic"], one["title"], one["about"], one["group"]] for one in listed] == lines


@pytest.mark.parametrize("word", ["nfs", "logout", "cite", "out of memory", "OMP_NUM_THREADS"])
def test_any_other_word_is_searched_in_all_pages(word: str, launcher: Launcher) -> None:
    hits = launcher.json("help", *word.split())["hits"]
    assert hits
    assert all(hit["topic"] in documents.topics() for hit in hits)
    ranks = [(hit["in_other_words"], hit["as_words"]) for hit in hits]
    assert ranks == sorted(ranks, reverse=True)
    first = launcher.well("help", *word.split())
    assert first.out.split("\t")[:2] == [hits[0]["topic"], hits[0]["section"]]
    assert f"launcher help {hits[0]['topic']}" in first.err


@pytest.mark.parametrize(("word", "page"), PAGES_OF_WORDS.items())
def test_words_that_people_type_lead_to_their_page(word: str, page: str) -> None:
    assert page in [hit.topic for hit in documents.search(word)[:3]]


def test_a_line_of_a_table_is_shown_with_spaces_and_without_links() -> None:
    (line,) = (hit.line for hit in documents.search("with memory that launcher"))
    assert line == "`--gpus 1` | one GPU, with memory that launcher learns"


def test_whole_words_are_before_beginnings_and_users_pages_before_measurements() -> None:
    lines = [hit.line for hit in documents.search("shar")]
    assert lines  # the beginning of a word, if no word is longer
    whole = [hit.as_words for hit in documents.search("share")]
    assert whole == sorted(whole, reverse=True)
    assert not all(whole)
    groups = {entry.topic: entry.group for entry in documents.entries()}
    late = [
        groups.get(hit.topic) in documents.LATE_GROUPS
        for hit in documents.search("memory")
        if hit.as_words
    ]
    assert late == sorted(late)


def test_other_words_name_existing_sections_once() -> None:
    for topic, headings in PHRASES.items():
        text = documents.document(topic).text
        assert not [heading for heading in headings if f"# {heading}\n" not in text], topic
    phrases = [without_plural(phrase) for topic in PHRASES for phrase in phrases_of(topic)]
    assert len(phrases) == len({*phrases})


@pytest.mark.parametrize(
    ("link", "shown"),
    [
        ("[Install](docs/installing.md)", "Install (`launcher help installing`)"),
        ("[limits](docs/gpus.md#several-users)", "limits (`launcher help gpus`)"),
        ("[lab](laboratory.md)", "lab (`launcher help laboratory`)"),
        ("the [README](../README.md)", "the README (`launcher help readme`)"),
        ("a [task file](docs/glossary.md#task-file)", "a task file"),
        ("[Changes](CHANGELOG.md)", "Changes"),
        ("memory that launcher [learns](#learn-the-memory)", "memory that launcher learns"),
        ("[x](https://example.org/docs/gpus.md)", "[x](https://example.org/docs/gpus.md)"),
    ],
)
def test_a_link_to_a_page_names_the_command_that_prints_it(link: str, shown: str) -> None:
    assert documents.for_terminal(link) == shown


def test_a_page_in_any_case_is_printed_as_markdown_in_a_pipe(launcher: Launcher) -> None:
    out = launcher.well("help", "README").out
    assert out == launcher.well("help", "readme").out
    assert "## " in out
    assert "![" not in out  # pictures


def test_a_page_that_is_longer_than_the_terminal_opens_in_the_pager(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PAGER", "grep -c launcher")
    assert in_a_terminal("help", "service").strip().isdigit()
    monkeypatch.setenv("LINES", "2000")  # rows of the terminal
    assert "launcher service remove" in in_a_terminal("help", "service")


@pytest.mark.parametrize(("old", "new"), documents.MOVED.items())
def test_the_name_of_an_old_page_prints_the_new_one(old: str, new: str, launcher: Launcher) -> None:
    assert old not in documents.topics()
    done = launcher.well("help", old)
    assert f"now part of '{new}'" in done.err
    assert done.out.rstrip("\n") == documents.document(new).text.rstrip("\n")


def test_the_name_of_a_command_prints_its_help(launcher: Launcher) -> None:
    assert launcher.well("help", "add").out == launcher.well("add", "--help").out
    assert "--json works only" in launcher.refused("help", "add", "--json")


def test_an_unknown_topic_is_refused_with_a_similar_one(launcher: Launcher) -> None:
    message = launcher.refused("help", "glosary")
    assert "unknown topic 'glosary'" in message
    assert "Did you mean 'glossary'?" in message
    assert "see all" in launcher.refused("help", "zzz")


def test_a_page_is_formatted_on_a_terminal() -> None:
    coloured = in_a_terminal("help", "service", columns=70, colour=True)
    assert "\x1b[" in coloured
    assert not re.search(
        r"\x1b\[[0-9;]*\b4[0-8][;m]", coloured
    )  # no background of our own for code
    shown = in_a_terminal("help", "glossary", columns=70)
    assert "Glossary" in shown
    assert "### " not in shown  # a heading in Markdown
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in shown.splitlines()]
    assert max(map(len, lines)) <= 70
    assert "task files (launcher help tasks)" in " ".join(" ".join(lines).split())
    plain = in_a_terminal("--ascii", "help", "glossary", columns=70)
    assert "### task file" in plain
    assert plain.isascii()
