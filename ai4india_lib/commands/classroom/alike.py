"""Who may have the same answer as whom: a hint for a talk, and never a proof.

Answers are compared by their structure, without names, comments and docstrings. What stands in the lesson or in its
published solutions says nothing about two learners, and neither do short answers, which everybody writes the same way,
unless two learners also share words (names, comments) that nobody else has.
"""

from __future__ import annotations

import ast
import io
import keyword
import re
import tokenize
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import combinations

from .answers import Attempt, Program

LONG = 45  # signs of structure: from here on, equal structure is no accident
SHORT = 12  # below this nothing is said
LONGEST = 3000  # and no more is compared
ALIKE = 0.93  # share of equal structure, of long answers
OF_THE_SOLUTION = 0.8  # so much of the published solution says that both learned from it, or thought as it does
RARE = 2  # names and comments that only these two have, for answers that are not long
USUAL = 0.25  # of the class: a form that so many have is the usual one


@dataclass(frozen=True)
class Form:
    """An answer as it is compared."""

    signs: tuple[str, ...]  # its structure, in which all names of its own are one
    words: frozenset[str]  # its own names, and the words of its comments


@dataclass(frozen=True)
class Likeness:
    """Two learners' answers to one exercise."""

    one: str
    other: str
    exercise: str
    how: str


def form_of(sources: Iterable[str]) -> Form:
    """The structure of an answer, given as its statements."""
    signs, words = [], set()
    for source in sources:
        tree = ast.parse(source)
        own = _own_names(tree)
        signs += _signs(tree, own)
        words |= {name for name in own if len(name) > 1} | _comments(source)
    return Form(tuple(signs[:LONGEST]), frozenset(words))


def own_sources(attempt: Attempt, lesson: Program) -> list[str]:
    """The statements of an answer that are the learner's: not those that the lesson has, and no imports."""
    given = {ast.dump(statement.node) for statement in lesson.statements}
    own = [piece for piece in attempt.own if ast.dump(piece.node) not in given]
    own = [piece for piece in own if not isinstance(piece.node, ast.Import | ast.ImportFrom)]
    return [piece.text for piece in own]


def similarity(one: Form, other: Form) -> float:
    """The share of equal structure, 0 to 1."""
    if one.signs == other.signs:
        return 1.0
    match = SequenceMatcher(None, one.signs, other.signs, autojunk=False)
    limit = min(ALIKE, OF_THE_SOLUTION)
    if match.real_quick_ratio() < limit or match.quick_ratio() < limit:
        return 0.0
    return match.ratio()


def likenesses(forms: dict[str, dict[str, Form]], given: dict[str, list[Form]]) -> list[Likeness]:
    """Pairs of learners with answers that may be one. `forms`: exercise → learner → form.

    `given`: exercise → forms that everybody has seen, of the published solution and of the lesson's functions.
    """
    found = []
    for exercise, of_learners in forms.items():
        counts = Counter(form.signs for form in of_learners.values())
        owners = Counter(word for form in of_learners.values() for word in form.words)
        seen = {word for form in given[exercise] for word in form.words}
        usual = max(3, USUAL * len(of_learners))
        for (one, a), (other, b) in combinations(of_learners.items(), 2):
            if min(len(a.signs), len(b.signs)) < SHORT or (score := similarity(a, b)) < ALIKE:
                continue
            shared = {word for word in (a.words & b.words) - seen if owners[word] <= usual}
            natural = any(similarity(a, form) >= OF_THE_SOLUTION for form in given[exercise])
            natural |= len(a.signs) < 2 * LONG and counts[a.signs] > usual
            if len(a.signs) >= LONG and not natural:
                how = "but for names" if score == 1 else f"{score:.0%} of the structure"
            elif len(shared) >= RARE and score == 1:
                how = f"with words that few others use: {', '.join(sorted(shared)[:4])}"
            else:
                continue
            letter = score == 1 and a.words == b.words
            found.append(Likeness(one, other, exercise, "letter for letter" if letter else how))
    return found


def is_published(form: Form, solution: Form) -> bool:
    """Whether an answer is the published solution, under whatever names: only where that is no accident."""
    same_names = form.words == solution.words and len(form.signs) >= SHORT and bool(_told(solution.words))
    return form.signs == solution.signs and (len(form.signs) >= LONG or same_names)


def _told(words: frozenset[str]) -> set[str]:
    return {word for word in words if word.startswith("#")}


# --- structure ---


def _own_names(tree: ast.AST) -> set[str]:
    """Names that are made inside: functions, arguments, variables."""
    own = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            own.add(node.name)
        elif isinstance(node, ast.arg):
            own.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
    return own


def _signs(node: ast.AST, own: set[str]) -> list[str]:
    """Types of nodes, names of others and values, from the outside in; no docstrings, annotations, `pass`, dots."""
    if (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) or isinstance(node, ast.Pass):
        return []
    if isinstance(node, ast.Name):
        return ["·" if node.id in own else node.id]
    if isinstance(node, ast.Constant):
        return [repr(node.value)[:80]]
    if isinstance(node, ast.arg):
        return ["arg"]
    signs = [type(node).__name__]
    signs += [f".{node.attr}"] if isinstance(node, ast.Attribute) else []
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "ctx", "type_comment", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                signs += _signs(child, own)
    return signs


def _comments(source: str) -> set[str]:
    """The words of comments, with # before them."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source.strip()).readline))
    except (tokenize.TokenError, SyntaxError):
        return set()
    text = " ".join(token.string for token in tokens if token.type == tokenize.COMMENT)
    return {f"#{word}" for word in re.findall(r"[^\s#.,;:()]{3,}", text) if not keyword.iskeyword(word)}
