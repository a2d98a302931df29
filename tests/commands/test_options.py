"""No option is accepted and ignored: what would change nothing is refused, with the reason, before anything is done."""

import re

import pytest

from ai4india_lib import add_lora, save_adapter, save_model
from ai4india_lib.__main__ import main, make_parser
from ai4india_lib.commands import hyperparameters_of, show_text
from ai4india_lib.training.hyperparameters import NEW_MODEL, PRESETS, Hyperparameters

FINETUNE = ["finetune", "--model", "base", "--data", "chai.jsonl"]
PREFER = ["finetune", "--model", "base", "--preferences", "pairs.jsonl"]
OWN_SHAPE = "has no effect in fine-tuning, where the shape is the model's own: leave {0} out, or train a new model"


@pytest.fixture
def at_work(tmp_path, monkeypatch):
    """An empty folder to stand in: whoever reads anything there fails with another message."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["train", "--tokenizer", "x", "--vocab-size", "99"], "--vocab-size has no effect with --tokenizer"),
        (["train", "--teacher", "x", "--vocab-size", "99"], "--vocab-size has no effect with --teacher"),
        (["train", "--teacher", "x", "--tokenizer", "y"], "--tokenizer has no effect with --teacher"),
        (["train", "--resume", "--overwrite"], "leave one of them out"),
        (["train", "--resume"], "nothing to resume: there is no interrupted run in models/kahani-hi-mine"),
        (["train", "--name", "न" * 85], "is too long for a file system: 255 bytes, at most 240"),
        (["finetune", "--model", "base"], "finetune needs conversations to learn from: give --data SOURCE"),
        ([*FINETUNE, "--lora", "0"], "lora_rank=0 must be a whole number of at least 1"),
        ([*FINETUNE, "--lora", "2", "--lora-alpha", "nan"], "lora_alpha=nan must be a finite number above 0"),
        ([*FINETUNE, "--replay", "x", "--replay-share", "2"], "replay_share=2.0 must lie between 0 and 1"),
        ([*FINETUNE, "--emb-dim", "512", "--num-blocks", "9"], "--emb-dim " + OWN_SHAPE.format("--emb-dim")),
        ([*FINETUNE, "--qk-norm", "maybe"], "--qk-norm " + OWN_SHAPE.format("--qk-norm")),
        ([*FINETUNE, "--num-heads"], "--num-heads " + OWN_SHAPE.format("--num-heads")),
        ([*FINETUNE, "--vocab-size", "9"], "--vocab-size " + OWN_SHAPE.format("--vocab-size")),
        ([*FINETUNE, "--num-kv-heads", "2"], "--num-kv-heads " + OWN_SHAPE.format("--num-kv-heads")),
        ([*FINETUNE, "--lora-alpha", "8"], "--lora-alpha has no effect without --lora"),
        ([*FINETUNE, "--replay-share", "0"], "--replay-share has no effect without --replay"),
        ([*FINETUNE, "--half"], "--half is for adapters"),
        ([*FINETUNE, "--lora", "2", "--resume", "--overwrite"], "leave one of them out"),
        ([*FINETUNE, "--resume"], "no interrupted run in models/base-chat-mine"),
        ([*FINETUNE, "--beta", "1"], "--beta has no effect in learning from conversations"),
        ([*FINETUNE, "--group-size", "4"], "--group-size has no effect in learning from conversations"),
        ([*FINETUNE, "--preferences", "x"], "--data has no effect with --preferences"),
        ([*PREFER, "--reward", "x.py:f"], "--preferences and --reward are two ways to train"),
        ([*PREFER, "--preset", "finetune"], "--preset has no effect with --preferences"),
        ([*PREFER, "--replay", "x"], "--replay has no effect with --preferences"),
        ([*PREFER, "--patience", "2"], "--patience has no effect with --preferences"),
        ([*PREFER, "--context-size", "64"], "--context-size has no effect with --preferences"),
        ([*PREFER, "--max-length", "64"], "--max-length has no effect with --preferences"),
        ([*PREFER, "--beta", "0"], "beta=0.0 must be above 0"),
        ([*PREFER, "--half"], "--half is for adapters"),
        ([*PREFER, "--resume"], "no interrupted run in models/base-preferred-mine"),
        ([*FINETUNE, "--reward", "x.py:f", "--beta", "1"], "--beta has no effect with --reward"),
        ([*FINETUNE, "--reward", "x.py:f", "--num-epochs", "1"], "--num-epochs has no effect with --reward"),
        ([*FINETUNE, "--reward", "x.py:f", "--eval-every", "1"], "--eval-every has no effect with --reward"),
        ([*FINETUNE, "--reward", "x.py:f"], "there is no file x.py"),
        (["finetune", "--model", "base", "--reward", "x.py:f"], "finetune needs prompts to write on: give --data"),
        (["generate", "--slots", "4"], "--slots has no effect without --prompts"),
        (["generate", "--output", "texts"], "--output goes with --prompts"),
        (["generate", "", "--prompts", "x"], "choose one"),
        (["generate", "--prompts", "x", "--draft", "ngram"], "leave one out"),
        (["generate", "--prompts", "x", "--timing"], "for single texts"),
        (["generate", "--draft", "ngram", "--int8"], "for single texts"),
        (["generate", "--temperature", "0", "--seed", "0"], "--seed has no effect with --temperature 0"),
        (["generate", "--temperature", "0", "--top-k", "5"], "--top-k has no effect with --temperature 0"),
        (["generate", "--top-k", "0"], "top_k=0"),
        (["generate", "--count", "0"], "--count 0 must be at least 1"),
        (["generate", "--max-length", "-1"], "--max-length -1 must be at least 0"),
        (["chat", "--temperature", "0", "--top-p", "0.9"], "--top-p has no effect with --temperature 0"),
        (["chat", "--temperature", "0", "--min-p", "0.1"], "--min-p has no effect with --temperature 0"),
        (["chat", "--max-length", "0"], "--max-length 0 must be at least 1"),
        (
            ["evaluate", *"--model x --data y --pairs y --questions y --conversations y --language en".split()],
            "--language has no effect where --data, --pairs, --questions and --conversations say",
        ),
        (["evaluate", "--model", "x", "--pairs", "y", "--chat"], "--chat and --no-chat are about questions"),
        (["evaluate", "--model", "x", "--pairs", "y", "--no-chat"], "--chat and --no-chat are about questions"),
        (["evaluate", "--limit", "0"], "--limit 0 must be at least 1"),
        (["generate", "--model", ""], "--model is empty: give it a value, or leave it out"),
        (["train", "--tokenizer", "x", "--teacher", ""], "--teacher is empty"),
        (["benchmark", "generation", "--threads", "0"], "--threads 0 must be at least 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_would_change_nothing_is_refused_first(command, sentence, at_work, capsys):
    assert main(command) == 1
    told = capsys.readouterr()
    assert told.err.startswith("error: ") and sentence in told.err and told.err.count("\n") == 1 and not told.out
    assert not list(at_work.iterdir())


def test_finetune_shows_the_settings_of_a_run_and_not_those_of_a_shape(capsys):
    with pytest.raises(SystemExit):
        main(["finetune", "--help"])
    shown = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    options = {name: f"--{name.replace('_', '-')}" for name in vars(Hyperparameters())}
    assert {name for name, option in options.items() if option not in shown} == {*NEW_MODEL, "compile"}


def test_a_finetuned_model_reads_no_more_than_it_did(at_work, make_model, tokenizer, capsys):
    save_model(make_model(), tokenizer, "base")
    assert main([*FINETUNE, "--context-size", "65", "--device", "cpu"]) == 1
    assert "--context-size 65 is more than the 64 tokens that models/base reads" in capsys.readouterr().err
    assert [path.name for path in (at_work / "models").iterdir()] == ["base"]


def test_an_adapter_is_trained_further_as_it_is(at_work, make_model, tokenizer, capsys):
    save_model(make_model(), tokenizer, "base")
    save_adapter(add_lora(make_model(), 2), "mine", base="base")
    further = ["finetune", "--model", "mine", "--data", "nowhere.jsonl", "--device", "cpu"]
    for options, sentence in (
        (["--lora", "4"], "leave --lora out"),
        (["--lora-alpha", "4"], "--lora-alpha has no effect"),
        (["--half"], "nowhere.jsonl"),  # allowed: only then are the data missed
    ):
        assert main([*further, *options]) == 1
        assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("other", ["tokenizer", "teacher"])
def test_a_run_is_not_resumed_with_another_tokenizer(other, at_work, make_model, tokenizer, capsys):
    from ai4india_lib import save_tokenizer, train_tokenizer

    save_tokenizer(tokenizer, at_work / "models" / "mine" / "training")
    (at_work / "models" / "mine" / "training" / "step-0000004").mkdir()
    (at_work / "models" / "mine" / "training" / "step-0000004" / "state.json").write_text("{}", encoding="utf-8")
    own = train_tokenizer(["मीरा की चाय।"] * 9, 300)
    save_model(make_model(vocab_size=300), own, "other")
    assert main(["train", "--name", "mine", "--resume", f"--{other}", "models/other", "--device", "cpu"]) == 1
    assert "has another tokenizer than models/other" in capsys.readouterr().err


def test_a_run_that_cannot_begin_leaves_the_old_one(at_work, tokenizer):
    """--overwrite replaces a run only when its successor has a text and a tokenizer."""
    old = at_work / "models" / "mine" / "training" / "step-0000004"
    old.mkdir(parents=True)
    assert main(["train", "--name", "mine", "--overwrite", "--data", "nowhere.tar.gz"]) == 1
    assert old.is_dir()


def test_settings_that_are_no_numbers_are_told_in_words(capsys):
    for option, value, wanted in (
        ("--max-steps", "many", "neither a whole number nor none"),
        ("--qk-norm", "maybe", "neither yes nor no"),
    ):
        with pytest.raises(SystemExit):
            main(["train", option, value])
        assert f"argument {option}: {value!r} is {wanted}" in capsys.readouterr().err
    options = make_parser().parse_args(["train", "--preset", "tiny", "--max-steps", "none", "--qk-norm", "no"])
    h = hyperparameters_of(options)
    assert h.max_steps is None and h.qk_norm is False and h.emb_dim == PRESETS["tiny"].emb_dim


@pytest.mark.parametrize("command", ["train", "finetune", "generate", "chat", "evaluate", "benchmark"])
def test_ctrl_c_ends_with_one_line(command, monkeypatch, capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"ai4india_lib.commands.{command}.run", interrupted)
    assert main([command, *{"benchmark": ["generation"], "finetune": ["--data", "x"]}.get(command, [])]) == 130
    told = capsys.readouterr()
    assert told.err == "stopped\n" and not told.out


def test_ctrl_c_while_a_text_is_written_leaves_it_as_a_line(at_work, make_model, tokenizer, monkeypatch, capsys):
    from ai4india_lib.commands import generate

    def steps(*_, **__):
        yield tokenizer.encode("दिन", add_special_tokens=False)
        raise KeyboardInterrupt

    save_model(make_model(), tokenizer, "mine")
    monkeypatch.setattr(generate, "generate_steps", steps)
    assert main(["generate", "एक", "--device", "cpu"]) == 130
    told = capsys.readouterr()
    assert told.out.startswith("एक") and told.out.endswith("न\n")
    assert told.err == "no --model is given: this is mine\nstopped\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_obeys_nothing_that_a_model_writes(terminal, monkeypatch, capsys):
    """A file keeps every sign; so do line ends, tabs and joiners everywhere."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    show_text("क्\u200dष\t\x1b[2Jअ\r\x7f\x9b\n")
    assert capsys.readouterr().out == ("क्\u200dष\t␛[2Jअ␍␡\ufffd\n" if terminal else "क्\u200dष\t\x1b[2Jअ\r\x7f\x9b\n")
