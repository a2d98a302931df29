"""Command line of the story generator: `python -m data.kahani --language hi --stories 40000 --seed 2024`."""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

from . import languages, load_language
from .archive import write_archive


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(
        prog="python -m data.kahani", description="Tell children's stories with a known probability."
    )
    made.add_argument("--language", default="hi", help=f"language code: {', '.join(languages())} (default: hi)")
    made.add_argument("--stories", type=int, default=40_000, help="training stories (default: 40000)")
    made.add_argument("--test-stories", type=int, default=1_000, help="test stories (default: 1000)")
    made.add_argument("--seed", type=int, default=2024, help="seed of all random choices (default: 2024)")
    made.add_argument("--output", type=Path, help="the archive to write (default: data/kahani-LANGUAGE.tar.gz)")
    made.add_argument(
        "--show", type=int, metavar="N", help="print N stories with their bits and facts, and write nothing"
    )
    return made


def main(arguments: list[str] | None = None) -> int:
    """Runs the command. Returns 0, or 2 after an error in the arguments."""
    options = parser().parse_args(arguments)
    try:
        for name, least in (("stories", 1), ("test_stories", 1)):
            if getattr(options, name) < least:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(options, name)}: give {least} or more")
        language = load_language(options.language)
        if options.show:
            rng = random.Random(options.seed)
            for _ in range(options.show):
                story = language.tell(rng)
                print(f"{story.text}\n    {story.bits:.1f} bits, {json.dumps(story.facts, ensure_ascii=False)}\n")
            return 0
        path = options.output or Path(__file__).parents[1] / f"kahani-{language.code}.tar.gz"
        about = write_archive(
            language, path, stories=options.stories, test_stories=options.test_stories, seed=options.seed
        )
    except (ValueError, RuntimeError, OSError) as error:
        print(f"data.kahani: {error}", file=sys.stderr)
        return 2
    print(f"{path}: {about['train_stories']} + {about['test_stories']} stories, {path.stat().st_size / 1e6:.1f} MB")
    print(f"floor of the test stories: {about['test_floor_bits_per_byte']:.4f} bits per byte")
    return 0


if __name__ == "__main__":
    sys.exit(main())
