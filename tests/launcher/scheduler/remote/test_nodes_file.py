"""Where pilots were is known after they are gone."""

from launcher.backends.pilots_file import NodesFile, PilotRow, past_pilots
from launcher.system.paths import Home


def somewhere(token: str, node: str = "") -> PilotRow:
    return PilotRow(backend="slurm", token=token, stage="running", node=node)


def test_a_pilot_is_written_down_once_when_its_node_is_known(home: Home) -> None:
    home.folder.mkdir(parents=True, exist_ok=True)
    file = NodesFile(home)
    file.add([somewhere("launcher-1")])
    assert past_pilots(home) == {}
    for _ in range(2):
        file.add([somewhere("launcher-1", "n1"), somewhere("launcher-2")])
    NodesFile(home).add([somewhere("launcher-1", "n1")])  # the next scheduler
    assert (home.folder / "nodes.jsonl").read_text().count("launcher-1") == 1
    assert past_pilots(home)["launcher-1"].node == "n1"


def test_a_line_that_is_damaged_hides_no_other(home: Home) -> None:
    home.folder.mkdir(parents=True, exist_ok=True)
    NodesFile(home).add([somewhere("launcher-1", "n1")])
    with (home.folder / "nodes.jsonl").open("a") as file:
        file.write('{"token": 7}\n[]\nnull\n{"token": "launcher-3", "node": "n')
    NodesFile(home).add([somewhere("launcher-2", "n2")])
    assert set(past_pilots(home)) == {"launcher-1", "launcher-2"}


def test_a_home_that_cannot_be_written_stops_nothing(home: Home) -> None:
    (home.folder / "nodes.jsonl").mkdir(parents=True)
    NodesFile(home).add([somewhere("launcher-1", "n1")])
    assert past_pilots(home) == {}
