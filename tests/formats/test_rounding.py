"""What these tests protect: what rounding is said to give back is what a GGUF file gives back."""

import pytest
import torch

gguf = pytest.importorskip("gguf", reason="needs the package gguf: the extra shipping")
from ai4india_lib.formats.gguf import save_gguf  # noqa: E402
from ai4india_lib.formats.llama_format import hugging_face_name  # noqa: E402
from ai4india_lib.formats.rounding import PRECISIONS, given_back, precision_of, rounded_copy  # noqa: E402


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_rounded_copy_has_the_numbers_of_the_file(make_model, tokenizer, tmp_path, precision):
    """Of a Qwen3 model, whose rows stand in the file in our order."""
    model = make_model(emb_dim=64, tie_embeddings=False)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    copied = dict(rounded_copy(model, precision).named_parameters())
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, model.config.num_blocks)
    file = {
        t.name: t
        for t in gguf.GGUFReader(save_gguf(model, tokenizer, tmp_path / "a.gguf", precision=precision)).tensors
    }
    for name, weight in copied.items():
        stored = file[names.get_name(hugging_face_name(name), try_suffixes=(".weight",))]
        read = torch.tensor(gguf.quants.dequantize(stored.data, stored.tensor_type))
        assert torch.equal(weight, read.view(weight.shape)), name
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items()), (
        "the model itself moved"
    )
    changed = {name for name, weight in copied.items() if not torch.equal(weight, before[name])}
    assert bool(changed) == (precision != "f32") and not any(copied[name].dim() == 1 for name in changed)


def test_eight_bits_are_whole_numbers_with_a_scale():
    weight = torch.randn(4, 96, generator=torch.Generator().manual_seed(1))
    groups = weight.view(-1, 32)
    scale = groups.abs().amax(1, keepdim=True) / 127
    wanted = (groups / scale).round() * scale.half().float()
    assert torch.allclose(given_back(weight, "q8_0").view(-1, 32), wanted, atol=1e-6)
    assert torch.equal(given_back(torch.zeros(1, 32), "q4_0"), torch.zeros(1, 32))


def test_which_weight_is_held_how():
    wide, odd, gain = torch.zeros(2, 64), torch.zeros(2, 48), torch.zeros(64)
    for name, weight, precision, held in (
        ("head.weight", wide, "q4_0", "q8_0"),
        ("embedding.weight", wide, "q4_0", "q8_0"),
        ("blocks.0.mlp.up.weight", wide, "q4_0", "q4_0"),
        ("blocks.0.mlp.up.weight", odd, "q8_0", "f16"),
        ("blocks.0.mlp.up.weight", odd, "f32", "f32"),
        ("blocks.0.mlp_norm.gain", gain, "q4_0", "f32"),
    ):
        assert precision_of(name, weight, precision) == held
    with pytest.raises(ValueError, match="precision='q5' is not written here: use f32, f16, q8_0, q4_0"):
        given_back(wide, "q5")
