"""The digest of what determines a job's result: stored runs stay done only while it stays what it was."""

import hashlib
import json

import pytest

from launcher.ids import NO_WORDS, Words
from launcher.planning.plan import Code, Identity

ENTRY = "lab.work:train"
SOURCES = {"lab.work": "0" * 16, "lab": "1" * 16}
WORDS = Words(subsets={"mine": ("MyGAN", "Ä-*")})


def identity(**changes: object) -> Identity:
    values: dict[str, object] = {
        "job": "train/a:pre",
        "kind": "train",
        "model": "a:pre",
        "base": None,
        "images": "a:pre&real:pre",
        "settings": '{"about": "\\"ü\\"", "lr": 0.1}',
        "needs": (),
        "code": Code(ENTRY, SOURCES),
        "given": ("d1", "d2"),
    }
    return Identity(**values | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("words", [NO_WORDS, WORDS])
@pytest.mark.parametrize("base", [None, 'b:pre "quoted" \\ \x00 ü'])
def test_a_hash_is_that_of_the_sorted_json_of_all_fields(base: str | None, words: Words) -> None:
    needs = tuple(identity(model=f"m{number}") for number in range(3))
    made = identity(base=base, words=words, needs=needs)
    record = {
        "kind": "train",
        "entry": ENTRY,
        "model": "a:pre",
        "base": base,
        "images": "a:pre&real:pre",
        "settings": made.settings,
        "needs": sorted(need.hash for need in needs),
        "sources": json.dumps(SOURCES, sort_keys=True),
        "given": ["d1", "d2"],
    } | ({"words": words.record()} if words else {})
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    assert made.hash == hashlib.sha256(text.encode()).hexdigest()


def test_of_code_with_a_digest_of_all_of_it_neither_modules_nor_the_entry_s_place_count() -> None:
    code = Code(ENTRY, {"": "2" * 32, **SOURCES})
    moved = Code("lab.deep.work:train", {"": "2" * 32, "lab.deep": "1" * 8})
    other = Code(ENTRY, {"": "3" * 32, **SOURCES})
    assert identity(code=code).hash == identity(code=moved).hash
    assert len({identity(code=each).hash for each in (code, other, Code(ENTRY, SOURCES))}) == 3


def test_a_job_s_name_is_no_part_of_its_hash() -> None:
    assert identity(job="train/other").hash == identity().hash
