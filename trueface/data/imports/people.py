"""The people whose faces a video shows, by the names that public data sets give to videos."""

import re

# "FF" is the kind of all names that come from FaceForensics++'s videos
_NAMES = (
    ("FF", re.compile(r"(\d{3})(?:_(\d{3}))?")),
    ("FF", re.compile(r"(\d{3})_([MW]\d{3})")),
    ("FF", re.compile(r"()([MW]\d{3}).*")),
    ("DFD", re.compile(r"(\d{2})(?:_(\d{2}))?__.*")),
    ("Celeb", re.compile(r"(id\d+)(?:_(id\d+))?_\d+")),
    ("UADFV", re.compile(r"(\d{4})(?:_fake)?")),
)


def people_of_video(name: str) -> tuple[str, ...]:
    """Return the people that a video shows: of a face swap, the video's own person comes first.

    Args:
        name: of the video or of its folder, without a suffix: "000_003", "id0_id1_0000".

    Returns:
        A name for each person, with its kind: "FF 000". Nothing if no known data set has such
        names.
    """
    for kind, pattern in _NAMES:
        if match := pattern.fullmatch(name):
            return tuple(f"{kind} {person}" for person in match.groups() if person)
    return ()
