"""The folders of a data root that the built-in subsets and modifiers of data IDs name."""

from collections.abc import Mapping

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
