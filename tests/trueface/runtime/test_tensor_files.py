import zipfile
from pathlib import Path

import pytest
import torch

from launcher.api import MachineError
from trueface.runtime import tensor_files


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "weights.pt"
    tensor_files.save(path, {"schema": 1, "values": torch.arange(4096.0)})
    return path


def test_what_was_written_is_read(file: Path) -> None:
    assert torch.equal(tensor_files.load(file)["values"], torch.arange(4096.0))


def test_one_changed_byte_is_noticed(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(tensor_files.BrokenFileError, match=r"checksum of .* is wrong"):
        tensor_files.load(file)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"hello", "cut off, or no file of tensors"),
        (b"\x80\x02c", "refused|cut off"),
    ],
)
def test_what_is_no_such_file_is_told_in_a_few_words(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises(tensor_files.BrokenFileError, match=said) as caught:
        tensor_files.load(path)
    assert "torch.load" not in str(caught.value)


def test_a_file_that_is_cut_off_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(tensor_files.BrokenFileError, match="cut off"):
        tensor_files.load(file)


def test_a_file_that_would_run_code_is_refused_without_advice_to_run_it(tmp_path: Path) -> None:
    path, canary = tmp_path / "evil.pt", tmp_path / "canary"

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (canary,)

    torch.save({"state": Evil()}, path)
    with pytest.raises(tensor_files.BrokenFileError, match="refused") as caught:
        tensor_files.load(path)
    assert "weights_only" not in str(caught.value)
    assert not canary.exists()


def test_a_place_that_cannot_be_written_is_named_and_keeps_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "best.pt").mkdir()
    with pytest.raises(MachineError, match=r"cannot write .*best\.pt .*still there"):
        tensor_files.save(tmp_path / "best.pt", {})


def test_deflated_members_that_expand_far_are_refused_before_they_are_expanded(
    file: Path, tmp_path: Path
) -> None:
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as made:
        for member in archive.infolist():
            content = bytes(1 << 26) if "/data/" in member.filename else archive.read(member)
            made.writestr(member.filename, content)
    with pytest.raises(tensor_files.BrokenFileError, match=r"expand to 67,.* bytes from "):
        tensor_files.load(bomb)


def test_a_file_that_was_deflated_by_somebody_is_read(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    with (
        zipfile.ZipFile(file) as archive,
        zipfile.ZipFile(other, "w", zipfile.ZIP_DEFLATED) as made,
    ):
        for member in archive.infolist():
            made.writestr(member.filename, archive.read(member))
    assert torch.equal(tensor_files.load(other)["values"], torch.arange(4096.0))
