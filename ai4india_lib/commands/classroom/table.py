"""The table of a class: a CSV file for a spreadsheet, and a page to look at, which needs no network."""

from __future__ import annotations

import csv
import html
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from ...checks.exercises import KINDS

if TYPE_CHECKING:
    from .collect import Row, Table

# verdict → sign and words of the page
SIGNS = {
    "right": ("✓", "right"), "not yet": ("✗", "not yet right"), "not done": ("·", "the stub, not begun"),
    "says right": ("(✓)", "right by the learner's own progress file; no answer was handed in"),
    "says not yet": ("(✗)", "not yet, by the learner's own progress file"), "time": ("⏱", "did not end in time"),
    "memory": ("▣", "took too much memory"), "stopped": ("⚡", "ended its process, or could not be run"),
    "no Python": ("¶", "its cell is no Python"), "changed": ("!", "changes what judges it: look at it yourself"),
}  # fmt: skip
STYLE = """
body { font: 16px/1.5 system-ui, "Noto Sans Devanagari", sans-serif; margin: 2rem auto; max-width: 75rem;
  padding: 0 1rem; color: #222; background: #fff }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
th, td { border: 1px solid #bbb; padding: .25rem .5rem; text-align: left; vertical-align: top }
thead th { background: #eef3fa; font-weight: 600 }
td.m { text-align: center; white-space: nowrap }
.grid th:nth-child(n+5) { width: 1px }
.grid td:nth-child(-n+4) { white-space: nowrap }
.grid td:first-child { position: sticky; left: 0; background: #fff; min-width: 7rem; max-width: 15rem;
  white-space: normal; overflow-wrap: anywhere }
td, li, summary { overflow-wrap: anywhere }
.right { background: #dceafb }
.wrong { background: #fde8d7 }
.wide { overflow-x: auto }
small { color: #555 }
"""


def write_csv(path: Path, table: Table) -> None:
    """One line a learner. What a spreadsheet would take for a formula begins with an apostrophe."""
    names = list(table.exercises)
    head = ["learner", "solved", "of", "core solved", "of core", "points", "of points"]
    head += [column for name in names for column in (name, f"{name} tries")] + ["answers alike", "published", "remarks"]
    # with a mark of byte order, a spreadsheet reads Devanagari
    with path.open("w", encoding="utf-8-sig", errors="replace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        for row in table.rows:
            marks = [
                value
                for name in names
                for value in (row.marks[name].verdict if name in row.marks else "", row.tries(name) or "")
            ]
            told = ["; ".join(_alike_of(row, table)), " ".join(row.published), "; ".join(row.learner.remarks)]
            writer.writerow(_harmless(value) for value in [row.name, *_sums(row, table), *marks, *told])


def _harmless(value: object) -> object:
    text = str(value)
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _sums(row: Row, table: Table) -> list[int]:
    """Solved and all exercises, core ones, points."""
    solved = [table.exercises[name] for name in row.solved() if name in table.exercises]
    every = list(table.exercises.values())
    core = [[e for e in group if e.kind == "core"] for group in (solved, every)]
    points = [sum(e.points for e in group) for group in (solved, every)]
    return [len(solved), len(every), len(core[0]), len(core[1]), *points]


def _alike_of(row: Row, table: Table) -> list[str]:
    """ "Ravi: 06.rope, 04.interpolate" for each learner with answers like this one's."""
    others: dict[str, list[str]] = {}
    for like in table.alike:
        if row.name in (like.one, like.other):
            others.setdefault(like.other if row.name == like.one else like.one, []).append(like.exercise)
    return [f"{other}: {', '.join(names)}" for other, names in others.items()]


def write_page(path: Path, table: Table, title: str) -> None:
    """The page: marks, where the class is stuck, answers alike, what was passed over."""
    parts = [
        f"<h1>{_h(title)}: {len(table.rows)} learners</h1>",
        _grid(table),
        "<h2>Where the class is stuck</h2>" + _stuck(table),
        "<h2>Answers that are alike</h2>" + _alike(table),
        "<h2>Remarks, and what was passed over</h2>" + _remarks(table),
        "<h2>Each learner</h2>" + "".join(_details(row) for row in table.rows),
    ]
    page = "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' "
    page += f"content='width=device-width'><title>{_h(title)}</title><style>{STYLE}</style></head><body>"
    path.write_text(page + "\n".join(parts) + "</body></html>\n", encoding="utf-8", errors="replace")


def _h(text: object) -> str:
    return html.escape(str(text), quote=True)


def _rows(head: list[str], rows: list[list[str]]) -> str:
    """A table of cells that are HTML already."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(c if c.startswith("<t") else f"<td>{c}</td>" for c in row) + "</tr>" for row in rows
    )
    return f"<div class='wide'><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


def _grid(table: Table) -> str:
    exercises = table.exercises.values()
    head = ["learner", "solved", "core", "points"]
    for exercise in exercises:
        name = re.sub("([._])", r"\1<wbr>", _h(exercise.name))  # long names break there
        head.append(f"<span title='{_h(exercise.title)}'>{name}<br><small>{exercise.kind}</small></span>")
    rows = []
    for row in table.rows:
        solved, every, core, all_core, points, all_points = _sums(row, table)
        cells = [
            f"<td>{_h(row.name)}</td>",
            f"{solved} of {every}",
            f"{core} of {all_core}",
            f"{points} of {all_points}",
        ]
        rows.append(cells + [_cell(row, name) for name in table.exercises])
    count = [sum(name in row.solved() for row in table.rows) for name in table.exercises]
    rows.append(["<td><b>right</b></td>", "", "", "", *(f"<td class='m'><b>{number}</b></td>" for number in count)])
    used = {mark.verdict for row in table.rows for mark in row.marks.values()}
    legend = ", ".join(f"{sign} {words}" for verdict, (sign, words) in SIGNS.items() if verdict in used)
    points = ", ".join(f"{number} for a {kind}" for number, kind in enumerate(KINDS, 1))
    return f"<div class='grid'>{_rows(head, rows)}</div>" + (
        f"<p><small>{_h(legend)}; an empty place: nothing was handed in. A number beside a sign: in how many tries, by "
        f"the learner's own progress file. Points: {points}.</small></p>"
    )


def _cell(row: Row, name: str) -> str:
    if name not in row.marks:
        return "<td class='m'></td>"
    mark, tries = row.marks[name], row.tries(name)
    kind = "right" if mark.verdict.endswith("right") else "" if mark.verdict == "not done" else "wrong"
    number = f" <small>{tries}</small>" if tries else ""
    words = SIGNS[mark.verdict][1] + (f": {mark.said}" if kind == "wrong" else "")
    return f"<td class='m {kind}' title='{_h(words[:400])}'>{SIGNS[mark.verdict][0]}{number}</td>"


def _kind_of(said: str) -> str:
    """A check's sentence without its values, so that the same mistake of two learners is one."""
    first = said.split("\n")[0]
    if error := re.match(r"It stop(?:ped|s) with (\w+)", first):
        return error[0]
    for values in (r"`[^`]*`|'[^']*'|“[^”]*”", r"\[[^\[\]]*\]|\([^()]*\)", r"\([^()]*\)", r"-?\d[\d.,e+-]*"):
        first = re.sub(values, "#", first)
    return first


def _stuck(table: Table) -> str:
    """Exercise × mistake, the most frequent first, in the check's own words."""
    mistakes: Counter[tuple[str, str]] = Counter()
    who: dict[tuple[str, str], list[str]] = {}
    words: dict[tuple[str, str], str] = {}
    for row in table.rows:
        for name, mark in row.marks.items():
            if mark.verdict not in ("right", "says right", "not done"):
                key = name, _kind_of(mark.said) or mark.verdict
                mistakes[key] += 1
                who.setdefault(key, []).append(row.name)
                words.setdefault(key, mark.said.split("\n")[0] or SIGNS[mark.verdict][1])
    if not mistakes:
        return "<p>Nowhere: all that was begun is right.</p>"
    order = sorted(mistakes, key=lambda key: (-mistakes[key], key))
    rows = [[str(mistakes[k]), _h(k[0]), _h(words[k]), _h(", ".join(who[k]))] for k in order]
    return _rows(["learners", "exercise", "what the check says", "who"], rows)


def _alike(table: Table) -> str:
    pairs: dict[tuple[str, str], list[str]] = {}
    for like in table.alike:
        pairs.setdefault((like.one, like.other), []).append(f"{like.exercise} ({like.how})")
    order = sorted(pairs, key=lambda pair: (-len(pairs[pair]), pair))
    rows = [[_h(one), _h(other), _h("; ".join(pairs[one, other]))] for one, other in order]
    text = (
        "<p><small>A hint for a talk, and never a proof: two who learned together write alike, too. Short answers, and "
    )
    text += "those close to the published solution, are left out.</small></p>"
    published = [[_h(row.name), _h(", ".join(row.published))] for row in table.rows if row.published]
    text += _rows(["one", "other", "exercises"], rows) if rows else "<p>None.</p>"
    if published:
        text += "<p>These are the published solutions:</p>" + _rows(["learner", "exercises"], published)
    return text


def _remarks(table: Table) -> str:
    lines = [f"{row.name}: {remark}" for row in table.rows for remark in row.learner.remarks]
    lines += [f"{path}: {why}" for path, why in table.ignored[:60]]
    lines += [f"and {len(table.ignored) - 60} more files"] if len(table.ignored) > 60 else []
    honest = (
        "Answers ran one by one in a process of their own, with limits on time and memory, without network and other "
    )
    honest += (
        "processes. That is no sandbox: who knows Python's inside well can deceive it. Where much depends on a mark, "
    )
    honest += "read the answer."
    return f"<ul>{''.join(f'<li>{_h(line)}</li>' for line in lines)}</ul><p><small>{honest}</small></p>"


def _details(row: Row) -> str:
    said = [
        f"<li>{_h(name)}: {_h(SIGNS[mark.verdict][1])}. {_h(mark.said if mark.verdict != 'right' else '')}</li>"
        for name, mark in row.marks.items()
        if mark.verdict != "not done"
    ]
    files = ", ".join(work.path for work in row.learner.works)
    return (
        f"<details><summary>{_h(row.name)}</summary><p><small>{_h(files)}</small></p><ul>{''.join(said)}</ul></details>"
    )
