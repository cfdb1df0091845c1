from pathlib import Path

import pytest

from launcher.errors import UsageError
from launcher.notify.settings import HIDDEN, Target, address_of, shown, without_secrets

ADDRESS = "mailtos://me:p%40ssw0rd@smtp.example.org?to=you@example.org"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mail.url"
    path.write_text(f"# of the lab\n{ADDRESS}\n")
    path.chmod(0o600)
    return path


def test_an_address_stands_in_the_configuration_a_file_or_a_variable(file: Path) -> None:
    assert address_of(Target(name="a", url=ADDRESS), {}) == ADDRESS
    assert address_of(Target(name="a", url_file=file), {}) == ADDRESS
    assert address_of(Target(name="a", url_env="MAIL"), {"MAIL": f"{ADDRESS} "}) == ADDRESS


def test_a_file_that_others_may_read_is_refused_and_the_remedy_is_named(file: Path) -> None:
    file.chmod(0o640)
    with pytest.raises(UsageError, match=f"other users may read .*: chmod 600 {file}"):
        address_of(Target(name="a", url_file=file), {})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "has 0 lines; expected one address"),
        (f"{ADDRESS}\n{ADDRESS}\n", "has 2 lines"),
        ("s3cret\n", "holds no address such as"),
        (f"{ADDRESS}\x07", "holds no address such as"),
    ],
)
def test_a_file_without_an_address_is_refused_without_showing_it(
    file: Path, content: str, expected: str
) -> None:
    file.write_text(content)
    with pytest.raises(UsageError, match=expected) as refused:
        address_of(Target(name="a", url_file=file), {})
    assert "s3cret" not in str(refused.value)
    assert "p%40" not in str(refused.value)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        address_of(Target(name="a", url_file=tmp_path / "none"), {})
    with pytest.raises(UsageError, match="is no file"):
        address_of(Target(name="a", url_file=tmp_path), {})
    with pytest.raises(UsageError, match="the variable MAIL is not set where the scheduler"):
        address_of(Target(name="a", url_env="MAIL"), {})


def test_no_part_of_an_address_is_left_in_a_text() -> None:
    text = (
        f"cannot send to {ADDRESS}: user me, password p@ssw0rd or p%40ssw0rd, at smtp.example.org"
    )
    clean = without_secrets(text, ADDRESS)
    assert "ssw0rd" not in clean
    assert "you@example.org" not in clean
    assert clean.endswith("at smtp.example.org")  # what failed is told
    slack = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general"
    clean = without_secrets(f"no such channel T1JJ3T3L2/A1BRTD4JD of {slack}", slack)
    assert clean == f"no such channel {HIDDEN}/{HIDDEN} of slack://{HIDDEN}"


def test_where_messages_go_is_shown_without_the_secret(file: Path) -> None:
    assert shown(Target(name="a", url=ADDRESS)) == f"mailtos://{HIDDEN}"
    assert shown(Target(name="a", url_file=file)) == f"address in {file}"
    assert shown(Target(name="a", url_env="MAIL")) == "address in $MAIL"
    assert shown(Target(name="a", command=("notify-send", "hi"))) == "command notify-send hi"
