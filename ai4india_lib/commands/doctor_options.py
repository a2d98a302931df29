"""What can be asked of `python -m ai4india_lib doctor`."""

from .shipping_options import add_model_options


def add_doctor(subparsers) -> None:
    """The options of `doctor`."""
    about = (
        "Is the loss of a run normal, and if not, why? Reads the run's history, tries the model, measures it anew on "
    )
    about += (
        "its test text beside simple yardsticks, and does the first steps of the run again. Says what it saw, what "
    )
    about += "that usually means, and what to look at first."
    parser = subparsers.add_parser("doctor", help="say what is wrong with a run", description=about)
    add_model_options(parser, "the newest")
    add = parser.add_argument
    add("--data", metavar="SOURCE", help="text, as for `train` (default: the one that the model was trained on)")
    add("--column", metavar="NAME", help="where the text stands in a .jsonl or .csv (text, or the only column)")
    add("--quick", action="store_true", help="read less, and do no step of the run again")
