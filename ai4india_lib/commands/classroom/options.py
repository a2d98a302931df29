"""What can be asked of `python -m ai4india_lib class`: a teacher's commands, which `options` takes in."""

import argparse

COLLECT = "Mark what a class handed in: a folder for each learner, zip files, or files with names in them; notebooks, "
COLLECT += "plain .py, progress.jsonl. Writes marks.csv and marks.html. Each answer runs in a process of its own with "
COLLECT += "limits; that holds against accidents and pranks, and is no sandbox."
NBGRADER = (
    "Write the lessons' exercises as source notebooks of nbgrader (solution cells, cells with tests and points), "
)
NBGRADER += "and its nbgrader_config.py, into a new folder. nbgrader itself is not needed for that."
VERIFY = "Compute the code of a certificate anew, from its .svg file, or from the words on paper: CODE --name NAME "
VERIFY += "--date 2026-11-29 --core 18/18 --solved 40/54. A code that begins with L needs no secret, and shows only "
VERIFY += "that the words belong together; one that begins with T was made with the teacher's secret."
SECRET = "Make a teacher's own secret, once, in a file of your home folder, outside of the course."


def add_class(subparsers) -> None:
    """The options of `class`, which has commands of its own."""
    about = "For a teacher: mark a class, hand exercises to nbgrader, certificates."
    parser = subparsers.add_parser("class", help="mark a class", description=about)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_collect(_command(commands, "collect", "mark what a class handed in", COLLECT))
    _add_nbgrader(_command(commands, "nbgrader", "make source notebooks for nbgrader", NBGRADER))
    _add_verify(_command(commands, "verify", "does a certificate's code belong to it?", VERIFY))
    _add_secret(_command(commands, "secret", "make a teacher's secret for certificates", SECRET))


def _command(commands, name: str, short: str, about: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=short, description=about)
    parser.set_defaults(command=f"class {name}", module=f"classroom.{name}")  # the module that does it
    return parser


def _add_collect(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="what the class handed in; it is only read")
    add("--output", metavar="FOLDER", default=".", help="where marks.csv and marks.html are written (here)")
    add("--seconds", type=float, default=10.0, help="of computing, for one answer (%(default)g)")
    add("--memory", type=float, default=2.0, metavar="GB", help="for one answer (%(default)g)")
    certified = "also make certificates for those whose answers solve all core exercises, with your secret"
    add("--certificates", action="store_true", help=certified)
    _secret_file(parser)


def _add_nbgrader(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="a new folder: the course of nbgrader")
    add("--lessons", nargs="+", metavar="NN", help="only these, such as 04 06 (all)")


def _add_verify(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("what", metavar="FILE_OR_CODE", help="certificate.svg, or the code on the page")
    for name in ("name", "date", "core", "solved"):
        add(f"--{name}", help="as the page says it")
    _secret_file(parser)


def _add_secret(parser: argparse.ArgumentParser) -> None:
    _secret_file(parser)


def _secret_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--secret", metavar="FILE", help="that holds your secret (~/.ai4india-class-secret)")
