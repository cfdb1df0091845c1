"""How qualities are written."""

import re

import pytest

from trueface.data.qualities import (
    chain_of,
    files_of,
    joined,
    lacking,
    listed,
    modules_of,
    spelt,
    with_files,
)


def test_qualities_have_one_spelling_as_text_and_as_list() -> None:
    assert spelt("none, jpeg075 ,half+jpeg30") == "raw,jpeg75,half+jpeg30"
    assert spelt(joined(["raw", "jpeg30-100"])) == "raw,jpeg30-100"
    assert spelt("") == ""
    assert listed("") == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raw,jpeg0", "quality is 1 to 100"),
        ("raw,jpg50", "unknown corruption 'jpg', did you mean jpeg?"),
        ("raw,none", "raw stands there twice"),
        ("raw,,jpeg5", "missing between two commas"),
        ("raw,files:a/b", "such as files:c23"),
        (",".join(f"jpeg{at}" for at in range(1, 18)), "16 at most"),
    ],
)
def test_what_is_no_list_of_qualities_is_refused_with_its_reason(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        spelt(text)


def test_beside_a_list_of_files_its_words_are_files_and_corruptions_stay() -> None:
    assert with_files("raw, c23, jpeg50, mine") == "raw,files:c23,jpeg50,files:mine"
    assert files_of("files:c23") == "c23"
    assert files_of("jpeg50") is None
    assert [chain_of(name) for name in ("raw", "files:c23", "jpeg50")] == ["none", "none", "jpeg50"]
    assert list(lacking("raw,files:c23,files:c4", ["raw", "c23"])) == ["c4"]


def test_modules_are_those_of_the_kinds_of_all_qualities() -> None:
    kinds = "trueface.corruptions.kinds"
    assert modules_of("raw,half+jpeg30,jpeg75") == (f"{kinds}.resizing", f"{kinds}.codecs")
