"""The stand-in behaves as nvidia-ml-py expects of a driver."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pynvml
import pytest

from tests.build import until
from tests.nvml.standin import GIB, LEAVE, TAKE, Devices, asked_here

STRUCTS = (
    pynvml.c_nvmlMemory_t,
    pynvml.c_nvmlProcessInfo_v2_t,
    pynvml.c_nvmlProcessUtilizationSample_t,
    pynvml.c_nvmlUtilization_t,
    pynvml.c_nvmlTemperature_v1_t,
    pynvml.c_nvmlEventData_t,
)
VERSIONS = ("nvmlTemperature_v1", "nvmlEventTypeXidCriticalError")


def measure(library: Path, name: str) -> int:
    function = ctypes.CDLL(str(library)).standin_measure
    function.restype = ctypes.c_long
    return int(function(name.encode()))


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda one: one.__name__)
def test_struct_of_the_stand_in_has_the_layout_of_the_bindings(
    struct: type[ctypes.Structure], nvml_library: Path
) -> None:
    name = struct.__name__

    assert measure(nvml_library, name) == ctypes.sizeof(struct)
    for field, *_ in struct._fields_:
        assert measure(nvml_library, f"{name}.{field}") == getattr(struct, field).offset


@pytest.mark.parametrize("name", VERSIONS)
def test_constant_of_the_stand_in_equals_that_of_the_bindings(
    name: str, nvml_library: Path
) -> None:
    assert measure(nvml_library, name) == getattr(pynvml, name)


def test_bindings_list_processes_with_the_checked_struct() -> None:
    assert pynvml.c_nvmlProcessInfo_v3_t is pynvml.c_nvmlProcessInfo_v2_t


def test_program_loads_the_stand_in_as_the_driver(gpus: Devices) -> None:
    gpus.add()
    ask = "import pynvml; pynvml.nvmlInit(); print(pynvml.nvmlDeviceGetCount())"

    found = subprocess.run(
        [sys.executable, "-c", ask],
        env=os.environ | gpus.environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert found.stdout == "1\n"


def test_process_allocates_and_frees_memory_and_a_dead_one_uses_none(gpus: Devices) -> None:
    uuid = gpus.add(used=0)
    surroundings = os.environ | gpus.environment | {"CUDA_VISIBLE_DEVICES": uuid}

    def used() -> int:
        return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used)

    with asked_here(gpus):
        first = subprocess.Popen(
            ["/bin/sh", "-c", f"{TAKE} read line; {LEAVE} read line", "sh", str(GIB)],
            stdin=subprocess.PIPE,
            env=surroundings,
        )
        until(lambda: used() == GIB, "the memory is taken")
        assert first.stdin is not None
        first.stdin.write(b"\n")
        first.stdin.flush()
        until(lambda: used() == 0, "the memory is given back")
        first.communicate()

        second = subprocess.Popen(
            ["/bin/sh", "-c", f"{TAKE} read line", "sh", str(GIB)],
            stdin=subprocess.PIPE,
            env=surroundings,
        )
        until(lambda: used() == GIB, "the memory is taken")
        second.kill()
        until(lambda: used() == 0, "a dead process holds nothing, also before it is waited for")
        second.communicate()
