import pytest

from launcher.queue.jobs.params import parse_options
from launcher.system.remembered_variables import is_likely_secret
from launcher.system.secret_arguments import hide_secret_variables, hide_secrets, secret_options


@pytest.mark.parametrize(
    ("command", "options", "shown"),
    [
        ("fit --password x --lr 1", ["--password"], "fit --password *** --lr 1"),
        ("fit --api-key=x api_key=y", ["--api-key", "api_key"], "fit --api-key=*** api_key=***"),
        ("fit --db-passwd 1234 ++secret=x", ["--db-passwd", "++secret"], "fit --db-passwd *** ++secret=***"),
        ("fit --hubToken a -token b", ["--hubToken", "-token"], "fit --hubToken *** -token ***"),
        ("curl https://joe:pw@host/x", [""], "curl ***"),
        ("fit --to hf_abcdefghijklmnopqrst", ["--to"], "fit --to ***"),
    ],
)  # fmt: skip
def test_value_of_a_secret_option_is_hidden_and_no_parameter(
    command: str, options: list[str], shown: str
) -> None:
    argv = tuple(command.split())
    assert secret_options(argv) == options
    assert " ".join(hide_secrets(argv)) == shown
    assert set(parse_options(argv)) <= {"lr"}


@pytest.mark.parametrize(
    "option",
    [
        *("--max-tokens 512", "--token 7", "--pad-token [PAD]", "--tokenizer bert", "--use-auth-token"),
        *("--password-file x", "--key name", "--sort_key name", "--secret false", "--num-keys 8"),
        *("--keypoint x", "--passes 3", "--monkey x", "--hub-token none"),
    ],
)  # fmt: skip
def test_option_that_only_sounds_like_a_secret_stays_a_parameter(option: str) -> None:
    argv = ("fit", *option.split())
    assert hide_secrets(argv) == [*argv]
    assert [*parse_options(argv)] == [argv[1].lstrip("-")]


@pytest.mark.parametrize(
    "variable",
    [
        *("BASIC_AUTH=u:p", "COOKIE=x", "JWT=x", "FOO_CRED=x", "MYAPP_LICENSE=x", "CONN_STR=x"),
        *("HF=hf_abcdefghijklmnopqrst", "X=eyJhbGciOiJI.eyJzdWIiOiIx.c2ln", "DB=Server=h;Password=x"),
        "OPENAI=sk-abcdefghijklmnopqrst",
    ],
)  # fmt: skip
def test_variable_is_a_secret_by_its_name_or_its_value(variable: str) -> None:
    name, _, value = variable.partition("=")
    assert is_likely_secret(name, value)
    assert hide_secret_variables({name: value, "LR": "1"}) == {name: "***", "LR": "1"}


@pytest.mark.parametrize(
    "variable",
    [
        *(
            "SSH_AUTH_SOCK=/run/x",
            "XAUTHORITY=/x",
            "MLM_LICENSE_FILE=/x",
            "AUTHOR=me",
            "HF=hf_cache",
        ),
        *("LS_COLORS=di=01;34", "MODEL=sk-learn", "KEYBOARD=de", "CREDIT=1"),
    ],
)
def test_variable_that_only_sounds_like_a_secret_is_stored(variable: str) -> None:
    name, _, value = variable.partition("=")
    assert not is_likely_secret(name, value)
