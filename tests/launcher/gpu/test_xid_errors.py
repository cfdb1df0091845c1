"""An Xid is a card's fault, worth a warning, or a program's own."""

from launcher.gpu.nvml import APPLICATION, FAULTS, WARNINGS, fault_of, warning_of


def test_no_xid_is_two_things() -> None:
    assert not FAULTS.keys() & WARNINGS.keys()
    assert not (FAULTS.keys() | WARNINGS.keys()) & APPLICATION


def test_a_fault_is_said_with_its_number_and_is_no_warning() -> None:
    assert fault_of(79) == "has fallen off the bus (Xid 79)"
    assert warning_of(79) == ""


def test_an_xid_of_a_program_is_neither() -> None:
    assert {fault_of(xid) + warning_of(xid) for xid in APPLICATION} == {""}


def test_an_xid_that_nobody_knows_is_a_warning() -> None:
    assert fault_of(4711) == ""
    assert warning_of(4711) == "the driver reports an error (Xid 4711)"
