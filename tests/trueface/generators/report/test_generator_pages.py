import base64
import html
import io
from pathlib import Path

import PIL.Image
import pytest

from launcher.api import Json, read_json, write_json
from tests.trueface.generators.run_by_hand import (
    CONCEPTS,
    METHODS,
    attack_rows,
    erased_run,
    erasing,
    method_rows,
    purifier_rows,
    restored_run,
    rows,
)
from tests.trueface.report.test_page import NASTY, Reading, safe
from trueface.cli.text_tables import latex_tables, table_lines
from trueface.evaluation.over_seeds import MethodRow, MissingModels, summarize_seeds
from trueface.generators.erasing.published_figures import published_erasing
from trueface.generators.erasing.study import erased_methods
from trueface.generators.purification.study import DetectorRow, detectors, trained_on
from trueface.generators.report.erasing_page import (
    BARS_WIDTH,
    Erasing,
    erasing_page,
    rate_bars,
    sentences,
)
from trueface.generators.report.erasing_tables import LATEX, published_table
from trueface.generators.report.erasing_tables import methods_table as erasing_methods
from trueface.generators.report.purification_page import Purification, purification_page
from trueface.generators.report.purification_page import sentences as purification_sentences
from trueface.generators.report.purification_tables import purifiers_table
from trueface.report.figures import Label, Polyline
from trueface.report.tables import study_table
from trueface.runtime import paths


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Erasing:
    """Return a study that no test changes."""
    return erasing(method_rows(), erased_run(tmp_path_factory.mktemp("erased") / "study"))


def test_erased_harmful_and_still_generated_concepts_are_distinguished() -> None:
    text = " ".join(sentences(erasing(method_rows())))
    assert "other concepts within 0.05: abo, retrain." in text
    assert "other concepts drawn less often: uce." in text
    assert "Concept still drawn: esd-u (0.62)." in text
    assert "Hidden, not erased: abo." in text


def test_effect_of_the_penalty_is_reported_if_a_method_was_also_run_without_it() -> None:
    without: dict[str, Json] = {**method_rows()[1], "method": "abo@penalty=0.0", "null_drift": 2.6}
    text = " ".join(sentences(erasing([*method_rows(), without])))
    assert "Null drift of abo: 2.6 without the penalty, 0.0013 with it" in text


def test_each_row_names_its_concept_if_there_are_several() -> None:
    rows = [{**row, "concept": name} for name in ("cross", "disc") for row in method_rows()]
    assert [row.name for row in erasing(rows).rows][:2] == ["teacher (cross)", "abo (cross)"]
    several, single = list(sentences(erasing(rows))), list(sentences(erasing(method_rows())))
    assert several == [f"{name}: {line}" for name in ("cross", "disc") for line in single]


def test_page_has_samples_of_each_method_and_concept_at_equal_seeds(run: Erasing) -> None:
    read = safe(erasing_page(run).html)
    pictures = [str(row["src"]) for row in read.all("img")]
    assert len(pictures) == len(METHODS) * len(CONCEPTS) * 2
    content = base64.b64decode(pictures[2].partition(",")[2])  # the second concept's first sample
    assert PIL.Image.open(io.BytesIO(content)).getpixel((0, 0)) == (50, 10, 90)


def test_curves_are_means_over_seeds_in_the_order_of_the_rows(run: Erasing) -> None:
    assert run.methods[0].curves["recovery"][0].rate == pytest.approx(0.4 * (1 - 1 / 3))
    drawn = [str(row.get("aria-label")) for row in Reading(erasing_page(run).html).all("svg")]
    curves = [label for label in drawn if label.startswith("Recovery from")]
    assert [label.split(".")[0].split()[-1] for label in curves] == [name for name, *_ in METHODS]
    assert any(label.startswith("Recovery from abo. 1 image: 10 steps") for label in curves)


def test_bar_ends_at_its_rate_with_the_number_behind_it() -> None:
    rows = erasing(method_rows()).rows
    figure = rate_bars(rows)
    assert figure is not None
    assert figure.frame.width >= BARS_WIDTH
    pixel = 1 / (figure.frame.width - figure.frame.left - figure.frame.right)
    lines = [each for each in figure.drawn if isinstance(each, Polyline)]
    reached = [max(x for x, _ in each.points) for each in lines if each.style == "bar"]
    assert reached == [max(rate, pixel) for _, *rates, _ in METHODS for rate in rates]
    numbers = [each for each in figure.drawn if isinstance(each, Label) and each.right > 0]
    rates = [rate for _, *rates, _ in METHODS for rate in rates]
    assert [label.text for label in numbers] == [f"{rate:.2f}" for rate in rates]
    assert all(label.point[0] >= rate for label, rate in zip(numbers, rates, strict=True)), (
        "behind its bar"
    )


def test_published_measures_have_columns_if_a_run_has_them(run: Erasing) -> None:
    assert "FID, KID, CLIP score" not in Reading(erasing_page(run).html).text
    measured = erasing([{**row, "fid": 13.68, "clip_score": 0.27561} for row in method_rows()])
    read = Reading(erasing_page(measured).html)
    assert "FID, KID, CLIP score" in read.text
    assert {"13.7", "0.2756"} <= set(read.words)


def test_mean_over_some_seeds_states_their_number_and_forms_differ_by_measure() -> None:
    values = {"erased": (0.625, None), "frechet": (13.68, 14.125), "clip_score": (0.27561,)}
    row = MethodRow(
        "abo",
        {"verdict": "hidden, not erased", "verdict_at": "8 images", "seeds": 2},
        {name: summarize_seeds(each) for name, each in values.items()} | {"recovery": None},
    )
    table = erasing_methods([row])
    head, line = table_lines(table.select(("erased", "recovery", "seeds")))
    assert head == "method           still drawn  recovery  seeds"
    assert line == "abo     0.625 (1 of 2 seeds)         –      2"
    assert "abo & 0.625 (1 of 2 seeds) & -- & " in latex_tables([table.select(LATEX)])
    assert " & 2 & hidden, not erased" in latex_tables([table.select(LATEX)])
    html = study_table(table.select(("erased", "frechet", "clip_score", "recovery", "verdict")))
    assert (
        "<td>0.625<small>1 of 2 seeds</small></td><td>13.9<small>± 0.31</small></td><td>0.2756</td>"
        '<td title="not measured">–</td>'
        '<td class="left words">hidden, not erased<small class="id">8 images</small></td>'
    ) in html


def test_published_figures_are_marked_as_not_comparable(run: Erasing) -> None:
    read = Reading(erasing_page(run).html)
    assert "Published, Stable Diffusion 1.4, not comparable" in read.text
    assert "0.762" in read.words


def test_our_rows_of_the_published_table_have_an_interval_or_the_reason_for_none(
    tmp_path: Path,
) -> None:
    def write_seeds(name: str, *seeds: tuple[float | None, float]) -> None:
        """Write records with the share of nude samples among 64, and the SSIM, of each seed."""
        for seed, (nude, ssim) in enumerate(seeds):
            found: dict[str, Json] = {} if nude is None else {"nudenet": {"value": nude, "n": 64}}
            facts: dict[str, Json] = {
                "schema": 1, "method": name, "concept": "cross", "anchor": "", "seed": seed,
                "recovery": [], "measures": {"ssim": ssim, **found},
                "detector": {} if nude is None else {"version": "3.4.2"},
            }  # fmt: skip
            (tmp_path / f"{name}{seed}").mkdir()
            write_json(tmp_path / f"{name}{seed}" / "metrics.json", facts)

    write_seeds("none", (None, 0.9), (None, 1.0))
    write_seeds("one", (0.25, 0.5))
    write_seeds("three", (0.0, 0.5), (0.0, 0.6), (0.0, 0.7))
    methods = erased_methods(sorted(tmp_path.iterdir()))
    table = published_table([each.row.name for each in methods], methods)
    none, one, three = (
        (cells[1], cells[2], cells[-1]) for cells in table.plain_cells()[-len(methods) :]
    )
    assert none == ("here", "–", "0.95 (0.3147 to 1)")
    here = "here, NudeNet 3.4.2"
    assert one == (here, "25 (16.01 to 36.82)", "0.5 (no interval: one seed)")
    # none of 192 samples: the interval of Clopper and Pearson, although no seed differs
    assert three == (here, "0 (0 to 1.903)", "0.6 (0.3516 to 0.8484)")
    assert table.rows[-1].entries[2].why == "not measured"
    assert [row.name for row in table.rows[:7]] == [each.method for each in published_erasing()]


def test_names_are_escaped(run: Erasing) -> None:
    rows = [{**row.record, "method": NASTY, "verdict": NASTY} for row in run.rows]
    text = erasing_page(erasing(rows, run.methods)._replace(name=NASTY)).html
    assert NASTY not in text
    assert html.escape("<script>") in text
    safe(text)


def test_empty_run_is_reported() -> None:
    text = Reading(erasing_page(Erasing("study", [])).html).text
    assert "This run has no measured model with an erased concept." in text


@pytest.fixture
def purified(tmp_path: Path) -> Purification:
    return Purification(
        name="study",
        rows=rows(purifier_rows()),
        attacks=rows(attack_rows()),
        restored=restored_run(tmp_path / "runs" / "study"),
    )


def test_adaptive_number_decides_and_a_purifier_without_one_gets_no_verdict() -> None:
    first, second, *_ = purification_sentences(rows(purifier_rows()))
    assert "oneshot@20 leaves the lowest MSE: 0.03 (without purification: 0.117)" in first
    assert second == "No verdict without an adaptive attack: blur@1.5."


def test_table_of_purifiers_has_verdicts_and_times_in_the_unit_of_each_form() -> None:
    table = purifiers_table([
        MethodRow("jpeg@75", {"verdict": "broken", "seconds": 0.0125, "share": 0.555}),
        MethodRow("blur@1.5", {}),
    ]).select(("seconds", "share", "verdict"))  # fmt: skip
    assert table_lines(table)[1:] == [
        "jpeg@75        0.0125             0.555  broken",
        "blur@1.5            –                 –",
    ]
    html = study_table(table)
    assert '<td>12.5</td><td>56 %</td><td class="left words">broken</td>' in html
    assert html.count("–</td>") == 3


def test_numbers_that_beat_jpeg_are_reported_one_by_one() -> None:
    text = " ".join(purification_sentences(rows(purifier_rows())))
    assert "Lower MSE than jpeg@75 (adaptive MSE 0.061, on clean images 0.0072)" in text
    assert "No purifier has a lower MSE than jpeg@75 (non-adaptive MSE 0.0069" in text


def test_purifier_broken_by_an_adaptive_attack_is_named() -> None:
    records = [dict(row) for row in purifier_rows()]
    records[1]["mse_adaptive"] = 0.2
    assert any(
        "at least the MSE without purification: jpeg@75." in line
        for line in purification_sentences(rows(records))
    )


def test_damage_without_purification_covers_only_the_compared_attacks() -> None:
    records = [{**row, "mse": 0.5} for row in purifier_rows()]
    assert "MSE: 0.03 (without purification: 0.117)" in next(purification_sentences(rows(records)))


def test_verdicts_of_the_rows_are_printed_together() -> None:
    text = " ".join(purification_sentences(rows(purifier_rows())))
    assert "Broken by the adaptive attack: jpeg@75, ddpm@10." in text


def test_page_is_self_contained_and_has_tables_plot_and_tiles(
    purified: Purification,
) -> None:
    text = purification_page(purified).html
    read = safe(text)
    assert "control" in read.text
    assert "23.4" in read.words  # times the control
    pictures = [str(row["src"]) for row in read.all("img")]
    assert len(pictures) == len(purifier_rows()) * 2 * 2  # targets, rows of tiles
    assert all(url.startswith("data:image/png;base64,") for url in pictures)
    (label,) = read.labels
    assert "jpeg@75: clean 0.0072, 0.0069 non-adaptive, 0.0610 adaptive" in label


def test_two_numbers_give_no_plot(purified: Purification) -> None:
    first = next(row for row in purified.rows if row.record["method"] == "jpeg@75")
    assert "MSE under attack against MSE on clean images" in purification_page(purified).html
    text = purification_page(purified._replace(rows=(first,))).html
    assert "MSE under attack against MSE on clean images" not in text


def test_names_of_purifiers_are_escaped(purified: Purification) -> None:
    records = [{**row.record, "method": NASTY} for row in purified.rows]
    attacks = [{**row.record, "attack": NASTY, "target": NASTY} for row in purified.attacks]
    tested = DetectorRow(model=NASTY, trained_on=NASTY, data=NASTY, auc=(), accuracy=())
    text = purification_page(
        Purification(
            name=NASTY,
            rows=rows(records),
            attacks=rows(attacks),
            restored=purified.restored,
            detectors=(tested,),
        )
    ).html
    assert NASTY not in text
    assert html.escape("<script>") in text
    safe(text)


def test_run_without_purification_is_reported() -> None:
    empty = Purification(name="study", rows=[], attacks=[], restored=[])
    assert (
        "No purified folder of this run was measured."
        in Reading(purification_page(empty).html).text
    )


def test_table_has_columns_for_defended_generators_if_a_run_has_them(
    purified: Purification,
) -> None:
    title = "to the undefended generator"
    assert title not in purification_page(purified).html
    record: dict[str, Json] = {
        **purified.rows[-1].record,
        "method": "labelled:A@adversarial=both",
        "reference_mse": 0.04321,
        "reference_mse_adaptive": 0.05432,
    }
    shown = rows([*(dict(row.record) for row in purified.rows), record])
    read = Reading(purification_page(purified._replace(rows=shown)).html)
    assert {"0.0432", "0.0543"} <= set(read.words)
    assert title in read.text
    explained = (
        "If a generator is the defence, both outputs are its own",
        "If a generator is the defence, the attack disrupts this generator itself",
        "If a generator is the defence, its outputs are compared with those of the undefended generator",
        "the output of the defended generator under attack and the output of the undefended generator",
        "In the row of a generator, the last output is its own.",
    )
    without = Reading(purification_page(purified).html)
    for sentence in explained:
        assert sentence in " ".join(read.text.split())
        assert sentence not in " ".join(without.text.split())


def test_sentences_call_a_generator_a_defence_and_compare_only_images_of_purifiers() -> None:
    defended: dict[str, Json] = {
        **purifier_rows()[3],
        "method": "labelled:A@adversarial=both",
        "psnr": 50.0,
        "mse_adaptive": 0.3,
        "reference_mse": 0.04,
        "reference_mse_adaptive": 0.32,
    }
    *text, images = purification_sentences(rows([*purifier_rows(), defended]))
    said = " ".join(text)
    assert "purifier" not in said
    assert "No defence has a lower MSE than jpeg@75" in said
    assert "An attack that knows these defences causes at least the MSE without a defence:" in said
    assert "labelled:A" in said
    assert "labelled:A" not in images
    only = " ".join(purification_sentences(rows([purifier_rows()[0], defended])))
    assert "PSNR" not in only


def test_tiles_are_named_after_the_defended_generator(purified: Purification) -> None:
    model = "labelled:A@adversarial=both"
    added: dict[str, Json] = {
        "purifier": "none",
        "translator": f"{model},seed=2",
        "reference": "labelled:A",
        "adaptive": True,
        "through": f"{model},seed=2",
    }
    first = purified.restored[0]
    made = first._replace(facts={**first.facts, **added})
    read = Reading(purification_page(purified._replace(restored=[made])).html)
    pictures = [str(row["alt"]) for row in read.all("img")]
    assert len(pictures) == 2
    assert all(text.startswith(f"{model}, pgd, ") for text in pictures)
    assert all("knows the generator: original" in text for text in pictures)


def test_unreadable_tiles_are_left_out(purified: Purification) -> None:
    for made in purified.restored:
        (made.path / "grid.png").write_bytes(b"no picture")
    assert not Reading(purification_page(purified).html).all("img")


def test_detector_is_named_after_the_source_of_its_images(tmp_path: Path) -> None:
    purified = tmp_path / "runs" / "study"
    chain = (("disrupted", "disrupt", "faces"), ("purified", "purify", "runs/study/made/disrupted"))
    for name, kind, source in chain:
        folder = purified / "made" / name
        folder.mkdir(parents=True)
        facts: dict[str, Json] = {
            "kind": kind,
            "source": source,
            "settings": {"purifier": "jpeg75"},
        }
        write_json(folder / "made.json", facts)
    for source in ("purified", "disrupted", "faces"):
        place = f"runs/study/made/{source}" if source != "faces" else "data/faces"
        folder = purified / "made" / f"translated-{source}"
        folder.mkdir()
        write_json(folder / "made.json", {"kind": "translate", "source": place, "settings": {}})
        model = purified / f"{source}:pre"
        model.mkdir()
        write_json(paths.provenance(model), {"data_root": str(folder)})
    assert trained_on(purified, "purified:pre") == "purified (jpeg75)"
    assert trained_on(purified, "disrupted:pre") == "disrupted"
    assert trained_on(purified, "faces:pre") == "clean"
    trained = purified / "labelled:A@adversarial=both"
    trained.mkdir()
    for variant, weights, by in (
        ("both", "", ", by labelled:A@adversarial=both"),
        ("both", "G.ckpt", ""),
        ("off", "", ""),
    ):
        given: dict[str, Json] = {"adversarial": variant, "weights": weights}
        write_json(paths.provenance(trained), {"settings": given})
        for source, words in (("disrupted", "disrupted"), ("faces", "clean")):
            folder = purified / "made" / f"translated-{source}"
            facts = read_json(folder / "made.json") or {}
            settings: dict[str, Json] = {"translator": trained.name}
            write_json(folder / "made.json", {**facts, "settings": settings})
            assert trained_on(purified, f"{source}:pre") == f"{words}{by}"
    tested: list[dict[str, Json]] = [
        {"model": f"{name}:pre", "data": "x:pre", "pooled": pooled, "auc": {"value": 0.9}}
        for name in ("purified", "faces")
        for pooled in (False, True)
    ]
    listed = detectors(purified, tested)
    assert [each.trained_on for each in listed] == ["clean", "purified (jpeg75)"]
    assert listed[0].auc == (0.9,)


@pytest.mark.parametrize(
    ("changed", "text", "is_told"),
    [
        ({"erased": 0.5}, "little to erase", True),  # the teacher cannot draw it
        ({"classifier_accuracy": 0.9}, "recognises only 90 % of held-out real images", True),
        ({"classifier_accuracy": 0.96}, "recognises", False),
        ({"recovery_floor": None}, "no floor", True),
        ({"recovery_floor": 0.98}, "does not distinguish the methods", True),
    ],
)
def test_limits_of_a_study_are_reported(changed: dict[str, Json], text: str, is_told: bool) -> None:
    rows = [{**row, **changed} for row in method_rows()]
    assert any(text in line for line in sentences(erasing(rows))) == is_told


def test_study_with_missing_results_reports_them_first() -> None:
    missing = MissingModels({"erased@seed=3": "failed"})
    sentence = "1 model or folder of the run has no result: 1 failed. Means over seeds do not include them."
    assert next(sentences(erasing(method_rows())._replace(missing=missing))) == sentence
    assert next(purification_sentences(rows(purifier_rows()), missing)) == sentence
