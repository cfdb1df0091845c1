"""Sweeps of programs: the jobs of an entry with a matrix, their commands, and mistakes with their locations."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from launcher.experiments.taskfile import matrix
from launcher.system.errors import TaskFileError
from tests.launcher.language import a_plan, job, marked, names, refusal, refusals


def told(entry: str, *settings: str) -> dict[str, Any]:
    """Return the jobs of one entry: name → command line."""
    made = a_plan(f"command: [{{{entry}}}]", *settings)
    return {each.name.partition("/")[2]: list(each.argv) for each in made.jobs}


@pytest.mark.parametrize(
    ("entry", "jobs"),
    [
        (
            'name: t, argv: [go, --lr, "{lr}", "s={seed}"], matrix: {lr: [0.10, 1e-3], seed: [1, 2]}',
            {
                "t@lr=0.10,seed=1": ["go", "--lr", "0.10", "s=1"],
                "t@lr=0.10,seed=2": ["go", "--lr", "0.10", "s=2"],
                "t@lr=0.001,seed=1": ["go", "--lr", "1e-3", "s=1"],
                "t@lr=0.001,seed=2": ["go", "--lr", "1e-3", "s=2"],
            },
        ),
        (  # tied
            'name: t, argv: [go, "{sweep}"], matrix: [{a: 1, b-c: x}, {a: 2, b-c: yes}]',
            {
                "t@a=1,b-c=x": ["go", "--a=1", "--b-c=x"],
                "t@a=2,b-c=yes": ["go", "--a=2", "--b-c=yes"],
            },
        ),
        (  # named values
            'name: t, argv: [go, "{data}"], matrix: {data: {one: "a/b c.csv", two: ""}}',
            {"t@data=one": ["go", "a/b c.csv"], "t@data=two": ["go", ""]},
        ),
        (  # the last parts of paths that tell them apart
            'name: t, argv: [go, "{x}"], matrix: {x: [a/b/m.csv, c/b/m.csv, n.csv]}',
            {
                "t@x=a-b-m.csv": ["go", "a/b/m.csv"],
                "t@x=c-b-m.csv": ["go", "c/b/m.csv"],
                "t@x=n.csv": ["go", "n.csv"],
            },
        ),
        (
            'name: t, argv: [go, "{x}"], matrix: {x: [/data/a é.csv, "s3://b/c"]}',
            {"t@x=a-.csv": ["go", "/data/a é.csv"], "t@x=c": ["go", "s3://b/c"]},
        ),
        (  # texts stay texts
            'name: t, argv: [go, "{x}"], matrix: {x: [12e4567, 5e999, 1e3, 1000, "007", "7", 0.10, 0.1]}',
            {
                f"t@x={text}": ["go", text]
                for text in ("12e4567", "5e999", "1e3", "1000", "007", "7", "0.10", "0.1")
            },
        ),
        (  # a sign is a part of the value
            'name: t, argv: [go, "{x}"], matrix: {x: [-1, 1, -1e-3, -a, a, a-]}',
            {
                "t@x=-1": ["go", "-1"],
                "t@x=1": ["go", "1"],
                "t@x=-0.001": ["go", "-1e-3"],
                "t@x=-a": ["go", "-a"],
                "t@x=a": ["go", "a"],
                "t@x=a-": ["go", "a-"],
            },
        ),
        (  # a value in the name is not appended to it
            'name: "t-{lr}", argv: [go, "{lr}", "{n}"], matrix: {lr: [0.1, 0.2], n: 5}',
            {"t-0.1@n=5": ["go", "0.1", "5"], "t-0.2@n=5": ["go", "0.2", "5"]},
        ),
        (
            'name: t, argv: [awk, "{{print $${n}}} }}{{", "{job_folder}/{run_folder}"], matrix: {n: 1}',
            {"t@n=1": ["awk", "{print $1} }{", "{job_folder}/{run_folder}"]},
        ),
        ('argv: [go, "--lr={lr}"], matrix: {lr: [1]}', {"go@lr=1": ["go", "--lr=1"]}),
        # no matrix: to the letter
        (
            'name: t, argv: [awk, "{print $1}", "{{", "{sweep}", "{}"]',
            {"t": ["awk", "{print $1}", "{{", "{sweep}", "{}"]},
        ),
        ('name: t, argv: [go, "{lr}"], matrix: null', {"t": ["go", "{lr}"]}),
    ],
)
def test_entry_runs_once_per_combination(entry: str, jobs: dict[str, Any]) -> None:
    assert told(entry) == jobs


def test_values_are_filled_into_folder_and_variables_and_stored_with_settings() -> None:
    made = a_plan(
        "command:\n"
        '  - {name: plain, argv: [go], env: {N: "{n}"}}\n'
        '  - {name: t, argv: [go], cwd: "/o/{n}", env: {N: "{n}", B: "{{"}, matrix: {n: [1, x]},\n'
        "     after: plain}\n"
    )
    first, second = (job(made, f"command/t@n={n}").settings for n in ("1", "x"))
    assert (first["cwd"], first["env"]) == ("/o/1", {"N": "1", "B": "{"})
    assert (first["params"], second["params"]) == ({"n": 1}, {"n": "x"})
    assert job(made, "command/plain").settings["env"] == {"N": "{n}"}
    assert "params" not in job(made, "command/plain").settings
    with_defaults = a_plan(
        'defaults: {command: {env: {D: "{n}"}}}\n'
        'command: [{name: t, argv: [go, "{n}"], matrix: {n: 1}}]'
    )
    assert job(with_defaults, "command/t@n=1").settings["env"] == {"D": "{n}"}


def test_values_are_filled_into_the_names_of_files_of_numbers() -> None:
    files = 'resources: {metrics: "{{m}}{n}.csv"}, tensorboard: "{job_folder}/{n}"'
    made = a_plan(
        f'command: [{{name: t, argv: [go, "{{n}}"], {files}, matrix: {{n: [1, 2]}}}},'
        ' {name: plain, argv: [go], metrics: "{n}.csv"}]'
    )
    terms = [job(made, f"command/{name}").terms for name in ("t@n=1", "t@n=2", "plain")]
    assert [each.metrics for each in terms] == ["{m}1.csv", "{m}2.csv", "{n}.csv"]
    assert [each.tensorboard for each in terms] == ["{job_folder}/1", "{job_folder}/2", ""]


def test_hash_depends_on_arguments_and_not_on_values() -> None:
    swept = a_plan('command: [{name: t, argv: [go, "{n}"], matrix: {n: [1, 2]}}]').jobs
    plain = a_plan("command: [{name: t, argv: [go, 1]}, {name: u, argv: [go, 2]}]").jobs
    assert [each.hash for each in swept] == [each.hash for each in plain]
    assert swept[0].hash != swept[1].hash


MATRIX = "matrix: {lr: [1, 2]}"


@pytest.mark.parametrize(
    ("entry", "code", "message", "hint", "mark"),
    [
        ('argv: [a, "x{hiden}"], matrix: {hidden: 1}', "braces", "'hiden'", "'hidden'?", "{hiden}"),
        (f'argv: [a, "{{}}", "{{lr}}"], {MATRIX}', "braces", "no name", "{{", "{}"),
        (f'argv: [a, "b{{", "{{lr}}"], {MATRIX}', "braces", "no matching brace", "{{", "{"),
        (f'argv: [a, "}} ", "{{lr}}"], {MATRIX}', "braces", "no matching brace", "}}", "}"),
        (f'argv: [a, "-{{sweep}}", "{{lr}}"], {MATRIX}', "braces", "several", "argv", "{sweep}"),
        (
            f'argv: [a, "{{lr}}"], env: {{A: "{{sweep}}"}}, {MATRIX}',
            "braces",
            "several arguments",
            "an item of argv",
            "{sweep}",
        ),
        (
            f"argv: [a, {{lr}}], {MATRIX}",
            "braces",
            "without quotes as a mapping",
            'write "{lr}"',
            "{lr}",
        ),
        (
            f'argv: [a, "{{lr}}"], metrics: "x{{l}}", {MATRIX}',
            "braces",
            "metrics: no value is named 'l'",
            "'lr'?",
            "{l}",
        ),
        (
            f'argv: [a, "{{lr}}"], resources: {{tensorboard: "}} "}}, {MATRIX}',
            "braces",
            "tensorboard: this '}' has no",
            "{{",
            "}",
        ),
        ("argv: [a, {job_folder}]", "braces", "a mapping", '"{job_folder}"', "{job_folder}"),
        (
            f'argv: [a, "{{lr}}", "x{{{{job_folder}}}}"], {MATRIX}',
            "braces",
            "{job_folder} cannot be written literally",
            "for the folder itself",
            "{{job_folder}}",
        ),
        (f'name: {{lr}}, argv: [a, "{{lr}}"], {MATRIX}', "braces", "mapping", '"{lr}"', "{lr}"),
        (
            f'argv: [a, "{{lr}}"], env: {{A: {{lr}}}}, {MATRIX}',
            "braces",
            "mapping",
            '"{lr}"',
            "{lr}",
        ),
        (f"argv: [a], {MATRIX}", "matrix", "no argument uses lr", '"{lr}" in argv', "lr"),
        (f'name: "b-{{lr}}", argv: [a], {MATRIX}', "matrix", "no argument uses lr", "", "lr"),
        (
            'argv: [a, "{n}"], matrix: {n: [a:b]}',
            "matrix",
            "'a:b' cannot",
            "a task file: n: {first",
            "a:b",
        ),
        ('argv: [a, "{n}"], matrix: {n: ["a b"]}', "matrix", "'a b' cannot", "", '"a b"'),
        (
            'argv: [a, "{n}"], matrix: {n: ["a\\nb"]}',
            "matrix",
            "cannot be part of a job name",
            "",
            '"a\\nb"',
        ),
        ('argv: [a, "{n}"], matrix: {n: [[1, 2]]}', "matrix", "a number or a string", "", "["),
        ('argv: [a, "{n}"], matrix: {n: [1, null]}', "matrix", "number or a string", '""', "null"),
        ('argv: [a, "{n}"], matrix: {n: []}', "matrix", "n has no values", "n: [1, 2, 3]", "["),
        ('argv: [a, "{n}"], matrix: {n: [1, 1.0]}', "matrix", "this value twice", "", "1.0"),
        ('argv: [a, "{n}"], matrix: {n: [1, "1"]}', "matrix", "both be called '1'", "", '"1"'),
        ('argv: [a, "{n}"], matrix: {n: {"a b": 1}}', "matrix", "a label", "", '"a b"'),
        ('argv: [a, "{n}"], matrix: [{n: 1}, {m: 2}]', "matrix", "lacks n", "", "m"),
        ('argv: [a, "{n m}"], matrix: {n m: [1]}', "matrix", "letters, digits", "", "n m"),
        ('argv: [a, "{sweep}"], matrix: {sweep: 1}', "matrix", "is reserved", "", "sweep"),
        (
            'argv: [a, "{job_folder}"], matrix: {job_folder: 1}',
            "matrix",
            "is reserved",
            "",
            "job_folder",
        ),
        ("argv: [a], matrix: 3", "wrong-type", "expected sweeps", "", "3"),
        ('argv: [a, "{n}"], matrix: {n: 1..3}', "matrix", "1..3 is text here", "[1, 2, 3]", "1..3"),
        ('argv: [a, "{n}"], matrix: {n: [" b"]}', "matrix", "' b' cannot", "the space: b", '" b"'),
        ('argv: [a, "{n}"], flags: [[n]]', "matrix", "names such as [amp]", "", "["),
        ('argv: [a, "{n}"], flags: --n', "matrix", "letters, digits", "write n", "--n"),
        ('argv: [a, "{n}"], flags: [n, n]', "matrix", "'n' is given twice", "remove", "n"),
        (
            'argv: [a, "{n}"], flags: n, matrix: {n: 1}',
            "matrix",
            "'n' is given twice",
            "remove",
            "n",
        ),
        ("argv: [a], flags: n", "matrix", "no argument uses n", "", "n"),
        ('argv: ["{n}", a], flags: n', "braces", "cannot be the program", "", '"{n}"'),
        (
            'name: "t{a}{b}", argv: [x, "{sweep}"], matrix: {a: [1, 11], b: [1, 11]}',
            "name",
            "two combinations would both be called 't111'",
            "separate the values",
            '"t{a}{b}"',
        ),
        (
            f'name: "/{{lr}}", argv: [x, "{{lr}}"], {MATRIX}',
            "name",
            "expected a name of at most",
            "",
            "",
        ),
        (
            f'name: t, argv: [x, "{{n}}"], matrix: {{n: ["{"1" * 240}"]}}',
            "name",
            "would have 244 characters",
            "the limit is 240",
            "t",
        ),
    ],
)
def test_mistake_is_reported_at_its_location(
    entry: str, code: str, message: str, hint: str, mark: str
) -> None:
    problem = refusal(f"name: x\ncommand:\n  - {{{entry}}}")
    assert (problem.code, message in problem.message) == (code, True), problem.message
    assert hint in problem.hint
    assert marked(problem)[:2] == ("x.yaml", 3)
    assert mark in marked(problem)[2]


def test_number_of_combinations_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    values = ", ".join(map(str, range(100)))
    text = 'command: [{name: t, argv: [a, "{sweep}"], matrix: {a: [%s], b: [%s]}}]'
    problem = refusal(text % (values, f"{values}, 100"))
    assert problem.message == "matrix: 10,100 combinations; the limit is 10,000"
    monkeypatch.setattr(matrix, "MOST_COMBINATIONS", 6)
    assert len(names(a_plan(text % ("1, 2", "1, 2, 3")))) == 6
    problem = refusal(text % ("1, 2", "1, 2, 3, 4"))
    assert problem.message == "matrix: 8 combinations; the limit is 6"


def test_two_entries_with_different_definitions_of_a_job_are_refused() -> None:
    problems = refusals(
        "command:\n"
        '  - {name: t, argv: [a, "{n}"], matrix: {n: [1, 2]}}\n'
        '  - {name: t, argv: [b, "{n}"], matrix: {n: [2, 3]}}\n'
    )
    assert ["command/t@n=2 is listed twice" in each.message for each in problems] == [True]


RANDOM = 'name: t, argv: [go, "{sweep}"], seed: 3'


def drawn_values(words: str) -> list[tuple[str, ...]]:
    """Return the swept words of each job of an entry."""
    return [tuple(argv[1:]) for argv in told(f"{RANDOM}, {words}").values()]


def test_draws_are_deterministic() -> None:
    # every digit, because done jobs would run again if another version drew other values
    words = (
        "random: {a: 1e-4..1e-1:log, b: -1.0..1.0, c: 1..9, d: [x, 8], e: 1..9..2, f: 0.1..0.3..0.1, "
        "g: 1..999:log}"
    )
    assert drawn_values(f"{words}, count: 3") == [
        ("--a=0.02", "--b=0.4711", "--c=1", "--d=8", "--e=1", "--f=0.2", "--g=18"),
        ("--a=0.0001166", "--b=0.593", "--c=8", "--d=8", "--e=3", "--f=0.3", "--g=11"),
        ("--a=0.0517", "--b=0.981", "--c=2", "--d=x", "--e=1", "--f=0.1", "--g=55"),
    ]


@pytest.mark.parametrize(
    "style", ["{a: 0.0..1.0, b: [1, 2]}", "\n      a: 0.0..1.0\n      b: 1,2\n"]
)
def test_larger_count_and_additional_name_keep_earlier_draws(style: str) -> None:
    block = "command:\n  - name: t\n    argv: [go, '{sweep}']\n    random: %s\n    count: %d\n"
    few, many = ([each.argv[1] for each in a_plan(block % (style, n)).jobs] for n in (7, 40))
    assert (many[:7], len(set(many))) == (few, 40)
    further = "{b: [1, 2], a: 0.0..1.0, c: 7}"
    assert [each.argv[2] for each in a_plan(block % (further, 7)).jobs] == few
    others = [each.argv[1] for each in a_plan(f"{block % (style, 7)}    seed: 1\n").jobs]
    assert not {*few} & {*others}


@given(
    low=st.floats(-1e6, 1e6) | st.floats(1e-9, 1e-3),
    width=st.floats(1e-6, 1e6),
    log=st.booleans(),
)
@example(low=100.0, width=1.0, log=True)
@example(low=1e6, width=1e-6, log=True)
def test_draws_are_within_their_bounds(low: float, width: float, *, log: bool) -> None:
    low = abs(low) + 1e-9 if log else low
    high = low + width
    words = f"random: {{x: {low!r}..{high!r}{':log' * log}}}, count: 20"
    values = [float(word.partition("=")[2]) for (word,) in drawn_values(words)]
    assert all(low <= value <= high for value in values)


def test_drawn_paths_are_named_by_their_last_parts() -> None:
    block = "command:\n  - name: t\n    argv: [go, '{a}']\n    random: {a: [x/d.csv, y/d.csv]}\n    count: 2\n"
    named = {each.name: each.argv[1] for each in a_plan(block).jobs}
    assert named == {"command/t@a=x-d.csv": "x/d.csv", "command/t@a=y-d.csv": "y/d.csv"}


def test_each_draw_is_combined_with_each_combination_of_the_matrix() -> None:
    words = "random: {a: 1..100}, count: 3, matrix: {seed: [1, 2]}"
    pairs = drawn_values(words)
    assert len({a for _, a in pairs}) == 3
    assert {*pairs} == {(s, a) for s in ("--seed=1", "--seed=2") for _, a in pairs}


@pytest.mark.parametrize(
    ("words", "message", "mark"),
    [
        ("random: {a: 0..1:log}, count: 1", "a logarithmic range begins above 0", "0..1:log"),
        ("random: {a: 1..1}, count: 1", "the range has one value", "1..1"),
        ("random: {a: 0.0..1e300}, count: 1", "a bound is larger", "0.0..1e300"),
        ("random: {a: 1..x}, count: 1", "not a range", "1..x"),
        ("random: {a: [x y]}, count: 1", "cannot be part of a job name", "["),
        ("random: {a: [1, 1]}, count: 1", "listed twice", "["),
        ("random: {a: [1, null]}, count: 1", "expected a list of numbers and words", "["),
        ("random: {a: []}, count: 1", "no values", "["),
        ("random: {a: {min: 1, max: 9}}, count: 1", "not a range or a list here", "min"),
        ("random: {a: [1, 2]}, count: 3", "only 2 different draws", "3"),
        ("random: {a: [1, 2]}", "count: expected a number from 1 to 10,000", "a"),
        ("random: {a: [1, 2]}, count: 10001", "from 1 to 10,000", "10001"),
        ("random: {a: [1, 2]}, count: true", "from 1 to 10,000", "true"),
        (
            "random: {a: [1, 2]}, count: 1, matrix: {a: 3}",
            "is given in matrix and in random",
            "a",
        ),
        ("random: {a b: 1..2}, count: 1", "letters, digits", "a b"),
        ("random: [1], count: 1", "random: expected names", "["),
        ("random: {}, count: 1", "random: expected names", "{"),
        ("count: 1", "count needs random", "1"),
        (
            "random: {a: 1..9999}, count: 5001, matrix: {b: [1, 2]}",
            "10,002 combinations",
            "b",
        ),
    ],
)
def test_mistake_in_draws_is_reported_at_its_location(words: str, message: str, mark: str) -> None:
    problem = refusal(f'name: x\ncommand:\n  - {{name: t, argv: [go, "{{sweep}}"], {words}}}')
    assert message in problem.message
    assert marked(problem) == ("x.yaml", 3, mark)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("loguniform(1e-4, 1e-1)", "lr: 1e-4..1e-1:log"),
        ("uniform(-1, 1)", "lr: -1.0..1.0"),
        ("randint(1, 9)", "lr: 1..9"),
        ("choice(x, 007, True)", "lr: [x, 007, True]"),
        ("{min: 1, max: 9}", "lr: 1..9"),
        ("tune.randn(0, 1)", "lr: LOW..HIGH, lr: LOW..HIGH:log or lr: [VALUE, VALUE]"),
    ],
)
def test_another_spelling_of_draws_is_answered_with_the_right_one(old: str, new: str) -> None:
    entry = f"{{{RANDOM}, random: {{lr: {old}}}, count: 3}}"
    problem = refusal(f"command: [{entry}]")
    assert problem.message == "lr: not a range or a list here"
    assert problem.hint == f"write {new}"


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ("1e-4..1e-1:log", "write lr: 1e-4..1e-1:log below random"),
        (
            "loguniform(1e-4, 1e-1)",
            "write lr: 1e-4..1e-1:log below random",
        ),
        ("choice(4, 8)", "write lr: [4, 8]"),
    ],
)
def test_draws_in_a_matrix_are_answered_with_their_place(values: str, hint: str) -> None:
    problem = refusal(f'command: [{{argv: [go, "{{sweep}}"], matrix: {{lr: {values}}}}}]')
    assert problem.hint.startswith(hint)


@pytest.mark.parametrize("seed", ["x", "-1", "1.5", "[1]"])
def test_a_seed_is_a_whole_number(seed: str) -> None:
    text = 'command: [{argv: [go, "{sweep}"], random: {a: 1}, count: 1, seed: %s}]'
    assert refusal(text % seed).message == "seed: expected a number from 0"


@pytest.mark.parametrize(
    ("words", "sets", "jobs"),
    [
        ("matrix: {lr: [1, 2], n: [3]}", "lr=5", ["t@lr=5,n=3"]),
        ("matrix: {lr: [1, 2], n: [3]}", "command.lr=[5, 2]", ["t@lr=5,n=3", "t@lr=2,n=3"]),
        ("matrix: [{n: 1, lr: 2}, {n: 1, lr: 3}]", "lr=5", ["t@n=1,lr=5"]),
        ("random: {lr: 0.0..1.0, n: 7}, count: 1", "lr=5", ["t@lr=5,n=7"]),
        ("flags: [amp, x]", "amp=true", ["t@amp=true,x=true", "t@amp=true,x=false"]),
    ],
)
def test_command_line_values_replace_a_sweep(words: str, sets: str, jobs: list[str]) -> None:
    entry = f'name: t, argv: [go, "{{sweep}}"], {words}'
    assert list(told(entry, sets)) == jobs


def test_swept_flag_is_an_argument_or_nothing() -> None:
    assert told('name: t, argv: [go, "{amp}", "x={amp}", "{sweep}"], flags: amp') == {
        "t@amp=true": ["go", "--amp", "x=true", "--amp"],
        "t@amp=false": ["go", "x=false"],
    }


def test_flag_is_only_true_or_false() -> None:
    problem = refusal('command: [{argv: [go, "{amp}"], flags: amp}]', "amp=maybe")
    assert problem.message == "amp is a flag: expected true or false"


def test_quoted_text_is_no_range() -> None:
    assert list(told('name: t, argv: [go, "{n}"], matrix: {n: "1..3"}')) == ["t@n=1..3"]


@pytest.mark.parametrize("sets", ["lt=5", "command.lt=5"])
def test_value_without_a_swept_program_is_refused(sets: str) -> None:
    problem = refusal('command: [{argv: [go, "{lr}"], matrix: {lr: 1}}]', sets)
    assert (problem.code, "'lt' is not a setting of" in problem.message) == ("unknown-key", True)
    assert (
        "cannot be part of a job name"
        in refusal('command: [{argv: [go, "{n}"], matrix: {n: 1}}]', "n=a:b").message
    )


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ("argv: [a, --lr={lr}]", "--lr={lr}"),
        ("argv: [a, {lr}x, b]", "{lr}x"),
        ("name: {lr}-x, argv: [a]", "{lr}-x"),
        ("argv: [a], env: {A: x{lr}}", "x{lr}"),
    ],
)
def test_invalid_yaml_with_braces_suggests_quotes(entry: str, word: str) -> None:
    with pytest.raises(TaskFileError) as caught:
        a_plan(f"command:\n  - {{{entry}, matrix: {{lr: 1}}}}")
    (problem,) = caught.value.problems
    assert (problem.code, problem.hint) == ("yaml-syntax", f'write "{word}", in quotes')
