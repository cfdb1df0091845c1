"""Crops of runs of consecutive frames."""

from trueface.data.face_alignment import DetectedFace, Geometry
from trueface.data.imports.alignment import AlignmentRecord, FoundFaces, Search
from trueface.data.imports.passed_over import Reason

FIRST, SECOND = (DetectedFace(((place, place),) * 5, 1) for place in (10.0, 12.0))
WITH_OTHERS = SECOND._replace(faces=2)


def test_runs_of_frames_share_the_crop_of_the_first_frame_or_are_left_out() -> None:
    record = AlignmentRecord(geometry=Geometry(64, 1.3), versions={"detector": "d", "models": "m"})
    searches = {
        "v/0": Search(FIRST), "v/1": Search(SECOND), "v/2": Search(None),
        "v/3": Search(SECOND, beyond=True), "v/9": Search(SECOND), "u/0": Search(FIRST), "u/1": Search(WITH_OTHERS),
    }  # fmt: skip
    found, without = FoundFaces(record, searches).with_shared_crops(
        [("v/0", "v/1"), ("v/2", "v/3"), ("w/0", "w/1"), ("u/0", "u/1")]
    )
    assert [found.searches[f"v/{at}"].face for at in (0, 1, 9)] == [FIRST, FIRST, SECOND]
    assert found.left_out() == {"v/2": Reason.NO_FACE, "v/3": Reason.NO_FACE}
    assert found.record.no_face == {"v/2", "v/3"}
    assert without == ["v/2"]
    # a second face in a later frame is still reported
    assert found.searches["u/1"].face == FIRST._replace(faces=2)
    assert found.record.several_faces == {"u/1": 2}
