"""What can be asked of the commands by which a model leaves the course: `export`, `serve`, `card`, `push`."""

import argparse

from ..basics.extras import how_to_install


def add_model_options(parser: argparse.ArgumentParser, usual: str) -> None:
    """The options of a command that opens a model."""
    parser.add_argument("--model", metavar="NAME_OR_FOLDER", help=f"models/NAME, or a folder (default: {usual})")
    parser.add_argument("--device", help="cpu, cuda, mps … (default: the best there is)")


def add_export(subparsers) -> None:
    """The options of `export`: a file for other programs."""
    about = "Write a model as one file for other programs: gguf, for llama.cpp and Ollama, with the vocabulary and the "
    about += "chat template in it, and a Modelfile for Ollama beside it. An adapter is merged into its model. "
    about += f"Needs an extra: {how_to_install('shipping')}"
    parser = subparsers.add_parser("export", help="write a model for other programs", description=about)
    add = parser.add_argument
    add("--model", metavar="NAME_OR_FOLDER", help="models/NAME, or a folder (default: the newest)")
    add("--format", choices=["gguf"], default="gguf", help="the kind of file (%(default)s)")
    precise = "numbers of 32, 16, 8 or 4 bits: fewer are smaller and less exact (%(default)s)"
    add("--outtype", choices=["f32", "f16", "q8_0", "q4_0"], default="f16", help=precise)
    add("--output", metavar="FILE", help="the file (default: NAME-OUTTYPE.gguf in the model's folder)")


def add_serve(subparsers) -> None:
    """The options of `serve`: an address that other programs ask."""
    about = "Put a model behind an address on this computer that programs for OpenAI's models can ask: starts "
    about += "`transformers serve`, for completions, chats and streams. Ctrl-C ends it. "
    about += f"Needs an extra: {how_to_install('serving')}"
    parser = subparsers.add_parser("serve", help="let other programs ask a model", description=about)
    add_model_options(parser, "the newest")
    parser.add_argument("--port", type=int, default=8000, help="of the address 127.0.0.1 (%(default)s)")


def add_card(subparsers) -> None:
    """The options of `card`: the README.md of models."""
    about = "Write README.md, the card that people and the Hugging Face hub read, of models that are there already: "
    about += "from their files, their run, and what the README.md beside them says. `train` and `finetune` do it "
    about += "by themselves. A card that a person wrote or changed is kept. Older folders of chat models also get the "
    about += "line by which servers find an answer."
    parser = subparsers.add_parser("card", help="write the README.md of models", description=about)
    named = "models/NAME, or folders (default: all in models/)"
    parser.add_argument("models", nargs="*", metavar="NAME_OR_FOLDER", help=named)


def add_push(subparsers) -> None:
    """The options of `push`: to the Hugging Face hub."""
    about = "Publish a model on the Hugging Face hub: its files and its card, README.md, and nothing else of its "
    about += "folder. Log in first with `hf auth login`. What is new there is private, unless you say --public."
    parser = subparsers.add_parser("push", help="publish a model on the Hugging Face hub", description=about)
    add = parser.add_argument
    add("--model", required=True, metavar="NAME_OR_FOLDER", help="models/NAME, or a folder")
    add("--to", required=True, metavar="USER/NAME", help="its name on the hub")
    add("--public", action="store_true", help="everybody may see it, if it is new there")
