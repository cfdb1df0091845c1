from pathlib import Path

import numpy as np
import pytest

from tests.trueface.evaluation.tables import make_scores
from tests.trueface.oldfiles import score_file
from trueface.evaluation.published_tables import (
    MARK,
    PublishedTable,
    published_erasing,
    published_tables,
)
from trueface.evaluation.score_tables import (
    Scores,
    load,
    merge,
    modifier_of_path,
    read_scores,
    write_scores,
)
from trueface.runtime.errors import DataError


def scores(*rows: tuple[str, str, int, float]) -> Scores:
    paths, keys, labels, logits = zip(*rows, strict=True)
    return make_scores(keys, labels, logits, paths)


def test_table_survives_a_round_trip(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(size=50).astype(np.float32)
    table = scores(*((f'a/"{n}", b.png', f"a/{n}", n % 2, float(x)) for n, x in enumerate(logits)))
    write_scores(tmp_path / "new" / "table.csv", table)
    back = read_scores(tmp_path / "new" / "table.csv")
    assert back.paths == table.paths
    assert back.keys == table.keys
    assert np.array_equal(back.labels, table.labels)
    assert np.array_equal(back.logits.astype(np.float32), logits)


def test_image_in_two_tables_counts_once() -> None:
    one = scores(("x.png", "x", 0, 1.0), ("y.png", "y", 1, 2.0))
    two = scores(("y.png", "y", 1, 2.0), ("z.png", "z", 0, 3.0))
    assert merge([one, two]).paths == ("x.png", "y.png", "z.png")


def test_image_with_different_labels_in_two_tables_is_rejected() -> None:
    one = scores(("x.png", "x", 0, 1.0), ("y.png", "y", 1, 2.0))
    with pytest.raises(DataError, match=r"y\.png is real in one score table and fake in another"):
        merge([one, scores(("y.png", "y", 0, 2.0))])


def test_table_written_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\ufeffpath,key,label,logit\nx.png,x,1.0,2\ny.png,y,0.0,-2\n")
    table = read_scores(tmp_path / "a.csv")
    assert table.paths == ("x.png", "y.png")
    assert table.labels.tolist() == [1, 0]


@pytest.mark.parametrize("second", ["x.png,x,1,9", "x.png,x,0,2", "x.png,x,0,9"])
def test_contradicting_second_row_of_an_image_is_rejected_with_both_lines(
    tmp_path: Path, second: str
) -> None:
    lines = ["path,key,label,logit", "x.png,x,1,2", "y.png,y,0,2", "x.png,x,1,2", second]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"a\.csv:5: x\.png has label .* in line 2\. Keep one"):
        read_scores(tmp_path / "a.csv")


@pytest.mark.parametrize("second", ["x.png,x,1.0,0.5", "x.png,x,1,0.50", "x.png,x,1,5e-1"])
def test_second_row_with_the_same_numbers_in_another_notation_is_read(
    tmp_path: Path, second: str
) -> None:
    (tmp_path / "a.csv").write_text(f"path,key,label,logit\nx.png,x,1,0.5\n{second}\n")
    assert merge([read_scores(tmp_path / "a.csv")]).logits.tolist() == [0.5]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", ":1:"),
        ("path,key,label\n", ":1:"),
        ("path,key,label,logit\na,a,1,0.5\nb,b,2,0.5\n", ":3:"),
        ("path,key,label,logit\na,a,1\n", ":2:"),
        ("path,key,label,logit\na,a,1,much\n", ":2:"),
    ],
)
def test_invalid_score_table_is_named_with_its_line(tmp_path: Path, text: str, place: str) -> None:
    (tmp_path / "broken.csv").write_text(text)
    with pytest.raises(DataError, match=f"broken.csv{place}"):
        read_scores(tmp_path / "broken.csv")


@pytest.mark.parametrize("logit", ["nan", "inf", "-inf", "1e400"])
def test_non_finite_logit_is_named_with_its_line(tmp_path: Path, logit: str) -> None:
    path = tmp_path / "broken.csv"
    path.write_text(f'path,key,label,logit\n"two\nlines",a,1,0.5\nb,b,0,{logit}\nc,c,1,{logit}\n')
    expected = rf"broken\.csv:4: the logit {logit} is not a finite number \(2 of 3 rows\)"
    with pytest.raises(DataError, match=expected):
        load(path)
    assert len(load(path, finite=False)) == 3


def test_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read score file .*absent\.csv"):
        read_scores(tmp_path / "absent.csv")


def test_file_format_follows_from_the_suffix(tmp_path: Path) -> None:
    table = scores(("a.png", "a", 1, 0.5), ("b.png", "b", 0, -0.5))
    write_scores(tmp_path / "new.csv", table)
    new, old = load(tmp_path / "new.csv"), load(score_file(tmp_path / "o.pkl", [1, 0], [0.5, -0.5]))
    assert new.names_images
    assert not old.names_images
    assert old.paths == old.keys == ("#0", "#1")
    assert old.labels.tolist() == new.labels.tolist()
    assert old.logits.tolist() == new.logits.tolist()


def test_file_with_another_suffix_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither \.csv nor \.pkl"):
        load(tmp_path / "scores.npy")


@pytest.mark.parametrize(
    ("path", "modifier"),
    [
        ("PreSocial/Fake/StyleGAN2/psi/00001.png", "pre"),
        ("TrueFace_PreSocial/Real/FFHQ/00001.png", "pre"),
        ("Facebook/fake/x.png", "fb"),
        ("TrueFace_PostSocial/Twitter/Real/FFHQ/00001.jpg", "tw"),
        ("Real/FFHQ/Fake/1.png", "none"),
        ("nets/Mastodon/Real/1.png", "nets/Mastodon"),
        ("somewhere/else/1.png", ""),
        ("Real", ""),
        ("#12", ""),
        ("gan2:pre/#12", ""),
    ],
)
def test_modifier_is_derived_from_the_path(path: str, modifier: str) -> None:
    assert modifier_of_path(path) == modifier


def test_subset_is_the_folder_of_the_key_or_otherwise_its_class() -> None:
    table = scores(("x", "StyleGAN2/psi/1", 1, 0), ("y", "2", 0, 0), ("z", "3", 1, 0))
    assert table.subsets == ("StyleGAN2/psi", "realFlat", "fakeFlat")


def test_selected_rows_keep_their_order() -> None:
    table = scores(("a", "a", 1, 1.0), ("b", "b", 0, 2.0), ("c", "c", 1, 3.0))
    some = table.rows(table.labels == 1)
    assert some.paths == ("a", "c")
    assert some.logits.tolist() == [1.0, 3.0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"path,key,label,logit\n" + b"x" * 200_000 + b",k,1,0\n", ":2: field larger than"),
        (b'path,key,label,logit\n"' + b"x" * 200_000, "field larger than"),
        (b"path,key,label,logit\n\xff\xfe,k,1,0\n", "can't decode byte"),
    ],
)
def test_table_that_is_not_csv_is_named_with_advice(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "s.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        read_scores(path)
    assert "s.csv" in str(caught.value)
    assert "Test the model again" in str(caught.value)


def test_table_above_the_size_limit_is_rejected_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    with path.open("wb") as file:
        file.truncate((1 << 29) + 1)
    with pytest.raises(
        DataError, match="536,870,913 bytes, more than the limit of 536,870,912 bytes"
    ):
        read_scores(path)


@pytest.mark.parametrize("table", published_tables(), ids=lambda table: table.name)
def test_every_published_figure_is_a_fraction_with_its_source(table: PublishedTable) -> None:
    assert table.rows
    assert "arXiv" in table.citation
    for row in table.rows:
        assert 0 <= row.value <= 1
        assert row.metric in {"auc", "accuracy", "f1", "tpr", "tnr", "balanced_accuracy"}
    names = [(row.detector, row.tested_on, row.metric) for row in table.rows]
    assert len(names) == len(set(names))


def test_balanced_accuracy_is_derived_from_the_means_of_both_rates() -> None:
    (table,) = [table for table in published_tables() if table.name == "truefake"]
    balanced = {
        (row.detector, row.tested_on): row.value
        for row in table.rows
        if row.metric == "balanced_accuracy"
    }
    assert balanced["CLIP-D", "all, Telegram"] == pytest.approx(0.9375, abs=0.001)
    assert balanced["NPR", "all, Facebook"] == pytest.approx(0.529, abs=0.001)
    assert len(balanced) == 24


def test_the_means_of_quality_agnostic_detectors_are_those_of_their_rows() -> None:
    (table,) = [table for table in published_tables() if table.name == "qad"]
    rows: dict[tuple[str, str], list[float]] = {}
    means: dict[tuple[str, str], float] = {}
    for row in table.rows:
        place, _, tested = row.tested_on.partition(", ")
        if place == "mean of these":
            means[row.detector, tested] = row.value
        elif tested != "ablation":
            rows.setdefault((row.detector, tested), []).append(row.value)
    assert len(means) == 26
    odd = [
        detector
        for (detector, tested), mean in means.items()
        if abs(mean - sum(rows[detector, tested]) / len(rows[detector, tested])) > 1.01e-4
    ]
    assert odd == ["BZNet"]  # on videos; the note says so
    steps = [
        row.value
        for each in ("Baseline", "HSIC", "AWP-XE", "QAD (ours)")
        for row in table.rows
        if row.detector == f"ResNet-50, {each}" and row.metric == "auc"
    ]
    assert steps == sorted(steps)


def test_published_table_is_complete_and_marked_as_not_comparable() -> None:
    rows = {row.method: row for row in published_erasing()}
    assert "not comparable" in MARK
    assert rows["All but One"].ssim == 0.762
    assert rows["ESD"].nudenet_percent == 0.04
    assert rows["COCO"].fid is None
    assert len(rows) == 7
