from trueface.evaluation.published.tables import MARK, published_erasing


def test_the_published_table_is_marked_as_not_comparable_and_whole() -> None:
    rows = {row.method: row for row in published_erasing()}
    assert "not comparable" in MARK
    assert rows["All but One"].ssim == 0.762
    assert rows["ESD"].nudenet_percent == 0.04
    assert rows["COCO"].fid is None
    assert len(rows) == 7
