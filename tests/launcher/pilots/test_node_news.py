import resource
from pathlib import Path

from launcher.backends.channel import Beat, Began, Ended, Hello, News, Reader, read_news
from launcher.backends.node_pilot import RETRY_S, Outbox
from launcher.states import Done
from tests.build import a_spec, until
from tests.launcher.pilots.conftest import MakeDesk
from tests.launcher.pilots.desk import a_pilot

FILLED = 100_000  # bytes that are there before the pilot comes


def read(file: Path) -> list[News]:
    return [news for line in Reader(file).lines() if (news := read_news(line)) is not None]


def test_of_beats_that_wait_only_the_newest_is_written(tmp_path: Path) -> None:
    file = tmp_path / "from"
    outbox = Outbox(file)  # which is not there
    outbox.add([Beat(number=1), Began(attempt="1-1")])
    outbox.send(0.0)
    assert outbox.trouble
    outbox.add([Ended(attempt="1-1"), Beat(number=2)])
    outbox.send(RETRY_S / 2)  # not tried again so soon
    file.touch()
    outbox.send(RETRY_S / 2)
    assert read(file) == []
    outbox.send(RETRY_S)
    assert read(file) == [Began(attempt="1-1"), Ended(attempt="1-1"), Beat(number=2)]
    assert not outbox
    assert not outbox.trouble


def test_on_a_full_disk_news_wait_for_room_and_no_end_is_lost(desk_of: MakeDesk) -> None:
    jobs = range(1, 9)
    desk = desk_of(a_pilot(beat_s=600.0))
    desk.folder.news.write_bytes(b"\n" * FILLED)
    full = FILLED + 700  # there is room for the hello, and for a part of the first end
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({full}, -1))"
    desk.start(code=limit)
    desk.hello()
    for job in jobs:
        desk.run(spec=a_spec("true"), job=job)
    until(lambda: "news wait" in desk.log, "there is no room")
    resource.prlimit(desk.pid, resource.RLIMIT_FSIZE, (-1, -1))
    for job in jobs:
        assert isinstance(desk.outcome(job), Done)
    assert len(desk.of_kind(Hello)) == 1
