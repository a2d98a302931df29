"""What these tests protect: a wrong device is refused in words, and the choice never asks for what is not there."""

import platform

import pytest
import torch

from ai4india_lib.basics.device import keep_freed_memory, may_lack_threads, pick_device, pick_precision


def test_cpu_is_always_there():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device(torch.device("cpu")) == torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_is_chosen(monkeypatch):
    monkeypatch.delenv("AI4INDIA_DEVICE", raising=False)


@pytest.mark.parametrize("name", [None, "auto"])
@pytest.mark.parametrize("cuda, mps, best", [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_best_device(monkeypatch, name, cuda, mps, best):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device(name) == torch.device(best)


def test_a_machine_s_owner_can_choose(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setenv("AI4INDIA_DEVICE", "cpu")
    assert pick_device() == pick_device("auto") == torch.device("cpu") and pick_device("mps") == torch.device("mps")
    for wrong, said in (("gpu", "'gpu' is not known"), ("", "'' is not known"), ("cuda:9", "'cuda:9' is not on this")):
        monkeypatch.setenv("AI4INDIA_DEVICE", wrong)
        with pytest.raises(ValueError, match=said):
            pick_device()


@pytest.mark.parametrize("count, name, there", [(1, "cuda", 1), (1, "cuda:0", 1), (1, "cuda:1", 0), (0, "cuda", 0)])
def test_cuda_devices_are_counted(monkeypatch, count, name, there):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    if there:
        assert pick_device(name) == torch.device(name)
    else:
        with pytest.raises(ValueError, match=f"'{name}' is not on this machine: leave it out"):
            pick_device(name)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x"])
def test_unknown_device(name):
    with pytest.raises(ValueError, match="is not known: use cpu, cuda"):
        pick_device(name)


def test_other_kind_of_device():
    with pytest.raises(ValueError, match="'meta' is not on this machine"):
        pick_device("meta")


@pytest.mark.parametrize("capability, precision", [((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_precision_on_cuda(monkeypatch, capability, precision):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert pick_precision(torch.device("cuda")) == precision


@pytest.mark.parametrize("amx, avx512, precision", [(1, 1, "bf16"), (1, 0, "bf16"), (0, 1, "bf16"), (0, 0, "no")])
def test_precision_on_cpu(monkeypatch, amx, avx512, precision):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: bool(amx), raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bool(avx512), raising=False)
    assert pick_precision(torch.device("cpu")) == precision
    assert pick_precision(torch.device("mps")) == "no"


@pytest.mark.parametrize(
    ("settings", "may"),
    [
        ({}, False),
        ({"OMP_THREAD_LIMIT": "1"}, True),
        ({"OMP_DYNAMIC": "TRUE"}, True),
        ({"OMP_DYNAMIC": "false"}, False),
    ],
)
def test_threads_may_be_missing(monkeypatch, settings, may):
    for name in ("OMP_THREAD_LIMIT", "OMP_DYNAMIC"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert may_lack_threads() is may


def test_precision_where_torch_cannot_tell(monkeypatch):
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert pick_precision(torch.device("cpu")) == "no"


def test_keep_freed_memory_only_with_glibc(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False


def test_each_process_of_a_machine_has_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device() == pick_device("cuda") == torch.device("cuda")
    for name, value in {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert pick_device() == pick_device("cuda") == torch.device("cuda:1") and pick_device("cuda:0").index == 0
    monkeypatch.setenv("LOCAL_RANK", "2")  # more processes than GPUs
    assert pick_device() == torch.device("cuda")
