"""What these tests protect: with any draft the text is the one, or the distribution, of the model alone, with every
filter; what is reported is what happened; and limits (stop ids, length, context) hold in the midst of a round."""

import itertools
from dataclasses import replace

import pytest
import torch

from ai4india_lib.formats.pretrained import load_model
from ai4india_lib.inference import speculative
from ai4india_lib.inference.generation import generate
from ai4india_lib.inference.sampling import Sampling, filter_logits
from ai4india_lib.inference.speculative import (
    DraftLength,
    ModelDraft,
    NgramDraft,
    Round,
    Speculation,
    accept,
    speculative_generate,
    speculative_steps,
)
from ai4india_lib.text.tokenizer import encode_prompt

GREEDY = Sampling(temperature=0)
PROMPT = [1, 40, 50, 60, 70]


@pytest.fixture
def pair(make_model):
    """A model, and a draft that often agrees with it: the same weights, shaken a little."""

    def make(shake=0.03, **settings):
        model, draft = make_model(0, **settings), make_model(0, **settings)
        with torch.no_grad():
            for weight in draft.parameters():
                weight += torch.randn_like(weight) * shake
        return model, draft

    return make


# --- greedy


@pytest.mark.parametrize("settings", [{}, {"num_kv_heads": 2, "qk_norm": False}], ids=["qwen3", "llama, grouped"])
@pytest.mark.parametrize("k", [1, 4, None])
def test_greedy_writes_what_the_model_writes_alone(pair, settings, k):
    model, draft = pair(**settings)
    refused = 0
    for start in range(8):
        prompt = [1, 40 + start, 50]
        (alone,) = generate(model, [prompt], max_new_tokens=40, sampling=GREEDY)
        done = speculative_generate(model, prompt, draft, max_new_tokens=40, sampling=GREEDY, k=k)
        assert done.ids == alone
        refused += done.proposed - done.accepted
    assert refused > 10 and done.accepted > 5  # both ways of a round were taken


@pytest.mark.parametrize("penalty", [1.0, 1.3])
@pytest.mark.parametrize("length", [1, 40, 63, 64, 65, 150])
def test_greedy_beyond_the_context(pair, length, penalty):
    model, draft = pair()
    sampling = Sampling(temperature=0, repetition_penalty=penalty)
    prompt = torch.randint(1, 384, (length,), generator=torch.Generator().manual_seed(0)).tolist()
    (alone,) = generate(model, [prompt], max_new_tokens=150, sampling=sampling)
    for proposer in (draft, NgramDraft(2, shortest=1)):
        assert speculative_generate(model, prompt, proposer, max_new_tokens=150, sampling=sampling).ids == alone


def test_a_draft_with_a_smaller_context_forgets_on_its_own(make_model):
    model, draft = make_model(0), make_model(0, context_size=16)
    (alone,) = generate(model, [PROMPT], max_new_tokens=100, sampling=GREEDY)
    done = speculative_generate(model, PROMPT, draft, max_new_tokens=100, sampling=GREEDY, k=5)
    assert done.ids == alone and 0 < done.accepted < done.proposed


def test_the_smallest_context(make_model):
    model = make_model(context_size=1)
    (alone,) = generate(model, [PROMPT], max_new_tokens=5, sampling=GREEDY)
    assert speculative_generate(model, PROMPT, model, max_new_tokens=5, sampling=GREEDY).ids == alone


@pytest.mark.parametrize("draft", ["kahani-hi-draft", "ngram"])
def test_greedy_with_the_trained_models(draft):
    model, tokenizer = load_model("kahani-hi", "cpu")
    draft = NgramDraft() if draft == "ngram" else load_model(draft, "cpu")[0]
    for start in ("एक दिन", "चेन्नई में", "मीरा और उसका", "यह कहानी", "सोमवार को", "बारिश", "बंदर", "दादी"):
        prompt = encode_prompt(tokenizer, start)
        (alone,) = generate(model, [prompt], max_new_tokens=60, sampling=GREEDY)
        done = speculative_generate(model, prompt, draft, max_new_tokens=60, sampling=GREEDY)
        assert done.ids == alone


# --- sampling: a model whose logits are a table of the last token, so that 10,000 tokens take seconds

VOCAB = 8


@pytest.fixture
def tables(make_model, monkeypatch):
    """Model and draft of 8 tokens whose passes are replaced: logits are (last token, next token) tables."""
    random = torch.Generator().manual_seed(3)
    models = [make_model(vocab_size=VOCAB, num_blocks=1, pad_idx=None, context_size=2048) for _ in range(2)]
    model, draft = models
    logits = {model: torch.randn(VOCAB, VOCAB, generator=random) * 1.5}
    logits[draft] = logits[model] + torch.randn(VOCAB, VOCAB, generator=random)
    monkeypatch.setattr(
        speculative.TextReader, "read", lambda self, ids, count: logits[self.model][torch.tensor(ids[-count:])]
    )
    return model, draft, logits[model]


def chi_square(counts, expected):
    """How far counts (cells,) lie from the expected ones (Pearson), and the degrees of freedom."""
    assert counts[expected == 0].sum() == 0, "a token that was cut off has been drawn"
    counts, expected = counts[expected > 0].double(), expected[expected > 0].double()
    return float(((counts - expected) ** 2 / expected).sum()), len(counts) - 1


def p_value(statistic, freedom):
    """Chance of a chi-square as large as this one or larger."""
    return float(torch.special.gammaincc(torch.tensor(freedom / 2), torch.tensor(statistic / 2)))


def draw_chains(model, draft, sampling, length=1000):
    """Counts (last token, next token) over texts of 1000 tokens, and the share of proposals that was accepted."""
    counts, accepted, proposed = torch.zeros(VOCAB * VOCAB), 0, 0
    for seed in range(CHAINS):
        settings = {"max_new_tokens": length, "sampling": replace(sampling, seed=seed)}
        done = speculative_generate(model, [1], draft, **settings)
        accepted, proposed = accepted + done.accepted, proposed + done.proposed
        text = torch.tensor([1, *done.ids])
        counts += torch.bincount(text[:-1] * VOCAB + text[1:], minlength=VOCAB * VOCAB)
    return counts.view(VOCAB, VOCAB), accepted / proposed


def p_value_of_transitions(counts, table, sampling):
    """Rows of a Markov chain's transition counts are independent multinomials (Billingsley, 1961): their statistics
    and degrees of freedom add up."""
    expected = counts.sum(1, keepdim=True) * filter_logits(table, sampling).softmax(-1)
    parts = [chi_square(*rows) for rows in zip(counts, expected, strict=True)]
    return p_value(*map(sum, zip(*parts, strict=True)))


SETTINGS = {
    "temperature": Sampling(temperature=0.7),
    "top-k": Sampling(temperature=1.0, top_k=4),
    "top-p": Sampling(temperature=0.9, top_p=0.85),
    "all": Sampling(temperature=1.3, top_k=6, top_p=0.95, min_p=0.02),
}


CHAINS = 10  # of 1000 draws; so many suffice to find out each of the wrong rules below


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("model", "all"),
        ("ngram", "all"),
        *(pytest.param("model", name, marks=pytest.mark.slow) for name in SETTINGS if name != "all"),
        pytest.param("ngram", "temperature", marks=pytest.mark.slow),
    ],
)
def test_ten_thousand_draws_follow_the_models_distribution(tables, name, kind):
    model, draft, table = tables
    proposer = draft if kind == "model" else NgramDraft(2, shortest=1)
    counts, acceptance = draw_chains(model, proposer, SETTINGS[name])
    assert counts.sum() == 10_000
    assert 0.1 < acceptance < 0.9  # else not both branches of the rule have been tried
    assert p_value_of_transitions(counts, table, SETTINGS[name]) > 1e-3


def never_refuse(p, q, drafted, generator):
    return len(drafted), int(torch.multinomial(p[-1], 1, generator=generator))


def redraw_from_p(p, q, drafted, generator):
    accepted, token = accept(p, q, drafted, generator)
    return accepted, token if accepted == len(drafted) else int(torch.multinomial(p[accepted], 1, generator=generator))


def forget_q(p, q, drafted, generator):
    """Accepts with p(x), as if each proposal had been certain, but replaces as if it had been drawn from q."""
    accepted = next((i for i, x in enumerate(drafted) if torch.rand(1, generator=generator) >= p[i, x]), len(drafted))
    left = p[accepted] if accepted == len(drafted) else (p[accepted] - q[accepted]).clamp(min=1e-9)
    return accepted, int(torch.multinomial(left, 1, generator=generator))


@pytest.mark.parametrize("wrong", [never_refuse, redraw_from_p, forget_q])
def test_a_wrong_rule_would_be_found_out(tables, monkeypatch, wrong):
    model, draft, table = tables
    monkeypatch.setattr(speculative, "accept", wrong)
    counts, _ = draw_chains(model, draft, SETTINGS["temperature"])
    assert p_value_of_transitions(counts, table, SETTINGS["temperature"]) < 1e-9


@pytest.mark.parametrize(("kind", "texts"), [("model", 3000), ("ngram", 1000)])
def test_the_repetition_penalty_counts_proposed_tokens_as_used(tables, kind, texts):
    """Texts of three tokens: each of the 512 has its own probability, which the penalty changes. Were proposed tokens
    not counted, 3000 texts with the model as draft would tell; the n-grams here propose tokens that are used anyway."""
    model, draft, table = tables
    sampling = Sampling(temperature=1.0, repetition_penalty=1.8)
    expected = torch.zeros(VOCAB, VOCAB, VOCAB)
    for a, b, c in itertools.product(range(VOCAB), repeat=3):
        steps = (([1, 5, 1], a), ([1, 5, 1, a], b), ([1, 5, 1, a, b], c))
        for probability in (filter_logits(table[text[-1]], sampling, text).softmax(0)[t] for text, t in steps):
            expected[a, b, c] = (expected[a, b, c] or 1) * probability
    counts = torch.zeros_like(expected)
    for seed in range(texts):
        proposer = draft if kind == "model" else NgramDraft(2, shortest=1)
        settings = {"max_new_tokens": 3, "sampling": Sampling(temperature=1.0, repetition_penalty=1.8, seed=seed)}
        counts[tuple(speculative_generate(model, [1, 5, 1], proposer, k=2, **settings).ids)] += 1
    often = expected * texts >= 5  # rarer texts are counted together
    cells = [torch.cat((n[often], n[~often].sum()[None])) for n in (counts, expected * texts)]
    assert p_value(*chi_square(*cells)) > 1e-3


def test_the_rule_by_hand():
    """p = (½, ½, 0), q = (1, 0, 0): token 0 stands half of the time, and is else replaced by token 1."""
    p, random = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]), torch.Generator().manual_seed(0)
    for q in (torch.tensor([[1.0, 0.0, 0.0]]), None):
        seen = {accept(p, q, [0], random) for _ in range(50)}
        assert seen == {(1, 2), (0, 1)}
    same = p.clone()
    assert all(accept(p, same[:1], [1], random) == (1, 2) for _ in range(50))  # p = q: nothing is refused
    assert accept(p[1:], None, [], random) == (0, 2)


def test_seeds(pair):
    model, draft = pair(spread=0.1)

    def write(seed):
        return speculative_generate(model, PROMPT, draft, max_new_tokens=30, sampling=Sampling(seed=seed)).ids

    assert write(1) == write(1) != write(2)
    assert write(None) != write(None)


# --- limits in the midst of a round


def test_a_stop_id_among_accepted_tokens_ends_the_text_there(make_model):
    model = make_model()
    (free,) = generate(model, [PROMPT], max_new_tokens=30, sampling=GREEDY)
    for end in set(free):
        (alone,) = generate(model, [PROMPT], max_new_tokens=30, sampling=GREEDY, stop_ids=[end])
        done = speculative_generate(model, PROMPT, model, max_new_tokens=30, sampling=GREEDY, stop_ids=[end], k=6)
        assert done.ids == alone and done.ids.index(end) == len(done.ids) - 1


@pytest.mark.parametrize("count", [0, 1, 2, 7, 17])
@pytest.mark.parametrize("k", [1, 6, None])
def test_max_new_tokens_is_exact(make_model, count, k):
    model = make_model()
    done = speculative_generate(model, PROMPT, model, max_new_tokens=count, k=k)
    assert len(done.ids) == count
    assert sum(len(r.tokens) for r in done.rounds) == count


# --- what is reported


def test_rounds_add_up(pair):
    model, draft = pair(shake=0.1)
    rounds = list(speculative_steps(model, PROMPT, draft, max_new_tokens=50, sampling=GREEDY, k=3))
    left = 50
    for r in rounds:
        assert r.proposed == min(3, left - 1)  # the last token needs no proposal: it is the model's own
        left -= len(r.tokens)
        assert len(r.tokens) == r.accepted + 1 and 0 <= r.accepted <= r.proposed <= r.k == 3
        assert r.draft_seconds > 0 and r.target_seconds > 0
    assert left == 0


def test_a_model_as_its_own_draft_is_always_right(make_model):
    model = make_model()
    done = speculative_generate(model, PROMPT, model, max_new_tokens=33, sampling=GREEDY, k=3)
    assert done.acceptance == 1 and len(done.rounds) == 9
    asked = [r.k for r in speculative_generate(model, PROMPT, model, max_new_tokens=50, sampling=GREEDY).rounds]
    assert set(asked) == {1}  # a draft as dear as the model never pays


def test_summary_by_hand():
    rounds = [Round([5, 6, 7], 2, 2, 2, 0.1, 0.1), Round([8, 9], 3, 1, 3, 0.1, 0.1), Round([4], 1, 0, 1, 0.1, 0.1)]
    done = Speculation([5, 6, 7, 8, 9, 4], rounds)
    assert done.acceptance == 3 / 6 and done.tokens_per_pass == 2
    assert str(done) == "3 of 6 proposals accepted (50%), 2.00 tokens per pass of the model"
    assert Speculation().acceptance == Speculation().tokens_per_pass == 0


def test_k_follows_the_acceptance():
    length = DraftLength(cost=0.2)
    first = length.next()
    for _ in range(30):
        length.learn(4, 4)
    assert length.next() > first
    for _ in range(30):
        length.learn(4, 0)
    assert length.next() == 1
    best, a = DraftLength(cost=0.1), 0.8
    best.accepted, best.seen = a, 1.0
    gain = {k: (1 - a ** (k + 1)) / (1 - a) / (1 + (0.1 + speculative.CHECKING) * k) for k in range(1, 17)}
    assert best.next() == max(gain, key=gain.get)


# --- n-grams


def ready(draft):
    draft.begin(None, [], longest=0, sampling=GREEDY, generator=None)
    return draft


def test_ngrams_take_the_longest_and_latest_match():
    draft = ready(NgramDraft(3, shortest=1))
    assert draft.propose([1, 2, 3, 4, 5, 1, 2, 3], 4) == ([4, 5, 1, 2], None)
    assert draft.propose([1, 2, 3, 4, 5, 1, 2, 3, 9, 1, 2, 3], 2) == ([9, 1], None)  # the latest of two
    draft = ready(NgramDraft(3, shortest=1))
    assert draft.propose([7, 1, 2, 5, 2, 6, 1, 2], 1) == ([5], None)  # "1 2", not the later "2"
    assert ready(NgramDraft(3, shortest=2)).propose([1, 2, 9, 2], 3) == ([], None)


def test_ngrams_of_other_texts_help_where_the_text_itself_has_none():
    draft = ready(NgramDraft(2, shortest=2, texts=[[1, 2, 3], [1, 2, 4], [5, 1, 2, 4]]))
    assert draft.propose([8, 1, 2], 2) == ([4], None)
    assert draft.propose([8, 1, 2, 7, 1, 2], 1) == ([7], None)


def test_an_ngram_draft_starts_anew_with_each_text(make_model):
    model, draft = make_model(), NgramDraft(2, shortest=1)
    for prompt in (PROMPT, PROMPT[::-1], PROMPT):
        (alone,) = generate(model, [prompt], max_new_tokens=60, sampling=GREEDY)
        done = speculative_generate(model, prompt, draft, max_new_tokens=60, sampling=GREEDY)
        assert done.ids == alone
        fresh = speculative_generate(model, prompt, NgramDraft(2, shortest=1), max_new_tokens=60, sampling=GREEDY)
        assert [r.accepted for r in fresh.rounds] == [r.accepted for r in done.rounds]


# --- mistakes


def test_wrong_input_is_told(make_model):
    model = make_model()
    with pytest.raises(ValueError, match="the draft knows 50 tokens, the model 384: they must share one tokenizer"):
        speculative_generate(model, PROMPT, make_model(vocab_size=50), max_new_tokens=5)
    for k in (0, -1, 2.5):
        with pytest.raises(ValueError, match=f"k={k} must be a whole number of at least 1"):
            speculative_generate(model, PROMPT, model, max_new_tokens=5, k=k)
    with pytest.raises(ValueError, match="cannot write -1 tokens"):
        speculative_generate(model, PROMPT, model, max_new_tokens=-1)
    for prompt, told in (([], "at least one id"), ([PROMPT], "the prompt must be a list of ids, whole numbers")):
        with pytest.raises(ValueError, match=told):
            speculative_generate(model, prompt, model, max_new_tokens=5)
    with pytest.raises(ValueError, match="a prompt has id 384"):
        speculative_generate(model, [384], model, max_new_tokens=5)
    with pytest.raises(ValueError, match="shortest=3 and longest=2"):
        NgramDraft(2, shortest=3)
    with pytest.raises(ValueError, match="the draft is on meta, the model on cpu"):
        speculative_generate(model, PROMPT, ModelDraft(make_model().to("meta")), max_new_tokens=5)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(seed=0)], ids=["greedy", "drawn"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_damaged_weights_are_told(make_model, sampling, value):
    sound, damaged = make_model(), make_model(1)
    with torch.no_grad():
        damaged.norm.gain.fill_(value)
    for model, draft in ((damaged, sound), (sound, damaged), (damaged, NgramDraft(1, shortest=1))):
        with pytest.raises(FloatingPointError, match="not numbers"):
            speculative_generate(model, PROMPT * 3, draft, max_new_tokens=5, sampling=sampling, k=3)


@pytest.mark.parametrize("draft", ["ngram", None, 5], ids=str)
def test_what_is_no_draft_is_told(make_model, draft):
    with pytest.raises(ValueError, match="draft must be a model, ModelDraft"):
        speculative_generate(make_model(), PROMPT, draft, max_new_tokens=5)


def test_the_model_is_left_as_it_was(make_model):
    model = make_model().train()
    next(speculative_steps(model, PROMPT, model, max_new_tokens=20))  # left half-way
    assert model.training and torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    model(torch.tensor([PROMPT])).sum().backward()
