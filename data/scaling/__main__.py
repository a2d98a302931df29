"""python -m data.scaling --part runs: small models learn Chauraha, one after the other; how each ended is noted."""

import argparse
import json
import time
from pathlib import Path

import torch

from ai4india_lib.basics.files import replaced_file

from . import ROW, Chauraha
from .runs import BATCH, MUP_BASE, learn, loss_of, settings, small_model

WIDTHS = (8, 12, 16, 24, 32, 40, 64, 96)  # the law of lesson 18 begins at 16
AMOUNTS = tuple(2**power for power in (16, 17, 18, 19))  # words
RATES = tuple(2.0**-power for power in (10, 9, 8, 7, 6, 5, 4, 3))
RATE_WIDTHS = (16, 32, 64, 128)
RATE_WORDS = 2**15


def grid(language: Chauraha, widths=WIDTHS):
    """Six sizes, four amounts of text. The longest run of each size is looked at as it passes the other amounts: that
    is what a law would be fitted to if nobody waited for the runs' ends."""
    for width in widths:
        for words in AMOUNTS:
            model, h, looks = small_model(width), settings(width), {}
            places = {amount // (BATCH * ROW): amount for amount in AMOUNTS[:-1] if words == AMOUNTS[-1]}

            def look(step, model=model, places=places, looks=looks):
                if step in places:
                    looks[places[step]] = round(loss_of(model, language), 4)

            began = time.process_time()
            learn(model, language.text(words, seed=1), h, on_step=look)
            yield {
                "width": width, "parameters": model.num_parameters(), "tokens": words, "rate": h.learning_rate,
                "loss": round(loss_of(model, language), 4), "seconds": round(time.process_time() - began, 1),
            } | ({"looks": looks} if looks else {})  # fmt: skip


def rates(language: Chauraha, widths=RATE_WIDTHS):
    """Four widths, eight rates, three ways: AdamW as it is, AdamW with muP, Muon."""
    text = language.text(RATE_WORDS, seed=1)
    for width in widths:
        for way in ("adamw", "mup", "muon"):
            for rate in RATES:
                model, mup = small_model(width), way == "mup"
                learn(model, text, settings(width, rate, "muon" if way == "muon" else "adamw"), mup=mup)
                loss = loss_of(model, language, narrow=MUP_BASE / width if mup else 1.0)
                yield {"width": width, "way": way, "rate": rate, "loss": round(loss, 4)}


PARTS = {"runs": grid, "rates": rates}


def widths(text: str) -> tuple[int, ...]:
    """ "8,12" → (8, 12), for argparse."""
    found = tuple(int(number) for number in text.split(","))
    if min(found) < 2:
        raise ValueError
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m data.scaling", description=__doc__.partition(": ")[2])
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--widths", type=widths, help="only these, as 8,12; needs --output")
    parser.add_argument("--output", type=Path, help="the file to write (default: the one beside this)")
    options = parser.parse_args()
    if options.widths and not options.output:
        parser.error("--widths makes a part of the runs: say with --output where it shall go")
    torch.set_num_threads(1)
    path = options.output or Path(__file__).parent / f"{options.part}.jsonl"
    some = {"widths": options.widths} if options.widths else {}
    with replaced_file(path) as beside, beside.open("w", encoding="utf-8") as file:
        for row in PARTS[options.part](Chauraha(), **some):
            print(json.dumps(row), file=file, flush=True)
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
