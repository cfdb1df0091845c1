"""Array files from untrusted sources: rejected before memory is allocated for them."""

import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from launcher.api import MachineError
from trueface.predictions.npz_tables import read_npz
from trueface.runtime import npz_files, tensor_files
from trueface.runtime.errors import DataError
from trueface.unlearning.evaluation import planes

HUGE = 1 << 40  # numbers of eight bytes


def header(shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    """Return the header of an array, without any of its values."""
    text = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text + b"\n"


def archive(path: Path, members: dict[str, bytes], *, deflated: bool = False) -> Path:
    """Write a .npz of members as given."""
    how = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", how) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def set_false_size(path: Path, size: int) -> Path:
    """Change the recorded size in an archive of one member."""
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = content.index(mark) + place
        content[at : at + 4] = struct.pack("<I", size)
    path.write_bytes(content)
    return path


@contextmanager
def limited_memory() -> Iterator[None]:
    """Fail if more than a few MiB are allocated."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["f4", "i8", "?", "<U5", "u1"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (0, 2)])
def test_arrays_written_by_numpy_are_read(
    tmp_path: Path, kind: str, shape: tuple[int, ...]
) -> None:
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(kind)
    np.savez_compressed(tmp_path / "a.npz", values=values, turned=np.asfortranarray(values))
    found = npz_files.read(tmp_path / "a.npz", "the arrays")
    for array in found.values():
        assert array.dtype == values.dtype
        np.testing.assert_array_equal(array, values)


def test_230_bytes_that_declare_8_tebibytes_are_rejected(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", {"before": header((HUGE,))})
    assert path.stat().st_size < 300
    for read in (planes.read, read_npz):
        with pytest.raises(DataError, match=r"a\.npz.*declares 8,796,093,022,208 bytes and has 0"):
            read(path)


@pytest.mark.parametrize(
    "content",
    [
        header((-1, 4)),
        header((1 << 62, 1 << 62)),
        header((2,), "|O") + bytes(16),
        header((1,), "<M8[ns]") + bytes(8),
        header((3,)) + bytes(16),
        header((3,)) + bytes(32),
        b"\x93NUMPY\x09\x00",
        b"\x93NUMPY\x01\x00\xff\xff{" + b"(" * 60_000,
        b"no array",
        b"",
    ],
    ids=[
        "negative", "overflow", "objects", "dates", "too few", "too many", "version", "header",
        "other", "empty",
    ],
)  # fmt: skip
def test_members_with_false_headers_or_without_plain_arrays_are_rejected(
    tmp_path: Path, content: bytes
) -> None:
    path = archive(tmp_path / "a.npz", {"before": content})
    with pytest.raises(DataError, match=r"cannot read the plane .*a\.npz: .*\. Restore the file"):
        planes.read(path)


def test_member_that_expands_beyond_the_limit_allocates_no_memory(tmp_path: Path) -> None:
    zeros = header((1 << 24,)) + bytes(1 << 27)
    path = archive(tmp_path / "a.npz", {"before": zeros}, deflated=True)
    set_false_size(path, (1 << 32) - 1)
    with limited_memory(), pytest.raises(DataError, match="more than the limit of 2,147,483,648"):
        planes.read(path)


def test_file_that_expands_to_a_thousand_times_its_size_allocates_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    zeros = bytes(1 << 20)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file,
        file.open("b.npy", "w") as member,
    ):
        member.write(header((1 << 24,)))
        for _ in range(1 << 7):
            member.write(zeros)
    assert path.stat().st_size < 1 << 18
    for read in (planes.read, read_npz):
        said = r"expand to 134,217,\d+ bytes from 1\d+,\d+"
        with limited_memory(), pytest.raises(DataError, match=said):
            read(path)


def test_archive_with_too_many_members_is_rejected(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", {str(one): b"" for one in range(100)})
    with pytest.raises(DataError, match="100 members"):
        planes.read(path)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("<U0", (60_000_000,)), ("<U0", ()), ("<U1", (60_000_000, 0)), ("<f8", (0, HUGE))],
)
def test_array_without_bytes_allocates_no_rows(
    tmp_path: Path, kind: str, shape: tuple[int, ...]
) -> None:
    path = tmp_path / "a.npz"
    np.savez(
        path, test_logits=np.zeros((2, 2), "f4"), test_trained=np.zeros(2, int),
        test_true=np.zeros(2, int),
    )  # fmt: skip
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("test_ids.npy", header(shape, kind))
    said = r"cannot read the predictions .*a\.npz: test_ids\.npy"
    with limited_memory(), pytest.raises(DataError, match=said):
        read_npz(path)


@pytest.mark.parametrize(
    ("logits", "trained", "true", "ids", "reason"),
    [
        (np.zeros((3, 0), "f4"), [0, 0, 0], [0, 0, 0], ["a", "b", "c"], r"\(3, 0\)"),
        (np.zeros((3, 1), "f4"), [0, 0, 0], [0, 0, 0], ["a", "b", "c"], r"\(3, 1\)"),
        (np.zeros((2, 2, 2), "f4"), [0, 0], [0, 0], ["a", "b"], r"shape \(2, 2, 2\)"),
        (np.zeros((2, 2), "f4"), [0, 2], [0, 0], ["a", "b"], "test_trained"),
        (np.zeros((2, 2), "f4"), [-1, 0], [0, 0], ["a", "b"], "test_trained"),
        (np.zeros((2, 2), "f4"), [0, 1], [0, 2], ["a", "b"], "test_true"),
        (np.zeros((2, 2), "f4"), [0, 1], [0, -2], ["a", "b"], "test_true"),
        (np.zeros((2, 2), "f4"), [0, 1], [0, -1], [1, 2], "type int64"),
    ],
)
def test_labels_beyond_the_number_of_columns_are_rejected(
    tmp_path: Path,
    logits: np.ndarray[tuple[int, int], np.dtype[np.float32]],
    trained: list[int],
    true: list[int],
    ids: list[object],
    reason: str,
) -> None:
    np.savez(
        tmp_path / "a.npz", test_logits=logits, test_trained=np.array(trained),
        test_true=np.array(true), test_ids=np.array(ids),
    )  # fmt: skip
    with pytest.raises(DataError, match=rf"cannot read the predictions .*a\.npz.*{reason}"):
        read_npz(tmp_path / "a.npz")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "weights.pt"
    tensor_files.save(path, {"schema": 1, "values": torch.arange(4096.0)})
    return path


def test_written_file_is_read_back(file: Path) -> None:
    assert torch.equal(tensor_files.load(file)["values"], torch.arange(4096.0))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda _: b"", "is empty"),
        (lambda _: b"hello", "cut off, or not a file of tensors"),
        (lambda _: b"\x80\x02c", "refused|cut off"),
        (lambda content: content[:-100], "cut off"),
        (
            lambda content: bytes([content[at := len(content) // 2] ^ 1]).join(
                (content[:at], content[at + 1 :])
            ),
            r"checksum of .* is wrong",
        ),
    ],
    ids=["empty", "text", "a pickle", "cut off", "one changed byte"],
)
def test_wrong_or_damaged_file_raises_a_short_error(
    file: Path, spoil: Callable[[bytes], bytes], said: str
) -> None:
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(tensor_files.BrokenFileError, match=said) as caught:
        tensor_files.load(file)
    assert "torch.load" not in str(caught.value)


def test_file_that_would_run_code_is_rejected_without_unsafe_advice(tmp_path: Path) -> None:
    path, canary = tmp_path / "evil.pt", tmp_path / "canary"

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (canary,)

    torch.save({"state": Evil()}, path)
    with pytest.raises(tensor_files.BrokenFileError, match="refused") as caught:
        tensor_files.load(path)
    assert "weights_only" not in str(caught.value)
    assert not canary.exists()


def test_unwritable_path_is_named_and_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "best.pt").mkdir()
    with pytest.raises(MachineError, match=r"cannot write .*best\.pt .*unchanged"):
        tensor_files.save(tmp_path / "best.pt", {})


def test_strongly_compressed_members_are_rejected_before_expansion(
    file: Path, tmp_path: Path
) -> None:
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as made:
        for member in archive.infolist():
            content = bytes(1 << 26) if "/data/" in member.filename else archive.read(member)
            made.writestr(member.filename, content)
    with pytest.raises(tensor_files.BrokenFileError, match=r"expand to 67,.* bytes from "):
        tensor_files.load(bomb)


def test_compressed_file_is_read(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    with (
        zipfile.ZipFile(file) as archive,
        zipfile.ZipFile(other, "w", zipfile.ZIP_DEFLATED) as made,
    ):
        for member in archive.infolist():
            made.writestr(member.filename, archive.read(member))
    assert torch.equal(tensor_files.load(other)["values"], torch.arange(4096.0))


class Scalar:
    """A scalar of NumPy as a pickle has it, of any type and content."""

    def __init__(self, form: str, data: bytes) -> None:
        self.asked = (np.dtype(form), data)

    def __reduce__(self) -> tuple[object, ...]:
        return np.float64(0).__reduce__()[0], self.asked


def test_numbers_of_numpy_beside_the_weights_are_read_and_other_values_are_not(
    tmp_path: Path,
) -> None:
    numbers = [np.float64(0.5), np.float32(0.25), np.int64(-3), np.bool_(True), np.complex64(1j)]
    torch.save({"best": numbers, "big": Scalar(">i2", b"\x01\x02")}, tmp_path / "a.pth")
    content = tensor_files.load(tmp_path / "a.pth")
    assert content == {"best": [0.5, 0.25, -3, True, 1j], "big": 258}
    assert [type(each) for each in content["best"]] == [float, float, int, bool, complex]
    for other in (np.str_("a"), Scalar("f8", b"1234"), Scalar("O", b"12345678"), np.zeros(2)):
        torch.save({"best": other}, tmp_path / "b.pth")
        with pytest.raises(tensor_files.BrokenFileError, match="would run code"):
            tensor_files.load(tmp_path / "b.pth")
