"""The command that installs an extra takes it from where the installation came."""

import json
import shlex
import sys
from pathlib import Path

import pytest

from launcher.system.installation import install_command

REQUIRES = """Requires-Dist: click
Requires-Dist: atoms<3,>=2; extra == "physics"
Requires-Dist: quarks; python_version >= "3" and extra == "physics"
Requires-Dist: cells; extra == "biology"
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an installed package `heavylab`, from a folder that exists."""
    record = tmp_path / "site" / "heavylab-1.0.dist-info"
    record.mkdir(parents=True)
    (record / "METADATA").write_text(f"Name: heavylab\nVersion: 1.0\n{REQUIRES}")
    (tmp_path / "my clone").mkdir()
    (tmp_path / "lab.whl").touch()
    monkeypatch.syspath_prepend(str(record.parent))
    return tmp_path


def origin(site: Path, record: dict[str, object] | None) -> None:
    file = site / "site" / "heavylab-1.0.dist-info" / "direct_url.json"
    file.unlink(missing_ok=True)
    if record is not None:
        file.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"url": "SITE/my%20clone", "dir_info": {}}, ["SITE/my clone[physics]"]),
        (
            {"url": "SITE/my%20clone", "dir_info": {"editable": True}},
            ["-e", "SITE/my clone[physics]"],
        ),
        ({"url": "SITE/lab.whl", "archive_info": {}}, ["SITE/lab.whl[physics]"]),
        (
            {"url": "https://example.org/x.whl", "archive_info": {}},
            ["heavylab[physics] @ https://example.org/x.whl"],
        ),
        (
            {
                "url": "https://example.org/lab",
                "vcs_info": {"vcs": "git", "requested_revision": "v1", "commit_id": "ab"},
            },
            ["heavylab[physics] @ git+https://example.org/lab@v1"],
        ),
        ({"url": "SITE/deleted", "dir_info": {}}, ["atoms<3,>=2", "quarks"]),
        (None, ["atoms<3,>=2", "quarks"]),  # the name may be another's in another index
    ],
)
def test_command_installs_from_the_origin_or_names_the_packages(
    record: dict[str, object] | None, words: list[str], site: Path
) -> None:
    if record and str(record["url"]).startswith("SITE"):
        record = {**record, "url": str(record["url"]).replace("SITE", site.as_uri())}
    origin(site, record)
    expected = [word.replace("SITE", str(site)) for word in words]
    for python in ("", "/opt/my envs/bin/python"):
        command = shlex.split(install_command("physics", "heavylab", python=python))
        assert command == [python or sys.executable, "-m", "pip", "install", *expected]


def test_a_record_that_a_build_left_in_the_working_folder_is_no_origin(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin(site, {"url": (site / "my clone").as_uri(), "dir_info": {}})
    built = site / "my clone" / "heavylab.egg-info"
    built.mkdir()
    (built / "PKG-INFO").write_text(f"Name: heavylab\nVersion: 1.0\n{REQUIRES}")
    monkeypatch.syspath_prepend(str(built.parent))
    words = shlex.split(install_command("physics", "heavylab"))
    assert words[-1] == f"{site}/my clone[physics]"


def test_a_checkout_that_is_not_installed_is_its_own_origin() -> None:
    words = shlex.split(install_command("web", "no-such-package"))
    assert words[-1] == f"{Path(__file__).parents[3]}[web]"


def test_environments_of_pipx_and_uv_are_changed_by_their_programs(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = site / "heavylab"
    environment.mkdir()
    monkeypatch.setattr("sys.prefix", str(environment))
    origin(site, {"url": (site / "lab.whl").as_uri(), "archive_info": {}})
    (environment / "pipx_metadata.json").touch()
    command = install_command("physics", "heavylab")
    assert shlex.split(command) == ["pipx", "inject", "heavylab", "atoms<3,>=2", "quarks"]
    (environment / "pipx_metadata.json").unlink()
    (environment / "uv-receipt.toml").write_text(
        '[tool]\nrequirements = [{ name = "heavylab", extras = ["biology"] }]\n'
    )
    words = shlex.split(install_command("physics", "heavylab"))
    assert words == ["uv", "tool", "install", "--force", f"{site}/lab.whl[biology,physics]"]
    origin(site, None)
    words = shlex.split(install_command("physics", "heavylab"))
    assert words == ["uv", "pip", "install", "--python", sys.executable, "atoms<3,>=2", "quarks"]
