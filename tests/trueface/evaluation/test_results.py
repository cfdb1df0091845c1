import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from sklearn.metrics import roc_auc_score

from launcher.api import Json, model_folder_name
from launcher.frontends.cli.result_tables import draw, table_of_tests
from launcher.provenance.code_identity import CodeIndex
from tests.trueface.evaluation.tables import make_scores
from tests.trueface.group_runs import COUNT, logits, pairs_of, write_faces, write_tests
from trueface.data.video_traits import VideoTraits, write_traits
from trueface.evaluation import metrics
from trueface.evaluation.result_rows import by_video, compare, unlearning_methods_of, video_report
from trueface.evaluation.results import KEPT, MEASURED_BY, table
from trueface.jobs.testing import numbers_of_test
from trueface.predictions.csv_tables import read_csv, write_csv
from trueface.predictions.predictions import Predictions, merge
from trueface.runtime import paths
from trueface.runtime.files import write_json

TESTS = ("real:pre", "gan2:pre", "gan3:pre", "gan2:shr", "real:shr")
MODEL = "all:pre"
TESTED = (
    ("gan2:pre", "StyleGAN2", 1),
    ("gan3:pre", "StyleGAN3", 1),
    ("real:pre", "FFHQ", 0),
)


def write(run: Path, model: str, data: str, shift: float, count: int = 40) -> None:
    """Write scores. A larger `shift` separates fakes from reals better."""
    subset, modifier = data.split(":")
    fake = int(subset != "real")
    rng = np.random.default_rng(0)  # without a shift both classes have the same logits
    write_csv(
        paths.scores(run / model_folder_name(model), model, data),
        make_scores(
            [f"{subset}/{n}" for n in range(count)],
            np.full(count, fake),
            rng.normal(size=count) + shift * (fake - 0.5),
            [f"{modifier}/{subset}/{n}.png" for n in range(count)],
        ),
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for data in TESTS:
        write(tmp_path, "clean", data, shift=9.0)
        write(tmp_path, "clean%50", data, shift=0.0)
    paths.summary(tmp_path / "clean").write_text(json.dumps({"schema": 1, "seconds": 7.5}))
    return tmp_path


def pairs(*models: str) -> list[tuple[str, str]]:
    return [(model, data) for model in models for data in TESTS]


def test_fakes_are_measured_with_reals_of_their_modifier_and_few_sources_are_reported(
    run: Path,
) -> None:
    rows = table(run, pairs("clean"))
    assert [(row["data"], row["pooled"], row["n"]) for row in rows] == [
        ("gan2:pre", False, 80),
        ("gan3:pre", False, 80),
        ("gan2:pre&gan3:pre&real:pre", True, 120),
        ("gan2:shr", False, 80),
    ]
    assert {row["modifier"] for row in rows} == {"pre", "shr"}
    assert rows[2]["sources"] == {"real": 1, "fake": 2}
    assert rows[2]["few_sources"] == (
        "1 real source (over its 40 images), 2 fake sources (80 images)"
    )
    assert rows[2]["auc_by_images"] is not None


@pytest.mark.parametrize(
    ("tests", "pooled"),
    [
        (["real:pre", "gan2:pre", "gan2:pre&real:pre"], []),  # the last holds the others
        (
            ["gan3:pre", "gan2:pre&real:pre", "gan2:pre", "real:pre"],
            [("gan2:pre&gan3:pre&real:pre", 120)],
        ),
    ],
)
def test_overlapping_datasets_are_pooled_once_under_one_name_in_any_order(
    run: Path, tests: list[str], pooled: list[tuple[str, int]]
) -> None:
    folder = run / "clean"
    parts = [read_csv(paths.scores(folder, "clean", data)) for data in ("gan2:pre", "real:pre")]
    write_csv(paths.scores(folder, "clean", "gan2:pre&real:pre"), merge(parts))
    for order in (tests, tests[::-1]):
        rows = table(run, [("clean", data) for data in order])
        assert [(row["data"], row["n"]) for row in rows if row["pooled"]] == pooled


def test_code_of_every_metric_decides_whether_rows_are_measured_again() -> None:
    folder = Path(metrics.__file__).parent
    names = {f"{metrics.__name__}.{path.stem}" for path in folder.glob("[!_]*.py")}
    closure = CodeIndex().closure([MEASURED_BY.partition(":")[0]])
    assert len(names) > 1
    assert names <= set(closure)


def test_second_call_gives_the_same_rows_without_numpy_or_scikit_learn(
    run: Path,
) -> None:
    first = table(run, pairs("clean"))
    program = (
        "import json, sys; from pathlib import Path; from trueface.evaluation.results import table;"
        "rows = table(Path(sys.argv[1]), json.loads(sys.argv[2]));"
        "heavy = {'numpy', 'sklearn', 'torch'} & set(sys.modules);"
        "print(json.dumps([rows, sorted(heavy)]))"
    )
    words = [sys.executable, "-c", program, str(run), json.dumps(pairs("clean"))]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [first, []]


def _value(row: dict[str, Json], name: str) -> float:
    measure = row[name]
    assert isinstance(measure, dict)
    value = measure["value"]
    assert isinstance(value, float)
    return value


def test_row_of_scores_that_are_not_of_a_test_of_the_weights_is_marked(run: Path) -> None:
    fakes, reals = (
        read_csv(paths.scores(run / "clean", "clean", f"{name}:pre")) for name in ("gan2", "real")
    )
    for scores, data in ((fakes, "gan2:pre"), (reals, "real:pre")):
        path = paths.metrics(run / "clean", data)
        path.parent.mkdir(exist_ok=True)
        write_json(path, numbers_of_test(scores))

    provenance, fitted = paths.provenance(run / "clean"), {"temperature": 2.0, "threshold": 0.5}

    def verdict() -> Json:
        tests = [("clean", "gan2:pre"), ("clean", "real:pre")]
        return table(run, tests)[0]["verdict"]

    assert verdict() == ""
    write_csv(
        paths.scores(run / "clean", "clean", "gan2:pre"), fakes.with_margin(fakes.margin + 0.01)
    )
    assert verdict() == "edited scores"
    write_json(provenance, {"calibration": {**fitted, "temperature": 1.5}})
    write_json(paths.metrics(run / "clean", "gan2:pre"), {"calibration": {**fitted}})
    assert verdict() == "old scores"
    write_json(provenance, {"calibration": {**fitted}})
    write_json(paths.metrics(run / "clean", "gan2:pre"), {"calibration": {**fitted}, "n": 40})
    assert verdict() == ""


def test_row_of_other_images_than_those_of_most_models_is_marked(run: Path) -> None:
    write(run, "clean@seed=2", "gan2:pre", shift=9.0, count=30)
    models = ("clean", "clean@seed=2", "clean%50")
    rows = table(run, [(model, "gan2:pre") for model in models])
    assert [row["n"] for row in rows] == [40, 30, 40]
    assert [str(row["verdict"]).partition(",")[0] for row in rows] == ["", "other images", ""]


def test_tests_of_two_data_folders_are_never_joined(run: Path) -> None:
    folder = run / "clean"
    for data in TESTS:
        root = "data/b" if data == "gan3:pre" else "data/a"
        path = paths.metrics(folder, data)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"schema": 1, "settings": {"data_root": root}}))
    rows = table(run, pairs("clean"))
    assert not any(row["pooled"] for row in rows)
    apart = {row["data"]: row for row in rows}
    assert apart["gan3:pre"]["modifier"] == "pre in data/b"
    assert apart["gan3:pre"]["data_root"] == "data/b"
    assert apart["gan3:pre"]["auc"] is None  # no real image of its root was tested
    assert apart["gan2:pre"]["auc"] is not None


def test_tests_of_an_unknown_data_folder_are_not_joined_with_others(run: Path) -> None:
    path = paths.metrics(run / "clean", "gan2:pre")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"schema": 1, "settings": {"data_root": "data/a"}}))
    apart = {row["data"]: row["modifier"] for row in table(run, pairs("clean"))}
    assert apart["gan2:pre"] == "pre in data/a"
    assert apart["gan3:pre"] == "pre in an unknown data root"


def test_attack_that_was_not_run_has_a_row_with_its_reason(run: Path) -> None:
    test = "gan2:pre@attack=pgd1"
    tests = [("clean", "gan2:pre"), ("clean", test)]
    assert len(table(run, tests)) == 1  # not done yet
    path = paths.metrics(run / "clean", test)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"reason": "not differentiable: the model is dct8"}))
    measured, refused = table(run, tests)
    assert (refused["data"], refused["condition"], refused["n"]) == (test, "attack=pgd1", 0)
    assert refused["verdict"] == "not run: not differentiable: the model is dct8"
    assert refused.keys() == measured.keys()
    assert refused["auc"] is None


def test_gaps_of_tests_with_attributes_follow_a_changed_table(tmp_path: Path) -> None:
    faces, folder = tmp_path / "faces.csv", tmp_path / "runs" / "groups"
    write_faces(faces)
    write_tests(folder, "clean", [logits(y, power=3, skew=1.5) for y in (0, 1)])
    (row,) = table(folder, pairs_of("clean"))
    assert row["groups_by"] == "intersec"
    assert _value(row, "fpr_gap") > _number(row["fpr_gap_floor"])
    assert _value(row, "f_fpr") > _number(row["f_fpr_floor"])
    text = draw([row])
    assert "intersec" in text
    assert f"{_value(row, 'fpr_gap'):.1f} [" in text
    assert table(folder, pairs_of("clean")) == [row]  # kept
    faces.write_text(
        "\n".join(line.replace(",-1", ",1", 1) for line in faces.read_text().split("\n"))
    )
    (changed,) = table(folder, pairs_of("clean"))
    assert changed["fpr_gap"] != row["fpr_gap"]
    faces.unlink()
    (without,) = table(folder, pairs_of("clean"))
    assert without["fpr_gap"] is None
    assert "faces.csv" in str(without["reasons"])
    write_faces(faces)
    assert table(folder, pairs_of("clean")) == [row]


@pytest.mark.parametrize(
    ("fakes", "power", "verdict"),
    [
        ("JPEG", 9, "confounded by file format"),
        ("PNG", 9, ""),
        ("lying PNG", 9, "confounded by EXIF orientation"),
        ("JPEG", 0, "chance"),  # earlier knowledge is said first
    ],
)
def test_row_is_marked_if_file_properties_predict_the_class(
    tmp_path: Path, fakes: str, power: float, verdict: str
) -> None:
    folder = tmp_path / "runs" / "forms"
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    write_tests(folder, "clean", [logits(y, power=power, skew=0) for y in (0, 1)], attributes="")
    for place, form in (("Real/FFHQ", "PNG"), ("Fake/StyleGAN2", fakes)):
        images = tmp_path / "data" / "PreSocial" / place
        images.mkdir(parents=True)
        for number in range(30):
            PIL.Image.new("RGB", (8, 8)).save(
                images / f"{number}.png", form.split()[-1], exif=exif if " " in form else b""
            )
        for number in range(30, COUNT):
            (images / f"{number}.png").symlink_to(f"{number % 30}.png")
    (row,) = table(folder, pairs_of("clean"))
    assert row["verdict"] == verdict
    name = "file format" if fakes == "JPEG" else "EXIF orientation"
    sentence = f"the {name} alone separates fake from real images in 100% of cases"
    assert row.get("confounded") == (None if fakes == "PNG" else sentence)
    assert verdict in draw([row])


def test_row_is_marked_once_its_files_are_readable_again(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "away"
    write_tests(folder, "clean", [logits(y, power=2.0, skew=0) for y in (0, 1)], attributes="")
    (row,) = table(folder, pairs_of("clean"))
    assert "confounded" not in row
    for place, form in (("Real/FFHQ", "PNG"), ("Fake/StyleGAN2", "JPEG")):
        images = tmp_path / "data" / "PreSocial" / place
        images.mkdir(parents=True)
        for number in range(COUNT):
            PIL.Image.new("RGB", (8, 8)).save(images / f"{number}.png", form)
    (row,) = table(folder, pairs_of("clean"))
    assert "the file format alone" in str(row.get("confounded"))


def test_row_is_marked_once_the_traits_of_its_videos_reveal_the_class(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "videos"
    write_tests(folder, "clean", [logits(y, power=9, skew=0) for y in (0, 1)], attributes="")
    for model, data in pairs_of("clean"):
        path = paths.scores(folder / model_folder_name(model), model, data)
        scores = read_csv(path)
        videos = tuple(name.rpartition("/")[0] for name in scores.ids)
        write_csv(path, replace(scores, videos=videos))
    (row,) = table(folder, pairs_of("clean"))
    assert "confounded" not in row
    traits = VideoTraits("", "", "", "", None, "", "", "", None, 9, 0, None)
    record = {
        f"PreSocial/{source}{video}": traits._replace(codec=codec)
        for source, codec in (("Real/FFHQ", "h264"), ("Fake/StyleGAN2", "vp9"))
        for video in ("", *(f"/{number}" for number in range(19)))
    }
    (tmp_path / "data").mkdir(exist_ok=True)
    write_traits(tmp_path / "data", record)
    (row,) = table(folder, pairs_of("clean"))
    assert row["verdict"] == "confounded by video codec"
    assert "from real videos in 100% of cases" in str(row["confounded"])


def _number(value: Json) -> float:
    assert isinstance(value, float)
    return value


@pytest.fixture
def measured_run(tmp_path: Path) -> Path:
    for data, subset, label in TESTED:
        names = [f"{subset}/{n}" for n in range(30)]
        values = np.random.default_rng(len(subset)).normal(size=30) + 2 * label - 1
        table = make_scores(
            names, np.full(30, label), values, [f"PreSocial/{label}/{name}.png" for name in names]
        )
        folder = tmp_path / model_folder_name(MODEL)
        write_csv(paths.scores(folder, MODEL, data), table)
    return tmp_path


@pytest.mark.parametrize(
    ("model", "method"),
    [
        ("gan2:pre%50@lr=0.1", "train"),
        ("gan2:pre%50~pgu@strength=0", "pgu"),
        ("gan2:pre~ng~pgu", "ng~pgu"),
        ("gan2:pre~ng#sd:pre", "ng"),
    ],
)
def test_row_names_the_method_of_its_model(model: str, method: str) -> None:
    assert unlearning_methods_of(model) == method


def test_launcher_prints_the_rows_and_writes_them_as_json(measured_run: Path) -> None:
    rows = compare(measured_run, [(MODEL, data) for data, _, _ in TESTED])
    assert "all:pre" in draw(rows)
    assert "gan3:pre" in draw(rows, everything=True, width=80)
    assert "NaN" not in json.dumps(rows)
    titles = {column.name for column in table_of_tests(rows).columns}
    assert not titles & {"ap", "eer", "f1", "precision", "recall", "tpr_at_1fpr", "ece_unscaled"}
    added = [{**row, "mcc": row["auc"]} for row in rows]
    assert "mcc" in {column.name for column in table_of_tests(added).columns}


def test_frames_have_the_auc_of_their_videos_next_to_their_own(tmp_path: Path) -> None:
    folder = tmp_path / model_folder_name(MODEL)
    for data, label in (("gan2:pre", 1), ("real:pre", 0)):
        names = [f"{data[:4]}/{video:02d}/{n}" for video in range(8) for n in range(3)]
        table = make_scores(
            names,
            np.full(24, label),
            np.random.default_rng(label).normal(size=24) + label,
            [f"PreSocial/{label}/{name}.png" for name in names],
            [f"PreSocial/{label}/{name.rpartition('/')[0]}" for name in names],
        )
        write_csv(paths.scores(folder, MODEL, data), table)
    (row,) = compare(tmp_path, [(MODEL, "gan2:pre"), (MODEL, "real:pre")])
    assert row["videos"] == 16
    assert isinstance(row["video_auc"], dict)
    assert row["video_auc"] != row["auc"]
    assert "by video: mean probability" in draw([{**row, "seconds": None}], width=140)
    assert f"{row['video_auc']['value']:.3f} (" in draw([row], width=80).splitlines()[-1]


def frames(videos: int = 20, each: int = 4) -> Predictions:
    """Return frames of real and fake videos that have the same names in three folders."""
    rng = np.random.default_rng(0)
    paths = [
        f"PreSocial/{folder}/{video:03d}/{n}.png"
        for folder in ("Fake/A", "Fake/B", "Real/youtube")
        for video in range(videos)
        for n in range(each)
    ]
    labels = np.array(["/Fake/" in path for path in paths], np.int8)
    return make_scores(
        [path.split("/", 2)[2].removesuffix(".png") for path in paths],
        labels,
        rng.normal(size=len(paths)) + labels,
        paths,
        [path.rpartition("/")[0] for path in paths],
    )


def test_video_is_its_whole_path_and_scores_the_mean_probability_of_its_frames() -> None:
    scores = frames()
    table = by_video(scores)
    assert len(table) == 60  # by the folder's name alone they would be 20
    probability = 1 / (1 + np.exp(-scores.margin))
    mean = probability.reshape(-1, 4).mean(axis=1)
    assert 1 / (1 + np.exp(-table.margin)) == pytest.approx(mean)
    report = video_report(scores)
    assert report is not None
    assert report.auc is not None
    assert report.videos == 60
    assert report.auc.value == pytest.approx(roc_auc_score(table.labels, mean))
    assert report.auc.contains(report.auc.value)
    assert report.auc.half_width > 0


def test_confident_frames_keep_their_order() -> None:
    logits = by_video(frames(videos=2, each=2).with_margin(np.linspace(-100, 450, 12))).margin
    assert np.isfinite(logits).all()
    assert (np.diff(logits) > 0).all()


def test_table_keeps_its_videos_on_disk_and_when_tables_are_joined(tmp_path: Path) -> None:
    scores = frames(videos=3)
    write_csv(tmp_path / "s.csv", scores)
    again = read_csv(tmp_path / "s.csv")
    assert again.videos == scores.videos
    assert set(again.subsets) == {"A", "B", "youtube"}
    joined = merge([again, make_scores(["X/a"], [0], [0.5], ["a.png"])])
    assert joined.videos == (*scores.videos, "")
    assert len(by_video(joined)) == 9
    assert joined.rows(joined.margin == 0.5).videos == ("",)


def test_images_without_a_video_have_no_video_report_and_one_class_has_no_auc() -> None:
    scores = frames(videos=3)
    alone = video_report(scores.rows(scores.labels == 1))
    assert alone is not None
    assert (alone.videos, alone.auc) == (6, None)
    assert video_report(replace(scores, videos=())) is None


@pytest.mark.parametrize("kind", ["fake", "real"])
def test_images_of_one_class_have_no_auc_and_a_reason(run: Path, kind: str) -> None:
    (row,) = table(run, [("clean", "gan2:pre" if kind == "fake" else "real:pre")])
    assert row["auc"] is None
    assert row["reason"] == f"all images are {kind}"
    assert row["accuracy"] is not None
    assert row["method"] == "train"


@pytest.mark.parametrize(
    "content", ["", "[]", '{"schema": 1}', '{"schema": 1, "mark": 3}', "an earlier version"]
)
def test_broken_or_old_cache_is_measured_again(run: Path, content: str) -> None:
    expected = table(run, pairs("clean", "later"))  # the second is not tested yet
    assert len(expected) == 4
    if content == "an earlier version":
        kept = json.loads((run / KEPT).read_text())
        content = json.dumps({**kept, "schema": 1, "rows": []})
    (run / KEPT).write_text(content)
    assert table(run, pairs("clean")) == expected
    write(run, "clean", "gan2:pre", shift=-9.0)
    assert table(run, pairs("clean"))[0]["auc"] != expected[0]["auc"]
