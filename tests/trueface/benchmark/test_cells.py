"""The manifest names a benchmark by the content of its images."""

import hashlib
import json
from pathlib import Path

import pytest

from trueface.benchmark.cells import Entry, manifest_of, read_manifest, write_manifest
from trueface.runtime.errors import DataError


def entry(name: str, content: str = "pixels") -> Entry:
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    return Entry(
        path=f"PreSocial/Fake/StyleGAN/{name}.png",
        key=f"StyleGAN/{name}",
        sha256=sha256,
        label=1,
        source="StyleGAN",
        modifier="pre",
    )


def test_the_order_of_images_does_not_change_the_name_and_one_byte_does() -> None:
    first, second = entry("a"), entry("b")
    name = manifest_of([first, second]).name
    assert len(name) == 12
    assert manifest_of([second, first, first]).name == name
    changed = manifest_of([first, entry("b", "pixelz")])
    assert changed.name != name
    assert manifest_of([first, second._replace(label=0)]).name != name


def test_versions_are_written_and_are_no_part_of_the_name(tmp_path: Path) -> None:
    plain, versioned = manifest_of([entry("a")]), manifest_of([entry("a")], {"pillow": "1"})
    assert plain.name == versioned.name
    path = tmp_path / "deep" / "manifest.json"
    write_manifest(path, versioned)
    assert read_manifest(path) == versioned


def test_an_image_that_changed_between_two_tests_is_refused() -> None:
    with pytest.raises(DataError, match=r"Fake/StyleGAN/a.png is not the same image in all tests"):
        manifest_of([entry("a"), entry("a", "other")])


@pytest.mark.parametrize(
    "break_it",
    [
        lambda record: record["images"][0].__setitem__(3, 0),
        lambda record: record.pop("images"),
        lambda record: record.__setitem__("schema", 99),
        lambda record: record["images"][0].append("more"),
    ],
)
def test_a_manifest_that_was_changed_is_refused(tmp_path: Path, break_it) -> None:  # type: ignore[no-untyped-def]  # a lambda
    path = tmp_path / "manifest.json"
    write_manifest(path, manifest_of([entry("a")]))
    record = json.loads(path.read_text())
    break_it(record)
    path.write_text(json.dumps(record))
    with pytest.raises(DataError, match="manifest"):
        read_manifest(path)


def test_a_manifest_that_is_not_there_is_an_error_with_advice(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run the benchmark again"):
        read_manifest(tmp_path / "none.json")
