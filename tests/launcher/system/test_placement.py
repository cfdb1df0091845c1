import json

from hypothesis import given
from hypothesis import strategies as st

from launcher.system.environment import RECORD, owners_environment, placed_environment

PLACE = {"CUDA_VISIBLE_DEVICES": "", "LAUNCHER_CPUS": "2", "LAUNCHER_JOB": "7"}
THREADS = {"OMP_NUM_THREADS": "2"}
NAMES = st.sampled_from(["PATH", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "HOME"])
OWNERS = st.dictionaries(NAMES, st.text(st.characters(codec="utf-8"), max_size=4))


@given(OWNERS)
def test_what_a_job_queues_has_the_environment_of_its_owner(owner: dict[str, str]) -> None:
    inside = placed_environment(owner, PLACE, unless_set=THREADS)
    assert inside.items() >= PLACE.items()
    assert owners_environment(inside) == owner
    # and a job of a job, too
    again = placed_environment(owners_environment(inside), PLACE, unless_set=THREADS)
    assert owners_environment(again) == owner


def test_what_a_job_sets_itself_is_a_wish() -> None:
    inside = placed_environment({"OMP_NUM_THREADS": "8"}, PLACE, unless_set=THREADS)
    changed = inside | {"CUDA_VISIBLE_DEVICES": "1", "OMP_NUM_THREADS": "3", "MINE": "x"}
    assert owners_environment(changed) == {
        "CUDA_VISIBLE_DEVICES": "1",
        "OMP_NUM_THREADS": "3",
        "MINE": "x",
    }


def test_a_record_that_cannot_be_understood_changes_nothing_else() -> None:
    for record in ("", "{", "[" * 9999, "[1]", json.dumps({"PATH": 3, "X": ["a"]})):
        assert owners_environment({"PATH": "/bin", RECORD: record}) == {"PATH": "/bin"}


def test_outside_of_a_job_nothing_is_undone() -> None:
    outside = {"CUDA_VISIBLE_DEVICES": "", "LAUNCHER_JOB": "7"}
    assert owners_environment(outside) == outside
