"""GPU state of a machine from NVML: the real bindings over a stand-in for the library."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pynvml
import pytest

from launcher.queue.gpu.nvml import MOST_EVENTS, REOPEN_S, RETRY_S, Nvml
from launcher.queue.gpu.nvml_faults import APPLICATION_XIDS
from launcher.queue.gpu.snapshot import GpuProcess, GpuSnapshot
from launcher.system.memory import installed_bytes
from tests.build import Clock, a_gpu
from tests.nvml.standin import GIB, Devices, asked_here, compile_library

NOBODY = 4_000_000  # a pid that this machine never gives
EVERY_QUESTION = (
    "nvmlDeviceGetName",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetEnforcedPowerLimit",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetTotalEccErrors",
    "nvmlDeviceGetComputeRunningProcesses_v2",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v2",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetProcessUtilization",
    "nvmlDeviceGetRemappedRows",
    "nvmlDeviceGetRetiredPagesPendingStatus",
    "nvmlDeviceGetComputeMode",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceRegisterEvents",
    "nvmlEventSetCreate",
    "nvmlEventSetWait_v2",
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def nvml(gpus: Devices, clock: Clock) -> Iterator[Nvml]:
    with asked_here(gpus):
        yield Nvml(clock)


def single_gpu(nvml: Nvml) -> GpuSnapshot:
    (gpu,) = nvml.snapshot()
    return gpu


def processes_of(gpu: GpuSnapshot) -> Sequence[GpuProcess]:
    assert gpu.processes is not None
    return gpu.processes


def test_gpu_type_is_model_memory_and_driver(gpus: Devices, nvml: Nvml) -> None:
    uuid = gpus.add(24 * GIB, name="NVIDIA_A10")
    assert (
        single_gpu(nvml).fingerprint == "NVIDIA A10, 24576 MiB"
    )  # the driver version is not reported
    gpus.drive("550.54.15")
    with asked_here(gpus):
        assert single_gpu(Nvml()).fingerprint == "NVIDIA A10, 24576 MiB, driver 550.54.15"
    assert single_gpu(nvml).uuid == uuid


def test_gpu_whose_number_could_mean_another_one_is_shown_with_its_uuid() -> None:
    gpu = a_gpu(1, uuid="GPU-8f6d1234-0000-4000-8000-000000000000")
    assert (gpu.label, gpu.label_for("cuda:0")) == ("cuda:1", "cuda:1 (GPU-8f6d1234)")
    assert replace(gpu, is_ambiguous=True).label == "cuda:1 (GPU-8f6d1234)"


def test_all_values_of_a_healthy_gpu_are_read(gpus: Devices, nvml: Nvml) -> None:
    uuid = gpus.add(
        24 * GIB, used=3 * GIB, util=97, power=132_500, temp=71, name="NVIDIA_A100-SXM4-40GB"
    )
    gpus.hold(uuid, os.getpid(), 2 * GIB)

    gpu = single_gpu(nvml)

    assert (gpu.uuid, gpu.index, gpu.mig, gpu.label) == (uuid, 0, None, "cuda:0")
    assert (gpu.name, gpu.total, gpu.used) == ("NVIDIA A100-SXM4-40GB", 24 * GIB, 5 * GIB)
    assert (gpu.utilisation, gpu.power_w, gpu.power_limit_w) == (0.97, 132.5, 150.0)
    assert (gpu.temperature_c, gpu.ecc_uncorrected) == (71, 0)
    assert (gpu.fault, gpu.warnings) == ("", ())
    assert gpu.processes is not None
    (process,) = gpu.processes
    assert (process.pid, process.used) == (os.getpid(), 2 * GIB)
    assert process.user is not None
    assert process.command == Path("/proc/self/comm").read_text().strip()


def test_gpus_are_in_pci_order_with_nonnegative_indices(gpus: Devices, nvml: Nvml) -> None:
    uuids = [gpus.add(), gpus.add(), gpus.add()]

    found = nvml.snapshot()

    assert [gpu.uuid for gpu in found] == uuids
    assert [gpu.label for gpu in found] == ["cuda:0", "cuda:1", "cuda:2"]


def test_memory_of_another_program_is_in_the_next_reading(gpus: Devices, nvml: Nvml) -> None:
    uuid = gpus.add(used=0)
    assert single_gpu(nvml).used == 0

    gpus.hold(uuid, 1, 7 * GIB)

    gpu = single_gpu(nvml)
    assert gpu.used == 7 * GIB
    assert processes_of(gpu)[0].user == "root"


def test_process_outside_this_machine_has_no_owner(gpus: Devices, nvml: Nvml) -> None:
    gpus.hold(gpus.add(), NOBODY, GIB)

    processes = processes_of(single_gpu(nvml))

    (process,) = processes
    assert (process.pid, process.used) == (NOBODY, GIB)
    assert (process.user, process.command) == (None, None)


def test_unattributed_memory_in_a_container_is_unknown_instead_of_zero(
    gpus: Devices, nvml: Nvml
) -> None:
    gpus.hold(gpus.add(), os.getpid(), None)

    processes = processes_of(single_gpu(nvml))

    assert processes[0].used is None


def test_compute_and_graphics_process_is_listed_once(gpus: Devices, nvml: Nvml) -> None:
    uuid = gpus.add()
    gpus.hold(uuid, os.getpid(), 2 * GIB, "c")
    gpus.hold(uuid, os.getpid(), GIB, "g")
    gpus.hold(uuid, 1, 3 * GIB, "g")

    processes = processes_of(single_gpu(nvml))

    assert [(one.pid, one.used) for one in processes] == [(1, 3 * GIB), (os.getpid(), 2 * GIB)]


def test_process_list_with_an_impossible_pid_is_rejected(gpus: Devices, nvml: Nvml) -> None:
    uuid = gpus.add()
    gpus.hold(uuid, 1, GIB)
    gpus.hold(uuid, 3_221_225_472, GIB)  # bytes where a pid should be: structs of two drivers

    assert single_gpu(nvml).processes is None


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"total": 0}, "used"),
        ({"used": 25 * GIB}, "used"),
        ({"used": -1}, "used"),
        ({"temp": 4_000_000_000}, "temperature_c"),
        ({"temp": -40}, "temperature_c"),
        ({"util": 250}, "utilisation"),
        ({"power": 4_294_967_295}, "power_w"),
        ({"limit": 4_294_967_295}, "power_limit_w"),
        ({"ecc": 18_446_744_073_709_551_615}, "ecc_uncorrected"),
    ],
    ids=lambda one: str(one),
)
def test_impossible_value_is_unknown(
    values: dict[str, int], field: str, gpus: Devices, nvml: Nvml
) -> None:
    gpus.set(gpus.add(), **values)

    gpu = single_gpu(nvml)

    assert getattr(gpu, field) is None
    assert gpu.fault == ""


def test_gpu_without_a_reported_size_has_no_free_memory(gpus: Devices, nvml: Nvml) -> None:
    gpus.set(gpus.add(), total=0, used=0)

    gpu = single_gpu(nvml)

    assert (gpu.total, gpu.used) == (0, None)


def test_process_above_the_memory_size_has_unknown_usage(gpus: Devices, nvml: Nvml) -> None:
    uuid = gpus.add()
    gpus.hold(uuid, 1, 1 << 60)
    gpus.set(uuid, used=GIB)

    processes = processes_of(single_gpu(nvml))

    assert processes[0].used is None


@pytest.mark.parametrize(
    "code",
    [
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_UNKNOWN,
        4711,  # a code of a driver that is newer than the bindings
    ],
)
def test_value_without_permission_is_unknown_and_no_fault(
    code: int, gpus: Devices, nvml: Nvml
) -> None:
    uuid = gpus.add()
    for function in EVERY_QUESTION:
        gpus.refuse(function, code)

    gpu = single_gpu(nvml)

    unknown = GpuSnapshot(uuid=uuid, index=0, name="unknown", total=0, used=None)
    if code == pynvml.NVML_ERROR_NOT_SUPPORTED:  # unified memory: that of the machine
        assert (gpu.total, 0 < (gpu.used or 0) < gpu.total) == (installed_bytes(), True)
        unknown = replace(unknown, total=gpu.total, used=gpu.used, shares_host_memory=True)
    assert gpu == replace(unknown, reports_load=False)


def test_refused_query_hides_no_other_value(gpus: Devices, nvml: Nvml) -> None:
    uuid = gpus.add(used=GIB, util=50)
    gpus.refuse("nvmlDeviceGetMemoryInfo", pynvml.NVML_ERROR_NO_PERMISSION, uuid)

    gpu = single_gpu(nvml)

    assert (gpu.used, gpu.utilisation, gpu.temperature_c) == (None, 0.5, 35)
    gpus.allow("nvmlDeviceGetMemoryInfo", uuid)
    assert single_gpu(nvml).used == GIB


def test_old_driver_is_read_with_its_own_functions(tmp_path: Path) -> None:
    old = Devices(tmp_path, compile_library(tmp_path, old=True))
    uuid = old.add(24 * GIB, used=GIB, temp=40)
    old.hold(uuid, 1, GIB)

    with asked_here(old):
        gpu = single_gpu(Nvml())

    assert (gpu.used, gpu.temperature_c, gpu.fault) == (2 * GIB, 40, "")
    assert [process.pid for process in processes_of(gpu)] == [1]


# --- divided GPUs


def test_mig_gpu_is_listed_as_its_instances(gpus: Devices, nvml: Nvml) -> None:
    gpus.add()
    card = gpus.add(40 * GIB, power=90_000, temp=44)
    first, second = gpus.divide(card, 10 * GIB, 20 * GIB)
    gpus.hold(second, 1, 4 * GIB)

    _, *parts = nvml.snapshot()

    assert [(gpu.uuid, gpu.label) for gpu in parts] == [(first, "cuda:1:0"), (second, "cuda:1:1")]
    assert [(gpu.total, gpu.used) for gpu in parts] == [(10 * GIB, 0), (20 * GIB, 4 * GIB)]
    assert [len(gpu.processes or ()) for gpu in parts] == [0, 1]
    assert {gpu.power_w for gpu in parts} == {None}, "it would be counted twice"
    assert {gpu.temperature_c for gpu in parts} == {44}
    assert {gpu.utilisation for gpu in parts} == {None}
    assert {gpu.fault for gpu in parts} == {""}


def test_mig_gpu_without_instances_is_unusable_with_a_reason(gpus: Devices, nvml: Nvml) -> None:
    gpus.divide(gpus.add())

    gpu = single_gpu(nvml)

    assert (gpu.label, gpu.used) == ("cuda:0", None)
    assert gpu.fault == "is in MIG mode, but has no instances"


def test_gpu_that_will_be_divided_after_a_reset_is_still_whole(gpus: Devices, nvml: Nvml) -> None:
    gpus.add(dividing=1)

    assert (single_gpu(nvml).label, single_gpu(nvml).fault) == ("cuda:0", "")


def test_memory_of_a_mig_instance_without_permission_is_unknown(gpus: Devices, nvml: Nvml) -> None:
    gpus.divide(gpus.add(), 10 * GIB)
    gpus.refuse("nvmlDeviceGetMemoryInfo", pynvml.NVML_ERROR_NO_PERMISSION)

    assert (single_gpu(nvml).used, single_gpu(nvml).fault) == (None, "")


def test_fault_of_a_gpu_applies_to_each_of_its_mig_instances(gpus: Devices, nvml: Nvml) -> None:
    card = gpus.add()
    uuids = gpus.divide(card, 10 * GIB, 10 * GIB)
    nvml.snapshot()

    gpus.lose(card)

    found = nvml.snapshot()
    assert [gpu.uuid for gpu in found] == uuids
    assert {gpu.fault for gpu in found} == {"does not respond: GPU is lost"}


# --- failing GPUs


@pytest.mark.parametrize("handle", [True, False])
def test_gpu_lost_from_the_bus_is_reported_and_can_return(
    handle: bool, gpus: Devices, nvml: Nvml
) -> None:
    gpus.add()
    uuid = gpus.add(16 * GIB)
    nvml.snapshot()

    gpus.lose(uuid, handle=handle)

    healthy, lost = nvml.snapshot()
    assert healthy.fault == ""
    assert (lost.uuid, lost.index, lost.name, lost.total) == (uuid, 1, "NVIDIA A10", 16 * GIB)
    assert lost.fault == "does not respond: GPU is lost"
    assert (lost.used, lost.processes, lost.utilisation, lost.temperature_c) == (None,) * 4

    gpus.mend(uuid)

    assert [gpu.fault for gpu in nvml.snapshot()] == ["", ""]


def test_gpu_lost_before_the_first_reading_is_listed(gpus: Devices, nvml: Nvml) -> None:
    uuid = gpus.add()
    gpus.lose(uuid)

    gpu = single_gpu(nvml)

    assert (gpu.label, gpu.used, gpu.fault) == ("cuda:0", None, "does not respond: GPU is lost")
    gpus.mend(uuid)
    assert [one.uuid for one in nvml.snapshot()] == [uuid]


def test_gpu_that_the_driver_no_longer_lists_stays_listed_with_a_fault(
    gpus: Devices, nvml: Nvml
) -> None:
    gone, moved = gpus.add(), gpus.add()
    nvml.snapshot()

    gpus.take_out(gone)

    faults = {gpu.uuid: gpu.fault for gpu in nvml.snapshot()}
    assert faults == {gone: "does not respond: the driver does not list it any more", moved: ""}
    gpus.mend(gone)
    assert [(gpu.uuid, gpu.label, gpu.fault) for gpu in nvml.snapshot()] == [
        (gone, "cuda:0", ""),
        (moved, "cuda:1", ""),
    ]


def test_gpu_that_needs_a_reset_is_faulty(gpus: Devices, nvml: Nvml) -> None:
    gpus.add()
    gpus.refuse("nvmlDeviceGetMemoryInfo", pynvml.NVML_ERROR_RESET_REQUIRED)

    assert single_gpu(nvml).fault == "does not respond: GPU requires restart"


def test_gpu_without_a_uuid_is_unusable(gpus: Devices, nvml: Nvml) -> None:
    gpus.add()
    gpus.refuse("nvmlDeviceGetUUID", pynvml.NVML_ERROR_NO_PERMISSION)

    assert single_gpu(nvml).fault == "does not respond: it does not report its UUID"


def test_nvml_is_reopened_for_a_missing_gpu_and_events_of_others_continue(
    gpus: Devices, nvml: Nvml, clock: Clock
) -> None:
    gone, other = gpus.add(), gpus.add()
    nvml.snapshot()
    gpus.lose(gone)
    nvml.snapshot()

    clock.now += REOPEN_S
    found = nvml.snapshot()
    gpus.xid(other, 48)

    assert [bool(gpu.fault) for gpu in found] == [True, False]
    assert ["(Xid 48)" in gpu.fault for gpu in nvml.snapshot()] == [False, True]


# --- errors that are reported


@pytest.mark.parametrize("code", [48, 62, 64, 74, 79, 95, 119, 120, 140])
def test_critical_xid_makes_a_gpu_faulty_until_a_restart(
    code: int, gpus: Devices, nvml: Nvml
) -> None:
    uuid, other = gpus.add(), gpus.add()
    nvml.snapshot()

    gpus.xid(uuid, code)

    faulty, healthy = nvml.snapshot()
    assert f"(Xid {code})" in faulty.fault
    assert (healthy.uuid, healthy.fault) == (other, "")
    assert nvml.snapshot()[0].fault == faulty.fault
    assert Nvml().snapshot()[0].fault == ""


@pytest.mark.parametrize("code", [13, 31, 43, 45, 68, 63, 94, 109, 999])
def test_application_xid_is_ignored_and_uncritical_xid_is_a_warning(
    code: int, gpus: Devices, nvml: Nvml
) -> None:
    uuid = gpus.add()
    nvml.snapshot()

    gpus.xid(uuid, code)

    gpu = single_gpu(nvml)
    assert gpu.fault == ""
    assert [f"(Xid {code})" in warning for warning in gpu.warnings] == [True] * (
        code not in APPLICATION_XIDS
    )


def test_gpu_off_the_bus_has_that_fault_and_recovers_after_a_reset(
    gpus: Devices, nvml: Nvml
) -> None:
    uuid = gpus.add()
    nvml.snapshot()

    gpus.xid(uuid, 79)
    gpus.lose(uuid)
    assert single_gpu(nvml).fault == "has fallen off the bus (Xid 79)"

    gpus.mend(uuid)
    assert single_gpu(nvml).fault == ""
    gpus.xid(uuid, 48)
    assert "(Xid 48)" in single_gpu(nvml).fault, "it is listened to again"


def test_many_xids_do_not_delay_a_reading(gpus: Devices, nvml: Nvml) -> None:
    uuid = gpus.add()
    nvml.snapshot()
    for _ in range(MOST_EVENTS - 1):
        gpus.xid(uuid, 13)
    gpus.xid(uuid, 48)

    assert "(Xid 48)" in single_gpu(nvml).fault


def test_failed_row_remapping_is_a_fault(gpus: Devices, nvml: Nvml) -> None:
    gpus.add(rows_failed=1)

    assert single_gpu(nvml).fault == "a bad row of memory could not be replaced"


def test_pending_row_remapping_is_a_warning(gpus: Devices, nvml: Nvml) -> None:
    gpus.add(rows_pending=1)

    gpu = single_gpu(nvml)
    assert gpu.fault == ""
    assert gpu.warnings == ("a bad row of memory is to be replaced at the next reset",)


def test_pending_page_retirement_is_a_warning_on_older_gpus(gpus: Devices, nvml: Nvml) -> None:
    gpus.add(pages_pending=1)
    gpus.refuse("nvmlDeviceGetRemappedRows", pynvml.NVML_ERROR_NOT_SUPPORTED)

    assert single_gpu(nvml).warnings == ("a page of memory is to be retired at the next reset",)


def test_memory_errors_from_before_are_a_warning_and_new_ones_a_fault(
    gpus: Devices, nvml: Nvml
) -> None:
    uuid = gpus.add(ecc=2)
    gpu = single_gpu(nvml)
    assert gpu.fault == ""
    assert gpu.warnings == ("2 uncorrected memory errors since the driver was loaded",)

    gpus.set(uuid, ecc=3)

    assert single_gpu(nvml).fault == "1 uncorrected memory error since the scheduler started"
    assert single_gpu(nvml).fault == "1 uncorrected memory error since the scheduler started"


# --- no driver


def test_a_machine_without_a_driver_has_no_gpus_and_says_why_once(
    gpus: Devices, nvml: Nvml, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    gpus.add()
    gpus.unload()

    assert nvml.snapshot() == ()
    assert nvml.absent == "NVIDIA's driver is not loaded"

    clock.now += RETRY_S
    assert nvml.snapshot() == ()
    assert caplog.messages == ["no GPU is used: NVIDIA's driver is not loaded"]

    gpus.unload(0)
    assert nvml.snapshot() == (), "it is not asked at every look"
    clock.now += RETRY_S
    assert len(nvml.snapshot()) == 1
    assert nvml.absent == ""


def test_driver_update_leaves_all_unknown_and_marks_no_gpu_faulty(
    gpus: Devices, nvml: Nvml, clock: Clock
) -> None:
    uuid = gpus.add()
    nvml.snapshot()

    gpus.unload(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)

    gpu = single_gpu(nvml)
    assert (gpu.uuid, gpu.used, gpu.fault) == (uuid, None, "")
    told = "the driver does not respond: NVIDIA's driver was updated. Reboot to load it"
    assert gpu.warnings == (told,)
    gpus.unload(0)
    clock.now += RETRY_S
    gpu = single_gpu(nvml)
    assert (gpu.used is None, gpu.fault, gpu.warnings) == (False, "", ())


def test_undecodable_name_is_no_error(gpus: Devices, nvml: Nvml) -> None:
    uuid = gpus.add(used=GIB)
    gpus.file.write_bytes(gpus.file.read_bytes().replace(b"NVIDIA_A10", b"\xff\xfe"))

    gpu = single_gpu(nvml)

    assert (gpu.uuid, gpu.name, gpu.used) == (uuid, "unknown", GIB)


def utilization_by_pid(gpu: GpuSnapshot) -> dict[int, float | None]:
    return {process.pid: process.sm for process in processes_of(gpu)}


def test_utilization_is_read_per_process(gpus: Devices, nvml: Nvml) -> None:
    uuid = gpus.add()
    for pid, percent in ((1, 97), (os.getpid(), 3)):
        gpus.hold(uuid, pid)
        gpus.use(uuid, pid, percent)
    gpus.hold(uuid, NOBODY)

    assert utilization_by_pid(single_gpu(nvml)) == {1: 0.97, os.getpid(): 0.03, NOBODY: None}


def test_old_utilization_samples_do_not_count(gpus: Devices, nvml: Nvml) -> None:
    uuid = gpus.add()
    gpus.hold(uuid, 1)
    gpus.use(uuid, 1, 97, age_s=60.0)
    assert utilization_by_pid(single_gpu(nvml)) == {1: None}
    gpus.use(uuid, 1, 20)
    assert utilization_by_pid(single_gpu(nvml)) == {1: 0.2}


@pytest.mark.parametrize("percent", [101, 4_294_967_295])
def test_impossible_utilization_is_unknown(percent: int, gpus: Devices, nvml: Nvml) -> None:
    uuid = gpus.add()
    gpus.hold(uuid, 1)
    gpus.use(uuid, 1, percent)

    assert utilization_by_pid(single_gpu(nvml)) == {1: None}


@pytest.mark.parametrize(
    "code",
    [
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_NOT_FOUND,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_NO_PERMISSION,
    ],
)
def test_unreported_utilization_is_unknown_instead_of_zero(
    code: int, gpus: Devices, nvml: Nvml
) -> None:
    uuid = gpus.add()
    gpus.hold(uuid, 1)
    gpus.use(uuid, 1, 50)
    gpus.refuse("nvmlDeviceGetProcessUtilization", code)

    gpu = single_gpu(nvml)

    assert utilization_by_pid(gpu) == {1: None}
    # a missing sample is not a refusal
    assert gpu.reports_load is (code == pynvml.NVML_ERROR_NOT_FOUND)
    assert (gpu.fault, gpu.used is None) == ("", False)


def test_mig_instance_has_no_utilization_per_process(gpus: Devices, nvml: Nvml) -> None:
    (instance,) = gpus.divide(gpus.add(), 10 * GIB)
    gpus.hold(instance, 1)
    gpus.use(instance, 1, 50)

    gpu = single_gpu(nvml)

    assert utilization_by_pid(gpu) == {1: None}
    assert not gpu.reports_load


def test_driver_with_a_process_list_reports_utilization(gpus: Devices, nvml: Nvml) -> None:
    uuid = gpus.add()
    assert single_gpu(nvml).reports_load
    gpus.hold(uuid, 3_221_225_472, GIB)  # no pid
    assert not single_gpu(nvml).reports_load
