"""Which files of numbers belong to a job, if others may write files in the same places."""

from math import inf

import pytest

from launcher.queue.workers.progress.file_owners import (
    Judgement,
    NamedPlace,
    NumberFile,
    OtherJob,
    Owner,
    judge_file,
    own_files,
    own_folder_advice,
    own_newest_file,
)

PATTERN = NamedPlace("/w/lg/*/m.csv", is_folder=False)
FILE = "/w/lg/v0/m.csv"
MINE = {FILE: (1, 2)}


def a_file(path: str = FILE, created: float | None = 20.0, changed: float = 30.0) -> NumberFile:
    return NumberFile(path, (1, 2), changed, created)


def another(
    since: float, until: float = inf, *, sees: bool = False, place: NamedPlace = PATTERN
) -> OtherJob:
    return OtherJob(7, "command/b", place, since, until, MINE if sees else {})


@pytest.mark.parametrize(
    ("place", "path", "is_covered"),
    [
        (PATTERN, FILE, True),
        (PATTERN, "/w/lg/v0/x/m.csv", False),
        (NamedPlace("/w/**/m.csv", is_folder=False), FILE, True),
        (NamedPlace("/w/**/m.csv", is_folder=False), "/w/m.csv", True),
        (NamedPlace(FILE, is_folder=False), FILE, True),
        (NamedPlace("/w/[a].csv", is_folder=False), "/w/[a].csv", True),
        (NamedPlace("/w/lg", is_folder=True), "/w/lg/v0/events", True),
        (NamedPlace("/w/lg", is_folder=True), "/w/lgx/events", False),
    ],
)
def test_place_covers_its_files(place: NamedPlace, path: str, is_covered: bool) -> None:
    assert place.covers(path) is is_covered


@pytest.mark.parametrize(
    ("others", "is_seen", "owner"),
    [
        ([], False, Owner.THIS_JOB),
        ([another(0, 19)], False, Owner.THIS_JOB),  # ended before the file was created
        ([another(31)], False, Owner.THIS_JOB),  # began after its last change
        ([another(0, 25)], False, Owner.UNKNOWN),
        ([another(25)], False, Owner.UNKNOWN),
        ([another(25, place=NamedPlace("/w/other/*", is_folder=False))], False, Owner.THIS_JOB),
        ([another(25, place=NamedPlace(FILE, is_folder=False))], False, Owner.UNKNOWN),
        ([another(25)], True, Owner.SEEN),
        ([another(25, place=NamedPlace(FILE, is_folder=False))], True, Owner.UNKNOWN),
        ([another(25, sees=True)], False, Owner.OTHER),
        ([another(25, sees=True)], True, Owner.UNKNOWN),  # both wrote it
        ([another(0, 5, sees=True)], False, Owner.THIS_JOB),  # it wrote the file before
    ],
)
def test_file_belongs_to_the_job_that_was_seen_with_it_or_ran_alone(
    others: list[OtherJob], is_seen: bool, owner: Owner
) -> None:
    judged = judge_file(a_file(), 10.0, MINE if is_seen else {}, others)
    assert judged.owner is owner
    assert bool(judged.others) == (owner in {Owner.UNKNOWN, Owner.OTHER})


def test_start_of_the_job_counts_if_the_file_was_there_before() -> None:
    others = [another(0, 9)]
    for created in (None, 5.0):  # None: the file system does not record it
        assert judge_file(a_file(created=created), 10.0, {}, others).owner is Owner.THIS_JOB
    replaced = judge_file(a_file(), 10.0, {FILE: (1, 99)}, [another(0)])
    assert replaced.owner is Owner.UNKNOWN


def test_newest_file_counts_unless_its_owner_is_unknown() -> None:
    new, old = a_file("/w/lg/v1/m.csv"), a_file()

    def chosen(*owners: Owner) -> tuple[list[str], int]:
        judged = [Judgement(file, owner) for file, owner in zip((new, old), owners, strict=True)]
        own = own_newest_file(judged)
        return [file.path for file in own.files], len(own.unknown)

    assert chosen(Owner.THIS_JOB, Owner.THIS_JOB) == ([new.path], 0)
    assert chosen(Owner.OTHER, Owner.THIS_JOB) == ([old.path], 0)
    assert chosen(Owner.UNKNOWN, Owner.SEEN) == ([old.path], 0)
    assert chosen(Owner.UNKNOWN, Owner.THIS_JOB) == ([], 1)  # it may be older than its own newest
    assert chosen(Owner.OTHER, Owner.OTHER) == ([], 1)
    assert own_newest_file([]) == ((), ())
    every = own_files([Judgement(new, Owner.UNKNOWN), Judgement(old, Owner.SEEN)])
    assert [file.path for file in every.files] == [old.path]
    assert [each.file for each in every.unknown] == [new]


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("m.csv", "{job_folder}/m.csv"),
        ("./lg/*/m.csv", "{job_folder}/lg/*/m.csv"),
        ("/w/m.csv", "{job_folder}/m.csv"),
        ("{run_folder}/m.csv", "{job_folder}/m.csv"),
        ("/w/", "{job_folder}/metrics"),
    ],
)
def test_advice_names_a_file_in_the_folder_of_the_job(written: str, path: str) -> None:
    assert own_folder_advice("metrics", written).endswith(f"add --metrics {path!r}")
    assert own_folder_advice("metrics", written, "{}={!r}").endswith(f"add metrics={path!r}")
