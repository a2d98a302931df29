"""Protects tuning.finetuning: models learn to answer, whole or by adapter."""

import json
import os
import signal

import pytest
import torch
from talks import NAMES, PLACES, TALKS
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from ai4india_lib import (
    CorpusError,
    DecoderConfig,
    DecoderLanguageModel,
    add_lora,
    encode_conversation,
    finetune,
    get_hyperparameters,
    give_places,
    load_model,
    merge_lora,
    save_model,
    stream_reply,
    training_memory,
    untrained_tokens,
)
from ai4india_lib.model import beside_untrained, has_lora
from ai4india_lib.tuning.finetuning import conversation_loaders, read_conversations

QUIET = {"device": "cpu", "progress": False}


def settings(**changes):
    small = {"batch_size": 4, "context_size": 64, "num_epochs": 99, "max_steps": 30, "eval_every": 10}
    return get_hyperparameters("finetune", **small | {"checkpoint_every": 10, "precision": "no"} | changes)


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def answer(model, tokenizer, number):
    return "".join(stream_reply(model, TALKS[number]["messages"][:1], tokenizer, 20, temperature=0))


def test_learns_to_answer_and_an_adapter_to_answer_otherwise(make_model, tokenizer):
    model = make_model(spread=0.05)
    history = finetune(model, tokenizer, TALKS, settings(max_steps=120, learning_rate=0.02), **QUIET)
    assert history.test_loss < 0.1 * history.eval_loss[0]
    assert [answer(model, tokenizer, n) for n in range(6)] == [PLACES[n % 3] for n in range(6)]

    names = [
        {"messages": [talk["messages"][0], {"role": "assistant", "content": NAMES[n % 4]}]}
        for n, talk in enumerate(TALKS)
    ]
    before = weights(model)
    finetune(model, tokenizer, names, settings(max_steps=120, learning_rate=0.02), lora_rank=8, **QUIET)
    assert [answer(model, tokenizer, n) for n in range(6)] == [NAMES[n % 4] for n in range(6)]
    kept = {name: p for name, p in weights(model).items() if ".lora_" not in name}
    assert has_lora(model) and kept.keys() == before.keys()
    assert all(torch.equal(p, before[name]) for name, p in kept.items())
    merge_lora(model)
    assert answer(model, tokenizer, 1) == NAMES[1]


def test_only_answers_count(make_model, tokenizer):
    """The loss of a step is the mean over the assistant's tokens, computed here one by one."""
    model, h = make_model(), settings(max_steps=1, learning_rate=1e-9)
    train_loader, _ = conversation_loaders(tokenizer, TALKS, h)
    inputs, targets = next(iter(train_loader))
    learned = sum(sum(encode_conversation(tokenizer, talk["messages"])[1]) for talk in TALKS[:1])
    assert 0 < (targets != -100).sum() <= len(targets) * (learned + 3)
    with torch.no_grad():
        logs = model(inputs).log_softmax(-1)
        told = [-logs[r, t, i].item() for r, row in enumerate(targets.tolist()) for t, i in enumerate(row) if i != -100]
    history = finetune(model, tokenizer, TALKS, h, **QUIET)
    assert history.train_loss[0] == pytest.approx(sum(told) / len(told), rel=1e-4)


@pytest.mark.parametrize("rank", [None, 4], ids=["whole", "lora"])
def test_an_interrupted_run_goes_on_bit_for_bit(make_model, tokenizer, tmp_path, rank):
    h, base = settings(), weights(make_model(spread=0.05))
    whole = make_model(spread=0.05)
    expected = finetune(whole, tokenizer, TALKS, h, lora_rank=rank, **QUIET)

    def stop(history):
        if history.steps == 10:
            os.kill(os.getpid(), signal.SIGINT)

    more = {"lora_rank": rank, "folder": tmp_path, **QUIET}
    first = finetune(make_model(spread=0.05), tokenizer, TALKS, h, on_evaluation=stop, **more)
    assert 10 <= first.steps < 30 and "interrupted" in first.ended
    second = make_model(spread=0.05)
    history = finetune(second, tokenizer, TALKS, h, resume=True, **more)
    assert history.train_loss == expected.train_loss and history.eval_loss == expected.eval_loss
    assert all(torch.equal(p, weights(whole)[name]) for name, p in second.named_parameters())
    if rank:
        size = sum(file.stat().st_size for file in tmp_path.glob("step-*/model.safetensors"))
        assert size < 4 * sum(p.numel() for p in base.values()), "a checkpoint holds the adapter alone"
        with pytest.raises(ValueError, match="was its shape or its adapter changed"):
            finetune(make_model(spread=0.05), tokenizer, TALKS, h, resume=True, **more | {"lora_rank": 5})


@pytest.mark.parametrize(
    "data", [None, 5, [TALKS], TALKS[0], tuple(TALKS), [*TALKS, "more.jsonl"], iter(TALKS)], ids=range(7)
)
def test_data_of_another_shape_is_told(make_model, tokenizer, data):
    with pytest.raises(ValueError, match="data must name files, or be a list of conversations"):
        finetune(make_model(), tokenizer, data, settings(), **QUIET)


def test_replay_mixes_in_its_share(make_model, tokenizer):
    texts = [f"एक दिन {name} आई।" for name in NAMES * 9]
    (loader, test) = conversation_loaders(tokenizer, TALKS, settings(), replay=texts, replay_share=0.25)
    examples = loader.dataset.examples
    plain = [len(ids) for ids, learn in zip(examples.ids, examples.learn, strict=True) if all(learn)]
    assert sum(plain) == pytest.approx(0.25 * sum(map(len, examples.ids)), abs=3 * max(plain))
    assert len(plain) == loader.dataset.replay == len(examples.ids) - 46 and len(test.dataset.examples.ids) == 2
    (short, _) = conversation_loaders(
        tokenizer, TALKS, settings(max_steps=4, batch_size=1), replay=texts, replay_share=0.5
    )
    replayed = [(targets != -100).float().mean() > 0.5 for _, targets in short]  # of a story all is learned
    assert len(replayed) == 4 and 0 < sum(replayed) < 4
    with pytest.raises(ValueError, match="replay_share=1"):
        finetune(make_model(), tokenizer, TALKS, settings(), replay=texts, replay_share=1, **QUIET)


def test_easy_conversations_of_an_archive_are_learned_first_and_without_replay(tokenizer, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name, part in (("train", TALKS[:30]), ("test", TALKS[30:40]), ("first", TALKS[40:])):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in part)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    told = []
    loaders = conversation_loaders(
        tokenizer, folder, settings(), replay=["एक कहानी।"] * 100, replay_share=0.5, say=told.append
    )
    train_data, test_data = (loader.dataset for loader in loaders)
    assert train_data.first == 8 and test_data.first == 0
    assert len(train_data.examples.ids) == 8 + 30 + train_data.replay and len(test_data.examples.ids) == 10
    assert train_data.replay > 30  # short texts, as many tokens as the conversations
    assert train_data.examples.ids[0] == encode_conversation(tokenizer, TALKS[40]["messages"])[0]
    assert told[0].startswith("first of all: 8 examples") and [line.split(":")[0] for line in told[1:]] == [
        "training data",
        "replay",
        "test data",
    ]
    (folder / "first.jsonl").write_text("oops\n", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"first\.jsonl, line 1, is not JSON"):
        conversation_loaders(tokenizer, folder, settings())


def test_trains_adapters_further(make_model, tokenizer):
    model = add_lora(make_model(spread=0.05), 4)
    before = weights(model)
    finetune(model, tokenizer, TALKS, settings(max_steps=3), **QUIET)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed and all(".lora_" in name for name in changed)


def test_weights_in_half_precision_are_trained_in_full(make_model, tokenizer):
    model = make_model(spread=0.05).bfloat16()
    finetune(model, tokenizer, TALKS, settings(max_steps=2), **QUIET)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


# Data


def test_where_conversations_may_stand(tmp_path):
    def write(path, talks):
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(talk, ensure_ascii=False) + "\n" for talk in talks), encoding="utf-8")
        return path

    write(tmp_path / "set" / "train.jsonl", TALKS[:5])
    write(tmp_path / "set" / "test.jsonl", TALKS[5:7])
    assert read_conversations(tmp_path / "set") == (TALKS[:5], TALKS[5:7])
    single = write(tmp_path / "mine.jsonl", TALKS[:40])
    train, test = read_conversations(single)
    assert test == [TALKS[19], TALKS[39]] and len(train) == 38
    assert read_conversations([single, tmp_path / "set"])[1] == [*test, *TALKS[5:7]]
    assert read_conversations(TALKS[:2]) == ([TALKS[0]], [TALKS[1]])
    with pytest.raises(ValueError, match="1 conversations are too few"):
        read_conversations(TALKS[:1])
    with pytest.raises(CorpusError, match=r"must hold one train\.jsonl"):
        read_conversations(write(tmp_path / "no" / "x", []).parent)


def test_the_file_and_its_line_are_named(tokenizer, tmp_path):
    """As an editor counts: with blank lines, and with those that were held out for testing."""
    good, files = json.dumps(TALKS[0], ensure_ascii=False), [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path, bad in zip(files, (None, 50), strict=True):
        lines = [good] * 60
        lines[1] = lines[30] = ""
        if bad:
            lines[bad - 1] = '{"messages": []}'
        path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(CorpusError, match=r"b\.jsonl, line 50: no message is the assistant's"):
        conversation_loaders(tokenizer, files, settings())
    with pytest.raises(CorpusError, match=r"^conversation 50: no message"):
        conversation_loaders(tokenizer, [*TALKS, TALKS[0], {"messages": []}, TALKS[1]], settings())


# Published models


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_a_published_checkpoint_is_fine_tuned_and_opens_there_again(tokenizer, tmp_path, kind):
    """As downloaded: written by transformers, bfloat16, with a chat template that marks no generation."""
    shape = {"vocab_size": 392, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128}
    torch.manual_seed(0)
    theirs = LlamaForCausalLM(LlamaConfig(**shape)) if kind == "llama" else Qwen3ForCausalLM(Qwen3Config(**shape))
    theirs.bfloat16().save_pretrained(tmp_path / "published")
    tokenizer.save_pretrained(tmp_path / "published")
    other = AutoTokenizer.from_pretrained(tmp_path / "published")
    other.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    other.chat_template = CHATML
    other.save_pretrained(tmp_path / "published")

    model, its_tokenizer = load_model(tmp_path / "published", "cpu")
    h = settings(max_steps=60, learning_rate=0.02)
    history = finetune(model, its_tokenizer, TALKS, h, **QUIET)
    assert history.test_loss < 0.5 * history.eval_loss[0]
    saved = save_model(model, its_tokenizer, tmp_path / "mine", chats=True)
    again, again_tokenizer = AutoModelForCausalLM.from_pretrained(saved), AutoTokenizer.from_pretrained(saved)
    assert again_tokenizer.convert_tokens_to_ids("<|im_end|>") in again.generation_config.eos_token_id
    ids = torch.tensor([encode_conversation(its_tokenizer, TALKS[0]["messages"])[0]])
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, model(ids), rtol=1e-3, atol=1e-3)


# Memory


@pytest.mark.parametrize("rank", [None, 8], ids=["whole", "lora"])
def test_memory_formula_against_what_pytorch_keeps(rank):
    config = DecoderConfig(600, 128, 4, 3, 0, num_kv_heads=2, context_size=64)
    told = training_memory(config, 2 * 64, lora_rank=rank)
    torch.manual_seed(0)
    model = DecoderLanguageModel.from_config(config)
    if rank:
        add_lora(model.bfloat16(), rank)
    held = sum(p.numel() * p.element_size() for p in model.parameters())
    assert told["weights"] == held
    optimizer = torch.optim.AdamW(p for p in model.parameters() if p.requires_grad)
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t), torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.randint(600, (2, 64)))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), torch.randint(600, (128,)))
    activations = sum(size for place, size in kept.items() if place not in own)
    assert told["activations"] == pytest.approx(activations, rel=0.35)
    loss.backward()
    optimizer.step()
    gradients = sum(p.grad.numel() * p.grad.element_size() for p in model.parameters() if p.grad is not None)
    assert told["gradients"] == gradients
    memories = [m for state in optimizer.state.values() for m in state.values() if m.dim()]
    assert told["optimizer"] == sum(m.numel() * m.element_size() for m in memories)


# Tokens that no text held


def test_tokens_that_no_text_held_can_be_told_apart(make_model):
    """Latin letters after a training on Hindi: they lie where an unused sign of a chat lies, and get places nearby."""
    model = make_model(spread=0.05)
    with torch.no_grad():
        model.embedding.weight[[3, 4, 250, 260]] = model.embedding.weight[300].clone()
    assert beside_untrained(model, [3, 4, 7]) == [250, 260, 300] and beside_untrained(model, [7]) == []
    before = model.embedding.weight.clone()
    give_places(model, [250, 260], spread=1.5)
    moved = (model.embedding.weight - before).norm(dim=1)
    assert torch.allclose(moved[[250, 260]], torch.tensor(1.5), atol=1e-4) and moved.count_nonzero() == 2
    assert untrained_tokens(model, [250, 260, 300]) == [300]


def test_chat_signs_get_places_of_their_own(make_model, tokenizer):
    """After a training on plain text all unused tokens lie at one place: an adapter could not tell them apart."""
    model = make_model(spread=0.05)
    with torch.no_grad():
        model.embedding.weight[3:7] = model.embedding.weight[300]
    assert untrained_tokens(model, range(8)) == [3, 4, 5, 6]
    with pytest.raises(ValueError, match=r"never saw <\|user\|>, .*give_places\(model, \[4, 5, 6\]\)"):
        finetune(model, tokenizer, TALKS, settings(), lora_rank=4, **QUIET)
    assert not has_lora(model)
    before = weights(model)
    give_places(model, [4, 5, 6])
    changed = (model.embedding.weight != before["embedding.weight"]).any(1).nonzero().flatten().tolist()
    assert changed == [4, 5, 6] and untrained_tokens(model, range(8)) == [3]
    again = make_model(spread=0.05)
    again.load_state_dict(before, strict=False)
    assert torch.equal(give_places(again, [4, 5, 6]).embedding.weight, model.embedding.weight), "always the same places"
    finetune(model, tokenizer, TALKS, settings(max_steps=2), lora_rank=4, **QUIET)


def test_shipped_storyteller_can_take_an_adapter():
    model, _ = load_model("models/kahani-hi", "cpu")
    assert untrained_tokens(model, range(1, 7)) == []
