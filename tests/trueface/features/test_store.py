"""The feature store: reading, recomputation, and protection against wrong features."""

import hashlib
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

import trueface
from launcher.api import UsageError
from launcher.provenance.code_identity import CodeIndex
from tests.trueface.conftest import Tree
from tests.trueface.features.build import (
    COUNT,
    Counted,
    as_learned,
    as_tested,
    body,
    model,
    read,
    settings,
    store_in,
    written,
)
from trueface.data.index import Image
from trueface.data.loading.image_loaders import eval_loader
from trueface.data.loading.image_set import ImageLoader
from trueface.features.folder import ENDING, TEMPORARY, remove_features, views
from trueface.features.matrix import bytes_of
from trueface.features.store import CODE, open_store
from trueface.runtime import artifact
from trueface.runtime.artifact import BusyError, StoppedError
from trueface.runtime.errors import BadImageError, DataError
from trueface.runtime.progress import RunContext

HALF = slice(None, COUNT // 2)
PACKAGE = Path(trueface.__file__).parent


def cleared(folder: Path) -> int:
    """Remove all views that no process computes; return how many."""
    return sum(remove_features(view) for view in views(folder))


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{ENDING}"))


def lock_of(folder: Path) -> Path:
    (path,) = folder.glob(f"*{artifact.LOCK}")
    return path


class TestReading:
    def test_second_job_passes_no_image_through_backbone(
        self, images: tuple[Image, ...], folder: Path
    ) -> None:
        first, second = body(), body()
        made = read(folder, first, as_tested(images))
        got = read(folder, second, as_tested(images))
        assert (first.seen, second.seen) == (COUNT, 0)
        assert np.array_equal(made.features, got.features)
        assert got.positions.tolist() == list(range(COUNT))
        assert (made.cost.read, made.cost.computed) == (0, COUNT)
        assert (got.cost.read, got.cost.computed) == (COUNT, 0)
        assert got.cost.seconds == pytest.approx(made.cost.seconds)
        backward = read(folder, second, as_tested(images[::-1]))
        assert second.seen == 0
        assert np.array_equal(made.features, backward.features[::-1])

    def test_bad_image_is_listed_each_time(
        self, images: tuple[Image, ...], folder: Path, passes: Callable[..., int]
    ) -> None:
        images[3].path.write_bytes(b"no image")
        images[5].path.unlink()
        for _ in range(2):
            feed = as_tested(images)
            matrix = read(folder, body(), feed)
            assert matrix.positions.tolist() == [0, 1, 2, 4, 6, 7]
            assert sorted(feed.dataset.bad) == [3, 5]
        with pytest.raises(BadImageError):
            passes(as_tested(images, on_bad_image="stop"))
        for image in images:
            image.path.write_bytes(b"no image")
        with pytest.raises(DataError, match="0 of 8 images"):
            passes(as_tested(images))

    def test_many_small_shards_are_merged(
        self, images: tuple[Image, ...], tree: Tree, folder: Path
    ) -> None:
        images = written(tree, 12)
        for count in range(1, 13):
            read(folder, body(), as_tested(images[:count]))
        assert len(shards(folder)) <= 9
        whole = read(folder, counted := body(), as_tested(images))
        assert (counted.seen, len(whole)) == (0, 12)


Feed = Callable[[tuple[Image, ...]], ImageLoader]


def move_to_folder(images: tuple[Image, ...]) -> list[Image]:
    return [image._replace(key=f"B/{image.key}") for image in images]


class TestIdentity:
    """The identity of a row: a change of any part causes recomputation."""

    @pytest.mark.parametrize(
        ("first", "then", "views", "computed"),
        [
            (as_learned, lambda images: as_learned(images, augment_seed=7), (0, 0), COUNT),
            (as_learned, lambda images: as_learned(move_to_folder(images)), (0, 0), COUNT),
            # the patch of a backdoor makes another row
            (
                as_tested,
                lambda images: eval_loader(images, settings(), triggered_rows=[2]),
                (0, 0), 1,
            ),
            # the number of views changes none of them
            (lambda images: as_learned(images, augment_cycle=3), as_learned, (2, 2), 0),
            (lambda images: as_learned(images, augment_cycle=3), as_learned, (2, 3), COUNT),
            # a training without chance sees what a test sees
            (
                lambda images: as_learned(images, flip_prob=0.0),
                lambda images: as_tested(move_to_folder(images)),
                (0, 0), 0,
            ),
            (
                as_learned,
                lambda images: as_learned(
                    [image._replace(label=1 - image.label) for image in images],
                    batch_size=3, seed=7,
                ),
                (0, 0), 0,
            ),
        ],
        ids=[
            "seed", "names", "patch", "cycle", "view",
            "no chance", "labels, batches and order",
        ],
    )  # fmt: skip
    def test_feed_with_possibly_different_pixels_has_separate_features(
        self, images: tuple[Image, ...], passes: Callable[..., int], first: Feed, then: Feed,
        views: tuple[int, int], computed: int,
    ) -> None:  # fmt: skip
        passes(first(images), views[0])
        assert passes(then(images), views[1]) == computed
        assert passes(first(images), views[0]) == 0

    def test_other_weights_precision_or_torch_version_have_separate_features(
        self,
        images: tuple[Image, ...],
        passes: Callable[..., int],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO)
        feed = as_tested(images)
        passes(feed)
        assert passes(feed, 0, body(seed=2)) == COUNT
        assert passes(feed, 0, Counted(model(), precision="bf16")) == COUNT
        assert "features=computed reason=precision bf16 instead of fp32" in caplog.text
        monkeypatch.setattr(torch, "__version__", "2.0.0")
        assert passes(feed) == COUNT
        assert "features=computed reason=torch 2.0.0 instead of" in caplog.text


class TestDamage:
    def test_replaced_image_of_same_name_is_computed_again(
        self, images: tuple[Image, ...], folder: Path, passes: Callable[..., int]
    ) -> None:
        before = read(folder, body(), as_tested(images))
        status = images[2].path.stat()
        PIL.Image.new("RGB", (12, 12), "red").save(images[2].path)
        os.utime(images[2].path, ns=(status.st_atime_ns, status.st_mtime_ns))
        after = read(folder, counted := body(), as_tested(images))
        assert counted.seen == 1
        changed = (before.features != after.features).any(1)
        assert changed.tolist() == [at == 2 for at in range(COUNT)]

    def test_image_changed_during_reading_is_not_stored(
        self,
        images: tuple[Image, ...],
        folder: Path,
        passes: Callable[..., int],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def replaced(_done: int, _total: int) -> None:
            PIL.Image.new("RGB", (12, 12), "red").save(images[0].path)

        store_in(folder).matrix(body(), as_tested(images), 0, watch=RunContext(), progress=replaced)
        assert "not stored images=1 reason=their files changed" in caplog.text
        assert passes(as_tested(images)) == 1

    @pytest.mark.parametrize(
        "damage",
        [
            lambda content: content[:-1],
            lambda content: content[:-9] + b"\x40" + content[-8:],
            lambda _: b"",
        ],
        ids=["cut off", "altered", "empty"],
    )
    def test_damaged_shard_is_computed_again_with_logged_reason(
        self, images: tuple[Image, ...], folder: Path, passes: Callable[..., int],
        caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes],
    ) -> None:  # fmt: skip
        expected = read(folder, body(), as_tested(images)).features.copy()
        (path,) = shards(folder)
        path.write_bytes(damage(path.read_bytes()))
        again = read(folder, counted := body(), as_tested(images))
        assert counted.seen == COUNT
        assert np.array_equal(again.features, expected)
        assert "its bytes differ from those that were written" in caplog.text
        assert passes(as_tested(images)) == 0  # it was replaced

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"trueface features 0\n", "another schema"),
            (b'trueface features 1\n{"identity": {}}\n', "do not match its name"),
            (b"trueface features 1\nno JSON\n", "cannot be read"),
        ],
    )
    def test_foreign_shard_is_ignored(
        self, images: tuple[Image, ...], folder: Path, passes: Callable[..., int],
        caplog: pytest.LogCaptureFixture, content: bytes, reason: str,
    ) -> None:  # fmt: skip
        passes(as_tested(images[HALF]))
        (path,) = shards(folder)
        digest = hashlib.sha256(content).hexdigest()
        foreign = path.with_name(f"{path.name.rpartition('-')[0]}-{digest}{ENDING}")
        foreign.write_bytes(content)
        assert passes(as_tested(images)) == COUNT // 2
        assert reason in caplog.text
        assert not foreign.exists()

    def test_partial_files_of_killed_process_are_deleted(
        self, images: tuple[Image, ...], folder: Path, passes: Callable[..., int]
    ) -> None:
        passes(as_tested(images[HALF]))
        left = lock_of(folder).with_name(f"{lock_of(folder).stem}-0123{TEMPORARY}")
        left.write_bytes(b"half")
        passes(as_tested(images))
        assert not left.exists()

    def test_full_disk_costs_only_speed(
        self, images: tuple[Image, ...], folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        store = store_in(folder)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
        try:
            matrices = [
                store.matrix(body(), as_learned(images), view, watch=RunContext())
                for view in range(2)
            ]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert [len(matrix) for matrix in matrices] == [COUNT, COUNT]
        assert caplog.text.count("features=not stored") == 1
        assert not shards(folder)
        assert not list(folder.glob(f"*{TEMPORARY}"))


class TestOneComputes:
    def test_view_computed_by_other_process_is_awaited(
        self,
        images: tuple[Image, ...],
        folder: Path,
        passes: Callable[..., int],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        passes(as_tested(images[HALF]))
        store, stop = store_in(folder), threading.Event()
        caplog.set_level(logging.INFO)
        with artifact.hold_lock_if_free(lock_of(folder)) as lock:
            lock.report(3, 8)
            with pytest.raises(BusyError):
                store.matrix(body(), as_tested(images), 0, watch=RunContext(), wait=False)
            seen: list[tuple[int, int]] = []

            def progress(done: int, total: int) -> None:
                seen.append((done, total))
                stop.set()

            with pytest.raises(StoppedError):
                store.matrix(
                    body(), as_tested(images), 0, watch=RunContext(stop=stop), progress=progress
                )
        assert seen == [(3, 8)]
        assert f"another process computes pid={os.getpid()}" in caplog.text
        assert "images=3 of=8" in caplog.text
        assert (
            len(store.matrix(body(), as_tested(images), 0, watch=RunContext(), wait=False)) == COUNT
        )

    def test_two_concurrent_jobs_compute_each_image_once(
        self, images: tuple[Image, ...], folder: Path
    ) -> None:
        store_in(folder)
        with ThreadPoolExecutor(2) as pool:  # a lock belongs to its descriptor, not to a process
            both = [pool.submit(read, folder, body(), as_tested(images)) for _ in range(2)]
        assert sorted(job.result().cost.computed for job in both) == [0, COUNT]

    def test_loading_processes_release_view_once_computed(
        self, images: tuple[Image, ...], folder: Path
    ) -> None:
        store, feed = store_in(folder), as_learned(images, num_threads=1)
        for half in (range(4), range(4, 8)):
            matrix = store.matrix(body(), feed, 0, watch=RunContext(), positions=half, wait=False)
            assert matrix.cost.computed == len(half)

    def test_images_absent_during_computation_get_their_own_features(
        self, images: tuple[Image, ...], folder: Path, passes: Callable[..., int]
    ) -> None:
        store, expected = store_in(folder), read(folder, body(), as_tested(images)).features
        cleared(folder)
        passes(as_tested(images[HALF]))
        contents = [image.path.read_bytes() for image in images]
        for image in images:
            image.path.unlink()

        came_back = threading.Event()

        def progress(_done: int, _total: int) -> None:
            if not came_back.is_set():
                for image, content in zip(images, contents, strict=True):
                    image.path.write_bytes(content)
                came_back.set()

        with ThreadPoolExecutor(1) as pool:
            with artifact.hold_lock_if_free(lock_of(folder)) as lock:
                lock.report(3, 8)
                waiting = pool.submit(
                    store.matrix,
                    body(),
                    as_tested(images),
                    0,
                    watch=RunContext(),
                    progress=progress,
                )
                assert came_back.wait(30)
            assert np.array_equal(waiting.result().features, expected)

    def test_killed_process_does_not_block_others(
        self, images: tuple[Image, ...], folder: Path, passes: Callable[..., int]
    ) -> None:
        passes(as_tested(images[HALF]))
        program = (
            "import sys, time; from pathlib import Path\n"
            "from trueface.runtime import artifact\n"
            "with artifact.hold_lock_if_free(Path(sys.argv[1])):\n"
            "    print('held', flush=True); time.sleep(600)\n"
        )
        holder = subprocess.Popen(
            [sys.executable, "-c", program, str(lock_of(folder))],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[3],
        )
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(BusyError):
            store_in(folder).matrix(body(), as_tested(images), 0, watch=RunContext(), wait=False)
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
        assert len(read(folder, body(), as_tested(images))) == COUNT


class TestLimit:
    def test_least_recently_used_view_is_removed_first(
        self, images: tuple[Image, ...], folder: Path
    ) -> None:
        store = store_in(folder, limit_bytes=2 * bytes_of(COUNT, body().width))
        matrices = []
        for number, view in enumerate([0, 1, 0, 2]):
            matrices.append(store.matrix(body(), as_learned(images), view, watch=RunContext()))
            for path in folder.glob(f"*-v{view}{artifact.LOCK}"):
                os.utime(path, (number, number))
        assert [matrix.cost.computed > 0 for matrix in matrices] == [True, True, False, True]
        again = body()
        store.matrix(again, as_learned(images), 0, watch=RunContext())
        assert again.seen == 0
        gone = matrices[1].features.copy()  # a map outlives the file's name
        store.matrix(again, as_learned(images), 1, watch=RunContext())
        assert again.seen == COUNT
        assert np.array_equal(
            gone, store.matrix(again, as_learned(images), 1, watch=RunContext()).features
        )

    def test_features_beyond_limit_are_computed_and_logged(
        self, images: tuple[Image, ...], folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        store = store_in(folder, limit_bytes=100)
        assert len(store.matrix(body(), as_tested(images), 0, watch=RunContext())) == COUNT
        assert "not enough room, set TRUEFACE_FEATURES_LIMIT higher" in caplog.text
        assert sum(view.bytes for view in views(folder)) == 0

    def test_view_under_computation_is_kept(self, images: tuple[Image, ...], folder: Path) -> None:
        store = store_in(folder)
        for view in range(2):
            store.matrix(body(), as_learned(images), view, watch=RunContext())
        (path,) = folder.glob(f"*-v0{artifact.LOCK}")
        with artifact.hold_lock_if_free(path):
            assert cleared(folder) == 1
        assert len(views(folder)) == 1
        (folder / ".0123.tmp").write_bytes(b"digests that are being written")
        assert cleared(folder) == 1
        assert not shards(folder)


class TestOpening:
    def test_store_is_in_cache_folder_and_owned_by_user(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: tuple[Image, ...]
    ) -> None:
        monkeypatch.setenv("TRUEFACE_CACHE", str(tmp_path / "cache"))
        store = open_store()
        assert store is not None
        store.matrix(body(), as_tested(images), 0, watch=RunContext())
        place = tmp_path / "cache" / "features"
        assert place.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in place.iterdir()} == {0o600}

    def test_folder_writable_by_others_is_not_trusted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("TRUEFACE_CACHE", str(tmp_path))
        (tmp_path / "features").mkdir()
        (tmp_path / "features").chmod(0o777)
        assert open_store() is None
        assert "can be written by other users: chmod 700" in caplog.text

    def test_unusable_cache_folder_and_zero_limit_are_no_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("TRUEFACE_CACHE", str(tmp_path / "file" / "cache"))
        assert open_store() is None
        assert "features=not stored" in caplog.text
        monkeypatch.setenv("TRUEFACE_CACHE", str(tmp_path))
        monkeypatch.setenv("TRUEFACE_FEATURES_LIMIT", "0")
        assert open_store() is None
        assert open_store("none") is None

    def test_invalid_limit_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TRUEFACE_CACHE", str(tmp_path))
        monkeypatch.setenv("TRUEFACE_FEATURES_LIMIT", "much")
        with pytest.raises(UsageError, match="TRUEFACE_FEATURES_LIMIT: expected an amount"):
            open_store()
        monkeypatch.setenv("TRUEFACE_FEATURES_LIMIT", "2GiB")
        store = open_store()
        assert store is not None
        assert store.limit_bytes == 2 << 30


def test_code_of_all_image_transforms_is_hashed() -> None:
    modules = {
        ".".join(("trueface", *path.relative_to(PACKAGE).with_suffix("").parts))
        for path in PACKAGE.rglob("*.py")
        if "TransformId(" in path.read_text(encoding="utf-8")
    }
    assert {"trueface.data.loading.transforms", "trueface.data.quality_feed"} <= modules
    assert modules <= set(CodeIndex().closure([name.partition(":")[0] for name in CODE]))
