"""What the features of an image depend on: of all rows of a shard, and of each row."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import PIL
import simplejpeg

import trueface
from trueface.data.dataset import ImageSet
from trueface.features.body import FrozenBody
from trueface.features.shard import BODY_DIGITS
from trueface.runtime.files import Json

SCHEMA = 1
PACKAGE = Path(trueface.__file__).parent
# folders whose code makes pixels or features; sub-folders where they are named
CODE = (
    "corruptions", "corruptions/kinds", "data", "data/augmentations", "data/forging",
    "data/forging/types", "data/loading", "data/qualities", "models", "models/architectures",
    "models/statistics", "features",
)  # fmt: skip


def identity_of(body: FrozenBody, image_set: ImageSet, view: int) -> dict[str, Json]:
    """Return what every row of a shard depends on.

    Args:
        body: that the images pass.
        image_set: decodes and transforms them.
        view: which of its transform's views.
    """
    facts: dict[str, Json] = {
        "schema": SCHEMA,
        **body.identity,
        "code_sha256": _code_sha256(),
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "simplejpeg": str(getattr(simplejpeg, "__version__", "")),
        "transform": dict(image_set.transform.id.of_view),
        "scale_to": image_set.scale_to,
        "view": view,
    }
    plain: dict[str, Json] = json.loads(json.dumps(facts))  # as a shard's header holds it
    return plain


def stem_of(identity: Mapping[str, Json]) -> str:
    """Return what the names of a view's files begin with: of the body, of all, and the view."""
    text = json.dumps(identity, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{str(identity['body_sha256'])[:BODY_DIGITS]}-{digest[:32]}-v{identity['view']}"


def row_keys(
    image_set: ImageSet, positions: Sequence[int], hashes: Sequence[bytes]
) -> tuple[bytes, ...]:
    """Return what rows depend on besides their shard's identity, as 32 bytes each.

    Args:
        image_set: of the images.
        positions: of the images in the set.
        hashes: the SHA-256 of each image's file.
    """
    # random numbers follow from an image's name; where there are none, only its bytes count
    transform = image_set.transform.id
    keys = []
    for position, sha256 in zip(positions, hashes, strict=True):
        name = image_set.images[position].name
        own = transform.of_row.get(name, "")
        facts = f"{'' if transform.is_test else name}\n{position in image_set.stamped:d}\n{own}"
        keys.append(hashlib.sha256(facts.encode(errors="surrogateescape") + sha256).digest())
    return tuple(keys)


@lru_cache(maxsize=1)  # what is imported does not change while a process runs
def _code_sha256() -> str:
    digest = hashlib.sha256()
    for folder in CODE:
        for path in sorted((PACKAGE / folder).glob("*.py")):
            digest.update(f"{folder}/{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()
