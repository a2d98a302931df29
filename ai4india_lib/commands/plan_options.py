"""What can be asked of `python -m ai4india_lib plan`: a table of its own, which `options` takes in."""

import argparse

from ..training.cluster import GPUS


def add_plan(subparsers) -> None:
    """The options of `plan`. Numbers that are left out follow from the others."""
    about = (
        "What a run on many GPUs takes, worked out beforehand: memory by part, messages, days, rupees, kWh. Each rate "
    )
    about += "is printed with its source, and can be given instead. Numbers may be written as 350M, 8B, 15T."
    parser = subparsers.add_parser("plan", help="work out what a run on many GPUs takes", description=about)
    add = parser.add_argument
    add("--parameters", type=_large, metavar="N", help="of the model")
    add("--tokens", type=_large, metavar="N", help="to be read (20 for each parameter)")
    add("--gpus", type=int, help="how many (8)")
    add("--gpu", choices=sorted(GPUS), help="of which kind (h100)")
    add("--per-machine", type=int, help="so many in each machine (8)")
    add("--context-size", type=int, help="tokens of a row (4096)")
    add("--vocab-size", type=int, help="(32768)")
    add("--layers", type=int, help="(from the parameters)")
    add("--width", type=int, help="(from the parameters)")
    add("--tokens-per-step", type=_large, metavar="N", help="of all GPUs (65536 for each, at most 4M)")
    add("--tokens-per-pass", type=_large, metavar="N", help="that a GPU takes at once (a row)")
    add(
        "--utilisation",
        type=float,
        help="the part of a GPU's operations that is used (0.25 to 0.53, by kind and number)",
    )
    add("--rupees", type=float, help="of a GPU-hour")
    add("--watts", type=float, help="of a GPU at work")
    add("--check", action="store_true", help="what this arithmetic says of runs that were published")


def _large(text: str) -> float:
    """A number, also as 8B or 15T."""
    power = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}.get(text[-1:].upper())
    try:
        return float(text[:-1]) * power if power else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number: write 350M, 8B or 15T") from None
