import pytest

from launcher.states import Shortage, read_facts
from launcher.system.files import Json


def test_facts_are_read_as_they_were_written_without_the_words() -> None:
    shortage = Shortage(
        where="ram", wanted=1, held=2, cap=3, free=4, total=5, message="MemoryError"
    )
    assert read_facts(shortage.record()) == Shortage(
        where="ram", wanted=1, held=2, cap=3, free=4, total=5
    )


@pytest.mark.parametrize("nonsense", [{}, {"where": 3}, {"held": -1}, {"held": True, "cap": "8"}])
def test_facts_that_cannot_be_understood_are_not_known(nonsense: dict[str, Json]) -> None:
    assert read_facts(nonsense) == Shortage(where="gpu")
