import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import PIL.Image
import pytest
import torch
from torch import Tensor

from trueface.data.folders import CACHE
from trueface.data.loading.decoding import Scaling, decode
from trueface.data.loading.pixel_segments import INDEX, PIXELS
from trueface.data.loading.segment_folder import SegmentFolder
from trueface.data.loading.shared_images import SharedImages, open_shared_images
from trueface.runtime.errors import BadImageError, UsageError

Tree = Callable[[Iterable[str]], Path]
FORK = multiprocessing.get_context("fork")
LATER_NS = 10_000_000_000


def future_time_ns() -> int:
    """Return a time at which files of this test are old enough."""
    return time.time_ns() + LATER_NS


class Decoder:
    """Decodes, and notes what: in a file, so that other processes can be asked as well."""

    def __init__(self, notes: Path) -> None:
        self._notes = notes

    def __call__(self, path: Path, scaling: Scaling | None = None) -> Tensor:
        with self._notes.open("a") as file:
            file.write(f"{path.name}\n")
        return decode(path, scaling=scaling)

    @property
    def names(self) -> list[str]:
        return self._notes.read_text().split() if self._notes.exists() else []


@pytest.fixture
def paths(tree: Tree) -> list[Path]:
    """Return images of different sizes and formats."""
    root = tree(f"{number:02}.png" for number in range(6))
    images = sorted(root.glob("*.png"))
    for number, (path, mode) in enumerate(
        zip(images, ["RGB", "L", "P", "RGBA", "RGB", "1"], strict=True)
    ):
        with PIL.Image.open(path) as file:
            larger = file.resize((20 + 7 * number, 31 + number)).convert(mode)
            larger.save(path, "JPEG" if mode in {"RGB", "L"} else "PNG")
    return images


@pytest.fixture
def decoder(tmp_path: Path) -> Decoder:
    return Decoder(tmp_path / "decoded.txt")


def shared(
    tmp_path: Path, decoder: Callable[..., Tensor], *, limit: int = 1 << 20, **more: object
) -> SharedImages:
    """Return the images as a process that begins now has them."""
    folder = SegmentFolder(top=tmp_path / "cache", decoding="exact", limit=limit)
    folder.path.mkdir(parents=True, exist_ok=True)
    options = {"clock": future_time_ns, "decoder": decoder, **more}
    return SharedImages(folder, **options)  # type: ignore[arg-type]  # as given


Start = Callable[..., SharedImages]


@pytest.fixture
def start(tmp_path: Path, decoder: Decoder) -> Start:
    """Return a function that gives the images as a process that begins now has them."""
    return lambda **more: shared(tmp_path, decoder, **more)


def assert_right(images: SharedImages, paths: list[Path]) -> None:
    for path, pixels in zip(paths, images.fetch(paths), strict=True):
        assert isinstance(pixels, Tensor)
        assert torch.equal(pixels, decode(path))


def test_cached_images_equal_scaled_decoding(
    start: Start, paths: list[Path], decoder: Decoder
) -> None:
    PIL.Image.new("RGB", (640, 480), "red").save(paths[0], "JPEG")
    for _ in range(2):
        (pixels,) = start(scaling=Scaling(100)).fetch(paths[:1])
        assert isinstance(pixels, Tensor)
        assert torch.equal(pixels, decode(paths[0], scaling=Scaling(100)))
    assert decoder.names == ["00.png"]


def test_replaced_image_is_decoded_again_despite_equal_size_and_mtime(
    start: Start, paths: list[Path], decoder: Decoder
) -> None:
    images = start()
    assert_right(images, paths)
    before = paths[3].stat()
    content = bytearray(paths[5].read_bytes())
    paths[3].write_bytes(
        bytes(content.ljust(before.st_size, b"\0"))[: max(before.st_size, len(content))]
    )
    os.utime(paths[3], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert_right(images, paths)
    assert decoder.names[6:] == [paths[3].name]


def test_file_that_could_change_undetected_is_left_to_caller(
    start: Start, paths: list[Path], decoder: Decoder
) -> None:
    images = start(clock=time.time_ns)
    assert images.fetch(paths) == [None] * 6
    assert decoder.names == []


def test_bad_image_is_reported_every_time(start: Start, paths: list[Path]) -> None:
    paths[2].write_bytes(paths[2].read_bytes()[:40])
    paths[4].unlink()
    images = start()
    for _ in range(2):
        results = images.fetch(paths)
        assert isinstance(results[2], BadImageError)
        assert results[4] is None  # the caller says why
        assert all(isinstance(results[at], Tensor) for at in (0, 1, 3, 5))


@pytest.mark.parametrize(
    ("suffix", "spoil"),
    [
        (PIXELS, lambda content: bytes([content[700] ^ 1]).join((content[:700], content[701:]))),
        (PIXELS, lambda content: content[:700]),
        (PIXELS, lambda _: b""),
        (INDEX, lambda content: content[:64] + b"\x01" + content[65:]),
        (INDEX, lambda content: content[:-30]),
        (INDEX, lambda _: b"no index at all, but text that is longer than a record " * 4),
    ],
    ids=["a bit", "cut off", "empty", "a record's bit", "a record cut off", "text"],
)
def test_truncated_or_altered_record_is_decoded_again(
    tmp_path: Path,
    start: Start,
    paths: list[Path],
    decoder: Decoder,
    suffix: str,
    spoil: Callable[[bytes], bytes],
) -> None:
    assert_right(start(), paths)
    (file,) = (tmp_path / "cache" / "exact").glob(f"*{suffix}")
    file.write_bytes(spoil(file.read_bytes()))
    assert_right(start(), paths)
    again = len(decoder.names)
    assert again > 6
    assert_right(start(), paths)
    assert len(decoder.names) == again


def test_image_beyond_limit_is_left_to_caller(
    tmp_path: Path, start: Start, paths: list[Path]
) -> None:
    images = start(limit=1 << 14)
    PIL.Image.new("RGB", (64, 64)).save(paths[1], "PNG")  # more than a segment takes
    images.fetch(paths)
    results = images.fetch(paths)
    for path, pixels in zip(paths, results, strict=True):
        assert not isinstance(pixels, Tensor) or torch.equal(pixels, decode(path))
    held = [result is not None for result in results]
    assert held[0] is held[2] is True
    assert held[1] is held[5] is False
    size = sum(file.stat().st_size for file in (tmp_path / "cache").rglob(f"*{PIXELS}"))
    assert size <= 1 << 14


def test_full_disk_is_reported_once_and_work_continues(
    tmp_path: Path, start: Start, paths: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    images = shared(tmp_path, decode)
    assert_right(images, paths[:2])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        results = images.fetch(paths)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [result is not None for result in results[:2]] == [True, True]
    assert images.fetch(paths)[3:] == [None] * 3
    assert len([r for r in caplog.records if "no more images are added" in r.message]) == 1
    assert_right(start(), paths)


def run_apart(*works: Callable[[], object]) -> list[int | None]:
    """Do each in a process of its own, all at once; return their exit codes."""
    processes = [FORK.Process(target=work) for work in works]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    return [process.exitcode for process in processes]


def test_concurrent_processes_decode_each_image_once(
    start: Start, paths: list[Path], decoder: Decoder
) -> None:
    def work() -> None:
        assert_right(start(), paths)

    assert run_apart(work, work, work) == [0, 0, 0]
    assert sorted(decoder.names) == [path.name for path in paths]


def test_process_continues_with_images_stored_by_parent(
    start: Start, paths: list[Path], decoder: Decoder
) -> None:
    images = start()
    assert_right(images, paths[:3])

    def work() -> None:
        assert_right(images, paths[:5])

    assert run_apart(work) == [0]
    assert_right(images, paths)
    assert_right(start(), paths)
    assert sorted(decoder.names) == [path.name for path in paths]


def test_killed_process_leaves_cache_consistent(
    tmp_path: Path, start: Start, paths: list[Path], decoder: Decoder
) -> None:
    def deadly(path: Path, scaling: Scaling | None = None) -> Tensor:
        if path == paths[3]:
            os.kill(os.getpid(), signal.SIGKILL)
        return decoder(path, scaling=scaling)

    def work() -> None:
        shared(tmp_path, deadly).fetch(paths)

    assert run_apart(work) == [-signal.SIGKILL]
    assert_right(start(), paths)
    assert sorted(decoder.names) == [path.name for path in paths]


def test_process_does_not_wait_forever_for_stopped_process(
    tmp_path: Path, start: Start, paths: list[Path]
) -> None:
    begun, done = FORK.Event(), FORK.Event()

    def sleepy(path: Path, scaling: Scaling | None = None) -> Tensor:
        begun.set()
        done.wait(30)
        return decode(path, scaling=scaling)

    def work() -> None:
        shared(tmp_path, sleepy).fetch(paths[:1])

    process = FORK.Process(target=work)
    process.start()
    assert begun.wait(30)
    results = start(patience_s=0.02).fetch(paths)
    done.set()
    process.join(30)
    assert results[0] is None
    assert all(isinstance(result, Tensor) for result in results[1:])


def test_cache_writable_by_others_or_not_creatable_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path))
    assert open_shared_images(None) is not None
    (tmp_path / "decoded").chmod(0o777)
    assert open_shared_images(None) is None
    assert "other users" in caplog.text
    (tmp_path / "file").touch()
    monkeypatch.setenv(CACHE, str(tmp_path / "file"))
    assert open_shared_images(None) is None
    assert "state=not used" in caplog.text
    monkeypatch.setenv("TRUEFACE_DECODED_LIMIT", "a lot")
    with pytest.raises(UsageError, match="TRUEFACE_DECODED_LIMIT"):
        open_shared_images(None)
