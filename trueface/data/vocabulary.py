"""The vocabularies of data IDs: of detectors, of class networks, and of generators.

Detectors: A subset key names one method folder (`gan2` is StyleGAN2), the images without such a
folder (`fakeFlat`, `realFlat`), or a union of them (`gan`, `sd`, `real`, `all`). A modifier names
how the images were shared (`pre` not at all, `fb` through Facebook …) or a union of modifiers (`shr`,
`all`). Users may add their own words to both. This module does not import torch.

Networks of classes: A data set has the files of torchvision or its own files, or folders. The folders
are `train/<class>/` and `test/<class>/`, or `<class>/` alone, which is then divided. VGGFace2 has
other people in `test/` than in `train/`, so only `train/` is read, and divided.

Generators: `images:A`, `labelled:train`, `classes:all`. The set determines what is known about the
images. The part is a folder in the data root, or `all` for the root itself.
"""

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from trueface.runtime.errors import DataError, UnknownName, UsageError
from trueface.runtime.ids import DataId, Part, Words, parse_data

SUBSETS: Mapping[str, str] = {
    "gan1": "StyleGAN",
    "gan2": "StyleGAN2",
    "gan3": "StyleGAN3",
    "sd15": "StableDiffusion1.5",
    "sd2": "StableDiffusion2",
    "sd3": "StableDiffusion3",
    "sdXL": "StableDiffusionXL",
    "flux": "FLUX.1",
    "realFFHQ": "FFHQ",
    "realRAISE": "RAISE",
    "realFORLAB": "FORLAB",
    "extra": "extra",
}

# The only subset in data IDs of models that others published. The modifier is a name of the user's choice.
PUBLISHED = "published"

# Images that lie right below Fake/ or Real/, by the label of that folder.
FLAT: Mapping[str, int] = {"fakeFlat": 1, "realFlat": 0}

# Each holds every key that begins with its name; `all` holds every key.
SUBSET_UNIONS = ("gan", "sd", "real")

# Each modifier's folder below the data root: in the current layout, then in the older releases.
MODIFIERS: Mapping[str, tuple[str, ...]] = {
    "pre": ("PreSocial", "TrueFace_PreSocial"),
    "fb": ("Facebook", "TrueFace_PostSocial/Facebook"),
    "tl": ("Telegram", "TrueFace_PostSocial/Telegram"),
    "tw": ("Twitter", "TrueFace_PostSocial/Twitter"),
    "none": (".",),
}

# modifiers whose images are whole sets under their own names; some of the shared copies get lost
UNSHARED = frozenset({"pre", "none"})

# Which of a modifier's folders are read; `auto` reads the folder that exists.
LAYOUTS: Mapping[str, slice] = {
    "auto": slice(None),
    "plain": slice(0, 1),  # PreSocial, Facebook, …
    "trueface": slice(-1, None),  # TrueFace_PreSocial, TrueFace_PostSocial/Facebook, …
}

MODIFIER_UNIONS: Mapping[str, tuple[str, ...]] = {
    "all": ("pre", "fb", "tl", "tw"),
    "shr": ("fb", "tl", "tw"),
}


_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+\-]*")
CLASS_MODIFIERS = ("all",)
ADVICE = "it needs train/<class>/ and test/<class>/ with images"
SETS: Mapping[str, str] = MappingProxyType(
    {
        "images": "images only",
        "labelled": "images and a table of their attributes",
        "classes": "one folder per class",
        "noisy": "images to which noise is added",
    }
)
WHOLE_ROOT = "all"  # the part that is the data root itself


def check_word(noun: str, word: str, folders: Iterable[str], existing: Container[str]) -> None:
    """Refuse a word that cannot be parsed, or that is ambiguous.

    Args:
        noun: "subset" or "modifier".
        word: a user's own.
        folders: what it stands for.
        existing: words that have a meaning already.

    Raises:
        UsageError: it is refused.
    """
    if _WORD.fullmatch(word) is None:
        raise UsageError(
            f"{word!r} cannot be the name of a {noun}. Begin with a letter or digit, followed by "
            "letters, digits or any of _.+-"
        )
    if word in existing:
        raise UsageError(f"{noun} {word!r} already exists. Choose another name.")
    if not tuple(folders):
        raise UsageError(f"{noun} {word!r} has no folder")
    for folder in folders:
        if reason := _fault(noun, folder):
            raise UsageError(f"{noun} {word!r}: {folder!r} {reason}")


def _fault(noun: str, folder: str) -> str:
    """Return why `folder` cannot be what a word stands for; empty if it can."""
    if not folder.strip():
        return "is not a folder name"
    if not folder.isprintable() or "," in folder:  # a comma stands between two on a command line
        return (
            "contains a comma or a character that cannot be printed. Rename the folder, or link "
            "to it."
        )
    if noun == "subset" and ("/" in folder or folder in {".", ".."}):
        return "is not the name of a folder directly in Real/ and Fake/, such as StyleGAN2"
    if folder.startswith("/") or ".." in PurePosixPath(folder).parts:
        return "is outside the data root. Name a folder in it, or make a link there."
    return ""


Added = tuple[tuple[str, tuple[str, ...]], ...]  # word → folders; hashable, unlike a mapping


@dataclass(frozen=True, slots=True)
class Methods:
    """The images below Real/ and Fake/ that belong to a subset."""

    folders: tuple[str, ...]  # names of method folders, or patterns of such
    # labels whose images without a method folder belong to it
    flat: frozenset[int] = frozenset()

    def holds(self, folder: str) -> bool:
        """Return whether a method folder of this name belongs to the subset."""
        if folder.startswith("."):  # no pattern means hidden folders
            return folder in self.folders
        return any(folder == pattern or fnmatchcase(folder, pattern) for pattern in self.folders)

    def __or__(self, other: "Methods") -> "Methods":
        folders = tuple(dict.fromkeys((*self.folders, *other.folders)))
        return Methods(folders, self.flat | other.flat)


@dataclass(frozen=True)
class DataIdResolver:
    """The words of data IDs: the built-in ones and the user-defined ones."""

    subsets: Added = ()
    modifiers: Added = ()
    layout: str = "auto"  # one of LAYOUTS

    def with_words(self, words: Words) -> "DataIdResolver":
        """Return this vocabulary with more words.

        A subset whose name begins with that of a union (`gan`, `sd`, `real`) belongs to it, and
        every one to `all`; a modifier belongs to no union.

        Raises:
            UsageError: a word that is known already or cannot be one, or a folder that cannot be.
        """
        for noun, added, existing in (
            ("subset", words.subsets, self._subset_keys),
            ("modifier", words.modifiers, self._modifier_keys),
        ):
            for word, folders in added.items():
                check_word(noun, word, folders, existing)
        subsets = ((word, tuple(folders)) for word, folders in words.subsets.items())
        modifiers = ((word, tuple(folders)) for word, folders in words.modifiers.items())
        return replace(
            self, subsets=(*self.subsets, *subsets), modifiers=(*self.modifiers, *modifiers)
        )

    def with_layout(self, layout: str) -> "DataIdResolver":
        """Return this vocabulary for data of one layout: plain, trueface, or auto for either.

        Raises:
            UnknownName: there is no layout of this name.
        """
        if layout not in LAYOUTS:
            raise UnknownName("layout", layout, LAYOUTS)
        return self if layout == self.layout else replace(self, layout=layout)

    def subset_keys(self, subset: str) -> tuple[str, ...]:
        """Return the elementary subsets that `subset` stands for, in table order.

        Raises:
            UnknownName: neither a subset nor a union.
        """
        return _lookup_word("subset", subset, self._subset_keys)

    def modifier_keys(self, modifier: str) -> tuple[str, ...]:
        """Return the elementary modifiers that `modifier` stands for, in table order.

        Raises:
            UnknownName: neither a modifier nor a union.
        """
        return _lookup_word("modifier", modifier, self._modifier_keys)

    def methods(self, subset: str) -> Methods:
        """Return which method folders `subset` stands for."""
        keys = self.subset_keys(subset)
        folders = (folder for key in keys for folder in self._folders.get(key, ()))
        flat = frozenset(FLAT[key] for key in keys if key in FLAT)
        return Methods(tuple(dict.fromkeys(folders)), flat)

    def custom_folders(self, modifier: str) -> tuple[str, ...] | None:
        """Return the folders of a user-defined modifier; None if it is built in."""
        return dict(self.modifiers).get(modifier)

    def folders(self, modifier: str) -> tuple[str, ...]:
        """Return the folders of an elementary modifier, or patterns of such, by this layout."""
        own = self.custom_folders(modifier)
        return MODIFIERS[modifier][LAYOUTS[self.layout]] if own is None else own

    def modifier_name(self, modifier: str) -> str:
        """Return the canonical name of an elementary modifier, whichever word was used."""
        same = self._same_modifiers.get(modifier, (modifier,))
        return same[0] if len(same) == 1 else modifier

    def test_data_id(self, data: DataId) -> DataId:
        """Return `data` as a test reads it: only the images that it names.

        Raises:
            UnknownName: an unknown subset or modifier.
        """
        for part in data:
            self.subset_keys(part.subset)
            self.modifier_keys(part.modifier)
        return data

    def training_data_id(self, data: DataId) -> DataId:
        """Return `data` as a training reads it: with real images where it names none.

        After each part follow the real images under the same modifier, once per modifier; nothing
        is added when any part already names a real subset.

        Raises:
            UnknownName: an unknown subset or modifier.
        """
        if any(names_real(part.subset) for part in self.test_data_id(data)):
            return data
        parts: list[Part] = []
        for part in data:
            parts.append(part)
            real = Part("real", part.modifier)
            if real not in parts:
                parts.append(real)
        return DataId(tuple(parts))

    def expand_unions(self, data: DataId) -> DataId:
        """Return `data` with every union written out and repeated parts left out.

        Words for the same folders become one word, the built-in one where it exists.

        Raises:
            UnknownName: an unknown subset or modifier.
        """
        parts = [
            Part(subset, modifier)
            for part in data
            for named in self.modifier_keys(part.modifier)
            for modifier in self._same_modifiers.get(named, (named,))
            for subset in self.subset_keys(part.subset)
        ]
        return DataId(tuple(dict.fromkeys(parts)))

    @cached_property
    def _folders(self) -> Mapping[str, tuple[str, ...]]:
        return {key: (folder,) for key, folder in SUBSETS.items()} | dict(self.subsets)

    @cached_property
    def _subset_keys(self) -> Mapping[str, tuple[str, ...]]:
        keys = (*self._folders, *FLAT)
        members = {name: [key for key in keys if key.startswith(name)] for name in SUBSET_UNIONS}
        # If several words have the same folders, the member of a union replaces the others. A job that
        # names the union gets its words in written form only, and would miss one under another name.
        members_first = sorted(self.subsets, key=lambda own: not own[0].startswith(SUBSET_UNIONS))
        by_folder = {folder: key for key, folder in SUBSETS.items()}
        same = _find_synonyms(by_folder, members_first)
        unions = {
            union: tuple(_without_repeats(held, same))
            for union, held in (members | {"all": list(keys)}).items()
        }
        return {key: (key,) for key in keys} | same | unions

    @cached_property
    def _same_modifiers(self) -> Mapping[str, tuple[str, ...]]:
        """The built-in modifiers that user-defined modifiers stand for.

        For IDs only: the images are read from the folders that the word names, and from no other
        layout. Folders of the older layout are words of their own: where both layouts exist they
        hold different images, and such words are the only way to name either.
        """
        by_folder = {folders[0]: key for key, folders in MODIFIERS.items()}
        return _find_synonyms(by_folder, self.modifiers)

    @cached_property
    def _modifier_keys(self) -> Mapping[str, tuple[str, ...]]:
        own = (word for word, _ in self.modifiers)
        return {key: (key,) for key in (*MODIFIERS, *own)} | dict(MODIFIER_UNIONS)


BUILT_IN = DataIdResolver()


def names_real(subset: str) -> bool:
    """Return whether a subset holds real images, by its name."""
    return subset.startswith("real")


def _find_synonyms(
    built_in: Mapping[str, str], own_words: Iterable[tuple[str, tuple[str, ...]]]
) -> dict[str, tuple[str, ...]]:
    """Return the words that each user-defined word means, by the set of its folders.

    Args:
        built_in: the built-in word for a folder.
        own_words: user-defined words and their folders. If several words have the same folders, the first
            replaces all of them. A word whose folders have separate words means those.
    """
    plain = {
        word: tuple(sorted({str(PurePosixPath(folder)) for folder in folders}))
        for word, folders in own_words
    }
    by_folder, by_folders = dict(built_in), dict[tuple[str, ...], str]()
    for word, folders in plain.items():
        by_folders.setdefault(folders, word)
        if len(folders) == 1:
            by_folder.setdefault(folders[0], word)
    return {
        word: tuple(dict.fromkeys(by_folder[folder] for folder in folders))
        if by_folder.keys() >= set(folders)
        else (by_folders[folders],)
        for word, folders in plain.items()
    }


def _without_repeats(keys: Iterable[str], synonyms: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return the keys without those that only stand for other keys among them."""
    meant = {key: synonyms.get(key, (key,)) for key in keys}
    return [
        key
        for key, synonyms in meant.items()
        if synonyms == (key,) or not meant.keys() >= set(synonyms)
    ]


def _lookup_word(noun: str, word: str, table: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    if word not in table:
        raise UnknownName(noun, word, table, where="launcher help ids")
    return table[word]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassDatasetType:
    """A sort of data set."""

    summary: str
    packed: str = ""  # folder in which torchvision keeps its files; "": it knows none
    names: tuple[str, ...] = ()  # names of the classes in these files
    own_file: str = (
        ""  # one of the files as published, or its name before .gz; also in the root itself
    )


CLASS_DATASET_TYPES: Mapping[str, ClassDatasetType] = MappingProxyType(
    {
        "cifar10": ClassDatasetType(
            summary="CIFAR-10",
            packed="cifar-10-batches-py",
            names=(
                "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
                "truck",
            ),
        ),
        "fashion": ClassDatasetType(
            summary="Fashion-MNIST",
            packed="FashionMNIST/raw",
            names=(
                "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt",
                "Sneaker", "Bag", "Ankle boot",
            ),
            own_file="train-images-idx3-ubyte",
        ),
        "vggface2": ClassDatasetType(summary="VGGFace2"),
        "folders": ClassDatasetType(summary="one folder per class"),
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFolders:
    """A data set on disk."""

    dataset_type: str
    root: Path
    packed: bool  # torchvision's files, not folders
    divided: bool  # train/ and test/ are there; False: one folder, to be divided
    names: tuple[str, ...]  # names of the classes, in their order


def class_data(data: DataId) -> DataId:
    """Return a data ID whose words are known.

    Raises:
        UnknownName: an unknown data set or modifier.
    """
    for part in data:
        if part.subset not in CLASS_DATASET_TYPES:
            raise UnknownName("data set", part.subset, CLASS_DATASET_TYPES)
        if part.modifier not in CLASS_MODIFIERS:
            raise UnknownName("modifier", part.modifier, CLASS_MODIFIERS)
    return data


def class_dataset_type(data: str) -> str:
    """Return the one data set that a data ID names.

    Raises:
        UsageError: it names several, or none that is known.
    """
    sorts = {part.subset for part in class_data(parse_data(data))}
    if len(sorts) > 1:
        raise UsageError(f"{data} names several data sets, but a network is trained on one")
    return sorts.pop()


def find_classes(sort: str, root: Path) -> ClassFolders:
    """Return the data set of some sort in a folder.

    Raises:
        DataError: there is none.
    """
    packed = packed_folder(sort, root) is not None
    divided = packed or (root / "train").is_dir()
    if not root.is_dir():
        raise DataError(f"data folder {root} does not exist")
    if sort == "vggface2" and divided and not _same_people(root):
        root, divided = root / "train", False
    if divided and not packed and not (root / "test").is_dir():
        raise DataError(f"{root} has a folder train but no folder test: {ADVICE}")
    if not divided and sort not in {"folders", "vggface2"}:
        own = CLASS_DATASET_TYPES[sort].own_file
        files = f"torchvision's {CLASS_DATASET_TYPES[sort].packed}/, " + (f"{own}.gz, " * bool(own))
        files += "or "
        raise DataError(
            f"{root} does not contain {CLASS_DATASET_TYPES[sort].summary}: it needs {files}{ADVICE[9:]}"
        )
    names = (
        CLASS_DATASET_TYPES[sort].names
        if packed
        else class_folders(root / "train" if divided else root)
    )
    if len(names) < 2:
        raise DataError(f"{root} has {len(names)} class folders, at least two are needed: {ADVICE}")
    return ClassFolders(dataset_type=sort, root=root, packed=packed, divided=divided, names=names)


def packed_folder(sort: str, root: Path) -> Path | None:
    """Return the folder of the files of a data set that are not one file per image, or None."""
    kind = CLASS_DATASET_TYPES[sort]
    if kind.packed and (root / kind.packed).is_dir():
        return root / kind.packed
    if kind.own_file and any((root / f"{kind.own_file}{end}").is_file() for end in ("", ".gz")):
        return root
    return None


def _same_people(root: Path) -> bool:
    """Return whether train/ and test/ of a set of faces have a person in common."""
    test = root / "test"
    return test.is_dir() and not set(class_folders(root / "train")).isdisjoint(class_folders(test))


def class_index(names: Sequence[str], name_or_index: int | str) -> int:
    """Return the place of a class in their order, given its name, or that place.

    Raises:
        UsageError: there is no such class; says which there are.
    """
    if str(name_or_index) in names:
        return names.index(str(name_or_index))
    try:
        index = int(name_or_index)
    except ValueError:
        index = -1
    if not 0 <= index < len(names):
        listed = ", ".join(f"{at} {name}" for at, name in enumerate(names))
        raise UsageError(f"class {name_or_index!r} to forget does not exist. Classes: {listed}.")
    return index


def class_folders(folder: Path) -> tuple[str, ...]:
    """Return the names of the folders in a folder that are not hidden, sorted as torchvision does."""
    return tuple(
        sorted(
            path.name
            for path in folder.iterdir()
            if not path.name.startswith(".") and path.is_dir()
        )
    )


def has_originals(data: DataId, vocabulary: DataIdResolver) -> bool:
    """Return whether any part of a data ID means original images.

    Raises:
        UnknownName: an unknown modifier.
    """
    return any(not UNSHARED.isdisjoint(vocabulary.modifier_keys(part.modifier)) for part in data)
