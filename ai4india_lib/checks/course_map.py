"""A learner's own map of the course: which exercises are solved, in how many tries, and which are open; and how many of
a lesson's questions are answered rightly."""

from __future__ import annotations

from .exercises import KINDS, course_exercises, lesson_titles
from .quiz import lessons_with_questions, question_names
from .tries import Tried, own_tries, progress_file


def progress() -> None:
    """Print your map of the course: all lessons with their exercises and questions, your tries, the hints you read.

    It is kept in one small file, whose place stands below the map; nothing leaves this computer.
    """
    tried, exercises, titles = own_tries(), course_exercises(), lesson_titles()
    asked = {lesson: question_names(lesson) for lesson in lessons_with_questions() if lesson in titles}
    others = sorted(set(tried) - set(exercises) - {name for names in asked.values() for name in names})
    width = max((len(title) for title in titles.values()), default=0) + 3
    print(" " * width, *(f"{kind:<11}" for kind in KINDS), "questions")
    for lesson, title in titles.items():
        own = [exercise for exercise in exercises.values() if exercise.lesson == lesson]
        columns = (" ".join(_sign(tried.get(e.name)) for e in own if e.kind == kind) for kind in KINDS)
        answers = _answered(tried, asked.get(lesson, []))
        if own or answers:
            print(f"{lesson} {title}".ljust(width), *(f"{column:<11}" for column in columns), answers)
    solved = [exercise for exercise in exercises.values() if tried.get(exercise.name, Tried()).solved]
    core = sum(exercise.kind == "core" for exercise in exercises.values())
    print(f"\n✓ solved, … begun, · open; the number says in how many tries. {sum(e.kind == 'core' for e in solved)} of")
    print(f"{core} core exercises are solved, {len(solved)} of {len(exercises)} in all. You read", end=" ")
    print(f"{sum(len(tried[name].hints) for name in tried if name in exercises)} hints.")
    if others:
        print(f"Also tried: {', '.join(others)}")
    place = progress_file()
    print(f"Kept in {place}" if place else "Nothing is kept: AI4INDIA_PROGRESS is off, or the lessons are not here")


def _answered(tried: dict[str, Tried], names: list[str]) -> str:
    """How many of a lesson's questions were answered rightly: "3 of 5"; a dot if none was tried, nothing if none is."""
    if not any(name in tried for name in names):
        return "·" if names else ""
    return f"{sum(tried[name].solved for name in names if name in tried)} of {len(names)}"


def _sign(tried: Tried | None) -> str:
    if tried is None:
        return "·"
    return f"{'✓' if tried.solved else '…'} {tried.tries}"
