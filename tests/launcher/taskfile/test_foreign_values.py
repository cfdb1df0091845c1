"""Ranges and lists in the spelling of other programs are answered with that of this one."""

import pytest

from launcher.experiments.taskfile.domains import parse_domain
from launcher.experiments.taskfile.foreign_values import own_spelling
from launcher.experiments.taskfile.value_hints import search_hint
from launcher.system.errors import UsageError

LR, WORDS = "1e-5..1e-1:log", "relu,gelu"
SPELLINGS = [
    ("loguniform(1e-5,1e-1)", LR),
    ("tune.loguniform(1e-5, 1e-1)", LR),
    ("trial.suggest_float('lr', 1e-5, 1e-1, log=True)", LR),
    ("FloatDistribution(high=1e-1, log=True, low=1e-5, step=None)", LR),
    ("{'distribution': 'log_uniform_values', 'min': 1e-5, 'max': 1e-1}", LR),
    ("log_uniform(-11.5, -2.3)", "1.013e-05..0.1003:log"),
    ("hp.loguniform('lr', -11.5, -2.3)", "1.013e-05..0.1003:log"),
    ("tag(log, interval(1e-5, 1e-1))", LR),
    ("Real(1e-5, 1e-1, prior='log-uniform')", LR),
    ('hp.Float("lr", 1e-5, 1e-1, sampling="log")', LR),
    ('{"_type": "loguniform", "_value": [1e-5, 1e-1]}', LR),
    ('{"name": "lr", "type": "range", "bounds": [1e-5, 1e-1], "log_scale": true}', LR),
    ("1e-5:1e-1", LR),
    ("1e-5-1e-1", LR),
    ("(1e-5, 1e-1)", LR),
    ("log(1e-5..1e-1)", LR),
    ("1e-5..1e-1,log", LR),
    ("uniform(0,1)", "0.0..1.0"),
    ("quniform(0, 1, 0.1)", "0..1..0.1"),
    ("tune.quniform(0.1, 0.9, 0.2)", "0.1..0.9..0.2"),
    ("min=0.1,max=0.9", "0.1..0.9"),
    ("interval(0.1, 0.9)", "0.1..0.9"),
    ("np.linspace(0, 1, 5)", "0..1..0.25"),
    ("np.arange(0, 1, 0.1)", "0..0.9..0.1"),
    ("randint(1,9)", "1..9"),
    ("tune.randint(1, 10)", "1..9"),
    ("range(1,10)", "1..9"),
    ("range(1,10,step=2)", "1..9..2"),
    ("suggest_int('n', 1, 9)", "1..9"),
    ("int(interval(1, 9))", "1..9"),
    ("{min: 1, max: 9}", "1..9"),
    ("tune.lograndint(1, 1000)", "1..999:log"),
    ("1:9", "1..9"),
    ("1-9", "1..9"),
    ("1..=9", "1..9"),
    ("1...9", "1..9"),
    ("1 to 9", "1..9"),
    ("1:9:2", "1..9..2"),
    ("choice(relu,gelu)", WORDS),
    ('tune.choice(["relu", "gelu"])', WORDS),
    ("suggest_categorical('act', ['relu', 'gelu'])", WORDS),
    ("{'values': ['relu', 'gelu']}", WORDS),
    ("[relu,gelu]", WORDS),
    ("CategoricalDistribution(choices=('relu', 'gelu'))", WORDS),
    ("hp.Boolean('amp')", "true,false"),
    ("tune.randn(0, 1)", ""),
]


@pytest.mark.parametrize(("foreign", "own"), SPELLINGS)
def test_spelling_of_another_program_is_answered_with_the_own_one(foreign: str, own: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_domain("lr", foreign)
    assert f"Write lr={own or 'LOW..HIGH, lr=LOW..HIGH:log or lr=VALUE,VALUE'}" in str(
        refused.value
    )
    if own:
        parse_domain("lr", own)


@pytest.mark.parametrize(
    "text",
    [LR, WORDS, "1..9", "0.0..1.0..0.1", "null,None,1,1.0", "2001-01-01", "9-1", "7", "-1..1"],
)
def test_own_spelling_is_not_taken_for_that_of_another_program(text: str) -> None:
    assert own_spelling(text) is None
    parse_domain("lr", text)


@pytest.mark.parametrize("text", ["logspace(9999, 99999, 3)", "f(", "{", "lambda: 3", "a=b=c"])
def test_texts_that_no_program_reads_have_no_other_spelling(text: str) -> None:
    assert own_spelling(text) is None


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("np.linspace(0,1,5)", "write x=0..1..0.25"),
        ("range(0, 5)", "write x=0..4"),
        ("choice(a, b)", "write x=a,b"),
        ("uniform(0,1)", "only a search draws values: add --search"),
        ("loguniform(1e-5,1e-1)", "only a search draws values: add --search"),
    ],
)
def test_only_values_that_are_not_counted_need_a_search(text: str, hint: str) -> None:
    assert search_hint("x", text).startswith(hint)
