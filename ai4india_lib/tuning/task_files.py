"""Prompts in files → tasks for reinforcement: what to write on, and what a reward function needs to know."""

from collections.abc import Iterator
from pathlib import Path

from ..text.archives import CorpusError
from ..text.chat import encode_request, question_messages
from ..text.corpus import TextLines, json_lines
from ..text.reading import Record, explain_record, place_of
from ..text.tokenizer import encode_prompt
from .rewards import Task

EXPECTED = '{"prompt": "…", "wanted": …}, {"messages": […]}, or {"story": "…", "questions": […]}'


def read_tasks(sources: str | Path | list, tokenizer) -> tuple[list[Task], bool]:
    """(tasks, are any of them chats) of `.txt` files, each line the beginning of a text; or of JSON Lines: a `.jsonl`,
    or an archive, folder or URL with a `train.jsonl`.

    A line of JSON has a `prompt`, plain or as chat messages, and what the reward function needs to know as `wanted`; or
    it is a conversation as for `finetune`, whose last answer is `wanted`.
    Raises CorpusError, with file and line, for what is none of these.
    """
    tasks, chats = [], False
    for source in sources if isinstance(sources, list) else [sources]:
        before = len(tasks)
        for prompt, wanted, where in _prompts(source):
            chat = not isinstance(prompt, str)
            with explain_record(where):
                ids = encode_request(tokenizer, prompt) if chat else encode_prompt(tokenizer, prompt)
            chats = chats or chat
            tasks.append(Task(ids, wanted))
        if len(tasks) == before:
            raise CorpusError(f"{source} holds no prompt: write one a line, as text or as {EXPECTED}")
    return tasks, chats


def _prompts(source: str | Path) -> Iterator[tuple[str | list[dict], object, str]]:
    """Each prompt with what is wanted, and where it stands."""
    if str(source).lower().endswith(".txt"):
        for number, line in TextLines(source).numbered(in_pieces=False):
            yield line.strip(), None, f"{source}, line {number}"
        return
    for number, line in enumerate(json_lines(source), 1):
        where = place_of(line, f"{source}, line {number}")
        with explain_record(where):
            found = _of_line(line)
        yield from ((prompt, wanted, where) for prompt, wanted in found)


def _of_line(line: Record) -> list[tuple[str | list[dict], object]]:
    """(prompt, wanted) of a line, several for a story with several questions."""
    if "prompt" in line:
        if not isinstance(line["prompt"], (str, list)):
            raise ValueError(f"its prompt is {line['prompt']!r:.40}, neither a text nor a list of messages")
        return [(line["prompt"], line.get("wanted"))]
    if "messages" in line:
        messages = line["messages"]
        if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
            raise ValueError(f'"messages" must be a list of {{"role": …, "content": …}}; got {messages!r:.60}')
        answered = messages[-1].get("role") == "assistant"
        return [(messages[:-1], messages[-1].get("content")) if answered else (messages, None)]
    if "questions" in line:
        if not isinstance(line["questions"], list):
            raise ValueError(f'"questions" must be a list, not {line["questions"]!r:.60}')
        talk = [question_messages(line["story"], [about]) for about in line["questions"]]
        return [(asked[:-1], asked[-1]["content"]) for asked in talk]
    has = ", ".join(map(str, line)) or "nothing"
    raise ValueError(f"it has no prompt, but {has:.80}: expected {EXPECTED}")
