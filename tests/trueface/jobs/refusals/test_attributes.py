from pathlib import Path
from typing import Any

import pytest

from launcher.api import Draft, Kind
from trueface.jobs.kinds import TEST, TRAIN, UNLEARN

CLEAN = "gan2:pre&real:pre"
SEED = "img_path,label,ismale,isasian,iswhite,isblack,intersec_label"


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    (tmp_path / "faces.csv").write_text(f"{SEED}\na.jpg,0,1,-1,1,-1,1\n")
    (tmp_path / "skin.csv").write_text("img_path,skin\na.jpg,3\n")
    (tmp_path / "broken.csv").write_text("a.jpg,0,1,-1,1,-1,1\n")
    return tmp_path


def a_draft(lab: Path, kind: Kind, **settings: Any) -> Draft:
    given = {"data_root": "data", "split_path": "splits", **settings}
    if kind is UNLEARN:
        given["method"] = "relabel"
    return Draft(
        kind=kind.name, run="r", run_folder=lab / "runs/r", folder=lab, model=CLEAN, data=CLEAN,
        settings=kind.settings.model_validate(given).model_dump(mode="json"),
    )  # fmt: skip


@pytest.mark.parametrize("kind", [TRAIN, TEST], ids=lambda kind: kind.name)
def test_tables_are_inputs_and_what_is_wrong_in_their_headers_is_said_when_planned(
    lab: Path, kind: Kind
) -> None:
    draft = a_draft(lab, kind, attributes="faces.csv, none.csv")
    there = {one.path.name: one.what for one in kind.inputs(draft)}
    assert there["faces.csv"] == there["none.csv"] == "the table of the images' attributes"
    assert kind.refusals(draft, ()) == ()  # that a file is not there is said of inputs
    (said,) = kind.refusals(a_draft(lab, kind, attributes="broken.csv"), ())
    assert "broken.csv:1: has no header row" in said


def test_a_column_of_groups_that_no_table_has_is_refused(lab: Path) -> None:
    draft = a_draft(lab, TRAIN, attributes="faces.csv", groups_by="skin")
    (said,) = TRAIN.refusals(draft, ())
    assert said.startswith("groups_by: unknown column of attributes 'skin'")
    for settings in (
        {"attributes": "skin.csv,faces.csv", "groups_by": "skin"},
        {"attributes": "skin.csv"},  # a plain training needs no groups
    ):
        assert TRAIN.refusals(a_draft(lab, TRAIN, **settings), ()) == ()


@pytest.mark.parametrize("kind", [TRAIN, TEST, UNLEARN], ids=lambda kind: kind.name)
def test_jobs_without_attributes_are_those_of_before(kind: Kind) -> None:
    given = {"data_root": "data", "split_path": "splits", "method": "relabel"}
    given = {key: given[key] for key in given if key in kind.settings.model_fields}
    decisive = kind.settings.decisive(kind.settings.model_validate(given).model_dump(mode="json"))
    assert not {"attributes", "missing_attributes", "groups_by"} & set(decisive)
