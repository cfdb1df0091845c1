"""Trainings for groups that are refused while they are planned.

What is refused of a training in several qualities, and of a test in one.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from launcher.api import Draft, Kind, install_command
from tests.trueface.jobs import build
from tests.trueface.jobs.test_kinds import a_draft
from trueface.jobs.benchmark.kind import BENCHMARK
from trueface.jobs.classes.kinds import CLASSIFY, FORGET
from trueface.jobs.job_kind import GRAPH_ON_CPU
from trueface.jobs.kinds import TEST, TRAIN, UNLEARN

CLEAN = "gan2:pre&real:pre"
SEED = "img_path,label,ismale,isasian,iswhite,isblack,intersec_label"


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    (tmp_path / "faces.csv").write_text(f"{SEED}\na.jpg,0,1,-1,1,-1,1\n")
    (tmp_path / "skin.csv").write_text("img_path,skin\na.jpg,3\n")
    (tmp_path / "broken.csv").write_text("a.jpg,0,1,-1,1,-1,1\n")
    return tmp_path


def in_lab(lab: Path, kind: Kind, **settings: Any) -> Draft:
    given = {"data_root": "data", "split_path": "splits", **settings}
    if kind is UNLEARN:
        given["method"] = "relabel"
    return build.a_draft(kind, lab, given, model=CLEAN, data=CLEAN)


@pytest.mark.parametrize("kind", [TRAIN, TEST], ids=lambda kind: kind.name)
def test_attribute_tables_are_inputs_and_header_errors_are_reported_at_planning(
    lab: Path, kind: Kind
) -> None:
    draft = in_lab(lab, kind, attributes="faces.csv, none.csv")
    there = {one.path.name: one.what for one in kind.inputs(draft)}
    assert there["faces.csv"] == there["none.csv"] == "the table of the image attributes"
    assert kind.refusals(draft, ()) == ()  # inputs have their own message for a missing file
    (said,) = kind.refusals(in_lab(lab, kind, attributes="broken.csv"), ())
    assert "broken.csv:1: the header row is missing" in said


def test_unknown_group_column_is_rejected(lab: Path) -> None:
    draft = in_lab(lab, TRAIN, attributes="faces.csv", groups_by="skin")
    (said,) = TRAIN.refusals(draft, ())
    assert said.startswith("groups_by: unknown column of attributes 'skin'")
    for settings in (
        {"attributes": "skin.csv,faces.csv", "groups_by": "skin"},
        {"attributes": "skin.csv"},  # a plain training needs no groups
    ):
        assert TRAIN.refusals(in_lab(lab, TRAIN, **settings), ()) == ()


@pytest.mark.parametrize("kind", [TRAIN, TEST, UNLEARN], ids=lambda kind: kind.name)
def test_jobs_without_attributes_keep_their_identity(kind: Kind) -> None:
    given = {"data_root": "data", "split_path": "splits", "method": "relabel"}
    given = {key: given[key] for key in given if key in kind.settings.model_fields}
    decisive = kind.settings.decisive(kind.settings.model_validate(given).model_dump(mode="json"))
    assert not {"attributes", "missing_attributes", "groups_by"} & set(decisive)


DATA = {"train": "gan2:pre&real:pre", "classify": "cifar10:all"}
GIVEN = {"train": {"data_root": "data", "split_path": "splits"}, "classify": {"data_root": "data"}}


@pytest.mark.parametrize("kind", [TRAIN, CLASSIFY], ids=lambda kind: kind.name)
@pytest.mark.parametrize("wanted", [True, False])
def test_event_files_are_rejected_if_no_writer_is_installed(
    tmp_path: Path, kind: Kind, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trueface.jobs.rules.PACKAGE", "no_such_package")
    data, given = DATA[kind.name], {**GIVEN[kind.name], "tensorboard": wanted}
    draft = build.a_draft(kind, tmp_path, given, model=data, data=data)
    found = [reason for reason in kind.refusals(draft, ()) if "tensorboard" in reason]
    assert len(found) == wanted
    assert all(install_command("tensorboard") in reason for reason in found)


def training_refusals(**settings: Any) -> tuple[str, ...]:
    draft = a_draft(TRAIN, settings, model="m", data="gan2:pre&real:pre")
    return TRAIN.refusals(draft, ())


FACES = {"attributes": "faces.csv"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        *[
            ({"fair": fair}, f"fair: {fair} needs the groups of the images")
            for fair in ("reweight", "oversample", "dro", "daw", "mix")
        ],
        *[({"fair": fair, **FACES}, None) for fair in ("reweight", "oversample", "dro", "mix")],
        ({}, None),
        ({"fair": "dag"}, None),  # it sees no groups
        ({"fair": "daw", "solver": "ridge", **FACES}, "fitted in closed form"),
        ({"fair": "daw", "objective": "ce", **FACES}, None),
        (
            {"fair": "daw", "objective": "mix", **FACES},
            "objective: mix and fair: daw are both losses",
        ),
        (
            {"fair": "daw", "processes": 2, **FACES},
            "fair: daw is not declared as a mean over images",
        ),
        ({"fair": "reweight", "processes": 2, **FACES}, None),
    ],
)
def test_group_loss_needs_its_inputs_and_excludes_other_losses(
    settings: dict[str, Any], said: str | None
) -> None:
    found = training_refusals(**settings)
    assert len(found) == (said is not None)
    assert all(str(said) in reason for reason in found)


def test_worst_cell_selection_needs_attributes_and_a_training() -> None:
    (reason,) = training_refusals(select="worst-cell")
    assert reason.startswith("select: worst-cell needs the groups")
    settings = {"method": "retrain", "select": "worst-cell"}
    draft = a_draft(UNLEARN, settings, model="m@retrain", data="gan2:pre", base="m")
    assert any(
        "select: worst-cell works only for trainings" in text
        for text in UNLEARN.refusals(draft, ())
    )


@pytest.mark.parametrize(
    ("fair", "remedy"),
    [
        ("dag", "Use the same value in training and unlearning."),
        ("dro", "An unlearning does not read demographic. Use another model."),
    ],
)
def test_unlearning_with_other_loss_than_training_is_rejected(fair: str, remedy: str) -> None:
    maker = a_draft(TRAIN, {"fair": fair}, model="m", data="gan2:pre&real:pre")
    draft = a_draft(UNLEARN, {"method": "retrain"}, model="m@x", data="gan2:pre", base="m")
    reason = f"m is trained with fair: {fair}, and this is objective: bce. {remedy}"
    assert any(reason in text for text in UNLEARN.refusals(draft, [maker]))


NAME = "gan2:pre"


@pytest.mark.parametrize(
    ("setting", "contradicts"), [("black", True), ("white", False), ("auto", False)]
)
def test_benchmark_setting_that_contradicts_lists_is_rejected_at_planning(
    setting: str, contradicts: bool, tmp_path: Path
) -> None:
    def refused() -> list[str]:
        return [
            text
            for text in BENCHMARK.refusals(draft, [in_lab(tmp_path, TRAIN)])
            if text.startswith("setting:")
        ]

    draft = in_lab(tmp_path, BENCHMARK, setting=setting)
    assert refused() == []  # before there are lists
    keys = ["StyleGAN2/a/1", "FFHQ/1"]
    build.write_lists(tmp_path / "splits", train=keys, test=keys)
    assert bool(refused()) is contradicts


def refusals(*, gpus: int = 0, **settings: Any) -> str:
    draft = a_draft(TRAIN, {"model": "slim18", **settings}, model=NAME, data=NAME, gpus=gpus)
    return "\n".join(TRAIN.refusals(draft, ()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"collab": 0.1, "qualities": ""}, "collab: 0.1 needs two qualities at least"),
        ({"collab": 0.1, "qualities": "jpeg75"}, "collab: 0.1 needs two qualities at least"),
        ({"collab": 0.1, "quality_batch": "mixed"}, "collab needs quality_batch: paired"),
        ({"collab": 0.1, "batch_size": 3}, "Set batch_size: 4 or more"),
        ({"collab": 0.1, "freeze": True}, "keeps all layers unchanged"),
        ({"collab": 0.1, "compile": True}, "Leave compile out"),
        ({"collab": 0.1, "fair": "mix"}, "mixes each quality of an image with a different image"),
        ({"collab": 0.1, "processes": 2}, "within a whole batch"),
        ({"dropout": 0.1, "processes": 2}, "dropout draws other masks"),
        ({"decode": "scaled"}, "Leave decode out"),
        ({"solver": "ridge"}, "fitted in closed form"),
        ({"qualities": "raw, files:c23"}, "files:c23 needs quality_list"),
        ({"quality_list": "data.json"}, "quality_list: data.json is not used"),
        ({"qualities": "raw, jpeg75, half+jpeg30", "collab": 0.05}, None),
        ({"qualities": "raw", "freeze": True}, None),
        ({"processes": 2}, None),
    ],
)
def test_settings_incompatible_with_qualities_are_rejected_at_planning(
    settings: dict[str, Any], message: str | None
) -> None:
    found = refusals(**{"qualities": "raw, jpeg75", **settings})
    assert (message or "") in found
    assert bool(found) is bool(message)


def test_missing_program_is_rejected_for_trainings_and_tests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    assert "needs the program ffmpeg" in refusals(qualities="raw, c40")
    (reason,) = TEST.refusals(a_draft(TEST, {"corrupt": "half+c23"}, model=NAME), ())
    assert reason.startswith("half+h264-23: h264 needs the program ffmpeg")


def test_file_list_is_an_input_and_is_read_at_planning(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    given: dict[str, Any] = {"qualities": "raw, c23, mine", "quality_list": str(path)}
    draft = a_draft(TRAIN, {"model": "slim18", **given}, model=NAME, data=NAME)
    assert path in [each.path for each in TRAIN.inputs(draft)]
    assert refusals(**given) == ""  # its absence is reported with the other inputs
    path.write_text(json.dumps({"train": {"raw": ["1.png"], "c23": ["2.png"]}}))
    assert "pair 1 of train shows different items" in refusals(**given)
    path.write_text(json.dumps({"train": {"raw": ["1.png"], "c23": ["1.jpg"]}}))
    assert "mine is neither a corruption nor a list" in refusals(**given)


@pytest.mark.parametrize(
    ("device", "given", "warning"),
    [
        ("cpu", {}, GRAPH_ON_CPU),
        ("cuda", {}, ""),
        ("cuda", {"sam": 0.05}, "sam reads the norm of the gradients between two passes"),
        ("cuda", {"compile": True}, "compile: true launches the kernels in its own way"),
        ("cuda", {"accumulate": 4}, "accumulate: 4 takes a step of the optimizer after several"),
        ("cuda", {"schedule": "onecycle"}, "schedule: onecycle also changes the momentum"),
        ("cuda", {"fair": "dro"}, "a step of objective dro changes more than tensors"),
        ("cuda", {"fair": "daw"}, ""),
    ],
)
def test_graphs_that_cannot_be_used_cause_a_warning(
    lab: Path, device: str, given: dict[str, Any], warning: str
) -> None:
    settings = {"data_root": "data", "split_path": "splits", **given}
    draft = build.a_draft(TRAIN, lab, settings, model=CLEAN, data=CLEAN, device=device)
    assert TRAIN.warnings(draft) == ()
    draft = build.a_draft(
        TRAIN, lab, {**settings, "accelerate": "graph"}, model=CLEAN, data=CLEAN, device=device
    )
    warnings = TRAIN.warnings(draft)
    assert len(warnings) == bool(warning)
    assert warning in "".join(warnings)


@pytest.mark.parametrize(("gpus", "warned"), [(1, False), (2, True)])
def test_several_processes_do_not_use_graphs(lab: Path, gpus: int, warned: bool) -> None:
    settings = {"data_root": "data", "split_path": "splits", "accelerate": "graph"}
    draft = build.a_draft(TRAIN, lab, settings, model=CLEAN, data=CLEAN, device="cuda", gpus=gpus)
    assert ("2 processes share each step" in "".join(TRAIN.warnings(draft))) is warned


@pytest.mark.parametrize(
    ("base", "known", "refused"),
    [
        ("gan2:pre%100", 1.0, True),
        ("gan2:pre%100", 0.5, False),
        ("gan2:pre%50", 1.0, False),
        ("gan2:pre", 1.0, False),
    ],
)
def test_unlearning_without_images_to_retain_is_rejected(
    lab: Path, base: str, known: float, refused: bool
) -> None:
    settings = {"data_root": "d", "split_path": "s", "method": "relabel", "known": known}
    draft = build.a_draft(UNLEARN, lab, settings, model=f"{base}~relabel", base=base)
    found = [each for each in UNLEARN.refusals(draft, ()) if "no image is left to retain" in each]
    assert len(found) == refused
    assert all(each.startswith(f"{base}: all training labels are flipped") for each in found)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, None),
        ({"fair": "reweight", **FACES}, None),
        ({"processes": 2}, None),
        ({"solver": "ridge"}, None),  # takes no steps; a warning says so
        ({"sam": 0.05}, "cannot be used with sam, which makes a second pass"),
        ({"awp": 0.05}, "cannot be used with awp, which makes a second pass"),
        (
            {"fair": "daw", **FACES},
            "cannot be used with fair: daw, which is not declared as a mean",
        ),
        ({"collab": 0.1, "qualities": "raw,jpeg75"}, "cannot be used with collab"),
    ],
)
def test_steps_of_several_batches_need_a_loss_that_adds_up(
    settings: dict[str, Any], said: str | None
) -> None:
    assert training_refusals(**settings) == ()
    found = training_refusals(accumulate=4, **settings)
    assert len(found) == (said is not None)
    assert all(reason.startswith("accumulate: 4") and str(said) in reason for reason in found)


@pytest.mark.parametrize(
    ("method", "refused"), [("retrain", False), ("scrub", True), ("ssd", True)]
)
def test_unlearning_in_steps_of_its_own_refuses_accumulation(method: str, refused: bool) -> None:
    given = {"data_root": "data", "method": method, "accumulate": 4, "force": True}
    for kind, data, base, more in (
        (UNLEARN, CLEAN, f"{CLEAN}%20", {"split_path": "splits"}),
        (FORGET, "cifar10:all", "cifar10:all", {}),
    ):
        ids = {"model": f"{base}~{method}", "data": data, "base": base}
        draft = build.a_draft(kind, Path("/lab"), {**given, **more}, **ids)
        found = [each for each in kind.refusals(draft, ()) if "accumulate" in each]
        assert len(found) == refused
        assert all(f"cannot be used with method {method}" in each for each in found)


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        (UNLEARN, {"pgu_loss": "max_entropy", "pgu_stop_rule": "class"}, ""),
        (UNLEARN, {"pgu_loss": "relabel"}, ""),
        (UNLEARN, {"pgu_loss": "min_entropy"}, "pgu_loss: min_entropy uses the entropy over the"),
        (
            UNLEARN,
            {"pgu_loss": "max_entropy", "pgu_loss1": 0, "pgu_loss2": 0},
            "pgu_loss: max_entropy is always 0, as pgu_loss1 and pgu_loss2 are 0",
        ),
        (FORGET, {"pgu_loss": "min_entropy", "pgu_stop_rule": "class"}, ""),
        (FORGET, {"pgu_loss": "relabel"}, "pgu_loss: relabel needs flipped labels"),
        (FORGET, {"pgu_loss": "relabel", "forget_fraction": 0.1}, "pgu_loss: relabel needs"),
    ],
)
def test_loss_that_makes_no_sense_is_refused(
    kind: Kind, settings: dict[str, Any], said: str
) -> None:
    given = {"data_root": "data", "method": "pgu", "force": True, **settings}
    if kind is UNLEARN:
        ids = {"model": f"{CLEAN}%20~pgu", "data": CLEAN, "base": f"{CLEAN}%20"}
        given["split_path"] = "splits"
    else:
        ids = {"model": "cifar10:all~pgu", "data": "cifar10:all", "base": "cifar10:all"}
    draft = build.a_draft(kind, Path("/lab"), given, **ids)
    found = [each for each in kind.refusals(draft, ()) if each.startswith("pgu_")]
    assert [each.startswith(said) for each in found] == [True] * bool(said)
    assert all(each.endswith(("Choose max_entropy.", "another value.")) for each in found)


@pytest.mark.parametrize("value", [0, -1, 1.5, "four", 10**9, None])
@pytest.mark.parametrize("kind", [TRAIN, UNLEARN, CLASSIFY, FORGET])
def test_number_of_batches_is_a_small_count(kind: Kind, value: object) -> None:
    with pytest.raises(ValidationError, match="accumulate"):
        a_draft(kind, {"accumulate": value, "method": "retrain"}, model="m", data="gan2:pre")
