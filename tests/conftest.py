"""What several test files share: a small tokenizer and small random models."""

import pytest
import torch

from ai4india_lib.model.decoder import DecoderLanguageModel
from ai4india_lib.text.tokenizer import train_tokenizer

# Models as small as these are slower on two threads, and far slower where two processes test on two cores. Lessons, and
# programs that tests start, have as many threads as ever.
torch.set_num_threads(1)

HINDI = [
    "एक दिन मीरा किताब लेकर विद्यालय गई।",
    "रास्ते में उसे एक छोटी चिड़िया मिली।",
    "चिड़िया ने कहा, “मुझे प्यास लगी है।”",
    "मीरा ने अपनी बोतल से उसे पानी दिया।",
    "फिर दोनों ने मिलकर एक गीत गाया।",
    "शाम को रहीम चाय की दुकान पर बैठा था।",
]


@pytest.fixture(scope="session")
def tokenizer():
    """384 ids: the special tokens, 256 bytes, and a few joins, so that many Devanagari letters take several ids."""
    return train_tokenizer(HINDI * 4, 384)


@pytest.fixture
def make_model():
    """A function that makes a small model with random weights, larger than at the start of training: its choices are
    clear and its norms are not all one, so that a mistake shows."""

    def make(seed=0, *, vocab_size=384, spread=0.3, **settings):
        torch.manual_seed(seed)
        settings = {"emb_dim": 32, "num_heads": 4, "num_blocks": 2, "pad_idx": 0, "context_size": 64} | settings
        model = DecoderLanguageModel(vocab_size, **settings)
        with torch.no_grad():
            for weight in model.parameters():
                weight.copy_(torch.randn_like(weight) * spread + (weight.dim() == 1))
        return model.eval()

    return make


@pytest.fixture
def without_pictures(monkeypatch):
    """`train` draws no loss: that takes longer than a small run. commands/test_main.py looks at what it draws."""
    for name in ("plot_history", "save_figure"):
        monkeypatch.setattr(f"ai4india_lib.commands.train_run.{name}", lambda *_: None)
