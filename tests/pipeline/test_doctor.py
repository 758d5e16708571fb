from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline import doctor
from pipeline.doctor import Check, examine
from pipeline.gpu import Survey, survey
from tests.pipeline.nvml import GIB, Card, FakeNvml


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_a_machine_without_a_gpu_is_reported_honestly(tmp_path: Path) -> None:
    checks = by_name(examine(tmp_path, Survey(problem="no NVIDIA driver")))
    assert checks["GPU"].status == "warning" and checks["GPU"].value == "no NVIDIA driver" and "CPU" in checks["GPU"].advice
    assert checks["Python"].status == "ok" and checks["bitsandbytes library"].status == "ok"


def test_a_cpu_build_beside_a_gpu_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = survey(FakeNvml(Card("GPU-1", 70 * GIB)))
    monkeypatch.setattr(doctor, "torch_cuda_build", lambda: None)
    checks = examine(tmp_path, found)
    assert by_name(checks)["torch build"].status == "problem" and "pip install" in by_name(checks)["torch build"].advice
    assert not doctor.healthy(checks)
    monkeypatch.setattr(doctor, "torch_cuda_build", lambda: "13.0")
    assert by_name(examine(tmp_path, found))["torch build"] == Check("torch build", "ok", "CUDA 13.0")
    monkeypatch.setattr(doctor, "torch_cuda_build", lambda: "14.0")
    assert "update the NVIDIA driver" in by_name(examine(tmp_path, found))["torch build"].advice


def test_a_gpu_that_tells_little_is_still_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mute = Card("GPU-1", 70 * GIB, refuses={"nvmlDeviceGetMemoryInfo", "nvmlDeviceGetName", "nvmlDeviceGetCudaComputeCapability"})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    checks = by_name(examine(tmp_path, survey(FakeNvml(mute, Card("GPU-2", 5 * GIB)))))
    assert checks["GPU 0"] == Check("GPU 0", "ok", "unknown")
    assert checks["GPU 1"].status == "warning" and "5.0 of 80.0 GiB free" in checks["GPU 1"].value
    assert "hides every GPU" in checks["CUDA_VISIBLE_DEVICES"].advice


def test_the_token_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    text = json.dumps(doctor.to_json(examine(tmp_path)))
    assert "verysecret" not in text and '"set"' in text


def test_a_cache_that_cannot_be_written_to_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file" / "hf"))
    check = by_name(examine(tmp_path))["Hugging Face cache"]
    assert check.status == "problem" and "HF_HOME" in check.advice


def test_a_missing_package_is_a_problem_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("torch", "no-such-package"))
    checks = examine(tmp_path)
    assert by_name(checks)["no-such-package"].advice == "pip install no-such-package"
    assert doctor.to_json(checks)["healthy"] is False
