"""python -m ai4india_lib plan: what a run on many GPUs takes, before anybody pays for it."""

import argparse

from ..training.cluster import GPUS, PUBLISHED, SOURCES, Plan, Wish, plan_run, wish_of
from . import given

Units = tuple[tuple[float, str], ...]
_UNITS: Units = ((1e12, " TB"), (1e9, " GB"), (1e6, " MB"))
_COUNTS: Units = ((1e12, " trillion"), (1e9, " billion"), (1e6, " million"), (1, ""))


def run(options: argparse.Namespace) -> None:
    """Print the plan, and with --check what it says of published runs."""
    if options.check:
        _print_published()
    if options.parameters is None:
        if options.check:
            return
        raise ValueError("say how large the model shall be: --parameters 1B, for example")
    chosen = {name: value for name, value in given(options, Wish).items() if value is not None}
    wish = Wish(**chosen)
    _print_plan(wish, plan_run(wish))


def _print_plan(wish: Wish, plan: Plan) -> None:
    layers, width = wish.shape
    shape = f"{layers} layer{'s' * (layers > 1)} of width {width}"
    size = f"{_counted(wish.parameters)} parameters ({shape})"
    run = f"{_counted(wish.all_tokens)} tokens, {wish.gpus} × {wish.gpu}, {wish.step:,.0f} tokens a step"
    print(f"{size}, {run}")
    total, room = sum(plan.memory.values()), GPUS[wish.gpu].memory
    how = "FSDP2: each GPU holds a part of the model" if plan.is_sharded else "each GPU holds the whole model"
    print(f"\nmemory of one GPU ({how})")
    for part, size in plan.memory.items():
        print(f"  {part:18}{_in_words(size):>10}")
    fits = f"of {_in_words(room)}" if total <= 0.9 * room else f"more than {_in_words(room)} allow"
    print(f"  {'together':18}{_in_words(total):>10}   {fits}")
    if total > 0.9 * room:
        print("  take more GPUs, a smaller --tokens-per-pass or a smaller --context-size")
    print("\na step")
    print(f"  {'computing':18}{plan.computing:>8.2f} s   {wish.used:.0%} of what the GPU can do")
    print(f"  {'sending':18}{plan.sending:>8.2f} s   {_in_words(plan.sent)} from each GPU, meanwhile")
    print("\nthe run")
    print(f"  {'tokens a second':18}{plan.tokens_per_second:>10,.0f}")
    print(f"  {'days':18}{plan.days:>10,.2f}   {plan.gpu_hours:,.0f} GPU-hours")
    print(f"  {'kWh':18}{plan.kwh:>10,.0f}")
    print(f"  {'rupees':18}" + (f"{plan.rupees:>10,.0f}" if plan.rupees is not None else "  unknown: give --rupees"))
    print("\nrates")
    for rate, source in SOURCES.items():
        print(f"  {rate}: {source}")


def _print_published() -> None:
    print(f"{'published run':34}{'GPU-hours':>12}{'planned':>12}{'':>8}")
    for name, published in PUBLISHED.items():
        planned = plan_run(wish_of(published)).gpu_hours
        used = "  a rate is taken from it" if published.fitted else ""
        off = planned / published.gpu_hours - 1
        print(f"{name:34}{published.gpu_hours:>12,.0f}{planned:>12,.0f}{off:>+8.0%}{used}")
        print(f"  {published.source}")


def _counted(count: float) -> str:
    """How many, as people say it: 8.0 billion, 950,000."""
    unit, name = _largest(count, _COUNTS)
    return f"{count / unit:,.1f}{name}" if name else f"{count:,.0f}"


def _in_words(size: float) -> str:
    """Bytes: 3.2 GB."""
    unit, name = _largest(size, _UNITS)
    return f"{size / unit:.1f}{name}"


def _largest(amount: float, units: Units) -> tuple[float, str]:
    """The largest of `units` of which there is at least one, as it is printed: 999,960,000 is 1.0 billion."""
    return next(((unit, name) for unit, name in units if round(amount / unit, 1) >= 1), units[-1])
