"""A learner's own map of the course: which exercises are solved, in how many tries, and which are open."""

from __future__ import annotations

from .exercises import KINDS, course_exercises, lesson_titles
from .tries import Tried, own_tries, progress_file


def progress() -> None:
    """Print your map of the course: all lessons with their exercises, your tries and the hints that you read.

    It is kept in one small file, whose place stands below the map; nothing leaves this computer.
    """
    tried, exercises, titles = own_tries(), course_exercises(), lesson_titles()
    others = [name for name in tried if name not in exercises]
    width = max((len(title) for title in titles.values()), default=0) + 3
    print(" " * width, *(f"{kind:<11}" for kind in KINDS))
    for lesson, title in titles.items():
        own = [exercise for exercise in exercises.values() if exercise.lesson == lesson]
        columns = (" ".join(_sign(tried.get(e.name)) for e in own if e.kind == kind) for kind in KINDS)
        if own:
            print(f"{lesson} {title}".ljust(width), *(f"{column:<11}" for column in columns))
    solved = [exercise for exercise in exercises.values() if tried.get(exercise.name, Tried()).solved]
    core = sum(exercise.kind == "core" for exercise in exercises.values())
    print(f"\n✓ solved, … begun, · open; the number says in how many tries. {sum(e.kind == 'core' for e in solved)} of")
    print(f"{core} core exercises are solved, {len(solved)} of {len(exercises)} in all. You read", end=" ")
    print(f"{sum(len(one.hints) for one in tried.values())} hints.")
    if others:
        print(f"Also tried: {', '.join(sorted(others))}")
    place = progress_file()
    print(f"Kept in {place}" if place else "Nothing is kept: AI4INDIA_PROGRESS is off, or the lessons are not here")


def _sign(tried: Tried | None) -> str:
    if tried is None:
        return "·"
    return f"{'✓' if tried.solved else '…'} {tried.tries}"
