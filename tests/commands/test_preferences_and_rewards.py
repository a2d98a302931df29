"""Protects `finetune --preferences` and `--reward`: they do what the library's functions do, go on where they were
stopped, tell in one sentence what is wrong with a file, and write nothing before they know."""

import inspect
import json
import shutil
import signal
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ai4india_lib import (
    DecoderLanguageModel,
    Group,
    Task,
    add_lora,
    encode_preferences,
    encode_prompt,
    get_hyperparameters,
    load_model,
    save_model,
    tune_on_preferences,
    tune_on_rewards,
)
from ai4india_lib.__main__ import main
from ai4india_lib.commands.options import TUNING
from ai4india_lib.formats.llama_format import hugging_face_name
from ai4india_lib.training.loop import Run
from ai4india_lib.tuning import Preference, load_reward, read_preferences, read_tasks

PAIRS = [(f"मीरा {word}", " चाय लाई।", " चाय गया।") for word in "एक दिन शाम को रास्ते में".split()]
PROMPTS = ["एक दिन", "मीरा", "शाम को", "रास्ते"]
MARK = "def mark(attempt):\n    return sum(token % 2 for token in attempt.ids) / len(attempt.ids)\n"
RUN = ["--device", "cpu", "--max-steps", "5", "--checkpoint-every", "2", "--batch-size", "2", "--precision", "no"]
BASE = ["finetune", "--model", "base", "--name", "mine"]
PREFER = [*BASE, "--preferences", "pairs.jsonl", "--beta", "0.3", "--num-epochs", "9", *RUN]
REWARD = [*BASE, "--reward", "my.py:mark", "--data", "prompts.txt", "--group-size", "3", "--max-length", "6", *RUN]
SETTINGS = {"max_steps": 5, "checkpoint_every": 2, "batch_size": 2, "precision": "no"}
KINDS = pytest.mark.parametrize("command", [PREFER, REWARD], ids=["preferences", "reward"])


class PowerCutError(Exception):
    pass


def jsonl(name, lines):
    Path(name).write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


@pytest.fixture
def at_work(tokenizer, tmp_path, monkeypatch):
    """A folder to stand in, with models/base, pairs.jsonl, prompts.txt and my.py."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = DecoderLanguageModel(384, 32, 4, 2, 0, context_size=64)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    save_model(model, tokenizer, "base")
    jsonl("pairs.jsonl", [dict(zip(("prompt", "chosen", "rejected"), pair, strict=True)) for pair in PAIRS])
    Path("prompts.txt").write_text("\n".join(PROMPTS) + "\n", encoding="utf-8")
    Path("my.py").write_text(MARK, encoding="utf-8")
    return tmp_path


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def results(name):
    """(weights, history without its clock) of a run's folder."""
    [file] = Path("models", name).glob("*model.safetensors")
    history = json.loads(Path("models", name, "history.json").read_text(encoding="utf-8"))
    return {key: tensor.tolist() for key, tensor in load_file(file).items()}, {**history, "seconds": 0}


def from_the_library(command):
    """The model and history that the library's functions give for the same."""
    model, tokenizer = load_model("base", "cpu")
    if "--lora" in command:
        add_lora(model, 2)
    if "--preferences" in command:
        h = get_hyperparameters("dpo", num_epochs=9, **SETTINGS)
        pairs = encode_preferences(tokenizer, PAIRS)
        return model, tune_on_preferences(model, pairs, h, beta=0.3, device="cpu", progress=False)
    h, tasks = get_hyperparameters("grpo", **SETTINGS), [Task(encode_prompt(tokenizer, text)) for text in PROMPTS]
    group = Group(size=3, max_new_tokens=6)
    reward = load_reward("my.py:mark")
    return model, tune_on_rewards(model, tokenizer, tasks, reward, h, group, device="cpu", progress=False)


def test_what_the_help_says_is_what_the_library_does():
    usual = {name: value for name, (_, value, _) in TUNING.items()}
    assert usual.pop("beta") == inspect.signature(tune_on_preferences).parameters["beta"].default
    names = {"group_size": "size", "max_length": "max_new_tokens"}
    assert {names.get(name, name): value for name, value in usual.items()} == vars(Group())
    assert len(usual) == len(fields(Group))


@KINDS
@pytest.mark.parametrize("lora", [[], ["--lora", "2"]], ids=["whole", "lora"])
def test_a_command_gives_what_the_library_gives(command, lora, at_work, capsys):
    assert main([*command, *lora]) == 0
    told = capsys.readouterr().out
    assert "saved to models/mine" in told and "generate --model mine" in told and "finished after 5 steps" in told
    model, history = from_the_library([*command, *lora])
    weights, saved = results("mine")
    prefix = "base_model.model." if lora else ""
    own = {prefix + hugging_face_name(name): p.tolist() for name, p in model.named_parameters()}
    assert weights == {name: own[name] for name in weights} and weights
    assert saved["train_loss"] == history.train_loss and saved["measured"] == history.measured
    assert main(command) == 1 and "--overwrite starts anew" in capsys.readouterr().err


def cut_after(monkeypatch, step, happening):
    steps = Run._step

    def step_and_end(run):
        steps(run)
        if run.history.steps == step:
            happening()

    monkeypatch.setattr(Run, "_step", step_and_end)


def cut_power():
    raise PowerCutError


@KINDS
@pytest.mark.parametrize("lora", [[], ["--lora", "2", "--lora-alpha", "3", "--half"]], ids=["whole", "lora"])
def test_a_run_that_was_cut_goes_on_by_its_name_alone(command, lora, at_work, monkeypatch):
    assert main([*command, *lora]) == 0
    expected = results("mine")
    shutil.rmtree("models/mine")
    with monkeypatch.context() as patch, pytest.raises(PowerCutError):
        cut_after(patch, 3, cut_power)
        main([*command, *lora])
    assert not list(Path("models/mine").glob("*.safetensors"))
    assert main(["finetune", "--name", "mine", "--resume"]) == 0
    assert results("mine") == expected


@KINDS
def test_ctrl_c_saves_what_was_learned_and_the_run_goes_on(command, at_work, monkeypatch, capsys):
    assert main(command) == 0
    expected = results("mine")
    with monkeypatch.context() as patch:
        cut_after(patch, 3, lambda: signal.raise_signal(signal.SIGINT))
        assert main([*command, "--overwrite"]) == 0
    assert len(results("mine")[1]["train_loss"]) == 3 and "interrupted" in capsys.readouterr().out
    assert main(["finetune", "--name", "mine", "--resume"]) == 0
    assert results("mine") == expected


@pytest.mark.parametrize(
    ("command", "change", "sentence"),
    [
        (PREFER, lambda: jsonl("pairs.jsonl", [{"prompt": "", "chosen": "एक", "rejected": "दो"}]), "set of pairs"),
        (REWARD, lambda: Path("my.py").write_text(MARK + "# other", encoding="utf-8"), "began with another reward"),
        (REWARD, lambda: Path("prompts.txt").write_text("दिन", encoding="utf-8"), "began with another set of prompts"),
        (PREFER, lambda: ["--beta", "0.2"], "was begun with --beta 0.3"),
        (REWARD, lambda: ["--group-size", "4"], "was begun with --group-size 3"),
        (REWARD, lambda: ["--kl-weight", "4"], "was begun without --kl-weight"),
        (REWARD, lambda: ["--preferences", "pairs.jsonl"], "was begun without --preferences"),
        (PREFER, lambda: ["--reward", "my.py:mark"], "was begun without --reward"),
        (PREFER, lambda: ["--data", "prompts.txt"], "--data has no effect with --preferences"),
        (PREFER, lambda: ["--learning-rate", "1"], "was started with learning_rate=0.0003"),
    ],
)
def test_another_run_is_not_gone_on_with(command, change, sentence, at_work, monkeypatch, capsys):
    with monkeypatch.context() as patch, pytest.raises(PowerCutError):
        cut_after(patch, 3, cut_power)
        main(command)
    more = change()
    before = tree(at_work)
    capsys.readouterr()
    assert main(["finetune", "--name", "mine", "--resume", *(more if isinstance(more, list) else [])]) == 1
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1 and tree(at_work) == before


USER, SAID = [{"role": "user", "content": "चाय?"}], [{"role": "assistant", "content": "हाँ"}]
BAD_PAIRS = [
    ({"prompt": "एक", "chosen": "दो"}, 'it has no "rejected", but prompt, chosen: expected {"prompt"'),
    ({"question": "एक"}, 'it has no "prompt", but question'),
    ({"prompt": "एक", "chosen": "दो", "rejected": "दो"}, "chosen and rejected are the same, 'दो': make them differ"),
    ({"prompt": "एक", "chosen": "\u0915\u093c", "rejected": "\u0958"}, "two ways to write the same"),
    ({"prompt": "एक", "chosen": " ", "rejected": "दो"}, "chosen is empty: write the text there"),
    ({"prompt": "एक", "chosen": "दो", "rejected": ""}, "rejected is empty"),
    (
        {"prompt": "एक", "chosen": 3, "rejected": "दो"},
        "its columns are not of one kind, as prompt is 'एक', chosen is 3",
    ),
    ({"prompt": USER, "chosen": "हाँ", "rejected": SAID}, "its columns are not of one kind"),
    ({"prompt": USER, "chosen": SAID, "rejected": SAID}, "chosen and rejected are the same, 'हाँ'"),
    ({"prompt": USER, "chosen": SAID, "rejected": USER}, "rejected must be one message, the assistant's answer"),
    ({"prompt": USER, "chosen": [], "rejected": SAID}, "chosen must be one message"),
    ({"prompt": USER, "chosen": SAID, "rejected": [{"role": "assistant"}]}, "has no text as content"),
    ({"prompt": [], "chosen": SAID, "rejected": SAID}, "messages must be"),
    ({"prompt": USER + SAID, "chosen": SAID, "rejected": SAID}, "the last message is the assistant's own"),
]


@pytest.mark.parametrize(("line", "sentence"), BAD_PAIRS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_bad_pair_is_told_with_its_line(line, sentence, at_work, capsys):
    good = {"prompt": "एक", "chosen": " दिन", "rejected": " रात"}
    jsonl("pairs.jsonl", [good, good, line])
    before = tree(at_work)
    assert main(PREFER) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: pairs.jsonl, line 3: ") and sentence in error and error.count("\n") == 1
    assert tree(at_work) == before
    jsonl("pairs.jsonl", [good, good])
    assert main(PREFER) == 0


def test_pairs_that_are_too_long_are_left_out_and_counted(at_work, tokenizer, capsys):
    long = {"prompt": "मीरा " * 99, "chosen": "एक", "rejected": "दो"}
    jsonl("pairs.jsonl", [long, {"prompt": "एक", "chosen": " दिन", "rejected": " रात"}])
    assert main(PREFER) == 0 and "pairs.jsonl: 1 pairs; 1 left out: too long" in capsys.readouterr().out
    for lines, sentence in (([long], "(1 were longer)"), ([], "gives nothing to learn")):
        jsonl("pairs.jsonl", lines)
        assert main([*PREFER, "--name", "other"]) == 1 and sentence in capsys.readouterr().err


def test_pairs_of_messages_are_encoded_as_a_chat_is_answered(at_work, tokenizer):
    jsonl("chats.jsonl", [{"prompt": USER, "chosen": SAID, "rejected": [{"role": "assistant", "content": "नहीं"}]}])
    [pair], chats = read_preferences("chats.jsonl", tokenizer, 64)
    ends = tokenizer.convert_tokens_to_ids("<|end_of_turn|>")
    assert chats and tokenizer.decode(pair.prompt) == "<|begin|><|user|> चाय?<|end_of_turn|><|assistant|>"
    assert tokenizer.decode(pair.chosen) == " हाँ<|end_of_turn|>" and pair.rejected[-1] == ends
    assert main([*PREFER, "--preferences", "chats.jsonl"]) == 0
    said = json.loads(Path("models/mine/generation_config.json").read_text(encoding="utf-8"))
    assert ends in said["eos_token_id"], "what learned from chats ends its turns"


@KINDS
def test_what_may_be_asked_and_the_language_stay(command, at_work):
    """Marks and pairs do not tell them: those of the model at the start are still true."""
    Path("models/base/chat.json").write_text('{"may_be_asked": "where मीरा went"}', encoding="utf-8")
    Path("models/base/history.json").write_text('{"data": ["data/kahani-chat-hi.tar.gz"]}', encoding="utf-8")
    assert main(command) == 0
    assert json.loads(Path("models/mine/chat.json").read_text(encoding="utf-8"))["may_be_asked"] == "where मीरा went"
    assert results("mine")[1]["data"] == ["data/kahani-chat-hi.tar.gz"]


def test_plain_pairs_are_encoded_as_the_library_does(at_work, tokenizer):
    pairs, chats = read_preferences("pairs.jsonl", tokenizer, 64)
    assert pairs == encode_preferences(tokenizer, PAIRS) and not chats and isinstance(pairs[0], Preference)


BAD_REWARDS = [
    ("my.py", MARK, "'my.py' names no function in a file: write FILE.py:FUNCTION"),
    ("my.txt:mark", MARK, "my.txt is not a .py"),
    ("none.py:mark", MARK, "there is no file none.py"),
    ("my.py:grade", MARK, "my.py has no function grade: it has mark; define `def grade(attempt):`"),
    ("my.py:mark", "mark = 3\n", "my.py has no function mark: it has none"),
    (
        "my.py:mark",
        "def mark(attempt)\n    return 1\n",
        "my.py, line 1, `def mark(attempt)`: SyntaxError: expected ':'",
    ),
    (
        "my.py:mark",
        "import nothing_of_that_name\n",
        "my.py, line 1, `import nothing_of_that_name`: ModuleNotFoundError",
    ),
    ("my.py:mark", "raise SystemExit(2)\n", "my.py, line 1, `raise SystemExit(2)`: SystemExit: 2"),
    (
        "my.py:mark",
        "def mark(attempt):\n    text = attempt.text\n",
        "the function returned nothing (is `return` missing?)",
    ),
    ("my.py:mark", "def mark(attempt):\n    return 'good'\n", "is not a finite number: it is 'good'"),
    ("my.py:mark", "def mark(attempt):\n    return float('nan')\n", "is not a finite number"),
    ("my.py:mark", "def mark():\n    return 1\n", "TypeError: mark() takes 0 positional arguments"),
    (
        "my.py:mark",
        "def ratio(text):\n    return 1 / text.count('🦚')\n\ndef mark(attempt):\n    return ratio(attempt.text)\n",
        "my.py, line 2, `return 1 / text.count('🦚')`: ZeroDivisionError",
    ),
]


@pytest.mark.parametrize(("named", "content", "sentence"), BAD_REWARDS, ids=[bad[2][:50] for bad in BAD_REWARDS])
def test_a_bad_reward_is_told_with_its_own_line(named, content, sentence, at_work, capsys):
    Path("my.py").write_text(content, encoding="utf-8")
    Path("my.txt").write_text(content, encoding="utf-8")
    before = tree(at_work)
    assert main([*REWARD, "--reward", named]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and sentence in error and error.count("\n") == 1
    assert tree(at_work) == before
    Path("my.py").write_text(MARK, encoding="utf-8")
    assert main(REWARD) == 0


def test_a_reward_file_may_import_what_lies_beside_it(at_work):
    Path("helper_of_mark.py").write_text("HALF = 0.5\n", encoding="utf-8")
    Path("my.py").write_text("from helper_of_mark import HALF\ndef mark(attempt):\n    return HALF\n", encoding="utf-8")
    assert load_reward("my.py:mark")(None) == 0.5


def test_prompts_come_in_every_form_that_the_help_names(at_work, tokenizer):
    begin = tokenizer.bos_token_id
    jsonl("a.jsonl", [{"prompt": "एक", "wanted": ["दिन"]}, {"prompt": USER}, {"messages": USER + SAID}])
    Path("talks").mkdir()
    asked = [{"question": "कौन?", "answer": "मीरा"}, {"question": "क्या?", "answer": "चाय"}]
    jsonl("talks/train.jsonl", [{"story": "मीरा चाय लाई।", "questions": asked}])
    tasks, chats = read_tasks(["prompts.txt", "a.jsonl", "talks"], tokenizer)
    assert [task.wanted for task in tasks] == [None] * 4 + [["दिन"], None, "हाँ", "मीरा", "चाय"] and chats
    texts = [tokenizer.decode(task.prompt) for task in tasks]
    assert texts[1] == "<|begin|>मीरा" and tasks[1].prompt[0] == begin
    assert texts[5] == texts[6] == "<|begin|><|user|> चाय?<|end_of_turn|><|assistant|>"
    assert texts[8] == "<|begin|><|user|> मीरा चाय लाई। क्या?<|end_of_turn|><|assistant|>"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ({"text": "एक"}, "it has no prompt, but text: expected"),
        ({"prompt": 3}, "its prompt is 3, neither a text nor a list of messages"),
        ({"prompt": []}, "messages must be"),
        ({"messages": SAID}, "messages must be"),
        ({"messages": "चाय?"}, '"messages" must be a list'),
        ({"messages": ["चाय?"]}, '"messages" must be a list'),
        ({"story": "एक", "questions": [{"question": "क्या?"}]}, "'answer' is missing"),
        ({"questions": 3, "story": "एक"}, '"questions" must be a list, not 3'),
    ],
    ids=str,
)
def test_a_bad_prompt_is_told_with_its_line(line, sentence, at_work, capsys):
    jsonl("a.jsonl", [{"prompt": "एक"}, line])
    before = tree(at_work)
    assert main([*REWARD, "--data", "a.jsonl"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: a.jsonl, line 2: ") and sentence in error and error.count("\n") == 1
    assert tree(at_work) == before


def test_prompts_that_leave_no_room_are_told_with_the_option(at_work, capsys):
    for prompt, sentence in (("दिन", "try --max-length"), ("मीरा " * 99, "try shorter prompts")):
        Path("prompts.txt").write_text(prompt, encoding="utf-8")
        assert main([*REWARD, "--max-length", "90"]) == 1
        error = capsys.readouterr().err
        assert sentence in error and "--max-length 90 do not fit into the 64 tokens" in error
    Path("prompts.txt").write_text("\n", encoding="utf-8")
    assert main(REWARD) == 1 and "prompts.txt holds no prompt" in capsys.readouterr().err
