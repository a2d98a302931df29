"""batches + model → trained model + history.

The loop: read a batch, predict each next token, follow the gradient of the loss; now and then look at the test text,
keep the weights that were best on it, and write a checkpoint from which the same run can go on, bit for bit.
"""

from __future__ import annotations

import json
import math
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedDataParallelKwargs, gather_object
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm

from ..basics.device import keep_freed_memory, pick_device, pick_precision
from ..basics.files import replace_folder
from ..formats.pretrained import load_weights, save_weights
from ..model.decoder import DecoderLanguageModel
from ..model.first_weights import begin_by_copying
from ..text.resumable import TextLoader
from .distillation import check_teacher, distillation_loss
from .history import History
from .hyperparameters import Hyperparameters, get_hyperparameters, plan_steps
from .loss import compute_loss_and_perplexity, next_token_loss
from .optimizers import learning_rate_at, load_optimizer_tensors, make_optimizers, optimizer_tensors, set_learning_rate


def make_model(hyperparameters: Hyperparameters, tokenizer) -> DecoderLanguageModel:
    """An untrained model for this tokenizer, its first weights drawn with the seed of `hyperparameters`.

    Its attention begins as a copier (see `untrained.begin_by_copying`), so that it learns sooner to look back.
    """
    h = hyperparameters
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(h.seed)
        model = DecoderLanguageModel(
            len(tokenizer), h.emb_dim, h.num_heads, h.num_blocks, tokenizer.pad_token_id,
            num_kv_heads=h.num_kv_heads, context_size=h.context_size, qk_norm=h.qk_norm,
        )  # fmt: skip
    return begin_by_copying(model)


def train(
    model: DecoderLanguageModel,
    train_loader: TextLoader,
    test_loader: TextLoader,
    hyperparameters: Hyperparameters | None = None,
    *,
    teacher: DecoderLanguageModel | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    device: str | torch.device | None = None,
    floor_bits_per_byte: float | None = None,
    progress: bool = True,
    on_evaluation: Callable[[History], None] | None = None,
) -> History:
    """Train `model` in place; at the end it has the weights that were best on the test text. Frozen weights stay.

    Args:
        hyperparameters: as from `get_hyperparameters`, whose "laptop" is the default.
        teacher: learn to predict what this model predicts, instead of the text (`distillation.py`). It is moved
            to the device and not trained. The history keeps the loss on the text, as ever.
        folder: checkpoints go there, so that the run can be resumed (a fresh run replaces those of an older one);
            None writes none.
        resume: go on from the newest checkpoint in `folder`; starts afresh where there is none.
        floor_bits_per_byte: the lowest possible loss, where the text's source is known; only kept for plots.
        progress: say how often the text will be read, and show a progress bar.
        on_evaluation: called with the history after each look at the test text, to draw or to print it.

    Ctrl-C (or the notebook's stop button) ends the run after the current step, as the end of a run does: with a
    checkpoint. Same seed, same machine, same number of threads: the same run. A resumed run repeats an
    uninterrupted one bit for bit.
    """
    h = hyperparameters or get_hyperparameters()
    run = _Run(model, train_loader, test_loader, h, teacher, Path(folder) if folder is not None else None, device)
    if not (resume and run.load_checkpoint()):
        run.plan(floor_bits_per_byte)
    if progress and run.accelerator.is_main_process:
        print(run.history.plan_in_words())
    try:
        run.go(progress and run.accelerator.is_main_process, on_evaluation)
    finally:
        run.accelerator.unwrap_model(run.model, keep_fp32_wrapper=False)  # `forward` is the model's own again
    if progress and run.accelerator.is_main_process:
        print(run.history.result_in_words())
    return run.history


class _Run:
    """The state of one training run, and what can happen in it: a step, a look at the test text, a checkpoint."""

    def __init__(self, model, train_loader, test_loader, h: Hyperparameters, teacher, folder: Path | None, device):
        device = pick_device(device)
        keep_freed_memory()
        if not PartialState(cpu=device.type == "cpu").use_distributed:  # the first to ask decides: GPU or CPU
            AcceleratorState._reset_state(reset_partial_state=True)  # else accelerate keeps the last run's settings
        self.accelerator = Accelerator(
            mixed_precision=pick_precision(device) if h.precision == "auto" else h.precision,
            gradient_accumulation_steps=h.accumulation_steps,
            cpu=device.type == "cpu",
            # buffers are constants: to send them would only wait for a process that has no test lines
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        )
        self.h, self.folder = h, folder
        self.train_loader, self.test_loader = train_loader, test_loader
        self._check_loaders()
        check_teacher(teacher, model, h)
        self.teacher = None if teacher is None else teacher.to(self.accelerator.device).eval()
        self.plain_model = model.to(self.accelerator.device).train()
        self.model, *optimizers = self.accelerator.prepare(model, *make_optimizers(model, h))
        self.optimizers = [wrapped.optimizer for wrapped in optimizers]
        self.history = History()
        self.best: dict[str, Tensor] = {}  # the weights that were best on the test text

    def _check_loaders(self) -> None:
        data, processes = self.train_loader.dataset, self.accelerator.num_processes
        for name in ("batch_size", "context_size"):
            has, wanted = getattr(data, name), getattr(self.h, name)
            if has != wanted:
                raise ValueError(f"the train_loader has {name}={has}, the hyperparameters {wanted}: make both the same")
        if {data.world_size, self.test_loader.dataset.world_size} != {processes}:
            raise ValueError(
                f"{processes} processes train, but the loaders deal the text out to world_size={data.world_size}: give "
                "each process its own rank and the same world_size"
            )

    def plan(self, floor_bits_per_byte: float | None) -> None:
        """Look how long the texts are, and with that set the number of steps."""
        tokens = self.train_loader.dataset.num_tokens()
        steps, per_step, passes = plan_steps(self.h, tokens, self.accelerator.num_processes)
        bytes_per_token = self.test_loader.dataset.bytes_per_token()
        self.history = History(steps, per_step, passes, bytes_per_token, floor_bits_per_byte)
        self.train_loader.rewind()
        if self.folder is not None and self.accelerator.is_main_process:
            for old in (*self.folder.glob("step-*"), *self.folder.glob(".step-*.part")):
                shutil.rmtree(old)

    def go(self, progress: bool, on_evaluation: Callable[[History], None] | None) -> None:
        history, h = self.history, self.h
        started = time.perf_counter() - history.seconds
        batches = self._endless_batches()
        silent = {} if progress else {"disable": True}  # TQDM_DISABLE=1 counts only where `disable` is not given
        bar = tqdm(total=history.total_steps, initial=history.steps, desc="training", unit="step", **silent)
        with bar, _interruptible() as interrupted:
            if not history.eval_loss:
                self._look(bar, on_evaluation)
            while history.steps < history.total_steps and not self._is_getting_worse() and not self._any(interrupted):
                self._step(batches)
                bar.update()
                if history.steps % h.eval_every == 0 or history.steps == history.total_steps:
                    self._look(bar, on_evaluation)
                history.seconds = time.perf_counter() - started
                if history.steps % h.checkpoint_every == 0 and history.steps < history.total_steps:
                    self.save_checkpoint()
            history.ended = self._why_ended()
            self.save_checkpoint()
        self.plain_model.load_state_dict(self.best, strict=False)  # frozen and tied weights are not there
        history.test_loss, _ = compute_loss_and_perplexity(self.model, self.test_loader, self.accelerator.device)
        history.seconds = time.perf_counter() - started

    def _any(self, interrupted: list) -> bool:
        """Was any process interrupted? All must end after the same step."""
        return self.accelerator.reduce(torch.tensor(len(interrupted), device=self.accelerator.device)).item() > 0

    def _is_getting_worse(self) -> bool:
        return self.history.looks_since_best() >= self.h.patience

    def _why_ended(self) -> str:
        if self.history.steps == self.history.total_steps:
            return "finished"
        if self._is_getting_worse():
            return (
                f"stopped early: the last {self.h.patience} looks at the test text were no better than an earlier one"
            )
        return "interrupted: resume goes on from here"

    def _step(self, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
        """One step of the optimizers, over `accumulation_steps` batches."""
        rate = learning_rate_at(self.history.steps, self.history.total_steps, self.h)
        set_learning_rate(self.optimizers, rate)
        losses = []
        for _ in range(self.h.accumulation_steps):
            inputs, targets = (x.to(self.accelerator.device) for x in next(batches))  # (batch, time) each
            with self.accelerator.accumulate(self.model):
                loss, text_loss = self._losses(inputs, targets)
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), self.h.clip_norm)
                    self._follow_gradients()
            losses.append(text_loss)
        loss = self.accelerator.reduce(torch.stack(losses).mean(), "mean").item()
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss became {loss} at step {self.history.steps}: try a learning_rate below {self.h.learning_rate}"
            )
        self.history.train_loss.append(loss)
        self.history.learning_rate.append(rate)

    def _losses(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The loss to follow, and that of predicting the text, which without a teacher is the same."""
        learned = targets != -100
        some = {} if learned.all() else {"where": learned}
        targets = targets[learned] if some else targets
        logits = self.model(inputs, **some)
        if self.teacher is None:
            loss = next_token_loss(logits, targets)
            return loss, loss.detach()
        with torch.no_grad(), self.accelerator.autocast():
            taught = self.teacher(inputs, **some)
        return distillation_loss(logits, taught), next_token_loss(logits.detach(), targets)

    def _follow_gradients(self) -> None:
        """Step all optimizers. With fp16 they share one scaler, which must be updated once, after the last of them:
        accelerate's own optimizers do so after each, and would divide the second one's gradients twice."""
        scaler = self.accelerator.scaler
        for optimizer in self.optimizers:
            optimizer.step() if scaler is None else scaler.step(optimizer)
            optimizer.zero_grad()
        if scaler is not None:
            scaler.update()

    def _endless_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            empty = True
            for batch in self.train_loader:
                empty = False
                yield batch
            if empty and not self.history.train_loss:
                raise ValueError("the training text gives no batch: it needs two tokens or more for each process")

    def _look(self, bar: tqdm, on_evaluation: Callable[[History], None] | None) -> None:
        """Read (some of) the test text, note the loss, and keep the weights if they are the best so far."""
        history = self.history
        loss, perplexity = compute_loss_and_perplexity(
            self.model, self.test_loader, self.accelerator.device, max_batches=self.h.eval_batches
        )
        history.eval_step.append(history.steps)
        history.eval_loss.append(loss)
        if history.looks_since_best() == 0:
            trained = ((name, p) for name, p in self.plain_model.named_parameters() if p.requires_grad)
            self.best = {name: p.detach().cpu().clone() for name, p in trained}
        bar.set_postfix_str(f"perplexity {perplexity:.2f}, bits per byte {history.in_bits_per_byte(loss):.3f}")
        if on_evaluation is not None and self.accelerator.is_main_process:
            on_evaluation(history)

    def save_checkpoint(self) -> None:
        """Write all that the run needs to go on into a new folder, then drop the older ones."""
        if self.folder is None:
            return
        positions = gather_object([self.train_loader.state_dict()])  # one of each process
        if not self.accelerator.is_main_process:
            return
        scaler = self.accelerator.scaler
        state = {
            "hyperparameters": asdict(self.h),
            "history": asdict(self.history),
            "taught": self.teacher is not None,
            "positions": positions,
            "scaler": scaler.state_dict() if scaler is not None else None,
        }

        def write(beside: Path) -> None:
            save_weights(self.plain_model, beside / "model.safetensors", only_trained=True)
            save_file(self.best, beside / "best.safetensors")
            save_file(optimizer_tensors(self.optimizers), beside / "optimizers.safetensors")
            (beside / "state.json").write_text(json.dumps(state), encoding="utf-8")

        newest = self.folder / f"step-{self.history.steps:07d}"
        replace_folder(newest, write)
        for old in self.folder.glob("step-*"):
            if old != newest:
                shutil.rmtree(old, ignore_errors=True)

    def load_checkpoint(self) -> bool:
        """Bring back the newest checkpoint; False if there is none. Raises ValueError if it was of another run."""
        found = sorted(self.folder.glob("step-*/state.json")) if self.folder is not None else []
        if not found:
            return False
        source = found[-1].parent
        state = json.loads((source / "state.json").read_text(encoding="utf-8"))
        now = asdict(self.h)
        if changed := sorted(name for name in now if state["hyperparameters"].get(name) != now[name]):
            was = ", ".join(f"{name}={state['hyperparameters'].get(name)}" for name in changed)
            raise ValueError(
                f"the run in {self.folder} was started with {was}: use the same settings to resume it, or start a new "
                "run in another folder"
            )
        if state.get("taught", False) != (self.teacher is not None):
            was, now = ("with a", "without") if self.teacher is None else ("without a", "with")
            raise ValueError(f"the run in {self.folder} was started {was} teacher: it can't be resumed {now} one")
        if len(state["positions"]) != self.accelerator.num_processes:
            raise ValueError(
                f"the run in {self.folder} had {len(state['positions'])} processes, this one has "
                f"{self.accelerator.num_processes}: resume it with as many"
            )
        load_weights(self.plain_model, source / "model.safetensors", only_trained=True)
        best = load_file(source / "best.safetensors")
        self.best = {name: p.clone() for name, p in best.items()}  # else Windows could not delete the file
        load_optimizer_tensors(self.optimizers, load_file(source / "optimizers.safetensors"))
        self.history = History(**{**state["history"], "ended": "", "test_loss": None})
        self.train_loader.load_state_dict(state["positions"][self.accelerator.process_index])
        if state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        return True


@contextmanager
def _interruptible() -> Iterator[list]:
    """Let Ctrl-C wait until the step in hand is done: the list it gives is then no longer empty.

    A second Ctrl-C interrupts at once. Outside of the main thread, where Python handles no signals, nothing changes.
    """
    asked: list = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def handle(number, frame):
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
