from xml.etree import ElementTree

from launcher.web.charts import spark, stacked_bar


def test_a_bar_has_its_pieces_one_after_another_and_none_beyond_its_end() -> None:
    bar = ElementTree.fromstring(
        str(stacked_bar((("ours", 0.5), ("others", 0.0), ("promised", 0.9)), "a <note>"))
    )
    pieces = [(rect.get("class"), rect.get("x"), rect.get("width")) for rect in bar.iter("rect")]
    assert pieces == [("ours", "0.00", "50.00"), ("promised", "50.00", "50.00")]
    assert bar.get("aria-label") == "a <note>"


def test_a_little_curve_needs_two_values() -> None:
    assert not spark([0.5])
    assert len(str(spark([0.0, 2.0, 0.5])).split(",")) == 4
