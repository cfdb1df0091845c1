"""`.ci/prose.py` finds sentences that are hard to read, and its baseline may only shrink."""

import subprocess
import sys
from pathlib import Path

import pytest

import prose
from prose import BASELINE, check, check_tree, read_file, write_baseline
from prose_rules import RULES, Kind, Text

SEVERAL = " and ".join(["word"] * 15)  # 29 words

# rule, kind, a sentence that breaks it, and one that says the same and breaks none
CASES = [
    (
        "inversion",
        Kind.DOC,
        "Of the environment a pilot gets only PATH and HOME.",
        "A pilot's environment contains only PATH and HOME.",
    ),
    (
        "inversion",
        Kind.DOCSTRING,
        "Of other sizes the verdict is unlike.",
        "If an image has another size, the verdict is unlike.",
    ),
    (
        "inversion",
        Kind.DOC,
        "In brackets stands the 95th percentile.",
        "The brackets contain the 95th percentile.",
    ),
    (
        "what-clause",
        Kind.DOC,
        "What imports launcher.api alone runs unchanged",
        "Code that imports only launcher.api needs no change",
    ),
    (
        "what-clause",
        Kind.MESSAGE,
        "the record of what ended is damaged",
        "the record of finished attempts is damaged",
    ),
    ("tell", Kind.MESSAGE, "no job told the metric 'f2'", "no job reported the metric 'f2'"),
    ("tell", Kind.DOC, "It tells local time.", "It can tell real images from fakes."),
    (
        "located",
        Kind.HELP,
        "Targets that stand in config.toml.",
        "Targets that are defined in config.toml.",
    ),
    ("speak", Kind.COMMENT, "it answers with an error", "it responds an error"),
    ("is-no", Kind.MESSAGE, "rule.txt is no checkpoint", "rule.txt is not a checkpoint"),
    ("is-no", Kind.MESSAGE, "the run is no checkpoint", "there is no checkpoint"),
    ("names-no", Kind.MESSAGE, "x.csv names no poison", "x.csv does not name a poison"),
    ("but-for", Kind.DOC, "All files but for one are read.", "All files except one are read."),
    ("else", Kind.HELP, "Device, else the CPU; else none.", "Device, otherwise the CPU."),
    ("word", Kind.COMMENT, "the training begins anew", "the training restarts"),
    ("word", Kind.DOC, "The job goes on.", "The job continues."),
    ("beside", Kind.HELP, "Time beside a load of 8.", "Time at a load of 8."),
    ("person", Kind.DOCSTRING, "Return his jobs.", "Return the user's jobs."),
    ("so-participle", Kind.DOC, "It waits for so long.", "It waits for this time."),
    ("per", Kind.DOC, "It takes 22 ms a job.", "It takes 22 ms per job."),
    ("per", Kind.MESSAGE, "3 files a second", "3 files per second"),
    ("of-fragment", Kind.HELP, "of sgd", "Momentum of SGD"),
    ("it-help", Kind.HELP, "It starts no sooner.", "Start no earlier than TIME."),
    (
        "noun",
        Kind.COMMENT,
        "of which the medians are taken",
        "results are the medians of the rounds",
    ),
    ("dot-decimal", Kind.CELL, "an AUC of .982", "an AUC of 0.982"),
    ("long", Kind.COMMENT, SEVERAL, SEVERAL.removeprefix("word and ")),
    ("long", Kind.HELP, f"{SEVERAL} {'more ' * 4}", SEVERAL),
    (
        "joints",
        Kind.MESSAGE,
        "the file is damaged: its end is missing; copy the file once more, or delete it",
        "the file is damaged: its end is missing. Copy the file once more, or delete it",
    ),
    (
        "joints",
        Kind.DOC,
        "One job runs; two jobs wait: one for memory and one for a core.",
        "`launcher: run; status: all` shows one job that runs: two others wait for memory.",
    ),
    ("numbers", Kind.CELL, "values 1, 2, 3.5, 4 % and 5", "values 1, 2, 3.5 and 4 %"),
]


@pytest.mark.parametrize(("rule", "kind", "bad", "good"), CASES)
def test_rule_matches_its_bad_sentence_and_not_the_good_one(
    rule: str, kind: Kind, bad: str, good: str
) -> None:
    assert [hit.rule for hit in check(Text(kind, 1, 1, bad))] == [rule]
    assert [*check(Text(kind, 1, 1, good))] == []


def test_every_rule_has_a_case() -> None:
    assert {rule for rule, *_ in CASES} == {rule.name for rule in RULES}


MARKDOWN = """# What a heading says

The first line
is fine. The job goes on.
- `a` [goes on](of.md)

```text
it goes on
```

| name | what it does |
|---|---|
| train | the job goes on |

    it goes on in code
"""
PYTHON = '''"""The module goes on.

Args:
    first: fine.
    second: tells it.
"""

text = f"{0} is no checkpoint, # x"  # he waits here
# The comment ends here and
# is told. It
#: seldom goes
log.info("event goes on with text")
click.option("--x", help="of sgd")
sql = "SELECT what he told FROM them"


async def told():
    """Tell it."""
    short = "goes on"
'''
YAML = """# The job is told
# to wait.
about: a study of what is told
name: told  # he waits here
"""


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("a.md", MARKDOWN, [(13, "cell", "word"), (4, "doc", "word"), (5, "doc", "word")]),
        (
            "a.py",
            PYTHON,
            [
                (5, "docstring", "tell"),
                (8, "comment", "person"),
                (8, "message", "is-no"),
                (9, "comment", "tell"),
                (10, "comment", "word"),
                (13, "help", "of-fragment"),
                (18, "docstring", "tell"),
            ],
        ),
        (
            "a.yaml",
            YAML,
            [
                (1, "comment", "tell"),
                (3, "comment", "tell"),
                (3, "comment", "what-clause"),
                (4, "comment", "person"),
            ],
        ),
    ],
)
def test_hit_has_the_position_of_its_sentence(
    path: str, source: str, expected: list[tuple[int, str, str]]
) -> None:
    hits, _ = read_file(path, source)
    assert sorted((hit.line, hit.kind.value, hit.rule) for hit in hits) == sorted(expected)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("a.md", "The job\ngoes on. <!-- prose: ok, a quotation -->\n"),
        ("a.py", 'text = (\n    "the job "\n    "goes on"  # prose: ok, a quotation\n)\n'),
        ("a.py", '"""Return his jobs."""  # prose: ok, a quotation\n'),
        ("a.yaml", "name: a  # he waits here  # prose: ok, a quotation\n"),
    ],
)
def test_exception_applies_to_the_texts_of_its_line(path: str, source: str) -> None:
    hits, [exemption] = read_file(path, source)
    assert (hits, exemption.reason) == ([], "a quotation")
    assert read_file(path, source.replace("prose: ok", "prose:"))[0] != []


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with one hit of the rule `tell` in each of two files, and its baseline."""
    for name in (".ci", "docs", "launcher"):
        (tmp_path / name).mkdir()
    (tmp_path / "docs" / "tasks.md").write_text("It is told.\n")
    (tmp_path / "launcher" / "job.py").write_text("# it tells the user\n")
    assert write_baseline(tmp_path) == []
    assert (tmp_path / BASELINE).read_text() == "docs/tasks.md tell 1\nlauncher/job.py tell 1\n"
    assert check_tree(tmp_path) == []
    return tmp_path


def test_a_higher_count_fails_and_is_not_written(tree: Path) -> None:
    before = (tree / BASELINE).read_text()
    (tree / "docs" / "tasks.md").write_text("\nIt was told.\n\nIt is told.\n")
    [problem] = check_tree(tree)
    *hits, summary = problem.splitlines()
    assert [hit.partition('"')[0] for hit in hits] == [
        "docs/tasks.md:2: [tell] ",
        "docs/tasks.md:4: [tell] ",
    ]
    assert all("print, report" in hit for hit in hits)
    assert summary == "docs/tasks.md: 2 hits of [tell], the baseline has 1. Reword 1 of them."
    assert write_baseline(tree) == [
        problem,
        f"{BASELINE} was not changed, because no count may rise.",
    ]
    assert (tree / BASELINE).read_text() == before


def test_a_lower_count_fails_until_the_baseline_is_written(tree: Path) -> None:
    (tree / "docs" / "tasks.md").write_text("It is printed.\n")
    assert check_tree(tree) == [
        "docs/tasks.md: 0 hits of [tell], the baseline has 1.",
        "The baseline may only shrink. Write it again: make prose",
    ]
    assert write_baseline(tree) == []
    assert (tree / BASELINE).read_text() == "launcher/job.py tell 1\n"
    assert check_tree(tree) == []


def test_changed_file_of_a_large_tree_is_read_again(tmp_path: Path) -> None:
    for folder in ("docs", ".ci"):
        (tmp_path / folder).mkdir()
    files = [tmp_path / "docs" / f"{number}.md" for number in range(60)]
    for file in files:
        file.write_text("The job ends after a minute.\n")
    assert [write_baseline(tmp_path), check_tree(tmp_path)] == [[], []]
    files[7].write_text("Of the environment a pilot gets only PATH and HOME.\n")
    problems = check_tree(tmp_path)
    assert problems[0].startswith(f"docs/{files[7].name}:1: [inversion]")
    assert check_tree(tmp_path) == problems, "the findings are stored"
    for damaged in ("{", "[]", '{"a": [[[1]], []]}'):
        (tmp_path / "build/prose.json").write_text(damaged)
        assert check_tree(tmp_path) == problems


def test_a_renamed_file_keeps_its_count(tree: Path) -> None:
    (tree / "launcher" / "job.py").rename(tree / "launcher" / "task.py")
    risen, *fallen = check_tree(tree)
    assert risen.endswith(
        "1 hit of [tell], the baseline has 0. If the file was renamed: make prose"
    )
    assert fallen[0] == "launcher/job.py: the file is gone, the baseline has 1 hit of [tell]."
    assert write_baseline(tree) == []
    assert check_tree(tree) == []


def test_a_new_file_has_no_hits(tree: Path) -> None:
    (tree / "launcher" / "task.py").write_text("# it tells the user\n")
    assert [problem.splitlines()[-1] for problem in check_tree(tree)] == [
        "launcher/task.py: 1 hit of [tell], the baseline has 0. Reword 1 of them."
    ]
    assert write_baseline(tree) != []


@pytest.mark.parametrize("comment", ["prose: ok", "prose: ok,", "prose: ok, "])
def test_an_exception_needs_a_reason(tree: Path, comment: str) -> None:
    (tree / "launcher" / "task.py").write_text(f"\nx = 1  # {comment}\n")
    assert check_tree(tree) == [
        "launcher/task.py:2: the exception has no reason. Write: prose: ok, REASON"
    ]


def test_a_package_has_few_exceptions(tree: Path) -> None:
    line = "# he waits  # prose: ok, a quotation\n"
    (tree / "launcher" / "task.py").write_text(line * prose.MOST_EXCEPTIONS)
    assert check_tree(tree) == []
    (tree / "launcher" / "task.py").write_text(line * (prose.MOST_EXCEPTIONS + 1))
    assert check_tree(tree) == [
        "launcher: 31 lines end with `prose: ok`, 30 may. "
        "Reword some of these sentences, or correct the rule."
    ]


def test_a_missing_baseline_fails_until_it_is_written(tree: Path) -> None:
    (tree / BASELINE).unlink()
    assert check_tree(tree) == [f"{BASELINE} is missing. Write it: make prose"]
    assert write_baseline(tree) == []
    assert check_tree(tree) == []


def test_command_lists_the_hits_of_the_given_files(tree: Path) -> None:
    def run(*words: str) -> tuple[int, str]:
        command = [sys.executable, prose.__file__, f"--root={tree}", *words]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.stderr.startswith("usage: " if ended.returncode == 2 else "")
        return ended.returncode, ended.stdout

    advice = "choose the verb that says what the program does: print, report, show, return, distinguish\n"
    hit = f'docs/tasks.md:1: [tell] "It is told.": {advice}'
    assert run("docs") == (1, hit)
    assert run("docs", "launcher", "--kinds=doc,cell") == (1, hit)
    assert run("docs", "--kinds=message") == (0, "")
    assert run("tasks")[0] == run("docs", "--kinds=error")[0] == 2
    assert run() == (0, "")
    assert run("--write") == (0, "")
