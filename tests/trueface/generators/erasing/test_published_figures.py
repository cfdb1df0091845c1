from trueface.generators.erasing.published_figures import MARK, published_erasing


def test_published_table_is_complete_and_marked_as_not_comparable() -> None:
    rows = {row.method: row for row in published_erasing()}
    assert "not comparable" in MARK
    assert rows["All but One"].ssim == 0.762
    assert rows["ESD"].nudenet_percent == 0.04
    assert rows["COCO"].fid is None
    assert len(rows) == 7
