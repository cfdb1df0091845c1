import os
from pathlib import Path

import pytest

from trueface.runtime.cache_folder import Entry, free_bytes, limit_bytes, make_private, make_room
from trueface.runtime.errors import UsageError

ENTRIES = [Entry(Path(name), used_at, 10) for name, used_at in (("b", 2.0), ("a", 1.0), ("c", 3.0))]


def removed(need: int, limit: int, in_use: str = "") -> tuple[bool, str]:
    names = []

    def remove(entry: Entry) -> bool:
        if entry.path.name in in_use:
            return False
        names.append(entry.path.name)
        return True

    fits = make_room(ENTRIES, need, limit, remove)
    return fits, "".join(names)


def test_the_least_recently_used_is_removed_first_and_no_more_than_needed() -> None:
    assert removed(10, 40) == (True, "")
    assert removed(10, 30) == (True, "a")
    assert removed(15, 30) == (True, "ab")


def test_what_is_in_use_stays() -> None:
    assert removed(10, 30, in_use="a") == (True, "b")
    assert removed(10, 30, in_use="abc") == (False, "")


def test_nothing_is_removed_for_what_can_never_fit() -> None:
    assert removed(31, 30) == (False, "")


def test_a_limit_is_read_from_the_environment() -> None:
    assert limit_bytes("LIMIT", {}, 7) == 7
    assert limit_bytes("LIMIT", {"LIMIT": "2GiB"}, 7) == 2 << 30
    assert limit_bytes("LIMIT", {"LIMIT": "0"}, 7) == 0
    with pytest.raises(UsageError, match=r"LIMIT: .*GiB"):
        limit_bytes("LIMIT", {"LIMIT": "much"}, 7)


def test_a_folder_of_the_cache_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    make_private(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_can_write_is_not_trusted(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)
    with pytest.raises(PermissionError, match="chmod 700"):
        make_private(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_not_trusted(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, -1)
    with pytest.raises(PermissionError, match="another user"):
        make_private(tmp_path)


def test_the_free_space_of_a_folder_to_be_made_is_that_of_its_disk(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "none" / "such") > 0
