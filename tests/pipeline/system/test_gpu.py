from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import pytest

from pipeline.common.errors import EnvironmentFault
from pipeline.system.gpu import Device, choose_device, read_gpus, survey
from tests.pipeline.system.nvml import GIB, Card, FakeNvml
from tests.waiting import PATIENCE_S

A, B, C = "GPU-aaaa1111-0000", "GPU-bbbb2222-0000", "GPU-bbbb3333-0000"
FIELDS = {
    "uuid": "nvmlDeviceGetUUID", "name": "nvmlDeviceGetName", "capability": "nvmlDeviceGetCudaComputeCapability",
    "utilization_pct": "nvmlDeviceGetUtilizationRates", "processes": "nvmlDeviceGetComputeRunningProcesses",
    "power_w": "nvmlDeviceGetPowerUsage", "power_limit_w": "nvmlDeviceGetEnforcedPowerLimit",
    "temperature_c": "nvmlDeviceGetTemperature", "clock_mhz": "nvmlDeviceGetClockInfo", "fan_pct": "nvmlDeviceGetFanSpeed",
}  # fmt: skip
MEMORY = ("memory_used_bytes", "memory_total_bytes", "memory_free_bytes")


def machine() -> FakeNvml:
    return FakeNvml(Card(A, 10 * GIB), Card(B, 70 * GIB), Card(C, 30 * GIB))


def chosen(wanted: str, visible: str | None = None) -> Device:
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    return choose_device(wanted, nvml=machine(), environ=environ, cuda_build=lambda: "13.0")


@pytest.mark.parametrize("field", [*FIELDS, "memory"])
def test_one_refused_field_hides_no_other(field: str) -> None:
    function = FIELDS.get(field, "nvmlDeviceGetMemoryInfo")
    whole = survey(FakeNvml(Card(A, GIB))).gpus[0]
    partial = survey(FakeNvml(Card(A, GIB, refuses={function}))).gpus[0]
    lost = MEMORY if field == "memory" else (field,)
    assert all(value is not None for value in dataclasses.asdict(whole).values())
    assert partial == dataclasses.replace(whole, **dict.fromkeys(lost))


def test_a_card_that_fell_off_the_bus_leaves_the_others_readable() -> None:
    gpus = survey(FakeNvml(Card(A, GIB, refuses={"nvmlDeviceGetHandleByIndex"}), Card(B, GIB))).gpus
    assert [gpu.index for gpu in gpus] == [0, 1]
    assert gpus[0].uuid is None and gpus[1].uuid == B


def test_a_card_without_a_uuid_is_chosen_by_its_index_and_found_again() -> None:
    mute = FakeNvml(Card(A, GIB), Card(B, 9 * GIB, refuses={"nvmlDeviceGetUUID"}))
    device = choose_device("auto", nvml=mute, environ={}, cuda_build=lambda: "13.0")
    seen = {"CUDA_VISIBLE_DEVICES": device.uuid}
    assert choose_device(device.uuid, nvml=mute, environ=seen, cuda_build=lambda: "13.0") == device


def test_units_are_watts_and_bytes() -> None:
    gpu = survey(machine()).gpus[0]
    assert (gpu.power_w, gpu.power_limit_w, gpu.memory_free_bytes) == (350.5, 700.0, 10 * GIB)
    assert survey(machine()).cuda_version == "13.1"


def test_no_driver_is_an_answer() -> None:
    found = survey(FakeNvml(driver="Driver Not Loaded"))
    assert found.gpus == () and "Driver Not Loaded" in found.problem
    assert isinstance(read_gpus(), tuple)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, B), ("0,2", C), ("0", A), ("2,1", B), (A, A), ("GPU-bbbb3", C), (f"{C},{A}", C), ("0, 1", B),
        ("0,9,1", A),  # as CUDA: nothing after an entry that names no GPU
        ("0,GPU-bbbb,1", A),  # a start that fits two cards names none
        ("0,0,1", A),
    ],
)  # fmt: skip
def test_auto_takes_the_allowed_gpu_with_most_memory_free(visible: str | None, expected: str) -> None:
    assert chosen("auto", visible).uuid == expected


@pytest.mark.parametrize("visible", ["", "-1", "NoDevFiles", "7", "GPU-cccc"])
def test_auto_takes_the_cpu_when_no_gpu_is_allowed(visible: str) -> None:
    device = chosen("auto", visible)
    assert device.kind == "cpu" and device.total_bytes > 0 and device.torch_device == "cpu"


def test_auto_takes_the_cpu_when_torch_cannot_use_a_gpu() -> None:
    assert choose_device("auto", nvml=machine(), environ={}, cuda_build=lambda: None).kind == "cpu"
    with pytest.raises(EnvironmentFault, match="CPU-only build"):
        choose_device("0", nvml=machine(), environ={}, cuda_build=lambda: None)


def test_a_gpu_is_found_by_index_and_by_uuid() -> None:
    assert chosen("2").uuid == C and chosen(B).index == 1
    assert chosen("2", C).uuid == C  # the number is nvidia-smi's, whatever CUDA_VISIBLE_DEVICES leaves
    assert chosen("2").capability == (9, 0)


def test_a_gpu_that_is_not_there_is_an_error_naming_those_that_are() -> None:
    with pytest.raises(EnvironmentFault) as missing:
        chosen("5")
    assert all(uuid in str(missing.value) for uuid in (A, B, C))
    with pytest.raises(EnvironmentFault, match="CUDA_VISIBLE_DEVICES='0' leaves 0") as hidden:
        chosen("1", "0")
    assert B not in str(hidden.value)
    with pytest.raises(EnvironmentFault, match="Driver Not Loaded"):
        choose_device("0", nvml=FakeNvml(driver="Driver Not Loaded"), environ={}, cuda_build=lambda: "13.0")


def test_threads_that_share_cores_wait_asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the OpenMP of torch says of itself: spinning, two processes on the same cores took thirty times as long."""
    code = "from pipeline.system.gpu import Device, see_only; see_only(Device('cpu', '')); import torch; torch.ones(9).sum()"
    shows = {**os.environ, "OMP_DISPLAY_ENV": "TRUE"}
    done = subprocess.run([sys.executable, "-c", code], env=shows, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0 and "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr, done.stderr
