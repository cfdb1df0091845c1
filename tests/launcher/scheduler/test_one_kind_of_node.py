"""Only the modules of this machine and of pilots distinguish the two; for all others a node is a node."""

import ast
from collections.abc import Iterator
from pathlib import Path

from launcher.queue.scheduler import node

# each of these modules concerns one of the two, or makes nodes and partitions
OF_ONE_KIND = {
    "local_node",
    "local_partition",
    "nodes",
    "partitions",
    "pilot_demand",
    "pilot_events",
    "pilot_node",
    "pilot_partition",
    "pilot_seat",
}
KINDS = {"LocalNode", "LocalPartition", "PilotNode", "PilotPartition", "GonePilot"}
WORDS = {"LOCAL", "LOCAL_ONLY", "PILOT_PREFIX"}


def find_questions(source: str) -> Iterator[str]:
    """Yield what asks for the kind of a node. A call of a class makes a node and asks nothing."""
    tree = ast.parse(source)
    makers = {id(call.func) for call in ast.walk(tree) if isinstance(call, ast.Call)}
    for each in ast.walk(tree):
        if isinstance(each, ast.Name) and each.id in WORDS | KINDS and id(each) not in makers:
            yield each.id
        if isinstance(each, ast.Attribute) and each.attr == "pilot":
            yield ast.unparse(each)


def test_modules_of_the_scheduler_do_not_ask_which_node_it_is() -> None:
    modules = Path(node.__file__).parent.rglob("*.py")
    asked = {
        path.stem: questions
        for path in modules
        if path.stem not in OF_ONE_KIND
        and (questions := [*find_questions(path.read_text(encoding="utf-8"))])
    }
    assert asked == {}


def test_each_form_of_the_question_is_found() -> None:
    forms = "a = name == LOCAL\nisinstance(node, PilotNode)\nif claim.pilot: pass\nLocalNode()"
    assert {*find_questions(forms)} == {"PilotNode", "LOCAL", "claim.pilot"}
