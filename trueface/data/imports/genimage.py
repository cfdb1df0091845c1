"""GenImage: GENERATOR/imagenet_ai_…/{train,val}/{ai,nature}, fakes of the ImageNet classes.

Source: M. Zhu et al., "GenImage", NeurIPS 2023 Datasets and Benchmarks, arXiv 2306.08571. Each fake
was generated from the prompt "photo of CLASS", and its name contains the number of the class. The
photographs have their ImageNet names. Several generators may have the same photographs.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from trueface.data.imports.registry import (
    FAKE,
    REAL,
    ImportedImage,
    LayoutOptions,
    image_folders,
    listed_name,
    register_layout,
    subfolders,
)
from trueface.data.splits.split_files import LISTS

CLASSES = {"ai": FAKE, "nature": REAL}
PHOTOGRAPHS = "ImageNet"
_PREFIX = re.compile(r"imagenet_(?:ai_)?(?:\d+_)?(?P<name>.+)", re.IGNORECASE)
# "000_midjourney_88", "0_adm_173", "GLIDE_1000_200_00_012_glide_00003": the number before the name
_PROMPT = re.compile(r"(?:^|_)(?P<number>\d+)_[A-Za-z][A-Za-z0-9]*_\d+$")
# the abbreviations of the archives, by the names of the paper's generators
_NAMES: Mapping[str, str] = {
    "sdv4": "stable_diffusion_v_1_4",
    "sdv5": "stable_diffusion_v_1_5",
}


@register_layout(
    "genimage",
    summary="GenImage, complete or some of its generators",
    expects="GENERATOR/{train,val}/{ai,nature}, or GENERATOR/imagenet_…/{train,val}/{ai,nature}",
)
class GenImage:
    """One fake source a generator; all photographs are ImageNet's."""

    def fits(self, folder: Path) -> bool:
        """Return whether any split of any generator has ai/ and nature/."""
        level = [folder]
        for _ in range(3):
            if any(
                set(CLASSES) <= set(subfolders(place / name))
                for place in level
                for name in subfolders(place)
                if name in LISTS
            ):
                return True
            level = [place / name for place in level for name in subfolders(place)][:50]
        return False

    def images(self, folder: Path, options: LayoutOptions) -> Iterator[ImportedImage]:  # noqa: ARG002  # its folders say all
        """Yield the images; the published lists are train and val, which serves as test."""
        for path, parts, names in image_folders(folder):
            at = next((n for n, part in enumerate(parts) if part in CLASSES), 0)
            if at < 1 or parts[at - 1] not in LISTS:
                continue
            lists, generator = (LISTS[parts[at - 1]],), _generator(folder, parts[: at - 1])
            for image in names:
                stem, name = image.rpartition(".")[0], listed_name(image, lists)
                file = f"{path}/{image}"
                if CLASSES[parts[at]] == FAKE:
                    prompt = _PROMPT.search(stem)
                    ties = (f"class {int(prompt['number'])}",) if prompt else ()
                    yield ImportedImage(file, FAKE, generator, name, ties=ties, lists=lists)
                else:
                    ties = (f"photograph {stem}",)
                    below = f"{generator}/{name}"
                    yield ImportedImage(file, REAL, PHOTOGRAPHS, below, ties=ties, lists=lists)


def _generator(folder: Path, parents: tuple[str, ...]) -> str:
    """Return the generator's name, by the folder that is not its archive's, or by that."""
    names = [part for part in parents if not _PREFIX.fullmatch(part)]
    if names:
        return names[0]
    archive = _PREFIX.fullmatch(parents[-1] if parents else folder.resolve().name)
    name = archive["name"] if archive else folder.resolve().name
    return _NAMES.get(name.casefold(), name)
