from pathlib import Path
from typing import Any

import pytest

from launcher.api import Draft, Kind, UnknownName, UsageError, parse_data
from trueface import classic, commands
from trueface.kinds import POISON, SAMPLE, TEST, TRAIN, UNLEARN, refuse_missing
from trueface.settings import TrainSettings

KINDS: tuple[Kind, ...] = (TRAIN, TEST, POISON, UNLEARN, SAMPLE)
RUN = Path("/lab/runs/study")
CLEAN = "gan2:pre&real:pre"


def a_draft(kind: Kind, settings: dict[str, Any] | None = None, **facts: Any) -> Draft:
    given = {"data_root": "data", "split_path": "splits", **(settings or {})}
    if kind is SAMPLE:
        del given["split_path"]
    complete = kind.settings.model_validate(given).model_dump(mode="json")
    return Draft(
        kind=kind.name,
        run="study",
        run_folder=RUN,
        folder=Path("/lab"),
        settings=complete,
        **facts,
    )


def inputs(kind: Kind, draft: Draft) -> list[str]:
    return [str(one.path) for one in kind.inputs(draft)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_is_what_the_launcher_expects(kind: Kind) -> None:
    assert isinstance(kind, Kind)
    assert kind.entry == f"trueface.jobs:{kind.name}"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_source_exists(kind: Kind) -> None:
    root = Path(classic.__file__).parents[1]
    for module in kind.sources:
        assert (root / f"{module.replace('.', '/')}.py").is_file()


def test_only_a_training_gets_real_images_added() -> None:
    data = parse_data("gan2:fb")
    assert str(TRAIN.images(data)) == "gan2:fb&real:fb"
    assert str(POISON.images(data)) == str(UNLEARN.images(data)) == "gan2:fb&real:fb"
    assert TEST.images(data) == data


def test_an_unknown_subset_is_found_while_planning() -> None:
    for kind in KINDS:
        with pytest.raises(UnknownName, match="did you mean gan2"):
            kind.images(parse_data("gna2:pre"))


def test_a_training_reads_data_and_splits() -> None:
    draft = a_draft(TRAIN, model=CLEAN, data=CLEAN)
    assert inputs(TRAIN, draft) == ["/lab/data", "/lab/splits/train.json", "/lab/splits/val.json"]


def test_a_split_in_one_file_is_one_input_a_list() -> None:
    draft = a_draft(TRAIN, {"split_path": "one.json"}, model=CLEAN, data=CLEAN)
    assert inputs(TRAIN, draft) == ["/lab/data", "/lab/one.json"]


def test_a_fine_tuning_reads_its_base_and_weights_from_a_file() -> None:
    draft = a_draft(
        TRAIN, {"weights": "w.pt"}, model=f"{CLEAN}#gan2:fb", base=CLEAN, data="gan2:fb"
    )
    assert inputs(TRAIN, draft)[3:] == [f"{RUN}/{CLEAN}/checkpoints/best.pt", "/lab/w.pt"]


def test_a_poisoned_training_reads_the_record_that_a_poison_job_makes() -> None:
    model = f"{CLEAN}%50"
    made = POISON.outputs(a_draft(POISON, model=model, data=CLEAN))
    assert made == (RUN / model / "poison.json",)
    assert str(made[0]) in inputs(TRAIN, a_draft(TRAIN, model=model, data=CLEAN))


@pytest.mark.parametrize("before", ["", "~relabel"])
def test_an_unlearning_reads_its_base_and_the_record_of_the_training(before: str) -> None:
    base = f"{CLEAN}%50{before}"
    draft = a_draft(UNLEARN, {"method": "retrain"}, model=f"{base}~retrain", base=base, data=CLEAN)
    assert inputs(UNLEARN, draft)[3:] == [
        f"{RUN}/{base}/checkpoints/best.pt",
        f"{RUN}/{CLEAN}%50/poison.json",
    ]
    assert UNLEARN.outputs(draft) == (RUN / f"{base}~retrain" / "checkpoints" / "best.pt",)


def test_a_test_reads_the_model_and_makes_scores_and_metrics() -> None:
    draft = a_draft(TEST, model=CLEAN, data="real:pre")
    assert inputs(TEST, draft) == [
        f"{RUN}/{CLEAN}/checkpoints/best.pt",
        "/lab/data",
        "/lab/splits/test.json",
    ]
    assert TEST.outputs(draft) == (
        RUN / CLEAN / "scores" / f"{CLEAN}_vs_real:pre.csv",
        RUN / CLEAN / "metrics" / "real:pre.json",
    )


def test_a_sample_is_proved_by_what_is_written_last() -> None:
    draft = a_draft(SAMPLE)
    assert SAMPLE.inputs(draft) == ()
    assert SAMPLE.outputs(draft) == (Path("/lab/data"), Path("/lab/data/sample.json"))


def test_images_that_a_data_folder_lacks_are_missing_inputs(tmp_path: Path) -> None:
    (tmp_path / "PreSocial/Fake/StyleGAN2").mkdir(parents=True)
    draft = a_draft(TEST, {"data_root": str(tmp_path)}, model=CLEAN, data=CLEAN)
    assert str(tmp_path / "PreSocial/Real/FFHQ") in inputs(TEST, draft)
    assert not any("StyleGAN2" in path for path in inputs(TEST, draft))


def test_missing_inputs_are_all_named() -> None:
    with pytest.raises(UsageError, match=r"(?s)/lab/data.*train\.json.*val\.json"):
        refuse_missing(TRAIN, a_draft(TRAIN, model=CLEAN, data=CLEAN))


def test_the_classic_line_of_a_training_says_the_same() -> None:
    settings = {
        "model": "slim18",
        "freeze": True,
        "freeze_bn": False,
        "lr": 0.003,
        "resize_scale": [0.2, 1.0],
        "jpeg_qual": 80,
        "num_threads": 2,
    }
    draft = a_draft(TRAIN, settings, model=f"a:b#{CLEAN}%f2r-20", base="a:b", data=CLEAN)
    argv = TRAIN.argv(draft)
    assert argv[:3] == ("python", "-m", "trueface")
    request = classic.read(argv[3:])
    assert (request.task, request.run, request.base) == ("train", "study", "a:b")
    assert (request.model, request.saved_as) == (draft.model, draft.model)
    assert (str(request.data), str(request.poison)) == (CLEAN, "f2r-20")
    made = classic.settings_of(TrainSettings, request)
    assert made.model_dump(mode="json") == draft.settings


def test_the_classic_line_of_a_test_says_the_same() -> None:
    draft = a_draft(TEST, {"test_crops": 4, "patch_size": 48}, model=CLEAN, data="real:pre")
    request = classic.read(TEST.argv(draft)[3:])
    assert (request.task, request.model, str(request.data)) == ("test", CLEAN, "real:pre")
    assert classic.settings_of(TEST.settings, request).model_dump(mode="json") == draft.settings


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (POISON, {"poison_seed": 7, "poison_stratified": True}),
        (UNLEARN, {"method": "relabel", "jpeg_qual": [30, 90], "freeze_bn": False}),
    ],
)
def test_the_line_of_another_kind_says_the_same(kind: Kind, settings: dict[str, Any]) -> None:
    model = f"{CLEAN}%50~relabel"
    draft = a_draft(kind, settings, model=model, base=f"{CLEAN}%50", data=CLEAN)
    program, verb, *words = kind.argv(draft)
    assert (program, verb) == ("trueface", kind.name)
    command = {"poison": commands.poison, "unlearn": commands.unlearn}[kind.name]
    given = command.make_context(verb, words).params
    assert (given.pop("model_id"), given.pop("name")) == (model, "study")
    given.pop("device", None)
    if kind is UNLEARN:
        given["method"] = "relabel"
    assert commands.settings_of(kind, given) == draft.settings
