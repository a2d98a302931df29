"""Kahani: children's stories from a probabilistic grammar, each with its exact probability and its facts.

    from data.kahani import load_language

    language = load_language("hi")
    story = language.tell(7)             # a seed, or a random.Random to tell many in a row
    story.text                           # the story, one line
    story.bits                           # -log2 of its probability
    story.facts["hero"], story.facts["object"], story.facts["colour"]
    story.choices                        # every random choice behind it

    language.words["पतंग"], language.tagged("फल")     # the lexicon
    language.grammar.agree("चला गया था", "f")          # the grammar's functions work alone: "चली गई थी"
    derivations(language, story.text)    # all ways to tell this text: exactly one
    mentions(language, story)            # where each word stands, and what depends on whom
    retold(language, story, {"नायक": "सलीम"})         # the same story of another hero

`python -m data.kahani --language hi` writes the archive `data/kahani-hi.tar.gz`; `--show 5` prints stories instead.
Modules, in the order to read them: `frames` (the frame files), `engine` (choices and tellings), `hi/grammar` (Hindi),
`archive` (the file with the stories), `reader` and `marking` (from a text back to its choices), `places` (from a story
to the places of its words), `unsaid` and `check` (what `--check` looks for), `consistency` (faults of told and
generated stories), `floors` (the floor of each part of a story); and, for the tasks, `questions`, `chat` and `pairs`.
"""

from .archive import write_archive
from .engine import Choice, Language, Story, Telling, Word, languages, load_language
from .places import Mention, mentions, retold
from .reader import derivations

__all__ = [
    "Choice",
    "Language",
    "Mention",
    "Story",
    "Telling",
    "Word",
    "derivations",
    "languages",
    "load_language",
    "mentions",
    "retold",
    "write_archive",
]
