"""Kinds that installed packages offer, and packages that cannot be used."""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from launcher import api
from launcher.experiments.draft import Draft
from launcher.experiments.kinds import COMMAND, find_kinds, installed_kinds
from launcher.experiments.planning.load import load, plan
from launcher.experiments.planning.missing_packages import missing_packages
from launcher.ids import Words, parse_data
from launcher.system.errors import TaskFileError, UsageError
from tests.launcher.conftest import Launcher

TOYLAB = Path(__file__).with_name("toylab.py")
PROGRAM = "name: x\ncommand: [{name: a, argv: [echo]}]\n"


def install(folder: Path, name: str, kinds: Mapping[str, str], metadata: str = "") -> None:
    """Install a distribution that offers kinds."""
    package = folder / f"{name}-1.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{metadata}"
    )
    points = "".join(f"{kind} = {value}\n" for kind, value in kinds.items())
    (package / "entry_points.txt").write_text(f"[launcher.kinds]\n{points}")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from which this process imports, with a copy of the toy laboratory."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "kindlab.py").write_text(TOYLAB.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_every_name_of_the_interface_can_be_imported() -> None:
    assert [name for name in api.__all__ if not hasattr(api, name)] == []


def test_kind_subclass_defines_only_differences_from_defaults() -> None:
    root, data = Path("/project"), parse_data("gan:pre&real:pre")
    draft = Draft(kind="command", run="x", run_folder=root / "runs/x", folder=root)
    assert (COMMAND.images(data), COMMAND.elementary(data)) == (data, data)
    assert COMMAND.with_words(Words(subsets={"mine": ("Mine",)})) is COMMAND
    assert (COMMAND.refusals(draft, ()), COMMAND.inputs(draft), COMMAND.outputs(draft)) == (
        (),
        (),
        (),
    )


def test_process_sees_packages_that_are_installed_and_removed_while_it_runs(site: Path) -> None:
    os.utime(site, (0, 0))  # two changes within a few milliseconds may have the same time
    assert "early" not in find_kinds().kinds
    install(site, "firstlab", {"early": "kindlab:TRAIN"})
    assert "early" in find_kinds().unusable
    shutil.rmtree(site / "firstlab-1.0.dist-info")
    os.utime(site, (1, 1))
    assert "early" not in find_kinds().unusable


def test_kind_offered_by_two_packages_is_refused_with_both_names(site: Path) -> None:
    install(site, "firstlab", {"train": "kindlab:TRAIN"})
    with pytest.raises(UsageError) as caught:
        installed_kinds(["train"])
    message = str(caught.value)
    assert message.startswith("job type 'train' is provided by ")
    assert "by firstlab (kindlab:TRAIN)" in message
    assert "by launcher-trueface (trueface.jobs.kinds:TRAIN)" in message
    assert "Uninstall one of them" in message
    registered = find_kinds()
    assert "train" not in registered.kinds
    assert list(registered.unusable) == ["train"]


def test_unloadable_kind_affects_only_files_that_use_it(site: Path, tmp_path: Path) -> None:
    install(site, "brokenlab", {"weigh": "nolab:WEIGH"})
    programs, weighing = tmp_path / "programs.yaml", tmp_path / "weighing.yaml"
    programs.write_text(PROGRAM)
    weighing.write_text("name: x\ndefaults: {grams: 3}\nweigh: [{data: dot:pre}]\n")
    assert [job.name for job in plan(load(programs)).jobs] == ["command/a"]
    with pytest.raises(TaskFileError) as caught:
        load(weighing)
    (problem,) = caught.value.problems  # not also that `grams` is unknown
    assert (problem.place.line if problem.place else 0) == 3
    assert problem.message == (
        "cannot load job type 'weigh' of brokenlab (nolab:WEIGH) (No module named 'nolab'). "
        "Fix this package or uninstall it."
    )


def test_list_of_kinds_warns_about_an_unloadable_kind(site: Path, launcher: Launcher) -> None:
    install(site, "brokenlab", {"weigh": "nolab:WEIGH"})
    listed = launcher.well("kinds")
    assert "\ncommand\t" in f"\n{listed.out}"
    warning, *_ = (
        listed.err.splitlines()
    )  # another is about the packages of the laboratory if these are absent
    assert warning.startswith("warning: cannot load job type 'weigh' of brokenlab")
    for words in (("kinds", "command"), ("schema",), ("schema", "--markdown")):
        assert launcher.well(*words).err.startswith(warning[:60])
    assert launcher("kinds", "weigh").code == 2


def test_missing_packages_of_a_kind_are_named_with_the_install_command(
    site: Path,
) -> None:
    lab = (site / "kindlab.py").read_text(encoding="utf-8")
    heavy = "dataclasses.replace(TRAIN, name='heavy', preload=('atoms.core',))"
    (site / "heavylab.py").write_text(f"{lab}\nimport dataclasses\nHEAVY = {heavy}\n")
    requires = 'Requires-Dist: click\nRequires-Dist: atoms>=2; extra == "physics"\n'
    install(site, "heavylab", {"heavy": "heavylab:HEAVY"}, requires)
    (kind,) = installed_kinds(["heavy"]).values()
    (said,) = missing_packages([kind])
    install_with = f"Install it with `{sys.executable} -m pip install"
    assert said == f"heavy needs atoms, which is not installed. {install_with} 'atoms>=2'`"
    folder = site / "heavy lab"
    folder.mkdir()
    (site / "heavylab-1.0.dist-info/direct_url.json").write_text(
        json.dumps({"url": folder.as_uri(), "dir_info": {}})
    )
    assert f"{install_with} '{folder}[physics]'`" in missing_packages([kind])[0]
    (site / "atoms.py").write_text("")
    assert missing_packages([kind, installed_kinds(["command"])["command"]]) == ()
