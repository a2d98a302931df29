"""Protects tuning.conversation_batches: only the assistant's words are learned, and no conversation sees another."""

import gzip
import json
import math
from itertools import chain

import pytest
import torch
from transformers import AutoTokenizer

from ai4india_lib import CorpusError, encode_conversation, encode_documents, load_tokenizer
from ai4india_lib.text.chat import check_messages, encode_conversations, question_messages
from ai4india_lib.text.corpus import json_lines
from ai4india_lib.text.resumable import TextLoader
from ai4india_lib.tuning.conversation_batches import ConversationDataset, encode_examples, mixed_with_replay


def said(*contents, system=None):
    """A conversation: user and assistant in turns."""
    start = [{"role": "system", "content": system}] if system else []
    return start + [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(contents)]


TALKS = [
    said("चाय कहाँ है?", "दुकान पर।"),
    said("मीरा कौन है?", "एक लड़की।", "उसने क्या देखा?", "एक चिड़िया, 🐦!"),
    said("नमस्ते", "<|end_of_turn|> कहो", system="तुम  सच बोलते हो।"),
    said("x", ""),
]

CHATML = """{% for m in messages %}<|im_start|>{{ m['role'] }}
{{ m['content'] | trim }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
THINKING = """{% for m in messages %}<|im_start|>{{ m['role'] }}
{% if m['role'] == 'assistant' and loop.last %}<think>

</think>

{% endif %}{{ m['content'] | trim }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
NO_END = """{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}
{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"""


@pytest.fixture
def published(tokenizer, tmp_path):
    """A function that makes a tokenizer with another chat template, as published models have."""

    def make(template):
        tokenizer.save_pretrained(tmp_path)
        other = AutoTokenizer.from_pretrained(tmp_path)
        other.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
        other.chat_template = template
        return other

    return make


@pytest.mark.parametrize("messages", TALKS)
def test_mask_is_that_of_transformers_and_covers_what_the_assistant_says(tokenizer, messages):
    ids, learn = encode_conversation(tokenizer, messages)
    marked = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    assert ids == marked["input_ids"] and learn == marked["assistant_masks"]
    answers = [m["content"].replace("<|", "< |") for m in messages if m["role"] == "assistant"]
    assert tokenizer.decode([i for i, one in zip(ids, learn, strict=True) if one]) == "".join(
        f" {answer}<|end_of_turn|>" for answer in answers
    )
    before = [tokenizer.decode(ids[at - 1]) for at in range(1, len(ids)) if learn[at] and not learn[at - 1]]
    assert before == ["<|assistant|>"] * len(answers), "the sign that the assistant speaks is given, not learned"


def test_many_at_once_are_as_each_alone(tokenizer):
    assert encode_conversations(tokenizer, TALKS) == [encode_conversation(tokenizer, talk) for talk in TALKS]


@pytest.mark.parametrize("talk", [TALKS[0], TALKS[1]])
@pytest.mark.parametrize("template", [CHATML, THINKING], ids=["chatml", "thinking"])
def test_templates_without_marks(published, template, talk):
    other = published(template)
    ids, learn = encode_conversation(other, talk)
    assert other.decode(ids) == other.apply_chat_template(talk, tokenize=False)
    learned = other.decode([i for i, one in zip(ids, learn, strict=True) if one])
    answers = [f"{m['content']}<|im_end|>" for m in talk if m["role"] == "assistant"]
    if template == THINKING:
        answers[-1] = "<think>\n\n</think>\n\n" + answers[-1]
    assert learned == "".join(answers)


def test_search_finds_what_marks_say(tokenizer, published):
    """The same template with and without marks gives the same mask."""
    marks = tokenizer.chat_template
    plain = published(marks.replace("{% generation %}", "").replace("{% endgeneration %}", ""))
    for talk in TALKS[:2]:
        assert encode_conversation(plain, talk) == encode_conversation(tokenizer, talk)


def test_template_that_tells_no_end(published):
    with pytest.raises(ValueError, match=r"message 2 begins and ends: put \{% generation %\}"):
        encode_conversation(published(NO_END), TALKS[0])
    other = published(None)
    with pytest.raises(ValueError, match="no chat template"):
        encode_conversation(other, TALKS[0])


def test_questions_become_a_conversation():
    asked = [{"question": "कौन?", "answer": "मीरा"}, {"question": "कहाँ?", "answer": "पटना", "kind": "where"}]
    assert question_messages("कहानी।", asked) == said("कहानी। कौन?", "मीरा", "कहाँ?", "पटना")


# Examples


def test_three_kinds_of_lines(tokenizer):
    lines = [
        {"messages": TALKS[1], "kind": "chat"},
        {"story": "मीरा आई।", "questions": [{"question": "कौन आई?", "answer": "मीरा"}]},
        {"text": "एक दिन मीरा आई।"},
    ]
    found = encode_examples(lines, tokenizer, 200)
    expected = [encode_conversation(tokenizer, talk) for talk in (TALKS[1], said("मीरा आई। कौन आई?", "मीरा"))]
    assert list(zip(found.ids, found.learn, strict=True))[:2] == expected
    (text,) = encode_documents(tokenizer, ["एक दिन मीरा आई।"])
    assert found.ids[2] == text and found.learn[2] == [1] * len(text)
    assert found.bytes == sum(len(t.encode()) + 1 for t in ("एक लड़की।", "एक चिड़िया, 🐦!", "मीरा", "एक दिन मीरा आई।"))
    assert (found.shortened, found.left_out) == (0, 0) and found.in_words().startswith("3 examples")


def test_too_long_ones_are_shortened_or_left_out_and_counted(tokenizer):
    talk = said("क" * 9, "ख", "ग" * 9, "घ", "ङ" * 9, "च")
    lengths = [len(encode_conversation(tokenizer, talk[:n])[0]) for n in (2, 4, 6)]
    for context, turns in ((lengths[2] - 1, 6), (lengths[2] - 2, 4), (lengths[1] - 1, 4), (lengths[1] - 2, 2)):
        found = encode_examples([{"messages": talk}], tokenizer, context)
        assert found.ids == [encode_conversation(tokenizer, talk[:turns])[0]]
        assert found.shortened == (turns < 6)
    found = encode_examples([{"messages": talk}, {"messages": said("x", "y")}], tokenizer, lengths[0] - 2)
    assert len(found.ids) == 1 and found.left_out == 1 and "1 left out: too long" in found.in_words()
    with pytest.raises(CorpusError, match="context_size=5 tokens \\(2 were longer"):
        encode_examples([{"messages": talk}, {"messages": talk}], tokenizer, 5)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"messages": []}, "no message is the assistant's"),
        ({"messages": said("only a question")}, "no message is the assistant's"),
        ({"messages": "hello"}, "must be a list"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "message 1 has the role 'bot': use system, user, assistant"),
        ({"messages": [*said("a", "b"), {"content": "x"}]}, "message 3 has the role None"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "no text as content"),
        ({"prompt": "x"}, 'neither "messages" nor "text", but prompt: expected {"messages": \\[{"role": "user"'),
        ({"instruction": "x", "input": "", "output": "y"}, "but instruction, input, output: expected"),
        ({"conversations": [{"from": "human", "value": "x"}]}, "but conversations: expected"),
        ({"text": 5}, "but text: expected"),
        ({}, "but nothing: expected"),
        ("hello", "'hello' is no conversation: expected"),
        ([], "\\[\\] is no conversation: expected"),
        (None, "None is no conversation: expected"),
        ({"messages": said("x", "")}, "message 2, the assistant's, is empty"),
        ({"story": "x", "questions": "y"}, '"questions" must be a list'),
        ({"story": "x", "questions": [{"question": "y"}]}, "'answer' is missing"),
        ({"questions": []}, "'story' is missing"),
    ],
)
def test_what_cannot_be_learned_from_is_told_with_its_line(tokenizer, line, message):
    with pytest.raises(CorpusError, match="chai.jsonl, line 3: .*" + message.replace("(", "\\(")):
        encode_examples([{"messages": TALKS[0]}] * 2 + [line], tokenizer, 100, source="chai.jsonl")


def test_broken_json_is_told_with_its_line(tokenizer, tmp_path):
    path = tmp_path / "chai.jsonl.gz"
    good = json.dumps({"messages": TALKS[0]}, ensure_ascii=False)
    path.write_bytes(gzip.compress(f"{good}\n{good[:-3]}\n".encode()))
    with pytest.raises(CorpusError, match="line 2, is not JSON"):
        encode_examples(json_lines(path), tokenizer, 100)
    assert check_messages(TALKS[0]) is TALKS[0]


# Batches


@pytest.fixture
def examples(tokenizer):
    lines = [{"messages": said("क" * (n % 7), f"ख{n}")} for n in range(90)] + [{"text": "चाय " * 5}] * 9
    return encode_examples(lines, tokenizer, 60)


def rows(batches):
    """(ids, learned positions) of each row, without what is filled up; the end is where nothing is left."""
    for inputs, targets in batches:
        yield from zip(inputs.tolist(), targets.tolist(), strict=True)


def test_rows_are_whole_conversations_and_nothing_else(examples):
    data = ConversationDataset(examples, 0, 60, 4)
    found = []
    for inputs, targets in data:
        assert inputs.shape == targets.shape and inputs.numel() <= 4 * 60
        for row, wanted in rows([(inputs, targets)]):
            size = max(n for n, i in enumerate(row) if i) + 1
            found.append((row[:size], wanted[:size]))
            assert row[0] == 1 and row.count(1) == 1, "one begin token, at the beginning"
            assert set(wanted[size:]) <= {-100} and set(row[size:]) <= {0}
    expected = [
        (ids[:-1], [i if one else -100 for i, one in zip(ids[1:], learn[1:], strict=True)])
        for ids, learn in zip(examples.ids, examples.learn, strict=True)
    ]
    assert sorted(found) == sorted(expected)


def test_loss_of_a_batch_is_that_of_its_conversations_alone(examples, make_model):
    """Neighbours and filling change nothing."""
    model, data = make_model(), ConversationDataset(examples, 0, 60, 4)
    numbers = data.batches(0)[1]
    inputs, targets = list(data)[1]
    with torch.no_grad():
        together = torch.nn.functional.cross_entropy(model(inputs).transpose(1, 2), targets, reduction="none").sum(1)
        for loss, number in zip(together, numbers, strict=True):
            ids, learn = torch.tensor(examples.ids[number]), examples.learn[number]
            logs = model(ids[None])[0].log_softmax(-1)
            alone = -sum(logs[at - 1, ids[at]] for at in range(1, len(ids)) if learn[at])
            torch.testing.assert_close(loss, alone, rtol=1e-4, atol=1e-4)


def test_little_is_filled_up(examples):
    data = ConversationDataset(examples, 0, 60, 4)
    real = sum(len(ids) - 1 for ids in examples.ids)
    given = sum(inputs.numel() for inputs, _ in data)
    assert data.padding_share() == pytest.approx(1 - real / given) and data.padding_share() < 0.1
    assert data.num_tokens() == given
    learned = sum(map(sum, examples.learn))
    assert data.bytes_per_token() == examples.bytes / learned


def test_each_epoch_has_another_order_and_processes_share_the_rows(examples):
    data = ConversationDataset(examples, 0, 60, 4, seed=3)
    assert sorted(chain(*data.batches(0))) == list(range(len(examples.ids))) and data.batches(0) != data.batches(1)
    assert data.batches(1) == ConversationDataset(examples, 0, 60, 4, seed=3).batches(1)
    fixed = ConversationDataset(examples, 0, 60, 4, shuffle=False)
    assert fixed.batches(0) == fixed.batches(1)
    parts = [ConversationDataset(examples, 0, 60, 4, rank=r, world_size=2) for r in (0, 1)]
    assert sorted(chain(*(number for part in parts for number in part.batches(5)))) == list(range(len(examples.ids)))
    whole = ConversationDataset(examples, 0, 60, 8)
    for (_, targets), *own in zip(whole, *parts, strict=True):
        rows = [row[row >= 0].tolist() for batch in own for row in batch[1]]
        assert sorted(row for row in rows if row) == sorted(row[row >= 0].tolist() for row in targets)
    with pytest.raises(ValueError, match="rank=2"):
        ConversationDataset(examples, 0, 60, 4, rank=2, world_size=2)


def test_easy_ones_come_first_and_only_in_the_first_pass(examples):
    def rows(dataset, epoch):
        return [set(batch) for batch in dataset.batches(epoch)]

    easy, whole = set(range(20)), set(range(len(examples.ids)))
    for rank in range(2):
        dataset = ConversationDataset(examples, 0, 64, batch_size=4, first=20, rank=rank, world_size=2)
        batches = rows(dataset, 0)
        until = sum(bool(batch & easy) for batch in batches)
        assert 0 < until < len(batches)
        assert set().union(*batches[:until]) <= easy  # no other is mixed in
        assert not set().union(*batches[until:]) & easy
        assert not set().union(*rows(dataset, 1)) & easy
    both = [ConversationDataset(examples, 0, 64, batch_size=4, first=20, rank=r, world_size=2) for r in range(2)]
    assert sorted(i for dataset in both for batch in dataset.batches(0) for i in batch) == sorted(whole)
    all_easy = ConversationDataset(examples, 0, 64, batch_size=4, first=len(whole))
    assert sorted(i for batch in all_easy.batches(0) for i in batch) == sorted(whole)
    with pytest.raises(ValueError, match="so many can come first at most"):
        ConversationDataset(examples, 0, 64, first=len(whole) + 1)


def test_replay_grows_more_frequent_through_a_pass(examples):
    """Every batch is of one kind; half of them, most of them late; and each example is read once."""
    whole = len(examples.ids)
    texts = set(range(whole - 3 * whole // 5, whole))
    dataset = ConversationDataset(examples, 0, 60, 1, first=4, replay=len(texts))
    batches = dataset.batches(0)
    assert sorted(i for batch in batches for i in batch) == list(range(whole))
    easy = sum(set(batch) <= set(range(4)) for batch in batches)
    kinds = [set(batch) <= texts for batch in batches[easy:]]
    assert [bool(set(batch) & texts) for batch in batches[easy:]] == kinds
    half = len(kinds) // 2
    assert 0 < sum(kinds[:half]) < sum(kinds[half:]) < len(kinds) - half
    short = ConversationDataset(examples, 0, 60, 1, first=4, replay=len(texts), longest_pass=easy + half)
    assert len(short.batches(0)) == easy + half and len(short.batches(1)) == len(kinds[: easy + half])
    replayed = sum(set(batch) <= texts for batch in short.batches(0)[easy:])
    assert replayed == pytest.approx(sum(kinds) / 2, abs=1.5)  # the same share of a shorter pass
    assert short.num_tokens() == dataset.num_tokens()
    assert ConversationDataset(examples, 0, 60, 1, first=4, longest_pass=1).batches(0) == batches[:1]
    with pytest.raises(ValueError, match="do not come first"):
        ConversationDataset(examples, 0, 60, first=4, replay=whole - 3)


@pytest.mark.parametrize(("talks", "texts"), [(60, 40), (30, 30), (50, 1), (200, 17), (9, 0)])
def test_as_many_texts_have_come_as_are_due(talks, texts):
    """After each batch: the sum of the fractions so far, rounded; a fraction grows from 1/5 to 9/5 of the mean."""
    length = talks + texts
    mixed = mixed_with_replay([[number] for number in range(talks)], [[-1 - number] for number in range(texts)], length)
    came, due = 0, 0.0
    for n, [number] in enumerate(mixed):
        due += texts / length * (1 / 5 + 8 / 5 * n / length)
        came += number < 0
        assert came == math.floor(due + 0.5) or n - came == talks - 1, f"after batch {n}"
    assert [number for [number] in mixed if number >= 0] == list(range(talks)), "each kind in its own order"
    assert [-1 - number for [number] in mixed if number < 0] == list(range(texts))


def test_mixed_by_hand_and_when_one_kind_is_used_up():
    assert "".join(mixed_with_replay([*"abcdef"], [*"XYZ"], 9)) == "abcXdeYfZ"
    assert mixed_with_replay([*"ab"], [*"VWXYZ"], 7) == [*"abVWXYZ"], "what is left is all of one kind"
    assert mixed_with_replay([*"abcdef"], [*"XYZ"], 0) == mixed_with_replay([], [], 0) == []


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_share_the_batches_and_give_them_in_the_same_order(examples, num_workers):
    alone = list(TextLoader(ConversationDataset(examples, 0, 60, 4)))
    loader = TextLoader(ConversationDataset(examples, 0, 60, 4), num_workers=num_workers)
    assert all(torch.equal(inputs, wanted) for (inputs, _), (wanted, _) in zip(loader, alone, strict=True))


def test_goes_on_where_it_stopped(examples):
    whole = TextLoader(ConversationDataset(examples, 0, 60, 4))
    expected = [batch for _ in range(2) for batch in whole]
    first = TextLoader(ConversationDataset(examples, 0, 60, 4))
    passes = (batch for _ in range(2) for batch in first)
    for taken in (3, len(list(TextLoader(ConversationDataset(examples, 0, 60, 4)))) + 2):
        first = TextLoader(ConversationDataset(examples, 0, 60, 4))
        passes = (batch for _ in range(2) for batch in first)
        for _ in range(taken):
            next(passes)
        second = TextLoader(ConversationDataset(examples, 0, 60, 4))
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        left = [batch for _ in range(2) for batch in second]
        for (inputs, targets), (wanted, wanted_targets) in zip(left, expected[taken:], strict=False):
            assert torch.equal(inputs, wanted) and torch.equal(targets, wanted_targets)
        assert len(left) >= len(expected) - taken


def test_shipped_tokenizer_has_a_template_with_marks():
    tokenizer = load_tokenizer("models/kahani-hi")
    ids, learn = encode_conversation(tokenizer, TALKS[0])
    assert ids[0] == tokenizer.bos_token_id and sum(learn)
