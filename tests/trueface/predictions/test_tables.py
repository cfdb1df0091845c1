from pathlib import Path

import numpy as np
import pytest

from tests.trueface.evaluation.tables import make_scores
from tests.trueface.oldfiles import score_file
from trueface.predictions.csv_tables import read_csv, write_csv
from trueface.predictions.npz_tables import read_npz, write_npz
from trueface.predictions.predictions import Predictions, merge
from trueface.predictions.tables import load
from trueface.runtime.errors import DataError


def scores(*rows: tuple[str, str, int, float]) -> Predictions:
    paths, keys, labels, logits = zip(*rows, strict=True)
    return make_scores(keys, labels, logits, paths)


def test_table_survives_a_round_trip(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(size=50).astype(np.float32)
    table = scores(*((f'a/"{n}", b.png', f"a/{n}", n % 2, float(x)) for n, x in enumerate(logits)))
    write_csv(tmp_path / "new" / "table.csv", table)
    back = read_csv(tmp_path / "new" / "table.csv")
    assert back.ids == table.ids
    assert back.keys == table.keys
    assert np.array_equal(back.labels, table.labels)
    assert np.array_equal(back.margin.astype(np.float32), logits)


def test_table_written_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\ufeffpath,key,label,logit\nx.png,x,1.0,2\ny.png,y,0.0,-2\n")
    table = read_csv(tmp_path / "a.csv")
    assert table.ids == ("x.png", "y.png")
    assert table.labels.tolist() == [1, 0]


@pytest.mark.parametrize("second", ["x.png,x,1,9", "x.png,x,0,2", "x.png,x,0,9"])
def test_contradicting_second_row_of_an_image_is_rejected_with_both_lines(
    tmp_path: Path, second: str
) -> None:
    lines = ["path,key,label,logit", "x.png,x,1,2", "y.png,y,0,2", "x.png,x,1,2", second]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"a\.csv:5: x\.png has label .* in line 2\. Keep one"):
        read_csv(tmp_path / "a.csv")


@pytest.mark.parametrize("second", ["x.png,x,1.0,0.5", "x.png,x,1,0.50", "x.png,x,1,5e-1"])
def test_second_row_with_the_same_numbers_in_another_notation_is_read(
    tmp_path: Path, second: str
) -> None:
    (tmp_path / "a.csv").write_text(f"path,key,label,logit\nx.png,x,1,0.5\n{second}\n")
    assert merge([read_csv(tmp_path / "a.csv")]).margin.tolist() == [0.5]


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
        read_csv(tmp_path / "broken.csv")


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
        read_csv(tmp_path / "absent.csv")


def test_file_format_follows_from_the_suffix(tmp_path: Path) -> None:
    table = scores(("a.png", "a", 1, 0.5), ("b.png", "b", 0, -0.5))
    write_csv(tmp_path / "new.csv", table)
    new, old = load(tmp_path / "new.csv"), load(score_file(tmp_path / "o.pkl", [1, 0], [0.5, -0.5]))
    assert new.names_images
    assert not old.names_images
    assert old.ids == old.keys == ("#0", "#1")
    assert old.labels.tolist() == new.labels.tolist()
    assert old.margin.tolist() == new.margin.tolist()


def test_file_with_another_suffix_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither \.csv nor \.pkl"):
        load(tmp_path / "scores.npy")


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
        read_csv(path)
    assert "s.csv" in str(caught.value)
    assert "Test the model again" in str(caught.value)


def test_table_above_the_size_limit_is_rejected_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    with path.open("wb") as file:
        file.truncate((1 << 29) + 1)
    with pytest.raises(
        DataError, match="536,870,913 bytes, more than the limit of 536,870,912 bytes"
    ):
        read_csv(path)


def test_file_round_trip_preserves_the_predictions(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    labels = np.array([0, 1, 0, 1])
    said = Predictions(logits=logits, labels=labels, true_labels=labels, ids=tuple("abcd"))
    write_npz(tmp_path / "answers" / "after.npz", {"forget": said, "test": said})
    found = read_npz(tmp_path / "answers" / "after.npz")
    assert set(found) == {"forget", "test"}
    assert np.array_equal(found["test"].logits, said.logits)
    assert found["forget"].ids == said.ids


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_broken_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "after.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"after\.npz"):
        read_npz(path)


def test_disguised_pickle_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "after.npz"
    with path.open("wb") as file:
        np.savez(file, test_logits=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match=r"after\.npz"):
        read_npz(path)


def test_detector_is_stored_in_npz_with_the_logits_0_and_z(tmp_path: Path) -> None:
    table = scores(("a.png", "a", 1, 0.1), ("b.png", "b", 0, -0.5))
    write_npz(tmp_path / "a.npz", {"test": table})
    found = read_npz(tmp_path / "a.npz")["test"]
    assert found.logits.tolist() == [[0, np.float32(0.1)], [0, -0.5]]
    assert found.logits.dtype == np.float32
    assert found.labels.dtype == np.int64
    assert found.labels.tolist() == found.true_labels.tolist() == [1, 0]
    assert found.ids == ("a.png", "b.png")


def test_two_classes_are_stored_in_csv_with_their_margin(tmp_path: Path) -> None:
    logits, labels = np.array([[1, 3], [0.5, 0]], np.float32), np.array([1, 0])
    part = Predictions(
        logits=logits, labels=labels, true_labels=labels, ids=("a", "b"), keys=("a", "b")
    )
    write_csv(tmp_path / "a.csv", part)
    assert (tmp_path / "a.csv").read_text() == "path,key,label,logit\na,a,1,2\nb,b,0,-0.5\n"
