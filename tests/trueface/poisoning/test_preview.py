from collections.abc import Callable, Iterable
from pathlib import Path

import PIL.Image
import pytest

from launcher.api import parse_data
from tests.trueface.training.test_trainer import settings
from trueface.data.dataset import ImageSet
from trueface.data.index import Image, survey
from trueface.jobs.previewing import EPOCHS, LABEL, ROWS, write_preview
from trueface.poisoning.loaders import augmented
from trueface.runtime.errors import DataError

Tree = Callable[[Iterable[str]], Path]
SIDE = 12


def images(root: Path) -> tuple[Image, ...]:
    return survey(root, parse_data("gan2:pre&realFFHQ:pre")).images


@pytest.fixture
def root(tree: Tree) -> Path:
    methods = ("Fake/StyleGAN2", "Real/FFHQ")
    return tree(f"PreSocial/{method}/{n:05d}.png" for method in methods for n in range(10))


def seen(root: Path, **changed: object) -> ImageSet:
    told = settings(resize_size=SIDE, **changed)
    return augmented(images(root), told, None).image_set


def test_a_contact_sheet_shows_each_chosen_image_as_the_first_epochs_see_it(
    root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "runs" / "preview.png"
    image_set = seen(root, flip_prob=0.5)
    assert write_preview(path, image_set) == ROWS
    with PIL.Image.open(path) as sheet:
        assert sheet.height >= ROWS * (SIDE + LABEL)
        assert sheet.width >= EPOCHS * SIDE


def test_the_same_settings_give_the_same_sheet_and_another_augment_seed_another(
    root: Path, tmp_path: Path
) -> None:
    sheets = []
    for seed, augment_seed in ((1, 7), (2, 7), (1, 8)):
        path = tmp_path / f"{seed}-{augment_seed}.png"
        write_preview(path, seen(root, seed=seed, augment_seed=augment_seed, patch_size=8))
        sheets.append(path.read_bytes())
    assert sheets[0] == sheets[1] != sheets[2]


def test_an_image_that_cannot_be_decoded_is_left_out_of_the_sheet(
    root: Path, tmp_path: Path
) -> None:
    for file in root.rglob("StyleGAN2/*.png"):
        file.write_bytes(b"no image")
    assert write_preview(tmp_path / "preview.png", seen(root)) == ROWS // 2


def test_without_any_image_that_can_be_decoded_there_is_no_sheet(
    root: Path, tmp_path: Path
) -> None:
    for file in root.rglob("*.png"):
        file.write_bytes(b"no image")
    with pytest.raises(DataError, match="no image for a preview"):
        write_preview(tmp_path / "preview.png", seen(root))
    assert not (tmp_path / "preview.png").exists()
