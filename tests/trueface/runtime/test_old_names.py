"""The table of renamed definitions, which keeps the code digests of finished jobs."""

import re
from pathlib import Path

import trueface
from trueface.old_names import OLD_NAMES


def test_every_renamed_definition_is_used_in_the_package() -> None:
    sources = (path for path in Path(trueface.__file__).parent.rglob("*.py"))
    texts = (path.read_text(encoding="utf-8") for path in sources if path.name != "old_names.py")
    words = {word for text in texts for word in re.findall(r"\w+", text)}
    assert OLD_NAMES
    assert set(OLD_NAMES) <= words


def test_each_row_maps_an_identifier_to_another_one() -> None:
    for new, old in OLD_NAMES.items():
        assert new.isidentifier()
        assert old.isidentifier()
        assert new != old
