from __future__ import annotations

import json
import os
import time
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config.schema import Config
from pipeline.doctor import gpus, software, system
from pipeline.doctor.check import Check
from pipeline.doctor.report import examine, healthy, to_json
from pipeline.runs import store
from pipeline.runs.folders import Workspace
from pipeline.system import login_session
from pipeline.system.gpu import Survey, survey
from tests.hub import use_hub_home
from tests.pipeline.system.nvml import GIB, Card, FakeNvml
from tests.processes import humigence

NO_GPU = Survey(problem="no NVIDIA driver")
Volume = namedtuple("Volume", "f_bavail f_frsize f_files f_favail f_flag")


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def looked(folder: Path, found: Survey = NO_GPU) -> dict[str, Check]:
    return by_name(examine(folder, found))


@pytest.fixture
def torch_build(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Sets the CUDA version the installed torch seems to be built for."""
    return lambda build: monkeypatch.setattr(software, "torch_cuda_build", lambda: build)


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a program on the path that prints a line."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")

    def put(name: str, line: str) -> None:
        (programs / name).write_text(f"#!/bin/sh\necho '{line}'\n")
        (programs / name).chmod(0o755)

    return put


def test_every_problem_and_warning_has_advice_and_every_problem_a_command(tmp_path: Path) -> None:
    for check in examine(tmp_path, NO_GPU):
        assert check.status == "ok" or check.advice, check
        assert check.status != "problem" or check.command, check


# ------------------------------------------------------------------------------------------------------ the GPU


def test_a_machine_without_a_gpu_is_reported_honestly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "_PCI", tmp_path)
    checks = looked(tmp_path)
    assert checks["GPU"].status == "warning" and checks["GPU"].value == "no NVIDIA driver" and "CPU" in checks["GPU"].advice
    assert checks["Python"].status == "ok" and checks["bitsandbytes library"].status == "ok"


def test_a_card_that_no_driver_drives_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "_PCI", tmp_path / "pci")
    for name, vendor, kind in (("0", "0x8086", "0x030000"), ("1", "0x10de", "0x030200")):
        (tmp_path / "pci" / name).mkdir(parents=True)
        (tmp_path / "pci" / name / "vendor").write_text(vendor + "\n")
        (tmp_path / "pci" / name / "class").write_text(kind + "\n")
    assert "no driver drives it" in looked(tmp_path)["GPU"].advice and looked(tmp_path)["GPU"].command
    (tmp_path / "pci" / "1" / "vendor").write_text("0x1002\n")
    assert "no driver drives it" not in looked(tmp_path)["GPU"].advice


def test_a_driver_that_was_updated_and_not_loaded_needs_a_reboot(tmp_path: Path) -> None:
    check = looked(tmp_path, Survey(problem="no NVIDIA driver (Driver/library version mismatch)"))["GPU"]
    assert check.status == "problem" and check.command == "sudo reboot"


def test_a_gpu_that_tells_little_is_still_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mute = Card("GPU-1", 70 * GIB, refuses={"nvmlDeviceGetMemoryInfo", "nvmlDeviceGetName", "nvmlDeviceGetCudaComputeCapability"})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    checks = looked(tmp_path, survey(FakeNvml(mute, Card("GPU-2", 5 * GIB))))
    assert checks["GPU 0"] == Check("GPU 0", "ok", "unknown")
    assert checks["GPU 1"].status == "warning" and "5.0 of 80.0 GiB free" in checks["GPU 1"].value
    assert "hides every GPU" in checks["CUDA_VISIBLE_DEVICES"].advice
    assert checks["CUDA_VISIBLE_DEVICES"].command == "unset CUDA_VISIBLE_DEVICES"


# ----------------------------------------------------------------------------------------------------- software


def test_a_cpu_build_beside_a_gpu_is_a_problem(tmp_path: Path, torch_build: Callable[[str | None], None]) -> None:
    found = survey(FakeNvml(Card("GPU-1", 70 * GIB)))
    torch_build(None)
    check = looked(tmp_path, found)["torch build"]
    assert check.status == "problem" and "CPU only" in check.value
    assert check.command.startswith("pip install --force-reinstall torch")
    assert not healthy(examine(tmp_path, found))
    assert looked(tmp_path)["torch build"] == Check("torch build", "ok", "CPU only"), "without a GPU it is as it should be"
    torch_build("13.0")
    assert looked(tmp_path, found)["torch build"] == Check("torch build", "ok", "CUDA 13.0")


@pytest.mark.parametrize(
    ("driver", "build", "mends"), [("12.4", "13.0", "whl/cu126"), ("13.0", "14.0", "whl/cu130"), ("11.8", "12.6", "driver")]
)
def test_a_driver_too_old_for_the_installed_torch_is_a_problem(
    tmp_path: Path, torch_build: Callable[[str | None], None], driver: str, build: str, mends: str
) -> None:
    found = Survey(survey(FakeNvml(Card("GPU-1", 70 * GIB))).gpus, driver_version="550.1", cuda_version=driver)
    torch_build(build)
    check = looked(tmp_path, found)["torch build"]
    assert check.status == "problem" and "too old" in check.advice and mends in check.command
    assert check.value == f"CUDA {build}, and the driver 550.1 runs up to CUDA {driver}"
    torch_build(driver.split(".")[0] + ".9")
    assert looked(tmp_path, found)["torch build"].status == "ok", "within a major version a newer minor one runs"


def test_a_card_too_old_for_the_build_is_a_problem(tmp_path: Path, torch_build: Callable[[str | None], None]) -> None:
    torch_build("13.0")
    old = survey(FakeNvml(Card("GPU-1", 70 * GIB, capability=(6, 1))))
    check = looked(tmp_path, old)["torch build"]
    assert check.status == "problem" and "6.1" in check.value and "cu126" in check.command


def test_bitsandbytes_without_its_cuda_library_is_a_problem(
    tmp_path: Path, torch_build: Callable[[str | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = survey(FakeNvml(Card("GPU-1", 70 * GIB)))
    torch_build("13.0")
    assert looked(tmp_path, found)["bitsandbytes library"].value.startswith("libbitsandbytes_cuda13")
    torch_build("99.0")
    check = looked(tmp_path, found)["bitsandbytes library"]
    assert check.status == "problem" and "no libbitsandbytes_cuda99" in check.value and "pip install" in check.command
    torch_build("13.0")
    monkeypatch.setenv("BNB_CUDA_VERSION", "77")
    forced = looked(tmp_path, found)["bitsandbytes library"]
    assert forced.status == "problem" and forced.command == "unset BNB_CUDA_VERSION"


def test_a_missing_package_is_a_problem_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "PACKAGES", ("torch", "no-such-package"))
    checks = examine(tmp_path)
    assert by_name(checks)["no-such-package"].command == "pip install no-such-package"
    assert to_json(checks)["healthy"] is False


# ------------------------------------------------------------------------------------------------------- system


def test_the_token_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    text = json.dumps(to_json(examine(tmp_path)))
    assert "verysecret" not in text and '"set"' in text


@pytest.mark.parametrize(("free_gib", "status"), [(0.5, "problem"), (5, "warning"), (50, "ok")])
def test_a_full_disk_is_a_problem_and_a_small_one_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_gib: float, status: str
) -> None:
    monkeypatch.setattr(system, "_volume", lambda _: Volume(int(free_gib * 1024), 1 << 20, 10, 10, 0))
    check = looked(tmp_path)["disk (workspace)"]
    assert check.status == status and bool(check.command) == (status != "ok")
    assert check.value.startswith("full: ") == (status == "problem")


def test_a_disk_without_room_for_another_file_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "_volume", lambda _: Volume(1 << 20, 1 << 20, 1000, 0, 0))
    check = looked(tmp_path)["disk (workspace)"]
    assert check.status == "problem" and "no more files" in check.value


def test_a_cache_that_cannot_be_written_to_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    use_hub_home(monkeypatch, tmp_path / "file" / "hf")
    check = looked(tmp_path)["Hugging Face cache"]
    assert check.status == "problem" and check.command.startswith("export HF_HOME=")


def test_a_read_only_disk_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system.os, "access", lambda *_: False)
    monkeypatch.setattr(system, "is_read_only", lambda _: True)
    check = looked(tmp_path)["workspace"]
    assert check.status == "problem" and "is read-only" in check.value and check.command


def test_logind_killing_what_is_left_running_is_a_warning(
    tmp_path: Path, says: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    says("busctl", "b true")
    login = login_session.Login("", "", "somebody", lingers=False)
    monkeypatch.setattr(login_session, "this_login", lambda: login)
    check = looked(tmp_path)["KillUserProcesses"]
    assert check.status == "warning" and "enable-linger" in check.command
    monkeypatch.setattr(login_session, "this_login", lambda: replace(login, lingers=True))
    check = looked(tmp_path)["KillUserProcesses"]
    assert check.status == "ok" and "scope of its own" in check.value
    says("busctl", "b false")
    assert looked(tmp_path)["KillUserProcesses"].status == "ok"
    says("busctl", "something else")
    assert "KillUserProcesses" not in looked(tmp_path), "what is not known is not told"


def test_a_clock_that_jumped_back_is_seen_by_what_was_written_before(tmp_path: Path, says: Callable[[str, str], None]) -> None:
    says("timedatectl", "yes")
    run = store.create(Workspace(tmp_path), Config(), {})
    run.events.touch()
    assert looked(tmp_path)["clock"].status == "ok"
    tomorrow = time.time() + 86_400
    os.utime(run.events, (tomorrow, tomorrow))
    check = looked(tmp_path)["clock"]
    assert check.status == "warning" and "jumped back" in check.advice and str(run.events) in check.advice
    assert check.command == "sudo timedatectl set-ntp true"


def test_a_clock_that_nobody_sets_is_a_warning(tmp_path: Path, says: Callable[[str, str], None]) -> None:
    says("timedatectl", "no")
    check = looked(tmp_path)["clock"]
    assert check.status == "warning" and "not synchronized" in check.value


# -------------------------------------------------------------------------------------------------- the command


def test_the_command_tells_checks_as_json_and_exits_4_where_a_gpu_is_asked_for_and_none_is_there(workspace: Path) -> None:
    done = humigence("doctor", "--gpu", "--json", cwd=workspace)
    told = json.loads(done.stdout)
    assert {"name", "status", "value", "advice", "command"} == set(told["checks"][0])
    there = any(check["name"] == "NVIDIA driver" for check in told["checks"])
    assert there or (done.returncode == 4 and "no GPU" in done.stderr)
    assert "Traceback" not in done.stderr
