import contextlib
from pathlib import Path

from launcher.backends.channel import Ended, Leave, PilotFolder, name_of
from launcher.backends.node_attempts import ORDER_PATIENCE_S
from launcher.backends.node_facts import PATHS_PATIENCE_S
from launcher.backends.node_pilot import SPEC_PATIENCE_S
from launcher.states import Done, Failed
from launcher.workers.started_file import recorded_outcome
from tests.build import a_spec, shell, until
from tests.launcher.pilots.conftest import MakeDesk
from tests.launcher.pilots.late_files import LateFiles

NAMES_S = 0.6
NFS_NAMES_S = 30.0  # acdirmin of nfs(5)


def test_jobs_run_once_each_where_new_names_are_seen_late(
    desk_of: MakeDesk, tmp_path: Path
) -> None:
    here, there, effects = tmp_path / "here", tmp_path / "there", tmp_path / "effects"
    with LateFiles(here, there, NAMES_S):
        desk = desk_of(root=here)
        desk.start(folder=PilotFolder(there / desk.folder.token))
        count = a_spec(*shell('echo effect >> "$1"', str(effects)))
        for job in (1, 2, 3):
            desk.run(spec=count, job=job)  # the order is seen before the attempt's folder
        long = 'head -c 6000 /dev/zero | tr "\\0" x >&2; exit 3'
        desk.run(spec=a_spec(*shell(long)), job=4)
        for job in (1, 2, 3):
            ended = desk.ended(job)
            assert isinstance(ended.outcome, Done)  # its record need not be seen for that
        desk.ended(4)
        failed = desk.folder.attempt(name_of(4, 1))
        until(lambda: isinstance(recorded_outcome(failed), Failed), "its record is seen, too")
        desk.send(Leave())
        desk.bye()
    assert effects.read_text() == "effect\n" * 3
    assert len(desk.of_kind(Ended)) == 4


def test_every_patience_is_longer_than_names_are_hidden() -> None:
    assert min(ORDER_PATIENCE_S, SPEC_PATIENCE_S, PATHS_PATIENCE_S) > NFS_NAMES_S


def test_a_pilot_keeps_no_file_open_through_which_it_talks(desk_of: MakeDesk) -> None:
    desk = desk_of().start()
    desk.run(spec=a_spec("true"))
    desk.ended()
    talks = {str(desk.folder.orders), str(desk.folder.news)}

    def opened() -> set[str]:
        names = set()
        for descriptor in Path(f"/proc/{desk.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
                names.add(str(descriptor.readlink()))
        return names

    until(lambda: not talks & opened(), "both are closed between two looks")
    desk.send(Leave())
    desk.bye()
