"""Protects training on the GPU that was asked for: all of a run is on cuda:1, nothing on the one that torch would take.

No GPU is needed: what a run puts on a device is noted on its way, and stays on the CPU.
"""

import torch
from torch.overrides import TorchFunctionMode

from ai4india_lib import PackedTextDataset, TextLoader
from ai4india_lib.training import loop
from ai4india_lib.training.hyperparameters import get_hyperparameters

SECOND = torch.device("cuda", 1)


class TwoGpus(TorchFunctionMode):
    """Notes each GPU that a call of torch names, and lets the CPU do its work."""

    def __init__(self):
        super().__init__()
        self.named = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def instead(value):
            if isinstance(value, (torch.device, str)) and str(value).startswith("cuda"):
                self.named.append(str(value))
                return torch.device("cpu")
            return value

        return func(*map(instead, args), **{name: instead(value) for name, value in (kwargs or {}).items()})


def test_a_run_on_the_second_gpu_is_there_in_all_its_parts(make_model, tokenizer, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(loop, "pick_device", lambda name: SECOND if str(name) == "cuda:1" else None)
    monkeypatch.setattr(loop, "pick_precision", lambda device: "no")
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: told.append(str(device)))
    h = get_hyperparameters("tiny", max_steps=3, eval_every=2)

    def loader():
        return TextLoader(PackedTextDataset(["एक दिन मीरा घर गई।"] * 99, tokenizer, h.context_size, h.batch_size))

    with TwoGpus() as gpus:
        loop.train(make_model(), loader(), loader(), h, device="cuda:1", folder=tmp_path, progress=False)
    assert set(gpus.named) == {"cuda:1"} and len(gpus.named) > 10
    assert told == ["cuda:1"], "what asks for the present GPU must find this one"
