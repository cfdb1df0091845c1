import json
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import chdir
from pathlib import Path

import pytest

from launcher.api import Poison, parse_data
from tests.trueface.oldfiles import poison_file
from tests.trueface.training.test_trainer import settings
from trueface.cli import main
from trueface.data.index import Image, survey
from trueface.data.loading.image_set import ImageSet
from trueface.jobs.previewing import ROWS, write_preview
from trueface.poisoning.label_flips import choose_flips, read_list
from trueface.poisoning.loaders import poisoned_train_loader
from trueface.poisoning.poison_record import read_record, write_record
from trueface.runtime.errors import DataError, RecordError

Tree = Callable[[Iterable[str]], Path]
FOLDERS = {"pre": "PreSocial", "fb": "Facebook", "none": "."}
ROOT = "/media/NAS/Real/TrueFake"
SIDE = 12


def an_image(method: str, number: int, *, modifier: str = "pre", suffix: str = "png") -> Image:
    label = int(method != "FFHQ")
    folder = f"data/{FOLDERS[modifier]}/{('Real', 'Fake')[label]}"
    key = f"{method}/{number:05d}"
    return Image(
        file=f"{folder}/{key}.{suffix}", key=key, label=label, method=method, modifier=modifier
    )


def images_of(numbers: Sequence[int], **facts: str) -> list[Image]:
    return [an_image(m, n, **facts) for m in ("StyleGAN2", "FFHQ") for n in numbers]


def renamed(images: Sequence[Image]) -> list[Image]:
    """Return the same images in folders of other names."""
    return [
        one._replace(key=one.key.replace("FFHQ", "Flickr").replace("2/", "/")) for one in images
    ]


TRAIN, VAL = images_of(range(50)), images_of(range(50, 60))


def write_old_record(
    path: Path, images: Sequence[Image], *, rate: float = 0.2, folder: str = f"{ROOT}/PreSocial"
) -> Path:
    """Write a record as the original did, from images at its place."""
    indices = random.Random(42).sample(range(len(images)), int(len(images) * rate))
    samples = [
        (
            f"{folder}/{('Real', 'Fake')[images[at].label]}/{images[at].key}.png",
            1.0 - images[at].label,
        )
        for at in indices
    ]
    return poison_file(path, indices, samples, rate=rate, total=len(images))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "pre:FFHQ/00001\nStyleGAN2/00002\n"),
        ("list.txt", "\ufeff  pre:FFHQ/00001 \r\n\r\nStyleGAN2/00002"),
        ("list", "pre:FFHQ/00001\nStyleGAN2/00002"),
        ("list.json", '["pre:FFHQ/00001",\n "StyleGAN2/00002"]'),
    ],
)
def test_names_and_keys_are_read_from_text_and_json(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    names = read_list(path, TRAIN)
    assert names == ("pre:FFHQ/00001", "StyleGAN2/00002")
    assert choose_flips(TRAIN, Poison("2"), listed_names=names).indices == (51, 2)


def test_own_record_is_accepted_as_list(tmp_path: Path) -> None:
    record = choose_flips(TRAIN, Poison("20"))
    path = tmp_path / "poison.json"
    write_record(path, record)
    again = choose_flips(TRAIN, Poison("20"), listed_names=read_list(path, TRAIN))
    assert (again.indices, again.keys) == (record.indices, record.keys)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "contains no images"),
        ("[]", "contains no images"),
        ("[1]", "must contain only names"),
        ("[", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("{}", "not a poison record"),
        ("\udcff", "cannot be read"),
        (None, r"list\.txt"),
    ],
)
def test_empty_list_file_is_refused(text: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    if text is not None:
        path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=said) as caught:
        read_list(path, TRAIN)
    assert str(path) in str(caught.value)


def test_old_training_record_reproduces_original_choice(tmp_path: Path) -> None:
    path = write_old_record(tmp_path / "poison_0.20.pkl", TRAIN)
    record = choose_flips(TRAIN, Poison("20"), listed_names=read_list(path, TRAIN))
    assert record.indices == choose_flips(TRAIN, Poison("20")).indices
    turned = choose_flips(TRAIN[::-1], Poison("20"), listed_names=read_list(path, TRAIN[::-1]))
    assert set(turned.keys) == set(record.keys)


def test_old_validation_record_is_refused_with_known_fault(
    tmp_path: Path,
) -> None:
    path = write_old_record(tmp_path / "poison_0.20.pkl", VAL)
    with pytest.raises(RecordError) as caught:
        read_list(path, TRAIN)
    told = str(caught.value)
    assert str(path) in told
    assert "4 of its 4 images are not in it" in told
    assert "The record counts 20 images, the training split has 100" in told
    assert "overwrote the record of the training split with that of the validation split" in told


@pytest.mark.parametrize(
    ("images", "rate", "said"),
    [
        ([*TRAIN[:-1], VAL[0]], 1.0, r"1 of its 100 .* such as .*StyleGAN2/00050\.png"),
        # an equal total does not make a record of the validation list one of the training
        (images_of(range(100, 150)), 0.2, "20 of its 20 images are not in it"),
        # the same total and names, real first
        (renamed([*TRAIN[50:], *TRAIN[:50]]), 0.2, "20 of its 20 flipped labels are equal to"),
    ],
)
def test_old_record_of_other_images_or_labels_is_refused(
    images: Sequence[Image], rate: float, said: str, tmp_path: Path
) -> None:
    path = write_old_record(tmp_path / "poison.pkl", images, rate=rate)
    with pytest.raises(RecordError, match=said):
        read_list(path, TRAIN)


@pytest.mark.parametrize("folder", ["/elsewhere/A", "B"])
def test_paths_below_unknown_folder_are_matched_by_key(folder: str, tmp_path: Path) -> None:
    path = write_old_record(tmp_path / "poison.pkl", TRAIN, folder=folder)
    assert choose_flips(TRAIN, Poison("20"), listed_names=read_list(path, TRAIN)).rate == 0.2


def test_path_identifies_which_copy_is_meant(tmp_path: Path) -> None:
    both = [*TRAIN, *images_of(range(50), modifier="fb")]
    path = write_old_record(tmp_path / "poison.pkl", both[100:], folder=f"{ROOT}/Facebook")
    assert {name.partition(":")[0] for name in read_list(path, both)} == {"fb"}


def test_positions_identify_copies_if_paths_do_not(tmp_path: Path) -> None:
    both = [*TRAIN, *images_of(range(50), modifier="fb")]
    path = write_old_record(tmp_path / "poison.pkl", both, folder="/elsewhere")
    names = read_list(path, both)
    drawn = choose_flips(both, Poison("20"), unit="image")  # as the original drew
    assert choose_flips(both, Poison("20"), listed_names=names).indices == drawn.indices
    with pytest.raises(RecordError, match="not made from this training split"):
        read_list(path, both[:-1])


def test_positions_are_used_for_renamed_folders_if_totals_agree(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_old_record(tmp_path / "poison.pkl", renamed(TRAIN))
    names = read_list(path, TRAIN)
    assert (
        choose_flips(TRAIN, Poison("20"), listed_names=names).indices
        == choose_flips(TRAIN, Poison("20")).indices
    )
    assert "its positions are used" in caplog.text
    with pytest.raises(RecordError, match="100 images, the training split has 99"):
        read_list(path, TRAIN[:-1])


@pytest.mark.parametrize("file", ["", "/", "Fake", "Fake/", "x.png", "Real/../Fake/x", "\n"])
def test_invalid_path_in_old_record_is_no_image(file: str, tmp_path: Path) -> None:
    path = poison_file(tmp_path / "poison.pkl", [0], [(file, 0.0)], rate=0.1, total=7)
    with pytest.raises(RecordError, match="1 of its 1 images"):
        read_list(path, TRAIN)


def test_command_accepts_list_and_refuses_validation_record(
    tree: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree(f"PreSocial/{m}/{n:05d}.png" for m in ("Fake/StyleGAN2", "Real/FFHQ") for n in range(20))
    model = "gan2:pre&real:pre%25"
    with chdir(tmp_path):
        assert main.run(["splits", "data", "--out", "splits"]) == 0
        train, val = (json.loads(Path(f"splits/{n}.json").read_text()) for n in ("train", "val"))
        Path("list.txt").write_text("\n".join(train[:8]))
        words = ["poison", model, "--name", "r", "--data-root", "data", "--split-path", "splits"]
        assert main.run([*words, "--poison-list", "list.txt"]) == 0
        record = read_record(tmp_path / "runs/r" / model / "poison.json")
        assert record.kind == "list"
        assert {name.partition(":")[2] for name in record.keys} == set(train[:8])
        files = [
            (f"{ROOT}/PreSocial/{('Fake', 'Real')[key.startswith('FFHQ')]}/{key}.png",
             float(key.startswith("FFHQ")))
            for key in val
        ]  # fmt: skip
        poison_file(Path("old.pkl"), range(4), files, rate=0.25, total=4)
        capsys.readouterr()
        assert main.run([*words, "--poison-list", "old.pkl"]) == 1
    assert "that of the validation split" in capsys.readouterr().err
    assert read_record(tmp_path / "runs/r" / model / "poison.json") == record


def images(root: Path) -> tuple[Image, ...]:
    return survey(root, parse_data("gan2:pre&realFFHQ:pre")).images


@pytest.fixture
def root(tree: Tree) -> Path:
    methods = ("Fake/StyleGAN2", "Real/FFHQ")
    return tree(f"PreSocial/{method}/{n:05d}.png" for method in methods for n in range(10))


def training_image_set(root: Path, **changed: object) -> ImageSet:
    told = settings(resize_size=SIDE, **changed)
    return poisoned_train_loader(images(root), told, None).dataset


def test_undecodable_images_are_left_out_of_sheet(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "preview.png"
    for file in root.rglob("StyleGAN2/*.png"):
        file.write_bytes(b"no image")
    assert write_preview(path, training_image_set(root)) == ROWS // 2
    path.unlink()
    for file in root.rglob("*.png"):
        file.write_bytes(b"no image")
    with pytest.raises(DataError, match="no image for a preview"):
        write_preview(path, training_image_set(root))
    assert not path.exists()
