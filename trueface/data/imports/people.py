"""The people whose faces a video shows, and the real video of a fake, by the names of public data sets."""

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
# name of a face swap → that of the video whose face was replaced
_REAL_VIDEOS = (
    (re.compile(r"(\d{3})_(?:\d{3}|[MW]\d{3})"), r"\1"),  # FaceForensics++, DeeperForensics
    (re.compile(r"(\d{2})_\d{2}__(.+)__[^_]+"), r"\1__\2"),  # DFD
    (re.compile(r"(id\d+)_id\d+_(\d+)"), r"\1_\2"),  # Celeb-DF
    (re.compile(r"(\d{4})_fake"), r"\1"),  # UADFV
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


def real_video_of(name: str) -> str:
    """Return the name of the real video that a face swap was made of, or "" if its name does not show it.

    Args:
        name: of the face swap, without a suffix: "000_003", "id0_id1_0000".
    """
    for pattern, real in _REAL_VIDEOS:
        if match := pattern.fullmatch(name):
            return match.expand(real)
    return ""
