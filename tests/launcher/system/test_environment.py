"""The variables of a shell's environment that a queue stores, and their deletion."""

import base64
import json
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from launcher.queue.home.paths import Home
from launcher.queue.home.scheduler_start import ensure_scheduler
from launcher.queue.jobs.states import State
from launcher.queue.store.backups import back_up, backups
from launcher.queue.store.queue import Store
from launcher.queue.store.retention import find_old_copies
from launcher.system.environment import with_site_changes
from launcher.system.errors import UsageError
from launcher.system.files import write_json
from launcher.system.prologue import BEFORE_SITE_VARIABLE, prologue_lines, site_changes
from launcher.system.remembered_variables import filter_environment
from tests.build import a_context, a_spec, enqueue, job_row, lines_of, shell, until
from tests.launcher.conftest import Launcher

DAY_S = 86_400.0
VALUE = "hf_d41d8cd98f00b204e9800998ecf8427e"


def holding(folder: Path, value: str) -> list[str]:
    """Return the files below a folder that hold a text."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path.name for path in files if value.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    "name",
    [
        *("HF_TOKEN", "github_token", "MY_SECRET", "DB_PASSWORD", "PGPASSWORD", "MYSQL_PASSWD"),
        *("WANDB_API_KEY", "OPENAI_APIKEY", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
        *("AWS_SESSION_TOKEN", "SSH_PASSPHRASE", "AZURE_CREDENTIAL", "JWT_PRIVATE_KEY"),
        *("OPENAI_KEY", "GITHUB_PAT", "SMTP_PASS", "db_pwd", "STRIPE_SK", "CI_HOOK"),
        "SLACK_WEBHOOK_URL",
    ],
)
def test_likely_secrets_are_recognised(name: str) -> None:
    assert filter_environment({name: "x"}) == ({}, (name,))


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        ("postgres://ada:pa55@db.example/lab", True),
        ("https://:pa55@proxy.example:3128", True),
        ("mongodb+srv://ada:p%2F5@db.example", True),
        ("see postgres://ada:pa55@db.example", True),
        ("https://ghp_16C7e42F292c@pip.example/simple", True),
        ("https://ghp_16C7e42F292c:@pip.example/simple", True),
        ("redis://:p/w@cache.example", True),
        ("http://me@corp.example:pw@proxy.example:3128", True),
        ("file:///home/a@b", False),
        ("ssh://ada@login.example:2222/lab.git", False),
        ("git+https://git@github.example/lab.git", False),
        ("http://proxy.example:3128", False),
        ("http://host:80/a@b", False),
        ("ssh://git@example.org:22/lab.git", False),
        ("a:b@c", False),
    ],
)
def test_url_with_a_password_is_a_secret_regardless_of_its_variable(
    value: str, secret: bool
) -> None:
    assert filter_environment({"DATABASE_URL": value, "PLACE_FILE": value})[1] == (
        ("DATABASE_URL", "PLACE_FILE") if secret else ()
    )


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "SSH_AUTH_SOCK", "PYTHONPATH", "CUDA_VISIBLE_DEVICES", "KEYBOARD", "HF_HOME"),
        *("TOKENIZERS_PARALLELISM", "HF_TOKEN_PATH", "GOOGLE_APPLICATION_CREDENTIALS"),
        *("AWS_SHARED_CREDENTIALS_FILE", "DB_PASSWORD_FILE", "PWD", "OLDPWD", "SSH_KEY_PATH"),
    ],
)
def test_other_variables_are_remembered(name: str) -> None:
    assert filter_environment({name: "x"}) == ({name: "x"}, ())


def test_named_secret_is_remembered_and_an_empty_one_is_not_a_secret() -> None:
    environment = {"A_TOKEN": "1", "B_TOKEN": "2", "C_TOKEN": "", "D": "4"}
    kept, left_out = filter_environment(environment, ["B_TOKEN"])
    assert kept == {"B_TOKEN": "2", "C_TOKEN": "", "D": "4"}
    assert left_out == ("A_TOKEN",)
    with pytest.raises(
        UsageError, match=r"A_TOKN is not set in this shell. Did you mean 'A_TOKEN'"
    ):
        filter_environment(environment, ["A_TOKN"])


def test_secret_is_never_stored_and_its_owner_sees_its_name(
    launcher: Launcher, home: Home, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_TOKEN", VALUE)
    script = shell('echo "[$LAB_TOKEN]" >>"$1"', str(tmp_path / "said"))
    ensure_scheduler(home)

    answer = launcher.well("add", "--", *script)
    assert answer.err.count("LAB_TOKEN looks like a secret") == 1
    assert "--pass-env LAB_TOKEN" in answer.err
    assert VALUE not in answer.err
    launcher.well("wait")
    back_up(home.database, home.backups, 3)
    assert lines_of(tmp_path / "said") == ["[]"]
    assert holding(home.folder, VALUE) == []

    answer = launcher("add", "--pass-env", "LAB_TOKEN", "--", *script)
    assert "LAB_TOKEN" not in answer.err
    launcher.well("wait")
    assert lines_of(tmp_path / "said") == ["[]", f"[{VALUE}]"]
    assert launcher("add", "--pass-env", "NO_SUCH", "--", "true").code == 2
    assert len(store.read.jobs()) == 2


def test_task_file_names_the_secrets_its_jobs_need(
    launcher: Launcher, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_TOKEN", VALUE)
    monkeypatch.setenv("OTHER_TOKEN", "other")
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "say.sh"
    program.write_text('#!/bin/sh\necho "[$LAB_TOKEN][$OTHER_TOKEN]" >>said\n')
    program.chmod(0o755)
    task = "name: t\npass_env: [LAB_TOKEN]\ncommand:\n- {name: a, argv: [./say.sh]}\n"
    (tmp_path / "t.yaml").write_text(task)
    answer = launcher.well("run", "t.yaml")
    assert "OTHER_TOKEN looks like a secret" in answer.err
    assert lines_of(tmp_path / "said") == [f"[{VALUE}][]"]
    (tmp_path / "t.yaml").write_text(task.replace("LAB_TOKEN", "'NOT A NAME'"))
    assert "pass_env: expected the name of an environment variable" in launcher.refused(
        "run", "t.yaml", "--dry-run"
    )
    assert home.exists()


def test_environment_stored_by_an_earlier_version_works_and_is_wiped_with_its_job(
    launcher: Launcher, home: Home, store: Store, tmp_path: Path
) -> None:
    environment = {"PATH": os.environ["PATH"], "OLD_TOKEN": VALUE}
    spec = a_spec(*shell('echo "$OLD_TOKEN" >"$1"', str(tmp_path / "said")))
    (job,) = enqueue(store, spec, context=a_context(environment=environment))
    ensure_scheduler(home)
    until(lambda: job_row(store, job).state is State.DONE, "it is done")
    assert lines_of(tmp_path / "said") == [VALUE]
    assert "spec.json" in holding(home.folder, VALUE)

    launcher.well("clean", "--older", "0s", "--yes")
    with closing(sqlite3.connect(home.database, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint(RESTART)")
    assert VALUE.encode() not in home.database.read_bytes()


def test_clean_wipes_backups_and_damaged_databases_and_lists_what_it_keeps(
    launcher: Launcher, home: Home, store: Store
) -> None:
    assert store.read.jobs() == []
    saved = [back_up(home.database, home.backups, 3) for _ in range(3)]
    broken = home.damaged / "20260101T000000Z"
    broken.mkdir(parents=True)
    (broken / "queue.sqlite").write_bytes(bytes(1000))
    for path in (saved[0], saved[2], broken):
        os.utime(path, (time.time() - 3 * DAY_S,) * 2)

    rehearsed = launcher.well("clean", "--older", "2d", "--dry-run")
    assert str(saved[0]) in rehearsed.out
    assert len(backups(home.backups)) == 3
    cleaned = launcher.well("clean", "--older", "2d", "--yes")
    assert "2 old copies of the queue deleted" in cleaned.err
    assert f"kept: {saved[2]}, the newest backup" in cleaned.err
    assert backups(home.backups) == saved[1:]
    assert not broken.exists()


def test_clean_keeps_a_damaged_database_its_owner_has_to_decide_on(
    home: Home,
) -> None:
    broken = home.damaged / "20260101T000000Z"
    broken.mkdir(parents=True)
    os.utime(broken, (0, 0))
    write_json(home.damage_record, {"schema": 1, "at": 0.0, "what": "x", "folder": str(broken)})
    assert find_old_copies(home, time.time()).old == ()
    assert find_old_copies(home, time.time()).undecided_damage == broken
    home.damage_record.unlink()
    assert find_old_copies(home, time.time()).old == (broken,)


def before(**variables: str) -> dict[str, str]:
    """An environment as `prologue_lines` leaves it."""
    text = "\0".join(f"{name}={value}" for name, value in variables.items())
    return {BEFORE_SITE_VARIABLE: base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    ("was", "value", "owners", "then"),
    [
        ("/usr/bin:/bin", "/site:/usr/bin:/bin", "/own:/bin", "/site:/own:/bin"),
        ("/usr/bin", "/usr/bin:/site", "/own", "/own:/site"),
        ("/usr/bin", "/site:/usr/bin:/last", "/own", "/site:/own:/last"),
        ("/usr/bin", "/all/new", "/own", "/all/new"),
        ("/usr/bin", "/usr/bin", "/own", "/own"),
        ("", "/site", "/own", "/site:/own"),
        ("", "/site", "", "/site"),
        ("/usr/bin", "/site:/usr/bin2:/bin", "/own", "/site:/usr/bin2:/bin"),
    ],
)
def test_prologue_search_path_entries_are_added_to_the_owners_path(
    was: str, value: str, owners: str, then: str
) -> None:
    changes = site_changes({**before(SHLVL="1", **({"PATH": was} if was else {})), "PATH": value})
    owner = {"PATH": owners} if owners else {}
    assert with_site_changes(owner, json.dumps(changes)) == {"PATH": then}


def test_variables_of_engine_shell_and_secrets_are_not_changes() -> None:
    environ = {**before(HOME="/root"), "HOME": "/root", "SHLVL": "2", "SLURM_JOB_ID": "3"}
    environ |= {"API_TOKEN": "x", "CUDA_VISIBLE_DEVICES": "0", "LAUNCHER_HOME": "/h"}
    assert site_changes(environ) == {}
    assert site_changes({"PATH": "/usr/bin"}) == {}  # there was no prologue
    assert site_changes({BEFORE_SITE_VARIABLE: "no base64!", "PATH": "/usr/bin"}) == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"A": 3}', '{"A": [1, 2]}', "[" * 5000])
def test_unreadable_changes_are_ignored(text: str) -> None:
    assert with_site_changes({"PATH": "/usr/bin"}, text) == {"PATH": "/usr/bin"}


def test_no_prologue_yields_no_lines() -> None:
    assert prologue_lines(" \n") == []
    assert prologue_lines("module load cuda\nulimit -n 4096")[-2:] == [
        "module load cuda",
        "ulimit -n 4096",
    ]
