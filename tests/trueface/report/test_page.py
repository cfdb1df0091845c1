import html
import itertools
import re
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from launcher.api import write_json
from tests.trueface.audit.build import (
    DATA,
    FAKE,
    POISONED,
    REAL,
    TESTS,
    Lab,
    replace_logits,
    update_json,
)
from trueface.audit.check import judge
from trueface.audit.reading import Reader
from trueface.evaluation.result_rows import compare
from trueface.predictions.csv_tables import write_csv
from trueface.predictions.predictions import Predictions
from trueface.report.content import ReportCache, make_model_report, make_model_reports
from trueface.report.run_page import run_page
from trueface.runtime import paths
from trueface.runtime.files import Json

VOID = frozenset({"meta", "img", "path", "circle", "wbr", "br"})
NASTY = '<b onclick="x">&"\'<script>alert(1)</script>'


class Reading(HTMLParser):
    """Checks that tags are closed in order, and remembers what matters."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def labels(self) -> list[str]:
        """The descriptions of its plots for screen readers."""
        return [str(one["aria-label"]) for one in self.all("svg") if "aria-label" in one]

    @property
    def text(self) -> str:
        return " ".join(self.words)


def safe(text: str) -> Reading:
    """Return a page that loads and executes nothing, with any names."""
    read = Reading(text)
    assert not read.all("script")
    assert not read.all("link")
    for _, attributes in read.tags:
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/"))
        assert not any(name.startswith("on") for name in attributes)
    return read


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the page of a sound run."""
    return _page(Lab(tmp_path_factory.mktemp("sound")).run)


def _page(run: Path, date: str = "today") -> str:
    found = Reader().run(str(run))
    return run_page(found, judge(found), [*map(make_model_report, found.models)], date=date).html


def test_page_is_self_contained_and_executes_nothing(page: str) -> None:
    safe(page)
    assert "http" not in page.replace("http-equiv", "")
    assert "@import" not in page
    assert "url(" not in page


def test_same_run_gives_the_same_bytes_except_the_date(lab: Lab) -> None:
    first, second = _page(lab.run, "first day"), _page(lab.run, "other day")
    assert first != second
    assert first.replace("first day", "other day") == second


def test_every_model_has_its_plots_tables_provenance_and_measures_by_subset(page: str) -> None:
    read = Reading(page)
    for name in (DATA, POISONED):
        assert name in read.text
    titles = read.labels
    for start in ("ROC curves. AUC: ", "Reliability", "Loss by epoch", "Accuracy by epoch"):
        assert sum(title.startswith(start) for title in titles) == 2, start
    assert sum(title.startswith("Logits of ") for title in titles) == 2
    for word in ("balanced accuracy", "predicted fake", "Poison record", "train_images_sha256"):
        assert word in read.text
    assert "settings.num_epochs" in read.text
    assert "best balanced accuracy in validation: " in read.text
    assert "torch 2.6" in read.text
    after = read.text.partition("By subset and modifier")[2]
    assert "StyleGAN2" in after.partition("Scores and confusion")[0]
    assert read.text.count("By subset and modifier") == 2


def test_tests_under_conditions_are_next_to_those_of_unchanged_images(lab: Lab) -> None:
    folder = lab.run / DATA
    for data, key, label in zip(TESTS, (FAKE, REAL), (1, 0), strict=True):
        keys = [name for name in lab.lists["test"] if name.startswith(key)]
        for condition in ("corrupt=jpeg50", "corrupt=noise4"):
            lab.scores(folder, f"{data}@{condition}", keys, label, [0.5 - label] * len(keys))
    run = Reader().run(str(lab.run))
    model = next(make_model_report(model) for model in run.models if model.name == DATA)
    names = [f"gan2:pre@corrupt={each}" for each in ("jpeg50", "noise4")]
    assert [row.data for row in model.conditioned] == names
    # real images of the same condition beside the fakes: every one is called wrong
    assert {row.report.metrics["accuracy"].value for row in model.conditioned} == {0.0}
    assert all("@" not in row.data for row in model.rows)
    text = Reading(_page(lab.run)).text
    assert "Under conditions" in text
    assert text.count("Measures under conditions") == 1
    assert judge(run).findings == ()
    path = paths.scores(folder, DATA, "gan2:pre@corrupt=jpeg50")
    path.write_text("no table")
    audit = judge(Reader().run(str(lab.run)))
    assert "gan2:pre@corrupt=jpeg50" in str(audit.findings)


def test_parallel_measurement_of_many_models_equals_serial_measurement(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = Reader().run(str(lab.run)).models
    monkeypatch.setattr("trueface.report.content.MANY", 2)
    monkeypatch.setattr("trueface.report.content.SHARE", 1)
    assert len(models) > 1
    for measured, model in zip(make_model_reports(models, workers=2), models, strict=True):
        alone = make_model_report(model)
        assert measured.model.name == model.name
        assert [(row.data, row.report) for row in measured.rows] == [
            (row.data, row.report) for row in alone.rows
        ]
        assert measured.parts == alone.parts


def test_order_of_classes_does_not_change_a_table() -> None:
    labels, logits = np.array([1, 1, 0, 0], np.int8), np.array([2.0, -1.0, 0.5, -3.0])
    names = ("a/1", "a/2", "b/1", "b/2")
    table = Predictions.from_margin(logits, labels, ids=names, keys=names)
    reports = ReportCache()
    first = reports.measure_once(table)
    assert reports.measure_once(table.rows(np.array([2, 3, 0, 1]))) is first
    assert reports.measure_once(table.with_margin(logits[[1, 0, 2, 3]])) is not first


def test_measures_are_those_of_the_table_of_results(lab: Lab) -> None:
    folder, rng, tests = lab.run / DATA, np.random.default_rng(0), []
    for data, label, root in (("real", 0, "data"), ("gan2", 1, "data"), ("gan3", 1, "others")):
        side, test = ("Real/FFHQ", "Fake/StyleGAN2")[label], f"{data}:pre@corrupt=noise4"
        videos = tuple(f"PreSocial/{side}/v{frame // 5}" for frame in range(40))
        names = tuple(f"{video}/{frame}.png" for frame, video in enumerate(videos))
        table = Predictions.from_margin(
            rng.normal(label, 1, 40) + np.repeat(rng.normal(0, 1, 8), 5),
            np.full(40, label, np.int8),
            ids=names,
            keys=tuple(name.split("/", 2)[2] for name in names),
            videos=videos,
        )
        write_csv(paths.scores(folder, DATA, test), table)
        settings: Json = {"decode": "exact", "data_root": root}
        write_json(paths.metrics(folder, test), {"schema": 1, "n": 40, "settings": settings})
        tests.append((DATA, test))
    compared = {row["data"]: row["auc"] for row in compare(lab.run, tests)}
    found = Reader().run(str(lab.run))
    model = next(make_model_report(model) for model in found.models if model.name == DATA)
    measured = {
        row.data.partition(" in ")[0]: auc and auc.json_record
        for row in model.conditioned
        for auc in (row.report.metrics.get("auc"),)
    }
    for auc in filter(None, measured.values()):
        assert isinstance(auc, dict)
        assert auc.pop("over") == {"real": "videos", "fake": "videos"}
    assert measured == compared
    assert [auc for auc in measured.values() if auc is None] == [None]


def test_page_is_accessible_without_sight(lab: Lab) -> None:
    picture = paths.preview(lab.run / DATA)
    PIL.Image.new("RGB", (64, 64)).save(picture)
    read = Reading(_page(lab.run))
    assert len(read.all("h1")) == 1
    assert all(one.get("scope") in {"row", "col"} for one in read.all("th"))
    assert all(one.get("alt") for one in read.all("img"))
    plots = [one for one in read.all("svg") if one.get("class") == "plot"]
    assert plots
    assert all(one.get("role") == "img" and one.get("aria-label") for one in plots)
    levels = [int(tag[1]) for tag, _ in read.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert read.all("html")[0] == {"lang": "en"}


def test_findings_are_above_the_results(lab: Lab) -> None:
    update_json(paths.provenance(lab.run / POISONED), flipped_val=3)
    text = _page(lab.run)
    assert text.index("poisoned-validation") < text.index('id="results"')
    assert "1 fault, 0 warnings, by 30 of 44 checks of 2 models" in Reading(text).text
    assert "flipped validation labels" in text


def test_names_that_are_markup_are_escaped(lab: Lab) -> None:
    name = NASTY.replace("/", "|")
    lab.model(name, run=lab.run)
    update_json(paths.provenance(lab.run / name), device=NASTY, job="</style><img src=x>")
    lab.run.rename(lab.run.with_name(f"{name} run"))
    text = _page(lab.run.with_name(f"{name} run"))
    read = safe(text)
    assert not read.all("b") or all(one == {} for one in read.all("b"))
    assert not read.all("img")
    assert name in read.text
    assert html.escape(name) in text


def test_preview_is_embedded_and_reduced(lab: Lab) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 1800, 3), np.uint8)
    PIL.Image.fromarray(noise).save(paths.preview(lab.run / DATA))
    text = _page(lab.run)
    assert "data:image/jpeg;base64," in text
    assert len(text) < 2_000_000


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG file, its checksum right."""
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


PNG = b"\x89PNG\r\n\x1a\n"
HEADER = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0))
BROKEN = {
    "no picture": b"no picture",
    "empty": b"",
    "a short header": PNG + chunk(b"IHDR", b"\0\0"),
    "no pixels": PNG + HEADER + chunk(b"IEND", b""),
    "pixels that are no zlib stream": PNG
    + HEADER
    + chunk(b"IDAT", b"broken")
    + chunk(b"IEND", b""),
    "cut off": PNG + HEADER + chunk(b"IDAT", zlib.compress(bytes(64 * 193)))[:30],
    "a chunk that is too short": PNG + HEADER + chunk(b"gAMA", b"\0") + chunk(b"IEND", b""),
    "a bomb of text": PNG + HEADER + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 21))),
    "a bomb": PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)),
    "many pixels": PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", 9_000, 9_000, 8, 2, 0, 0, 0)),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n",
}


def test_broken_previews_are_named_and_left_out_and_no_program_is_started(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, started = tmp_path / "bin" / "gs", tmp_path / "started"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\ntouch '{started}'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=":")
    files = []
    for number, content in enumerate(BROKEN.values()):
        files.append(paths.preview(lab.model(f"{DATA}@seed={number}")))
        files[-1].write_bytes(content)
    text = Reading(_page(lab.run)).text
    for path, what in zip(files, BROKEN, strict=True):
        assert f"The preview {path} cannot be read." in text, what
    assert not started.exists()


def test_scores_that_cannot_be_shown_are_reported(lab: Lab) -> None:
    paths.scores(lab.run / DATA, DATA, "gan2:pre").write_text("broken\n")
    replace_logits(lab.run / POISONED, "gan2:pre", [float("nan")] * 10)
    text = Reading(_page(lab.run)).text
    assert f"{DATA}: gan2:pre: " in text
    assert "not finite numbers" in text


def test_test_without_a_row_is_reported_and_not_pooled_with_others(lab: Lab) -> None:
    before = {row.data for row in make_model_report(Reader().run(str(lab.run)).models[0]).rows}
    header = "path,key,label,logit\n"
    paths.scores(lab.run / DATA, DATA, "sdXL:pre").write_text(header)
    model = make_model_report(
        next(each for each in Reader().run(str(lab.run)).models if each.name == DATA)
    )
    assert "sdXL:pre: no scores to measure" in model.troubles
    assert {row.data for row in model.rows} == before


def test_run_without_any_test_still_has_a_page(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "empty" / DATA
    folder.mkdir(parents=True)
    write_json(paths.provenance(folder), {"model": DATA})
    assert "No model of this run was tested." in Reading(_page(folder.parent)).text


def test_single_class_has_scores_but_no_curve(lab: Lab) -> None:
    paths.scores(lab.run / DATA, DATA, "realFFHQ:pre").unlink()
    paths.scores(lab.run / POISONED, POISONED, "realFFHQ:pre").unlink()
    read = Reading(_page(lab.run))
    titles = read.labels
    assert not any(title.startswith("ROC") for title in titles)
    assert any(title.startswith("Logits of gan2:pre. fake images: mean") for title in titles)


def test_page_of_eight_models_by_eight_datasets_is_below_five_megabytes(lab: Lab) -> None:
    rng = np.random.default_rng(1)
    for number in range(2):
        folder = lab.model(f"{DATA}@seed={number}")
        for data in range(8):
            label = data % 2
            keys = [f"{'StyleGAN2' if label else 'FFHQ'}/{one:05d}" for one in range(500)]
            lab.scores(folder, f"set{data}:pre", keys, label, rng.normal(label, 1, 500).tolist())
    small = len(_page(lab.run))
    # size of a page of two models with eight tests, four times
    assert small * 4 < 5_000_000
