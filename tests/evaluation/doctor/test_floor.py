"""Protects loss minus floor: each token gets its own share of the story's bits, its kind, and its distance."""

import json
import math

import pytest

from ai4india_lib.evaluation.doctor.floor import Excess, by_kind, by_place, in_words, read_floors, token_excess
from ai4india_lib.plots import plot_excess, plt

STORY = "मीरा आई। मीरा गई।"
LINE = {
    "text": STORY,
    "bits": [[4, 3.0], [8, 4.0], [len(STORY), 6.5], [len(STORY) + 1, 7.0]],
    "marks": [[0, 4, "name", None], [5, 7, "agreeing word", None], [7, 8, "sign", None], [9, 13, "repeated name", 4],
              [14, 16, "agreeing word", None], [16, 17, "sign", None]],
}  # fmt: skip


@pytest.fixture
def floors(tmp_path):
    path = tmp_path / "floors.jsonl"
    path.write_text(json.dumps(LINE, ensure_ascii=False) + "\n" + json.dumps(LINE) + "\n", encoding="utf-8")
    return path


def test_each_token_has_its_share_of_the_bits_and_its_kind(floors, make_model, tokenizer):
    model = make_model(context_size=64)
    stories = read_floors(floors)
    tokens = token_excess(model, tokenizer, stories)
    assert len(read_floors(floors, 1)) == 1 and len(stories) == 2
    assert sum(token.floor for token in tokens) == pytest.approx(2 * 7.0 * math.log(2))
    kinds = {group.name: group for group in by_kind(tokens)}
    assert set(kinds) == {"name", "repeated name", "agreeing word", "sign", "end of the story"}
    assert kinds["name"].floor * kinds["name"].count == pytest.approx(2 * 3.0 * math.log(2))
    assert kinds["repeated name"].floor == 0 and kinds["end of the story"].floor == pytest.approx(0.5 * math.log(2))
    assert all((token.since is not None) == (token.kind == "repeated name") for token in tokens)
    first, last = tokens[0], tokens[-1]
    assert first.in_story == 1 and last.in_block > last.in_story  # the second story of the row
    assert all(token.loss > 0 for token in tokens)


def test_the_loss_is_that_of_the_rows(floors, make_model, tokenizer):
    """The same as measured without any floor."""
    from ai4india_lib.evaluation.likelihood import token_log_probabilities
    from ai4india_lib.text.tokenizer import encode_documents

    model = make_model(context_size=64)
    ids = encode_documents(tokenizer, [STORY])[0]
    tokens = token_excess(model, tokenizer, read_floors(floors, 1))
    [logs] = token_log_probabilities(model, [[tokenizer.eos_token_id, *ids]])
    begin = len(ids) - len(tokens)
    assert [token.loss for token in tokens] == pytest.approx((-logs[begin:]).tolist())


def test_tables_and_the_picture():
    tokens = [
        Excess(1.0 + (n % 3), 0.5, ("name", "sign", "other")[n % 3], n, n, n if n % 2 else None) for n in range(90)
    ]
    groups = by_kind(tokens)
    assert [group.name for group in groups] == ["other", "sign", "name"] and groups[0].excess == pytest.approx(2.5)
    assert [(group.name, group.count) for group in by_place(tokens, "in_story")] == [("0", 32), ("32", 32), ("64", 26)]
    assert sum(group.count for group in by_place(tokens, "since")) == 45
    assert in_words(tokens).startswith("1.50 nats a token above the floor: other 56%")
    assert next(iter(plot_excess(tokens))).get_title() == "Which words lose most"
    plt.close("all")


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "floors.jsonl"
    path.write_text('{"text": "a", "bits": [[1]], "marks": []}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"floors\.jsonl"):
        read_floors(path)
