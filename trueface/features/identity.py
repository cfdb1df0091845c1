"""What the features of an image depend on: of all rows of a shard, and of each row."""

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np
import PIL
import simplejpeg

from trueface.data.dataset import ImageSet
from trueface.features.body import FrozenBody
from trueface.features.shard import BODY_DIGITS
from trueface.runtime.code import code_digest
from trueface.runtime.files import Json

SCHEMA = 1
# what makes pixels and features; and packages of which a setting names the modules
CODE = (
    "trueface.features.bank:Bank",
    "trueface.corruptions.kinds",
    "trueface.data.augmentations",
    "trueface.data.forging.types",
    "trueface.data.qualities",
    "trueface.models.architectures",
)


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
        "code_sha256": code_digest(*CODE),
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
