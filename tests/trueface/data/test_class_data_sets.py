"""Fashion-MNIST and VGGFace2 from their own files: their exact format, and broken files."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tests.trueface.data.test_class_images import load_lists, sizes
from trueface.data import idx_files
from trueface.data.vocabulary import find_classes
from trueface.runtime.errors import DataError

FILES = {
    "train-images-idx3-ubyte": 20, "train-labels-idx1-ubyte": 20,
    "t10k-images-idx3-ubyte": 10, "t10k-labels-idx1-ubyte": 10,
}  # fmt: skip


def idx(numbers: np.ndarray) -> bytes:
    """Return an array in the format of MNIST's files."""
    head = struct.pack(f">4B{numbers.ndim}I", 0, 0, 8, numbers.ndim, *numbers.shape)
    return head + numbers.astype(np.uint8).tobytes()


def fashion(folder: Path, end: str = ".gz") -> Path:
    """Write the four files of Fashion-MNIST with some images of each class."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name, count in FILES.items():
        labels = np.arange(count) % 10
        images = rng.integers(0, 90, (count, 28, 28)) + 10 * labels[:, None, None]
        content = idx(images if "images" in name else labels)
        (folder / f"{name}{end}").write_bytes(gzip.compress(content) if end else content)
    return folder


def faces(root: Path, *, people: int = 3, images: int = 10) -> Path:
    """Write a small VGGFace2: other people in test/ than in train/, with its list and table."""
    rng = np.random.default_rng(0)
    names = list[str]()
    for number in range(1, people + 3):
        part = "train" if number <= people else "test"
        for image in range(1, images + 1):
            name = f"n{number:06}/{image:04}_01.jpg"
            (root / part / name).parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 90, (24, 20, 3)) + 20 * number
            PIL.Image.fromarray(pixels.astype(np.uint8)).save(root / part / name)
            names += [name] * (part == "train")
    (root / "train_list.txt").write_text("".join(f"{name}\n" for name in names))
    (root / "identity_meta.csv").write_text(
        "Class_ID, Name, Sample_Num, Flag, Gender\n"
        + "".join(
            f'n{n:06}, "A_{n}", {images}, {int(n <= people)}, f\n' for n in range(1, people + 3)
        )
    )
    return root


@pytest.mark.parametrize("place", ["", "FashionMNIST/raw"])
def test_fashion_mnist_is_read_from_compressed_and_plain_files(place: str, tmp_path: Path) -> None:
    for name, end in (("packed", ".gz"), ("plain", "")):
        fashion(tmp_path / name / place, end)
    found = [load_lists(tmp_path / name, "fashion", size=28) for name in ("packed", "plain")]
    for lists in found:
        assert sizes(lists) == [10, 10, 10]
        assert lists.names[9] == "Ankle boot"
        assert lists.test.names[3] == "test/00003"
        assert lists.test.labels == tuple(range(10))
        # grey images get three equal channels, for networks of colour images
        assert (lists.test.pixels == lists.test.pixels[:, :1]).all()
    assert found[0].train.sha256 == found[1].train.sha256
    content = (tmp_path / "plain" / place / "t10k-images-idx3-ubyte").read_bytes()
    assert found[0].test.pixels[:, 0].numpy().tobytes() == content[16:]


def cut_gzip(folder: Path) -> None:
    file = folder / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-2000])


def plain_under_wrong_name(folder: Path) -> None:
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"<html>not found</html>")


def other_file(folder: Path) -> None:
    (folder / "train-images-idx3-ubyte.gz").write_bytes(
        gzip.compress(b"\x00\x00\x0d\x03" + bytes(12))
    )


def labels_as_images(folder: Path) -> None:
    file = folder / "train-labels-idx1-ubyte.gz"
    (folder / "train-images-idx3-ubyte.gz").write_bytes(file.read_bytes())


def cut_header(folder: Path) -> None:
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"\x00\x00\x08\x03\x00\x00"))


def empty(folder: Path) -> None:
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b""))


def fewer_numbers(folder: Path) -> None:
    (folder / "train-images-idx3-ubyte.gz").write_bytes(
        gzip.compress(idx(np.zeros((20, 28, 28)))[:-1])
    )


def more_numbers(folder: Path) -> None:
    (folder / "train-images-idx3-ubyte.gz").write_bytes(
        gzip.compress(idx(np.zeros((20, 28, 28))) + b"1")
    )


def fewer_labels(folder: Path) -> None:
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(19) % 10)))


def other_labels(folder: Path) -> None:
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(20))))


def huge(folder: Path) -> None:
    head = struct.pack(">4B3I", 0, 0, 8, 3, 1 << 31, 28, 28)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(head))


def no_shirts(folder: Path) -> None:
    labels = np.arange(20) % 10
    labels[labels == 6] = 0
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))


def missing(folder: Path) -> None:
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut_gzip, "cannot read .*train-images.*end-of-stream.*Get the file again"),
        (plain_under_wrong_name, "cannot read .*Not a gzipped file"),
        (other_file, "begins with the bytes 00 00 0d 03, not with 00 00 08 03"),
        (labels_as_images, "begins with the bytes 00 00 08 01, not with 00 00 08 03"),
        (cut_header, "is cut off in its header"),
        (empty, r"train-images-idx3-ubyte\.gz is empty\. Get the file again"),
        (fewer_numbers, "has only 15,679 of the 15,680 numbers that its header says"),
        (more_numbers, "has more than the 15,680 numbers that its header says"),
        (fewer_labels, "has 20 images, but .*labels-idx1-ubyte.gz has 19 labels"),
        (other_labels, "has the label 19, but the data set has 10 classes"),
        (huge, "has 1,683,627,180,032 numbers, more than"),
        (
            no_shirts,
            "too few images of class 'Shirt' for the training list: 0, and at least 2 are needed. "
            "Get the files again",
        ),
        (missing, "has no file t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz"),
    ],
)
def test_broken_files_of_fashion_mnist_are_named(
    spoil: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    spoil(fashion(tmp_path))
    with pytest.raises(DataError, match=message):
        load_lists(tmp_path, "fashion")


def test_folder_without_fashion_mnist_names_the_expected_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz, or train/<class>/"):
        find_classes("fashion", tmp_path)
    assert idx_files.MOST_BYTES > 60_000 * 28 * 28


def test_people_of_vggface2_are_those_of_train_and_each_has_test_images(tmp_path: Path) -> None:
    root = faces(tmp_path)
    place = find_classes("vggface2", root)
    assert place.names == ("n000001", "n000002", "n000003")
    lists = load_lists(root, "vggface2")
    assert sizes(lists) == [21, 3, 6]
    assert sorted(lists.test.labels) == [0, 0, 1, 1, 2, 2]
    names = [*lists.train.names, *lists.validation.names, *lists.test.names]
    assert sorted(names) == sorted((root / "train_list.txt").read_text().split())
    assert load_lists(root, "vggface2", seed=9).test.names == lists.test.names
    assert load_lists(root, "vggface2", split_seed=9).test.names != lists.test.names


@pytest.mark.parametrize("images", [1, 2])
def test_person_of_vggface2_with_too_few_images_is_named(images: int, tmp_path: Path) -> None:
    root = faces(tmp_path, images=3)
    assert sizes(load_lists(root, "vggface2")) == [3, 3, 3]
    (root / "train_list.txt").unlink()
    for file in sorted((root / "train/n000002").iterdir())[images:]:
        file.unlink()
    message = (
        f"too few images of class 'n000002' for the training list: {images}, and at least 3 are needed. "
        "Add images, or remove the folder of the class"
    )
    with pytest.raises(DataError, match=message):
        load_lists(root, "vggface2")


def test_people_of_vggface2_may_be_a_few_links_without_list(tmp_path: Path) -> None:
    root = faces(tmp_path / "whole")
    few = tmp_path / "few" / "train"
    few.mkdir(parents=True)
    for name in ("n000001", "n000003"):
        (few / name).symlink_to(root / "train" / name)
    assert sizes(load_lists(tmp_path / "few", "vggface2")) == [14, 2, 4]
    assert sizes(load_lists(few, "vggface2")) == [14, 2, 4]


def test_broken_vggface2_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = faces(tmp_path)
    whole = load_lists(root, "vggface2")
    extra = root / "train" / "n000001" / "extra.png"
    PIL.Image.new("RGB", (20, 20)).save(extra)
    assert load_lists(root, "vggface2").train.sha256 == whole.train.sha256
    assert "unlisted=1 are ignored" in caplog.text
    (root / "train" / "n000002" / "0004_01.jpg").unlink()
    message = r"lists 1 images that .*train does not have, such as n000002/0004_01.jpg"
    with pytest.raises(DataError, match=message):
        load_lists(root, "vggface2")
    (root / "train_list.txt").unlink()
    (root / "train" / "n000009").mkdir()
    message = r"no valid file for the classes n000009\. Each class needs a folder with images\. Add images"
    with pytest.raises(DataError, match=message):
        load_lists(root, "vggface2")
