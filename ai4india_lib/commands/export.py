"""python -m ai4india_lib export: a model as one file for llama.cpp, and what Ollama reads beside it."""

import argparse
from pathlib import Path

from ..basics.extras import check_installed
from ..basics.files import replaced_file
from ..formats.folders import is_chat_model, model_folder
from ..formats.gguf import MODELFILE_BEGINS, is_ours, ollama_modelfile, save_gguf
from ..formats.pretrained import load_model
from ..text.chat import CHAT_TEMPLATE
from . import check_output, model_of, quoted, tell_model


def _places(options: argparse.Namespace, folder: Path) -> tuple[Path, Path]:
    """Where the model and the Modelfile go. Raises ValueError where one lies that this command did not write."""
    path = Path(options.output) if options.output else folder / f"{folder.resolve().name}-{options.outtype}.gguf"
    path = path.resolve()  # what a link leads to is replaced, and not the link
    if path.suffix != ".gguf":
        raise ValueError(f"--output {options.output} must end in .gguf, by which programs know the format")
    modelfile = path.with_name("Modelfile")
    advice = "this command did not write it: name another place with --output"
    if path.exists() and not (path.is_file() and is_ours(path)):
        raise ValueError(f"{path} is there already, and {advice}")
    if modelfile.exists() and not (modelfile.is_file() and _begins_as_ours(modelfile)):
        raise ValueError(f"{modelfile} is there already, and {advice} in another folder")
    return path, modelfile


def _begins_as_ours(modelfile: Path) -> bool:
    with modelfile.open("rb") as file:
        return file.read(len(MODELFILE_BEGINS)) == MODELFILE_BEGINS.encode()


def run(options: argparse.Namespace) -> None:
    """Write the file and the Modelfile, then say how they are used."""
    check_installed("export", ("gguf",), "shipping")
    check_output(options, "model")
    name = model_of(options)
    path, modelfile = _places(options, model_folder(name))
    model, tokenizer = load_model(name, "cpu")
    chats = is_chat_model(name, tokenizer)
    for_ollama = not chats or tokenizer.chat_template == CHAT_TEMPLATE
    tell_model(options, name)
    save_gguf(model, tokenizer, path, precision=options.outtype)
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB): llama-server -m {quoted(str(path))}")
    if for_ollama:
        context = model.config.context_size
        text = ollama_modelfile(tokenizer, path.name, path.stem, chats=chats, context=context)
        with replaced_file(modelfile) as beside:
            beside.write_text(text, encoding="utf-8")
        print(f"{modelfile}: ollama create {quoted(path.stem)} -f {quoted(str(modelfile))}")
    else:
        print("no Modelfile: the chat template is not the course's own, and is not rewritten for Ollama")
