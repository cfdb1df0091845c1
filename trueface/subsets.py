"""The vocabulary of data IDs: which folders a subset means, which layouts a modifier has.

A subset key names one method folder (`gan2` is StyleGAN2) or a union of them (`gan`, `sd`,
`real`, `all`); a modifier names how the images were shared (`pre` not at all, `fb` through
Facebook …) or a union of that (`shr`, `all`).
"""

from collections.abc import Mapping

from launcher.api import DataId, Part, UnknownName

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

# A union holds every key that contains its name; `all` holds every key.
SUBSET_UNIONS: Mapping[str, tuple[str, ...]] = {
    "all": tuple(SUBSETS),
    "gan": tuple(key for key in SUBSETS if "gan" in key),
    "sd": tuple(key for key in SUBSETS if "sd" in key),
    "real": tuple(key for key in SUBSETS if "real" in key),
}

# Each modifier's folder below the data root: today's layout, then that of the older releases.
MODIFIERS: Mapping[str, tuple[str, ...]] = {
    "pre": ("PreSocial", "TrueFace_PreSocial"),
    "fb": ("Facebook", "TrueFace_PostSocial/Facebook"),
    "tl": ("Telegram", "TrueFace_PostSocial/Telegram"),
    "tw": ("Twitter", "TrueFace_PostSocial/Twitter"),
    "none": (".",),
}

MODIFIER_UNIONS: Mapping[str, tuple[str, ...]] = {
    "all": ("pre", "fb", "tl", "tw"),
    "shr": ("fb", "tl", "tw"),
}


def subset_keys(subset: str) -> tuple[str, ...]:
    """Return the elementary subsets that `subset` stands for, in table order.

    Raises:
        UnknownName: neither a subset nor a union.
    """
    return _keys("subset", subset, SUBSETS, SUBSET_UNIONS)


def modifier_keys(modifier: str) -> tuple[str, ...]:
    """Return the elementary modifiers that `modifier` stands for, in table order.

    Raises:
        UnknownName: neither a modifier nor a union.
    """
    return _keys("modifier", modifier, MODIFIERS, MODIFIER_UNIONS)


def method_folders(subset: str) -> frozenset[str]:
    """Return the names of the method folders that `subset` stands for."""
    return frozenset(SUBSETS[key] for key in subset_keys(subset))


def as_named(data: DataId) -> DataId:
    """Return `data` as a test reads it: what is named and no more.

    Raises:
        UnknownName: an unknown subset or modifier.
    """
    for part in data:
        subset_keys(part.subset)
        modifier_keys(part.modifier)
    return data


def images(data: DataId) -> DataId:
    """Return `data` as a training reads it: with real images where none are named.

    After each part follow the real images under the same modifier, once per modifier; nothing is
    added when any part already names a real subset.

    Raises:
        UnknownName: an unknown subset or modifier.
    """
    if any("real" in part.subset for part in as_named(data)):
        return data
    parts: list[Part] = []
    for part in data:
        parts.append(part)
        real = Part("real", part.modifier)
        if real not in parts:
            parts.append(real)
    return DataId(tuple(parts))


def elementary(data: DataId) -> DataId:
    """Return `data` with every union written out and repeated parts left out.

    Raises:
        UnknownName: an unknown subset or modifier.
    """
    parts = [
        Part(subset, modifier)
        for part in data
        for modifier in modifier_keys(part.modifier)
        for subset in subset_keys(part.subset)
    ]
    return DataId(tuple(dict.fromkeys(parts)))


def _keys(
    what: str, key: str, elementary: Mapping[str, object], unions: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    if key in elementary:
        return (key,)
    if key in unions:
        return unions[key]
    raise UnknownName(what, key, (*elementary, *unions))
