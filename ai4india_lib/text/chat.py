"""Conversations: the template that writes them as text, what ends a text, messages → ids."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .templates import render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROLES = ("system", "user", "assistant")
TURN_ENDS = ("<|end_of_turn|>", "<end_of_turn>", "<|im_end|>", "<|eot_id|>")

# Between {% generation %} marks stands what the model shall learn to write: the answer and the sign that it is over.
# "<|" inside a message becomes "< |": no message can end its own turn and speak for someone else.
# A message begins with a space, so that its first word is the token that it is within a text: " पटना" is one token that
# every story taught, "पटना" without its space may be several that none did.
CHAT_TEMPLATE = """
{{- bos_token }}
{%- for message in messages %}
{%- if message['role'] not in ['system', 'user', 'assistant'] %}
{{- raise_exception('Unknown role "' ~ message['role'] ~ '": use system, user or assistant.') }}
{%- elif message['content'] is not string %}
{{- raise_exception('The content of a message must be text: this tokenizer reads no pictures or tools.') }}
{%- endif %}
{{- '<|' ~ message['role'] ~ '|>' }}
{%- set said = ' ' ~ message['content'] | replace('<|', '< |') ~ '<|end_of_turn|>' %}
{%- if message['role'] == 'assistant' %}{% generation %}{{ said }}{% endgeneration %}{% else %}{{ said }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}
""".strip()

RESPONSE_TEMPLATE = {
    "start_anchor": "<|assistant|>",
    "defaults": {"role": "assistant"},
    "fields": {"content": {"close": "<|end_of_turn|>", "content": "text"}},
}
"""How a server finds the answer in what a model with our template wrote (transformers 5 reads it; 4 passes over it)."""


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Every special token with its id: signs for the model, which no text may write."""
    named = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    return {str(token): i for i, token in tokenizer.added_tokens_decoder.items() if token.special} | dict(named)


def end_ids(tokenizer: PreTrainedTokenizerBase, *, chat: bool = True) -> list[int]:
    """Ids that end a text: the end of a document, and in a `chat` the end of a turn, where the tokenizer has one.

    A turn's end is known by its name: <|end_of_turn|> (ours), <|im_end|> (Qwen), <|eot_id|> (Llama 3). What else ends
    a text is a matter of the model: `load_model` notes it as `tokenizer.also_ends`, from its `generation_config.json`.
    """
    turn_ends = [i for i, token in tokenizer.added_tokens_decoder.items() if str(token) in TURN_ENDS]
    also = getattr(tokenizer, "also_ends", [])
    return list(dict.fromkeys([tokenizer.eos_token_id, *also, *(turn_ends if chat else [])]))


def turn_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The special token that the chat template writes right behind an answer; None if it writes none there."""
    talk = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    try:
        (text,), _ = _render(tokenizer, [talk])
    except ValueError:  # no template, or one that fails
        return None
    special = special_tokens(tokenizer)
    behind = re.match(r"\s*(" + "|".join(map(re.escape, special)) + ")", text.rpartition("!")[2])
    return special[behind[1]] if behind else None


def stop_ids(tokenizer: PreTrainedTokenizerBase, *, chat: bool = True) -> list[int]:
    """Ids after which writing stops: those that end a text, and the padding token, which belongs into none."""
    ends = end_ids(tokenizer, chat=chat)
    return ends if tokenizer.pad_token_id in (None, *ends) else [*ends, tokenizer.pad_token_id]


def encode_request(tokenizer: PreTrainedTokenizerBase, messages: list[dict]) -> list[int]:
    """Ids of a conversation up to where the assistant begins to speak: what a chat model is asked to write on.

    Raises ValueError for what is no conversation.
    """
    said = messages if isinstance(messages, (list, tuple)) else []
    if not said or not all(isinstance(message, dict) and {"role", "content"} <= message.keys() for message in said):
        raise ValueError(f'messages must be [{{"role": "user", "content": "…"}}], or several; got {messages!r:.60}')
    if messages[-1]["role"] == "assistant":
        raise ValueError(
            "the last message is the assistant's own: end with one of the user's, so that it can be answered"
        )
    (text,), _ = _render(tokenizer, [list(messages)], add_generation_prompt=True)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _render(tokenizer, conversations: list[list[dict]], **more) -> tuple[list[str], list]:
    """Conversations as text, and where in it the template marks what the assistant says; see `templates.render`."""
    template = tokenizer.get_chat_template() if tokenizer.chat_template else None
    if not template:
        raise ValueError("the tokenizer has no chat template: take one of a model that chats, or set chat_template")
    named = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if not isinstance(token, list)}
    return render(template, conversations, known=template == CHAT_TEMPLATE, **named, **more)


def fit_messages(tokenizer, messages: list[dict], context_size: int) -> list[dict] | None:
    """`messages` without the oldest questions and answers, so that an eighth of the context is left for the answer.

    A system message stays. None if not even the last question fits.
    """
    start = messages[:1] if messages[0]["role"] == "system" else []
    longest = context_size - max(context_size // 8, 1)
    for first in range(len(start), len(messages), 2):  # a question and its answer go together
        kept = start + messages[first:]
        if len(encode_request(tokenizer, kept)) <= longest:
            return kept
    return None


def question_messages(story: str, questions: Iterable[dict]) -> list[dict]:
    """Several questions about one story as a conversation: the story stands before the first question only."""
    if not isinstance(story, str):
        raise ValueError(f'"story" must be text; got {story!r:.60}')
    messages = []
    for number, about in enumerate(questions if isinstance(questions, Iterable) else [questions]):
        if not isinstance(about, dict) or not isinstance(about["question"], str):
            raise ValueError(f'"questions" must be a list of {{"question": …, "answer": …}}; it has {about!r:.60}')
        asked = about["question"] if number else f"{story} {about['question']}"
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": about["answer"]}]
    return messages


def check_messages(messages: object) -> list[dict]:
    """`messages` as they are. Raises ValueError, with what to do, unless they are a conversation to learn from."""
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise ValueError(f'"messages" must be a list of {{"role": …, "content": …}}; got {messages!r:.60}')
    for number, message in enumerate(messages, 1):
        if message.get("role") not in ROLES:
            raise ValueError(f"message {number} has the role {message.get('role')!r}: use {', '.join(ROLES)}")
        if not isinstance(message.get("content"), str):
            given = f"message {number} has no text as content, but {message.get('content')!r:.40}"
            raise ValueError(f'{given}: write {{"role": "{message["role"]}", "content": "…"}}')
        if message["role"] == "assistant" and not message["content"].strip():
            raise ValueError(f"message {number}, the assistant's, is empty: there is nothing to learn to write")
    if not any(message["role"] == "assistant" for message in messages):
        raise ValueError("no message is the assistant's: there is nothing to learn to write")
    return messages


def _span(tokenizer, messages: list[dict], index: int, prompt: str, whole: str) -> tuple[int, int]:
    """Where in `whole` the assistant's message `index` begins and ends: from where the template would let the model
    begin, after `prompt`, up to and with a special token right after its content."""
    content = messages[index]["content"].strip()
    found = whole.find(content, len(prompt)) if whole.startswith(prompt) else -1
    end_token = re.compile(r"\s*(" + "|".join(map(re.escape, special_tokens(tokenizer))) + ")")
    if found >= 0 and (end := end_token.match(whole, found + len(content))):
        return len(prompt), end.end()
    advice = "put {% generation %} before and {% endgeneration %} after it in the template (tokenizer.chat_template)"
    where = f"where the assistant's message {index + 1} begins and ends"
    raise ValueError(f"this chat template does not tell {where}: {advice}")


def _spans_by_search(tokenizer, conversations: list[list[dict]], texts: list[str]) -> list[list[tuple[int, int]]]:
    """Where the assistant speaks, for a template that does not mark it, as most published ones."""
    turns = [(n, i) for n, talk in enumerate(conversations) for i, m in enumerate(talk) if m["role"] == "assistant"]
    prompts, _ = _render(tokenizer, [conversations[n][:i] for n, i in turns], add_generation_prompt=True)
    spans: list[list[tuple[int, int]]] = [[] for _ in conversations]
    for (n, i), prompt in zip(turns, prompts, strict=True):
        spans[n].append(_span(tokenizer, conversations[n], i, prompt, texts[n]))
    return spans


def encode_conversations(tokenizer, conversations: list[list[dict]]) -> list[tuple[list[int], list[int]]]:
    """`encode_conversation` of many at once, which is faster."""
    marked = bool(re.search(r"\{%-?\s*generation\s*-?%\}", tokenizer.chat_template or ""))
    texts, spans = _render(tokenizer, conversations, **({"return_assistant_tokens_mask": True} if marked else {}))
    if not marked:
        spans = _spans_by_search(tokenizer, conversations, texts)
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    offsets = encoded["offset_mapping"]  # where in its text each id begins and ends
    learn = [
        [int(any(begin < to and end > since for since, to in said)) for begin, end in own]
        for own, said in zip(offsets, spans, strict=True)
    ]
    return list(zip(encoded["input_ids"], learn, strict=True))


def encode_conversation(tokenizer, messages: list[dict]) -> tuple[list[int], list[int]]:
    """(ids, learn) of a conversation in the tokenizer's chat template; learn is 1 where the assistant speaks, else 0.

    The sign that ends the assistant's turn is learned too: without it the model would never stop.
    """
    return encode_conversations(tokenizer, [messages])[0]
