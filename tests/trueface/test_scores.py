from pathlib import Path

import numpy as np
import pytest

from trueface.errors import DataError
from trueface.scores import Scores, merge, read_scores, write_scores


def scores(*rows: tuple[str, str, int, float]) -> Scores:
    paths, keys, labels, logits = zip(*rows, strict=True)
    return Scores(
        paths=paths, keys=keys, labels=np.array(labels, np.int8), logits=np.array(logits, float)
    )


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(size=50).astype(np.float32)
    table = scores(*((f'a/"{n}", b.png', f"a/{n}", n % 2, float(x)) for n, x in enumerate(logits)))
    write_scores(tmp_path / "new" / "table.csv", table)
    back = read_scores(tmp_path / "new" / "table.csv")
    assert back.paths == table.paths
    assert back.keys == table.keys
    assert np.array_equal(back.labels, table.labels)
    assert np.array_equal(back.logits.astype(np.float32), logits)


def test_an_image_of_two_tables_counts_once() -> None:
    one = scores(("x.png", "x", 0, 1.0), ("y.png", "y", 1, 2.0))
    two = scores(("y.png", "y", 1, 2.0), ("z.png", "z", 0, 3.0))
    assert merge([one, two]).paths == ("x.png", "y.png", "z.png")


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
def test_what_is_no_score_table_is_named_with_its_line(
    tmp_path: Path, text: str, place: str
) -> None:
    (tmp_path / "broken.csv").write_text(text)
    with pytest.raises(DataError, match=f"broken.csv{place}"):
        read_scores(tmp_path / "broken.csv")


def test_an_absent_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.csv cannot be read"):
        read_scores(tmp_path / "absent.csv")
