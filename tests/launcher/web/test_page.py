from launcher.web.page import Address


def test_a_link_keeps_what_it_does_not_change() -> None:
    address = Address(path="jobs", query=(("q", "a&b"), ("state", "done"), ("before", "7")))
    assert address.changed(state="failed", before=None) == "?q=a%26b&state=failed"
    assert Address(path="jobs").changed(state=None) == "?"


def test_what_is_no_number_is_none() -> None:
    query = (("a", "12"), ("b", "-1"), ("c", "٣"), ("d", "9" * 30), ("e", ""))
    address = Address(path="", query=query)
    assert [address.whole(name) for name in "abcdef"] == [12, None, None, None, None, None]
    several = Address(path="", query=(*query, ("a", "12"), ("a", "x"), ("a", "3")))
    assert several.wholes("a") == [12, 3]
