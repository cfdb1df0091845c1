"""Which faces lend each other parts."""

import numpy as np

from tests.trueface.data.forging.build import a_face
from trueface.data.forging.blending import NEAREST, nearest, thumbnail


def test_the_most_similar_face_comes_first_and_nobody_lends_to_himself() -> None:
    faces = [a_face(number) for number in range(8)]
    faces.append(np.clip(faces[3].astype(int) + 9, 0, 255).astype(np.uint8))  # brighter: alike
    near = nearest(np.stack([thumbnail(face) for face in faces]))
    assert near.shape == (9, NEAREST)
    assert near[3, 0] == 8
    assert near[8, 0] == 3
    assert all(place not in others for place, others in enumerate(near.tolist()))


def test_a_face_that_is_alone_has_no_donor() -> None:
    assert nearest(thumbnail(a_face(1))[None]).shape == (1, 0)
    assert nearest(np.stack([thumbnail(a_face(n)) for n in (1, 2)])).tolist() == [[1], [0]]
