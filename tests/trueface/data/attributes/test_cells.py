from trueface.data.attributes.cells import Cells, named, numbered


def test_images_are_counted_by_group_and_class_and_small_groups_are_named() -> None:
    groups = ["b"] * 70 + ["a"] * 35 + [None]
    labels = [0] * 40 + [1] * 30 + [0] * 34 + [1] + [0]
    cells = Cells.of(groups, labels)
    assert list(cells.counts.items()) == [("a", (34, 1)), ("b", (40, 30)), ("unknown", (1, 0))]
    assert list(cells.few) == ["a", "unknown"]


def test_groups_are_numbered_in_their_order_and_those_without_come_last() -> None:
    groups = ["z", None, "a", "z"]
    assert (named(groups), numbered(groups, named(groups))) == (("a", "z", "unknown"), [1, 2, 0, 1])
    assert named(["z", "a"]) == ("a", "z")
