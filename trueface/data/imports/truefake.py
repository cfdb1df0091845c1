"""TrueFake and TrueFace: images before and after they were shared on social networks.

Source: S. Dell'Anna, A. Montibeller, G. Boato, "TrueFake", IJCNN 2025, arXiv 2504.20658. A split
file beside the images, {"train": [...], "val": [...], "test": [...]}, is taken as published.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from trueface.data.image_keys import short_key
from trueface.data.imports.registry import (
    FAKE,
    REAL,
    ImportedImage,
    LayoutOptions,
    image_folders,
    register_layout,
    subfolders,
)
from trueface.data.splits.split_files import NAMES
from trueface.data.vocabulary import MODIFIERS
from trueface.runtime.errors import DataError

# the folder of a modifier: those of the vocabulary, and other names of the same in small letters
_MODIFIERS: Mapping[str, str] = {
    folders[0].casefold(): key for key, folders in MODIFIERS.items() if key != "none"
} | {"x": "tw", "twitter_x": "tw", "nonshared": "pre", "non_shared": "pre"}
SPLIT_FILES = ("split.json", "splits.json")
_PREFIXES = ("truefake_", "trueface_")
_CLASSES = {"real": REAL, "fake": FAKE}
# names of generators without blanks and points, in small letters, as folders of TrueFace have them
_SOURCES: Mapping[str, str] = {
    "sdxl": "StableDiffusionXL",
    "sd15": "StableDiffusion1.5",
    "stablediffusion15": "StableDiffusion1.5",
    "sd2": "StableDiffusion2",
    "sd21": "StableDiffusion2",
    "stablediffusion21": "StableDiffusion2",
    "sd3": "StableDiffusion3",
    "flux": "FLUX.1",
    "flux1": "FLUX.1",
}
_BY_PROMPT = ("StableDiffusion", "FLUX")  # generators that were given the same prompts
_NUMBER = re.compile(r"\d{5}")


@register_layout(
    "truefake",
    summary="TrueFake or TrueFace: PreSocial, Facebook, Telegram, Twitter",
    expects="PreSocial/{Real,Fake}/SOURCE (also Facebook, Telegram, Twitter or X, or below "
    "TrueFake_PreSocial and TrueFake_PostSocial)",
    tables=SPLIT_FILES,
)
class TrueFake:
    """The tree is TrueFace's already; names that differ are translated."""

    def fits(self, folder: Path) -> bool:
        """Return whether any modifier's folder has Real/ or Fake/."""
        tops = [folder / name for name in subfolders(folder)]
        tops += [top / name for top in tops for name in subfolders(top)]
        return any(
            _modifier(top.name) and {n.casefold() for n in subfolders(top)} & set(_CLASSES)
            for top in tops
        )

    def images(self, folder: Path, options: LayoutOptions) -> Iterator[ImportedImage]:  # noqa: ARG002  # its folders say all
        """Yield the images, with the lists of a split file where there is one."""
        published = _read_published_lists(folder)
        for path, parts, names in image_folders(folder):
            at = next((n for n, part in enumerate(parts) if part.casefold() in _CLASSES), 0)
            if at < 1 or at + 1 >= len(parts) or not (modifier := _modifier(parts[at - 1])):
                continue
            source = _SOURCES.get(re.sub(r"[\s._-]", "", parts[at + 1]).casefold(), parts[at + 1])
            deeper = parts[at + 2 :]
            for name in names:
                key = "/".join((*deeper, name.rpartition(".")[0]))
                yield ImportedImage(
                    f"{path}/{name}",
                    _CLASSES[parts[at].casefold()],
                    source,
                    "/".join((*deeper, name)),
                    modifier,
                    ties=_ties(source, key),
                    lists=published.get(short_key(f"{parts[at + 1]}/{key}"), ()),
                )


def _modifier(folder: str) -> str:
    small = folder.casefold()
    for prefix in _PREFIXES:
        small = small.removeprefix(prefix)
    return _MODIFIERS.get(small, "")


def _ties(source: str, key: str) -> tuple[str, ...]:
    """Return the prompt: generators that share prompts number their images by them."""
    short = short_key(key)
    by_prompt = source.startswith(_BY_PROMPT) and _NUMBER.fullmatch(short.rpartition("/")[2])
    return (f"prompt {short}",) if by_prompt else ()


def _read_published_lists(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return the lists of each key, cut to the five digits that networks keep; {} without a file.

    Raises:
        DataError: the file holds no lists.
    """
    path = next((folder / name for name in SPLIT_FILES if (folder / name).is_file()), None)
    if path is None:
        return {}
    try:
        content = json.loads(path.read_bytes())
        lists = {name: [str(key) for key in content.get(name, ())] for name in NAMES}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataError(
            f"cannot read {path}: {error}. Expected the lists {', '.join(NAMES)}."
        ) from error
    published: dict[str, tuple[str, ...]] = {}
    for name, keys in lists.items():
        for key in keys:
            short = short_key(key)
            published[short] = (*published.get(short, ()), name)
    return published
