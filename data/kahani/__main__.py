"""Command line: `python -m data.kahani --language hi --make stories` (or questions, pairs, chat, floors)."""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from pathlib import Path

from . import Language, languages, load_language, pairs
from .archive import jsonl, write_archive, write_packed, write_whole
from .chat import chat_files
from .check import check
from .consistency import report
from .floors import common_words, floors
from .questions import question_files

DATA = Path(__file__).parents[1]
FLOORS = 40  # stories whose floor is given part by part


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(
        prog="python -m data.kahani", description="Tell children's stories with a known probability."
    )
    made.add_argument("--language", default="hi", help=f"language code: {', '.join(languages())} (default: hi)")
    made.add_argument("--make", default="stories", choices=MAKERS, help="what to write (default: stories)")
    made.add_argument("--stories", type=int, help="training stories (default: 40000; questions 7500, chat 9600)")
    made.add_argument("--test-stories", type=int, help="test stories (default: 1000; questions 500, chat 700)")
    made.add_argument("--seed", type=int, help="seed of all random choices (default: the seed of the committed files)")
    made.add_argument("--output", type=Path, help="the file to write (default: the committed one in data/)")
    made.add_argument(
        "--show", type=int, metavar="N", help="print N stories with their bits and facts, and write nothing"
    )
    made.add_argument(
        "--check", action="store_true", help="look through the language's files, name each fault, and write nothing"
    )
    made.add_argument(
        "--consistency",
        metavar="SOURCE",
        help="count, in --stories (200) stories of a model, an archive, a text or JSON lines, those with a third child "
        "and those where a thing changes its colour, and write nothing",
    )
    return made


def make_stories(language: Language, path: Path | None, counts: dict[str, int]) -> None:
    """Writes the stories and prints their floor."""
    path = path or DATA / f"kahani-{language.code}.tar.gz"
    about = write_archive(language, path, **({"stories": 40_000, "test_stories": 1_000, "seed": 2024} | counts))
    print(f"{path}: {about['train_stories']} + {about['test_stories']} stories, {path.stat().st_size / 1e6:.1f} MB")
    print(f"floor of the test stories: {about['test_floor_bits_per_byte']:.4f} bits per byte")


def make_questions(language: Language, path: Path | None, counts: dict[str, int]) -> None:
    """Writes stories with questions, and prints how many of the test's answers can be guessed without the story."""
    path = path or DATA / f"kahani-questions-{language.code}.tar.gz"
    files = question_files(language, **counts)
    write_packed(path, files, f"kahani-questions-{language.code}")
    about = json.loads(files["about.json"])
    for part in ("train", "test"):
        asked = about[f"{part}_questions"]
        print(f"{part}: {about[f'{part}_stories']} stories, {sum(asked.values())} questions {asked}")
    print(f"right without the story: {about['story_blind_accuracy']}")
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def make_pairs(language: Language, path: Path | None, counts: dict[str, int]) -> None:
    """Writes minimal pairs, and prints how many there are of each phenomenon."""
    path = path or DATA / "kahani" / f"pairs-{language.code}.jsonl"
    found = pairs.make_pairs(language, pairs.training_text(language, DATA), seed=counts.get("seed", pairs.SEED))
    write_whole(path, jsonl(found))
    print(f"{path}: {len(found)} pairs {dict(Counter(pair['phenomenon'] for pair in found))}")


def make_chat(language: Language, path: Path | None, counts: dict[str, int]) -> None:
    """Writes chats about the stories of the archive."""
    path = path or DATA / f"kahani-chat-{language.code}.tar.gz"
    files = chat_files(language, DATA / f"kahani-{language.code}.tar.gz", **counts)
    write_packed(path, files, f"kahani-chat-{language.code}")
    about = json.loads(files["about.json"])
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, train {about['train_chats']}, test {about['test_chats']}")


def make_floors(language: Language, path: Path | None, counts: dict[str, int]) -> None:
    """Writes the floor of each part of the first test stories, and prints how much of it each kind of word has."""
    path = path or DATA / "kahani" / f"floors-{language.code}.jsonl"
    rng = random.Random(counts.get("seed", 2024))
    stories = [language.tell(rng) for _ in range(max(1_000, counts.get("test_stories", FLOORS)))]
    common = common_words(stories)
    found = [floors(language, story, common) for story in stories[: counts.get("test_stories", FLOORS)]]
    write_whole(path, jsonl(found))
    kinds = Counter(kind for story in found for _, _, kind, _ in story["marks"])
    print(f"{path}: {len(found)} stories, {sum(story['bits'][-1][1] for story in found):.1f} bits, {dict(kinds)}")


MAKERS = {"stories": make_stories, "questions": make_questions, "chat": make_chat, "pairs": make_pairs}
MAKERS["floors"] = make_floors


def main(arguments: list[str] | None = None) -> int:
    """Runs the command. Returns 0, 1 if --check finds faults, or 2 after an error in the arguments."""
    options = parser().parse_args(arguments)
    counts = {name: getattr(options, name) for name in ("stories", "test_stories", "seed")}
    counts = {name: count for name, count in counts.items() if count is not None}
    try:
        for name, count in counts.items():
            if name != "seed" and count < 1:
                raise ValueError(f"--{name.replace('_', '-')} is {count}: give 1 or more")
        if options.check:
            faults = check(options.language)
            print("\n".join([*faults, f"{len(faults) or 'no'} faults"]))
            return 1 if faults else 0
        language = load_language(options.language)
        if options.consistency:
            archive = DATA / f"kahani-{language.code}.tar.gz"
            print(report(language, options.consistency, archive, counts.get("stories", 200)))
            return 0
        if options.show:
            rng = random.Random(counts.get("seed", 2024))
            for _ in range(options.show):
                story = language.tell(rng)
                print(f"{story.text}\n    {story.bits:.1f} bits, {json.dumps(story.facts, ensure_ascii=False)}\n")
            return 0
        MAKERS[options.make](language, options.output, counts)
    except FileNotFoundError as error:
        made = options.consistency or f"--make {options.make}"
        missing = f"{error.filename} is missing, and {made} needs it" if error.filename else error
        print(f"data.kahani: {missing}", file=sys.stderr)
        return 2
    except (ValueError, RuntimeError, OSError) as error:
        print(f"data.kahani: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
