import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import pytest

from launcher.api import parse_data
from trueface.data.folders import CACHE, FolderListing, Names, cache_folder, open_listing, scan
from trueface.data.index import Image, survey

Tree = Callable[[Iterable[str]], Path]

ALL = parse_data("all:pre")
NAMES = (
    *(f"PreSocial/Fake/StyleGAN2/{folder}/{n:05d}.png" for folder in "ab" for n in range(3)),
    *(f"PreSocial/Real/FFHQ/{n:05d}.png" for n in range(3)),
)
FOLDERS = 7  # PreSocial, Fake, StyleGAN2, a, b, Real, FFHQ
LATER = 10**10  # ns: long enough for a folder to be trusted


@dataclass
class Disk:
    """Counts what is asked of the disk; its clock is ahead, so that fresh folders are trusted."""

    root: Path
    file: Path
    ahead_ns: int = LATER
    looks: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)

    def listing(self, worth: int = 0) -> FolderListing:
        self._tick()
        return FolderListing(
            self.root,
            self.file,
            look=self.look,
            status=self.status,
            clock=lambda: time.time_ns() + self.ahead_ns,
            worth=worth,
        )

    def _tick(self) -> None:
        """Wait until what is changed from now on gets another time: the file system's clock has ticks of 4 ms."""
        probe = self.root.with_name("probe")
        probe.touch()
        before = probe.stat().st_mtime_ns
        while probe.stat().st_mtime_ns == before:
            probe.touch()

    def images(self, worth: int = 0) -> tuple[Image, ...]:
        self.looks, self.states = [], []
        return survey(self.root, ALL, listing=self.listing(worth)).images

    def look(self, path: str) -> Names:
        self.looks.append(path)
        return scan(path)

    def status(self, path: str) -> os.stat_result:
        self.states.append(path)
        return os.stat(path)  # noqa: PTH116  # what it stands for


@pytest.fixture
def disk(tree: Tree, tmp_path: Path) -> Disk:
    return Disk(tree(NAMES), tmp_path / "cache" / "one.index")


def test_unchanged_folders_are_not_read_again(disk: Disk) -> None:
    first = disk.images()
    assert len(first) == len(NAMES)
    assert (len(disk.looks), len(disk.states)) == (FOLDERS, FOLDERS)
    assert disk.images() == first
    assert (disk.looks, len(disk.states)) == ([], FOLDERS)


def test_only_changed_folder_is_read_again(disk: Disk) -> None:
    disk.images()
    (disk.root / "PreSocial/Fake/StyleGAN2/b/00009.png").touch()
    (disk.root / "PreSocial/Real/FFHQ/00000.png").unlink()
    assert len(disk.images()) == len(NAMES)
    assert sorted(path.rpartition("/")[2] for path in disk.looks) == ["FFHQ", "b"]
    assert disk.images()[5].key == "StyleGAN2/b/00002"
    assert disk.looks == []


def test_new_folder_is_found_and_deleted_one_is_dropped(disk: Disk) -> None:
    disk.images()
    for image in (disk.root / "PreSocial/Fake/StyleGAN2/a").iterdir():
        image.unlink()
    (disk.root / "PreSocial/Fake/StyleGAN2/a").rmdir()
    (disk.root / "PreSocial/Fake/StyleGAN2/c").mkdir()
    (disk.root / "PreSocial/Fake/StyleGAN2/c/00001.png").touch()
    assert [image.key for image in disk.images()][3:4] == ["StyleGAN2/c/00001"]
    assert b"StyleGAN2/a" not in disk.file.read_bytes()


def test_recently_changed_folder_is_not_trusted(disk: Disk) -> None:
    disk.ahead_ns = 0
    disk.images()
    disk.images()
    assert len(disk.looks) == FOLDERS
    assert not disk.file.exists()


def test_folder_with_future_mtime_is_not_trusted(disk: Disk) -> None:
    soon = time.time() + 3600
    os.utime(disk.root / "PreSocial/Real/FFHQ", (soon, soon))
    disk.images()
    disk.images()
    assert [path.rpartition("/")[2] for path in disk.looks] == ["FFHQ"]


def test_reset_mtime_does_not_hide_change(disk: Disk) -> None:
    folder = disk.root / "PreSocial/Real/FFHQ"
    disk.images()
    before = folder.stat()
    (folder / "00009.png").touch()
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert len(disk.images()) == len(NAMES) + 1


def test_replaced_folder_of_same_name_is_read_again(disk: Disk, tmp_path: Path) -> None:
    disk.images()
    folder = disk.root / "PreSocial/Real/FFHQ"
    folder.rename(tmp_path / "aside")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/00007.png").touch()
    folder.symlink_to(tmp_path / "other", target_is_directory=True)
    assert disk.images()[-1].key == "FFHQ/00007"


def test_dangling_link_is_followed_once_its_target_exists(disk: Disk, tmp_path: Path) -> None:
    (disk.root / "PreSocial/Fake/StyleGAN3").symlink_to(tmp_path / "share")
    assert len(disk.images()) == len(NAMES)
    (tmp_path / "share").mkdir()  # as when another disk is mounted; the folder above is unchanged
    (tmp_path / "share/00001.png").touch()
    assert "StyleGAN3/00001" in {image.key for image in disk.images()}
    assert [path.rpartition("/")[2] for path in disk.looks] == ["StyleGAN3"]


def test_circular_link_is_excluded_from_index(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    folder = disk.root / "PreSocial/Fake/StyleGAN2"
    (folder / "a/back").symlink_to(folder, target_is_directory=True)
    (folder / "itself").symlink_to(folder / "itself")
    first = disk.images()
    caplog.clear()
    assert disk.images() == first
    assert (len(first), disk.looks) == (len(NAMES), [])
    assert "leads back" in caplog.text


def index_of(content: object) -> Callable[[bytes], bytes]:
    body = json.dumps(content).encode()
    return lambda _: b"trueface index 6 %08x\n" % zlib.crc32(body) + body


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content.replace(b"00001.png", b"00008.png"),
        lambda content: content.replace(b"index 6", b"index 5"),
        lambda content: b"\0" * len(content),
        index_of([]),
        index_of({"folders": []}),
        index_of({"folders": {"PreSocial": [1, 2]}}),
        index_of({"folders": {"": None}}),
    ],
)
def test_broken_index_is_ignored(disk: Disk, damage: Callable[[bytes], bytes]) -> None:
    first = disk.images()
    disk.file.write_bytes(damage(disk.file.read_bytes()))
    assert disk.images() == first
    assert len(disk.looks) == FOLDERS
    disk.images()
    assert disk.looks == []


def test_unwritable_cache_is_not_an_error(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    disk.file = tmp_path / "file" / "one.index"
    assert len(disk.images()) == len(disk.images()) == len(NAMES)
    assert len(disk.looks) == FOLDERS


def test_full_disk_is_not_an_error(disk: Disk) -> None:
    program = (
        "import resource, sys; from pathlib import Path; from launcher.api import parse_data;"
        "from trueface.data.index import survey; from trueface.data.folders import FolderListing;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0));"
        "root, file = map(Path, sys.argv[1:]); listing = FolderListing(root, file, worth=0,"
        " clock=lambda: 2**63); sys.exit(len(survey(root, parse_data('all:pre'), listing=listing).images))"
    )
    done = subprocess.run([sys.executable, "-c", program, disk.root, disk.file], check=False)
    assert done.returncode == len(NAMES)
    assert [*disk.file.parent.iterdir()] == []


def test_index_is_not_written_for_few_images(disk: Disk) -> None:
    disk.images(worth=len(NAMES) + 1)
    assert not disk.file.exists()


def test_non_unicode_names_are_preserved(disk: Disk) -> None:
    name = b"\xff\xfe.png"
    (disk.root / "PreSocial/Real/FFHQ" / os.fsdecode(name)).touch()
    first = disk.images()
    assert disk.images() == first
    assert disk.looks == []
    assert os.fsencode(first[-1].file).endswith(name)


def test_listings_of_two_parts_are_merged(disk: Disk) -> None:
    for data in ("gan2:pre", "realFFHQ:pre"):
        survey(disk.root, parse_data(data), listing=disk.listing())
    disk.images()
    assert disk.looks == []


def survey_often(root: Path, file: Path, data: str) -> None:
    for _ in range(20):
        listing = FolderListing(root, file, clock=lambda: time.time_ns() + LATER, worth=0)
        survey(root, parse_data(data), listing=listing)


def test_concurrent_processes_write_one_index(disk: Disk) -> None:
    workers = [
        get_context("fork").Process(target=survey_often, args=(disk.root, disk.file, data))
        for data in ("gan2:pre", "realFFHQ:pre", "all:pre", "all:pre")
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * len(workers)
    assert len(disk.images()) == len(NAMES)
    assert [path.name for path in disk.file.parent.iterdir()] == [disk.file.name]


def test_index_is_in_user_cache_or_folder_of_environment_variable(tmp_path: Path) -> None:
    program = "from trueface.data.folders import cache_folder; print(cache_folder())"
    for given, said in (
        ({CACHE: str(tmp_path)}, str(tmp_path)),
        ({"XDG_CACHE_HOME": str(tmp_path), CACHE: ""}, f"{tmp_path}/trueface"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", program], env=os.environ | given, capture_output=True, check=True
        )
        assert done.stdout.decode().strip() == said


def test_data_root_has_one_index_under_every_path(tree: Tree, tmp_path: Path) -> None:
    root = tree(NAMES)
    (tmp_path / "link").symlink_to(root, target_is_directory=True)
    one, same, other = map(open_listing, (root, tmp_path / "link", tmp_path))
    assert one._file == same._file != other._file
    folder = cache_folder()
    assert folder is not None
    assert one._file is not None
    assert one._file.is_relative_to(folder)


def test_indexes_not_written_for_long_are_removed(disk: Disk) -> None:
    disk.file.parent.mkdir()
    old, young = disk.file.with_name("old.index"), disk.file.with_name("young.index")
    for file, age_days in ((old, 400), (young, 100)):
        file.touch()
        os.utime(file, (time.time() - age_days * 86400,) * 2)
    disk.images()
    assert (old.exists(), young.exists(), disk.file.exists()) == (False, True, True)


def test_folders_directly_below_root_are_kept_with_those_of_modifier(disk: Disk) -> None:
    for name in ("Fake/StyleGAN2/00001.png", "Real/FFHQ/00001.png"):
        (disk.root / name).parent.mkdir(parents=True)
        (disk.root / name).touch()
    data = parse_data("all:none&all:pre")
    first = survey(disk.root, data, listing=disk.listing()).images
    disk.looks = []
    assert survey(disk.root, data, listing=disk.listing()).images == first
    assert (len(first), disk.looks) == (2 + len(NAMES), [])
    (disk.root / "Real/FFHQ/00001.png").unlink()
    (disk.root / "Real/FFHQ").rmdir()
    (disk.root / "Real/RAISE").mkdir()
    (disk.root / "Real/RAISE/00001.png").touch()
    disk.looks = []
    assert len(survey(disk.root, data, listing=disk.listing()).images) == len(first)
    assert [path.partition("/data/")[2] for path in disk.looks] == ["Real", "Real/RAISE"]
