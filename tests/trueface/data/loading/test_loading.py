"""How images are loaded: headers, sizes, sets of pictures, batches."""

import ctypes
import hashlib
import io
import logging
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from PIL import ExifTags
from PIL.PngImagePlugin import PngInfo
from torch.utils.data import Dataset

from trueface.data.image_headers import (
    CODING,
    COLOUR_MODE,
    COMPRESSION,
    FORMAT,
    METADATA,
    ORIENTATION,
    OTHER_SOURCES,
    PROPERTIES,
    RESOLUTION,
    SIZE,
    SOFTWARE,
    SUBSAMPLING,
    TABLES,
    Header,
    ImageSize,
    LearnedSizes,
    Property,
    Shortcut,
    best_guess_accuracy,
    join_causes,
    read_header,
    read_size,
    sample_headers,
    shortcut,
    shortcuts_in,
)
from trueface.data.index import survey
from trueface.data.loading import stalls
from trueface.data.loading.image_set import ImageSet
from trueface.data.loading.loader import Loader
from trueface.data.loading.pass_order import epoch_order
from trueface.data.loading.prefetching import closing, prefetch, stack_images, uses_gpu
from trueface.data.loading.processes import (
    PART,
    BadFile,
    ImageRequest,
    LoadingProcesses,
    NoRoomError,
    collate,
    collate_shared,
    describe_shortage,
    split_batches,
)
from trueface.data.loading.transforms import test_transform as transform_of_test
from trueface.data.settings import TestSettings as SettingsOfTest
from trueface.runtime.errors import MachineError
from trueface.runtime.ids import parse_data

CELLS = [0] * 60 + [1] * 3 + [4] * 7


def sample_order(epoch: int = 0, seed: int = 1) -> list[int]:
    return epoch_order(range(len(CELLS)), shuffle_seed=seed, epoch=epoch, cells=CELLS)


def test_every_cell_and_its_images_are_sampled_equally_often() -> None:
    order = sample_order()
    assert len(order) == len(CELLS)
    by_cell = Counter(CELLS[position] for position in order)
    assert set(by_cell) == {0, 1, 4}
    for at in range(0, 69, 3):  # a batch is as even as the epoch
        assert {CELLS[position] for position in order[at : at + 3]} == {0, 1, 4}
    assert max(by_cell.values()) - min(by_cell.values()) <= 1
    for cell in by_cell:
        times = Counter(position for position in order if CELLS[position] == cell)
        assert max(times.values()) - min(times.values()) <= 1


def test_order_is_a_function_of_seed_and_epoch_and_subset_order_of_its_cells() -> None:
    assert sample_order() == sample_order()
    assert sample_order() not in (sample_order(epoch=1), sample_order(seed=2))
    some = list(range(55, 65))
    order = epoch_order(some, shuffle_seed=1, epoch=0, cells=CELLS)
    assert len(order) == len(some)
    assert set(order) <= set(some)
    assert epoch_order([3, 1, 2], shuffle_seed=None, epoch=0, cells=CELLS) == [3, 1, 2]


PATIENCE_S = 30


def loaders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


class Numbers:
    """Counts what was made; `enough` is set when so many were."""

    def __init__(
        self, count: int, *, failing: BaseException | None = None, enough: int = 0
    ) -> None:
        self.count, self.failing, self.enough_at = count, failing, enough
        self.made, self.closed, self.enough = 0, False, threading.Event()

    def __call__(self, leave: threading.Event) -> Iterator[int]:
        try:
            for number in range(self.count):
                self.made += 1
                if self.made == self.enough_at:
                    self.enough.set()
                yield number
            if self.failing is not None:
                raise self.failing
        finally:
            self.closed = True


def test_items_keep_their_order_and_thread_ends_with_them() -> None:
    assert list(prefetch(Numbers(100))) == list(range(100))
    assert list(prefetch(Numbers(0))) == []
    assert loaders() == []


def test_prefetching_stays_within_requested_depth() -> None:
    numbers = Numbers(100, enough=4)
    items = prefetch(numbers, depth=3)
    with closing(items):
        assert next(items) == 0
        assert numbers.enough.wait(PATIENCE_S)
    assert numbers.made == 4
    assert numbers.closed
    assert loaders() == []


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()])
def test_error_is_raised_after_items_before_it(error: BaseException) -> None:
    items = prefetch(Numbers(2, failing=error))
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(type(error)):
        next(items)
    assert loaders() == []


def test_error_at_start_is_raised() -> None:
    def broken(leave: threading.Event) -> Iterator[int]:
        raise OSError("no such thing")

    with pytest.raises(OSError, match="no such thing"):
        list(prefetch(broken))


def test_producer_is_notified_if_no_more_items_are_needed() -> None:
    begun = threading.Event()

    def patient(leave: threading.Event) -> Iterator[int]:
        yield 0
        begun.set()
        assert leave.wait(PATIENCE_S)

    with closing(prefetch(patient)) as items:
        next(items)
        assert begun.wait(PATIENCE_S)
    assert loaders() == []


def test_thread_count_of_network_is_kept_while_loader_has_one() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert list(prefetch(lambda _: iter([torch.get_num_threads()]))) == [1]
        seen: list[int] = []
        thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert [torch.get_num_threads(), *seen] == [2, 2]
    finally:
        torch.set_num_threads(before)


def test_memory_is_pinned_only_if_gpu_is_used() -> None:
    pixels = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    assert stack_images([*pixels]).is_pinned() == uses_gpu()


def test_long_wait_is_logged_with_its_cause_and_continues(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stalls, "STALL_S", 0.02)
    monkeypatch.setattr(stalls, "LOOK_S", 0.01)
    go_on = threading.Event()

    def stuck(leave: threading.Event) -> Iterator[int]:
        yield 0
        assert go_on.wait(PATIENCE_S)
        yield 1

    def describe(number: int) -> str:
        go_on.set()  # it is called when the wait is logged
        return f"batch {number} of 2"

    items = prefetch(stuck, describe=describe)
    assert next(items) == 0
    assert list(items) == [1]
    assert "no images for 0 s; waiting for batch 1 of 2" in caplog.text
    assert [thread for thread in threading.enumerate() if thread.name == "stalls"] == []


REQUESTS = [[(pass_number, place) for place in range(3)] for pass_number in range(4)]


class Pids(Dataset[tuple[int, ...]]):
    """Returns the process that loads, and the request."""

    def __getitem__(self, request: tuple[int, ...]) -> tuple[int, ...]:
        return (os.getpid(), *request)


def joined(items: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    return list(items)


def a_pool() -> LoadingProcesses[list[tuple[int, ...]]]:
    return LoadingProcesses(Pids(), 2, joined)


def test_process_that_dies_during_a_step_interrupts_only_the_wait_for_the_next_batch() -> None:
    batches = a_pool().load([*REQUESTS] * 20)  # more than are loaded ahead
    (pid, *_), *_ = next(batches)
    os.kill(pid, signal.SIGKILL)
    # an error in any line would keep a lock that this thread just took; the signal comes in this time
    threading.Event().wait(0.5)
    with pytest.raises(MachineError, match=r"died.*num_threads"):
        list(batches)


def reset_connection() -> None:
    raise ConnectionResetError(104, "Connection reset by peer")


class Unsent:
    """A batch whose process dies while the tensors are fetched from it."""

    def __init__(self, _: object) -> None: ...

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return reset_connection, ()


def test_process_that_dies_while_it_hands_over_a_batch_is_the_same_error() -> None:
    pool = LoadingProcesses(Pids(), 1, Unsent)
    with pytest.raises(MachineError, match=r"died \(.*Connection reset.*num_threads"):
        list(pool.load(REQUESTS))
    assert not pool.is_free


class Slow(Dataset[tuple[int, ...]]):
    """Waits for a file before it returns a request."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __getitem__(self, request: tuple[int, ...]) -> tuple[int, ...]:
        while not self.file.exists():
            time.sleep(0.01)
        return request


def test_unresponsive_processes_are_logged_and_may_continue(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(stalls, "STALL_S", 0.02)
    monkeypatch.setattr(stalls, "LOOK_S", 0.01)
    file = tmp_path / "go on"

    def describe(number: int) -> str:
        file.touch()  # it is called when the wait is logged
        return f"group {number}"

    pool = LoadingProcesses(Slow(file), 1, joined)
    assert list(pool.load([[(1, 2)]], describe)) == [[(1, 2)]]


# size of /dev/shm, images in a batch, and the room of one part of a batch if it has none for more
SHARED_MEMORY = (
    ("64k", 4, "108 KiB"),
    ("700k", 24, "324 KiB"),  # two parts of a batch have room
    ("64m", 24, ""),
)
UNSHARE = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "--map-root-user", "--mount")
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000  # <linux/sched.h>


def unshare_mounts() -> None:
    """Give this process mounts of its own, as `UNSHARE` does."""
    user, group = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS | (CLONE_NEWUSER if user else 0)):
        raise OSError(ctypes.get_errno(), "unshare")
    if user:
        for name, text in (("setgroups", "deny"), ("uid_map", user), ("gid_map", group)):
            line = text if text == "deny" else f"0 {text} 1"
            Path("/proc/self", name).write_text(str(line))
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


def passes(folder: Path, threads: int, batch_size: int) -> list[tuple[list[int], str]]:
    """Return the indices and the digest of each batch of two passes."""
    settings = SettingsOfTest(data_root=str(folder), split_path=str(folder), resize_size=96)
    image_set = ImageSet(
        survey(folder, parse_data("all:pre")).images,
        transform_of_test(settings),
        cache_bytes=0,
        num_threads=threads,
    )
    loader = Loader(dataset=image_set, batch_size=batch_size)
    return [
        (batch.indices.tolist(), hashlib.sha256(batch.inputs.numpy().tobytes()).hexdigest())
        for epoch in range(2)
        for batch in loader(epoch)
    ]


def load_in_small_memory(folder: Path, answer: Connection) -> None:
    """Send for each size of /dev/shm the batches without and with loading processes, and the log."""
    unshare_mounts()
    for size, batch_size, _ in SHARED_MEMORY:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", "/dev/shm"], check=True
        )
        handler = logging.StreamHandler(io.StringIO())
        logging.getLogger("trueface").addHandler(handler)
        alone, in_processes = (passes(folder, threads, batch_size) for threads in (0, 2))
        logging.getLogger("trueface").removeHandler(handler)
        answer.send((alone, in_processes, handler.stream.getvalue()))


def test_small_shared_memory_changes_no_image_and_is_logged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = [*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"]
    if subprocess.run(tried, capture_output=True, check=False).returncode:
        pytest.skip("a small /dev/shm cannot be mounted here")
    monkeypatch.setenv("TRUEFACE_CACHE", "")
    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        for name in ("Real/FFHQ", "Fake/StyleGAN2"):
            Path(folder, "PreSocial", name).mkdir(parents=True)
            for number in range(16):
                pixels = draw.integers(0, 256, (96, 96, 3), dtype=np.uint8)
                PIL.Image.fromarray(pixels).save(Path(folder, "PreSocial", name, f"{number}.png"))
        fork = multiprocessing.get_context("fork")
        answer, sender = fork.Pipe(duplex=False)
        child = fork.Process(target=load_in_small_memory, args=(Path(folder), sender))
        child.start()
        sender.close()
        told = [answer.recv() for _ in SHARED_MEMORY]
        child.join()
    assert child.exitcode == 0
    for (_, batch_size, keeps), (alone, in_processes, log) in zip(SHARED_MEMORY, told, strict=True):
        assert len(alone) == 2 * -(-32 // batch_size)
        assert in_processes == alone
        said = "images are loaded in the process of the job reason=/dev/shm has"
        assert (said in log) == bool(keeps)
        if keeps:
            remedy = f"parts of batches of {keeps} in it. Set num_threads: 0 or a smaller number"
            assert remedy in log
            assert "--shm-size" in log


class Exhausted(Dataset[torch.Tensor]):
    """Returns an image in a process that can open no more files."""

    def __getitem__(self, request: int) -> torch.Tensor:
        open_files = 3  # fewer than any process has
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))
        return torch.zeros(3, 8, 8)


def test_too_many_open_files_is_not_reported_as_full_shared_memory() -> None:
    (batch,) = LoadingProcesses(Exhausted(), 1, collate_shared).load([[0, 1]])
    assert isinstance(batch, NoRoomError)
    said = describe_shortage(1, batch)
    assert "Too many open files" in said
    assert said.endswith(". Raise the limit of open files (ulimit -n) or set num_threads: 0")
    assert "--shm-size" not in said


def test_other_shared_memory_errors_are_reported_unchanged() -> None:
    reason = "unable to open shared memory object </torch_1>: Permission denied (13)"
    assert describe_shortage(2, NoRoomError(100, reason)) == reason


def test_batch_separates_decoded_images_from_bad_ones() -> None:
    bad = BadFile(1, Path("a"), "cut off")
    batch = collate([torch.zeros(3, 2, 2), bad, torch.ones(3, 2, 2)])
    assert batch.pixels is not None
    assert (batch.pixels.shape, batch.bad) == ((2, 3, 2, 2), [bad])
    assert collate([bad]).pixels is None


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, 5 * PART - 1])
def test_parts_of_a_batch_are_of_equal_size_and_together_the_batch(size: int) -> None:
    batches = [[ImageRequest(at, 0, is_sound=True) for at in range(size)]] * 2
    parts = split_batches(batches)
    assert [request for part in parts for request in part.requests] == batches[0] * 2
    sizes = [len(part.requests) for part in parts]
    assert max(sizes) <= PART
    assert max(sizes) - min(sizes) <= 1
    assert [part.batch for part in parts if part.is_last] == [0, 1]


COUNT = 24  # files of a class


def files(folder: Path, *, real: str, fake: str) -> dict[str, int]:
    """Write images of both classes; return file → label."""
    labels = {}
    for label, suffix in ((0, real), (1, fake)):
        for number in range(COUNT):
            path = folder / f"{label}-{number}.{suffix}"
            PIL.Image.new("RGB", (8, 8)).save(path, quality=75)
            labels[str(path)] = label
    return labels


def test_class_in_other_format_is_a_shortcut(tmp_path: Path) -> None:
    headers, unreadable = sample_headers(files(tmp_path, real="jpg", fake="png"))
    assert unreadable == ()
    tells = shortcut(headers, FORMAT)
    assert tells is not None
    assert tells.accuracy == pytest.approx(1)
    assert (tells.real, tells.fake) == ("24 × JPEG", "24 × PNG")
    assert tells.sentence == (
        "the file format alone separates fake from real images in 100% of cases"
    )
    assert shortcut(headers, SIZE) is None
    assert shortcut(headers, TABLES) is None  # one class has none


def phone(path: Path, image: PIL.Image.Image, **more: Any) -> None:
    """Save an image as a phone does: lying, with a flag and the name of the maker."""
    exif = PIL.Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make] = 6, "Phones\n"
    image.save(path, exif=exif, **more)


def parameters(path: Path, image: PIL.Image.Image) -> None:
    """Save an image as a generator does: with its prompt."""
    text = PngInfo()
    text.add_text("parameters", "a cat")
    image.save(path, pnginfo=text)


def save(**more: Any) -> Callable[[Path, PIL.Image.Image], None]:
    return lambda path, image: image.save(path, **more)


@pytest.mark.parametrize(
    ("suffix", "change", "found", "fake"),
    [
        ("jpg", save(quality=75), set(), ""),
        ("png", save(), set(), ""),
        ("png", lambda path, image: image.convert("L").save(path), {COLOUR_MODE}, "L"),
        ("png", lambda path, image: image.convert("RGBA").save(path), {COLOUR_MODE}, "RGBA"),
        ("jpg", save(subsampling=0), {SUBSAMPLING}, "4:4:4"),
        ("jpg", save(progressive=True), {CODING}, "progressive"),
        ("webp", save(lossless=True), {COMPRESSION}, "lossless"),
        ("tif", save(compression="jpeg"), {COMPRESSION}, "lossy"),
        ("tif", save(compression="tiff_lzw"), {CODING}, "tiff_lzw"),
        ("jpg", save(dpi=(144, 144)), {RESOLUTION}, "144 dpi"),
        ("png", save(icc_profile=b"x" * 128), {METADATA}, "ICC profile"),
        ("png", parameters, {METADATA}, "parameters"),
        ("jpg", save(comment=b"by hand"), {METADATA}, "JFIF, comment"),
        ("webp", save(exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"), {METADATA}, "EXIF"),
        ("jpg", phone, {ORIENTATION, METADATA, SOFTWARE}, "EXIF, JFIF"),
        ("png", phone, {ORIENTATION, METADATA, SOFTWARE}, "EXIF"),
        ("webp", phone, {ORIENTATION, METADATA, SOFTWARE}, "EXIF"),
    ],
)  # fmt: skip
def test_trait_of_one_class_is_a_shortcut(
    tmp_path: Path,
    suffix: str,
    change: Callable[[Path, PIL.Image.Image], None],
    found: set[Property],
    fake: str,
) -> None:
    labels = files(tmp_path, real=suffix, fake=suffix)
    for path in (Path(file) for file, label in labels.items() if label):
        change(path, PIL.Image.new("RGB", (8, 8)))
    headers, _ = sample_headers(labels)
    shortcuts = {what: tells for what in PROPERTIES if (tells := shortcut(headers, what))}
    assert shortcuts.keys() == found
    if found:
        by_name = shortcuts.get(METADATA) or next(iter(shortcuts.values()))
        assert by_name.accuracy == pytest.approx(1)
        assert by_name.fake == f"{COUNT} × {fake}"


def test_lossless_and_lossy_webp_are_two_compressions(tmp_path: Path) -> None:
    picture, exif = PIL.Image.effect_noise((32, 32), 50).convert("RGB"), PIL.Image.Exif()
    exif[271] = "Canon"
    said: dict[str, dict[str, Any]] = {
        "lossless": {"lossless": True},
        "lossy": {"quality": 80},
        "lossless with EXIF": {"lossless": True, "exif": exif},
        "lossy animation": {"quality": 80, "save_all": True, "append_images": [picture.rotate(90)]},
    }
    for name, options in said.items():
        picture.save(tmp_path / f"{name}.webp", **options)
        header = read_header(str(tmp_path / f"{name}.webp"), 0)
        assert header is not None
        assert (header.compression, header.coding) == (name.split()[0], "")


@pytest.mark.parametrize(
    ("suffix", "change", "names", "remedy"),
    [
        ("jpg", save(quality=90), ["JPEG quantisation"], "give the files of both classes the same last compression before "
         "training, otherwise the model learns the JPEG quantisation. A conversion keeps the traces of the old compression"),
        ("webp", save(lossless=True), ["kind of compression"], "give the files of both classes the same last compression before "
         "training, otherwise the model learns the kind of compression. A conversion keeps the traces of the old compression"),
        ("jpg", save(progressive=True), ["coding (progressive, interlaced)"], OTHER_SOURCES),
        ("png", phone, ["EXIF orientation", "metadata", "recorded camera or software"],
         "turn the pixels of all files upright before training, otherwise the model learns the EXIF orientation"),
        ("jpg", lambda path, image: image.convert("CMYK").save(path),
         ["colour mode", "JPEG chroma subsampling", "JPEG quantisation", "metadata"], "give the files of both classes the same "
         "colour mode before training, otherwise the model learns the colour mode"),
    ],
)  # fmt: skip
def test_traits_of_one_cause_are_one_shortcut_with_a_remedy_that_names_it(
    tmp_path: Path,
    suffix: str,
    change: Callable[[Path, PIL.Image.Image], None],
    names: list[str],
    remedy: str,
) -> None:
    labels = files(tmp_path, real=suffix, fake=suffix)
    for path in (Path(file) for file, label in labels.items() if label):
        change(path, PIL.Image.new("RGB", (8, 8)))
    headers, _ = sample_headers(labels)
    (group,) = join_causes(shortcuts_in(headers), headers, PROPERTIES)
    assert [each.name.removeprefix("the ") for each in group] == names
    assert group[0].remedy == remedy


TRAITS = [each.name for each in fields(Header) if each.name != "label"]


@pytest.mark.parametrize(("both", "groups"), [(1, 2), (2, 1)])
def test_single_file_does_not_join_traits_of_other_files(both: int, groups: int) -> None:
    plain = Header(label=0, **dict.fromkeys(TRAITS, ""))
    headers = [
        *(replace(plain, compression=value) for value in ("lossy", "lossless") * 9),
        *(replace(plain, subsampling=value) for value in ("4:2:0", "4:4:4") * 9),
        *(
            replace(plain, compression=one, subsampling=other)
            for one, other in (("lossy", "4:2:0"), ("lossless", "4:4:4"))[:both]
        ),
    ]
    found = [Shortcut(each.name, 1.0, "", "") for each in (SUBSAMPLING, COMPRESSION)]
    assert len(join_causes(found, headers, PROPERTIES)) == groups


def test_traits_of_other_images_and_the_size_are_causes_of_their_own(tmp_path: Path) -> None:
    labels = files(tmp_path, real="jpg", fake="jpg")
    for number, path in enumerate(Path(file) for file, label in labels.items() if label):
        image = PIL.Image.new("RGB", (8, 9))
        image.save(path, subsampling=0 if number % 4 else 2, quality=90 if number % 6 else 75)
    headers, _ = sample_headers(labels)
    groups = join_causes(shortcuts_in(headers), headers, PROPERTIES)
    names = [[each.name for each in group] for group in groups]
    assert names == [[SIZE.name], [TABLES.name], [SUBSAMPLING.name]]


def test_16_bits_and_transparent_palettes_are_colour_modes(tmp_path: Path) -> None:
    PIL.Image.new("I;16", (8, 8)).save(tmp_path / "deep.png")
    PIL.Image.new("P", (8, 8)).save(tmp_path / "clear.png", transparency=0)
    modes = [read_header(str(tmp_path / name), 0) for name in ("deep.png", "clear.png")]
    assert [header and header.colour_mode for header in modes] == ["I;16", "P with transparency"]


def test_damaged_exif_block_does_not_make_a_file_unreadable(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    header = read_header(str(tmp_path / "a.jpg"), 0)
    assert header is not None
    assert (header.orientation, header.software) == ("upright", "none")


def test_traits_of_different_formats_are_not_compared(tmp_path: Path) -> None:
    headers, _ = sample_headers(files(tmp_path, real="jpg", fake="bmp"))
    assert [what for what in PROPERTIES if shortcut(headers, what)] == [FORMAT]


def test_non_image_file_has_no_header(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"no image")
    assert read_header(str(path), 0) is None
    assert sample_headers({str(path): 0}) == ((), (str(path),))


def test_sizes_from_same_distribution_are_no_shortcut() -> None:
    rng = random.Random(0)
    reals, fakes = ([str(rng.randrange(10_000)) for _ in range(200)] for _ in range(2))
    assert best_guess_accuracy(reals, fakes) == pytest.approx(0.5, abs=0.05)


def test_one_common_value_does_not_hide_a_difference() -> None:
    assert best_guess_accuracy(["a"] * 100, ["a"] * 50 + ["b"] * 50) == pytest.approx(0.75)
    assert best_guess_accuracy(["a"] * 100, ["a"] * 100) == pytest.approx(0.5)


def images(folder: Path, *sides: int) -> list[str]:
    files = []
    for number, side in enumerate(sides):
        file = folder / f"{number}.png"
        PIL.Image.new("L", (side + 7, side)).save(file)
        files.append(str(file))
    return files


def test_shorter_sides_of_sample_are_reported(tmp_path: Path) -> None:
    (tmp_path / "no.png").write_text("no image")
    learned = LearnedSizes.from_files([*images(tmp_path, 30, 10, 20), str(tmp_path / "no.png")])
    assert learned == LearnedSizes(smallest=10, median=20, largest=30)
    assert LearnedSizes.from_json(learned.as_json()) == learned
    assert LearnedSizes.from_files([str(tmp_path / "no.png")]) is None


@pytest.mark.parametrize("content", [None, 3, {}, {"smallest": 1, "median": 0, "largest": "4"}])
def test_invalid_record_of_sizes_is_none(content: object) -> None:
    assert LearnedSizes.from_json(content) is None  # type: ignore[arg-type]  # as read from a file


def test_only_sizes_far_from_training_sizes_are_unlike(tmp_path: Path) -> None:
    learned = LearnedSizes(smallest=100, median=150, largest=200)
    files = [Path(file) for file in images(tmp_path, 66, 67, 150, 300, 301)]
    sizes = [size for file in files if (size := read_size(file))]
    assert [learned.is_unlike(size) for size in sizes] == [True, False, False, False, True]
    assert sizes[0] == ImageSize(73, 66)
