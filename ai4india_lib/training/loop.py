"""batches + model → trained model + history: the one loop of pretraining, fine-tuning, DPO and GRPO.

A step reads batches, computes a loss, and follows its gradient. Now and then a run looks at the test text, keeps the
weights that were best on it, and writes a checkpoint from which the same run can go on, bit for bit. What differs
between the kinds of training is their objective: which batches a step reads, and their loss (`objective.py`).
"""

import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..basics.device import keep_freed_memory, pick_device, pick_precision, rank_and_world_size
from ..basics.files import fingerprint_tensors
from ..model.decoder import DecoderLanguageModel
from ..model.first_weights import begin_by_copying
from ..text.resumable import TextLoader
from .history import History
from .hyperparameters import Hyperparameters, get_hyperparameters
from .objective import NextToken, Objective
from .optimizers import learning_rate_at, load_optimizer_tensors, make_optimizers, optimizer_tensors, set_learning_rate
from .resume import Checkpoints, check_same_run

Watcher = Callable[[History], None]  # is called with the history of a run that goes on


def make_model(hyperparameters: Hyperparameters, tokenizer) -> DecoderLanguageModel:
    """An untrained model for this tokenizer, its first weights drawn with the seed of `hyperparameters`.

    Its attention begins as a copier (see `first_weights.begin_by_copying`), so that it learns sooner to look back.
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
    folder: str | Path | Checkpoints | None = None,
    resume: bool = False,
    device: str | torch.device | None = None,
    floor_bits_per_byte: float | None = None,
    progress: bool = True,
    on_evaluation: Watcher | None = None,
) -> History:
    """Train `model` in place; at the end it has the weights that were best on the test text. Frozen weights stay.

    Args:
        hyperparameters: as from `get_hyperparameters`, whose "laptop" is the default.
        teacher: learn to predict what this model predicts, instead of the text (`distillation.py`). It is moved to the
            device and not trained. The history keeps the loss on the text, as ever.
        folder: of checkpoints, so that the run can be resumed (a fresh run replaces those of an older one); None: none.
        resume: go on from the newest checkpoint in `folder`, from the one before it if that is damaged; starts afresh,
            and says so, where there is none. Raises ValueError if it is of another run: of other settings, another
            text, tokenizer or teacher.
        floor_bits_per_byte: the lowest possible loss, where the text's source is known; only kept for plots.
        progress: say how often the text will be read, and show a progress bar.
        on_evaluation: called with the history after each look at the test text, to draw or to print it.

    Ctrl-C (or the notebook's stop button) ends the run after the current step, with a checkpoint. Same seed, same
    machine, same number of threads: the same run. A resumed run repeats an uninterrupted one bit for bit.
    """
    h = hyperparameters or get_hyperparameters()
    objective = NextToken(train_loader, test_loader, h, teacher, floor_bits_per_byte)
    run = Run(model, objective, h, folder=folder, resume=resume, device=device, progress=progress)
    run.say(run.history.plan_in_words())
    history = run.go(on_evaluation=on_evaluation)
    run.say(history.result_in_words())
    return history


class Run:
    """One training run and what can happen in it: a step, a look at the test text, a checkpoint.

    Several processes (`torchrun`, `accelerate launch`) share a run: each has a part of the data, and `accelerate` adds
    up their gradients. Precision is ours, so that runs of one program need not agree on it. The arguments are those of
    `train`, with an objective.
    """

    def __init__(
        self, model, objective: Objective, h: Hyperparameters, *, folder=None, resume=False, device=None, progress=True
    ):
        keep_freed_memory()
        self.h, self.objective = h, objective
        self.checkpoints = folder if isinstance(folder, Checkpoints) else Checkpoints(folder)
        self.accelerator = _make_accelerator(pick_device(device))
        self.processes, self.rank = self.accelerator.num_processes, self.accelerator.process_index
        self.device = self.accelerator.device if self.processes > 1 else pick_device(device)
        precision = pick_precision(self.device) if h.precision == "auto" else h.precision
        self.half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self.plain_model = model.to(self.device).train()
        optimizers = make_optimizers(model, h)
        placed = [False] * (1 + len(optimizers))  # the model is on its device already
        self.model, *self.optimizers = self.accelerator.prepare(model, *optimizers, device_placement=placed)
        for optimizer in self.optimizers:
            optimizer.zero_grad()  # of what was computed before the run
        self.shows = progress and self.accelerator.is_main_process
        self.best: dict[str, Tensor] = {}  # the weights that were best on the test text
        self.history = objective.prepare(self)
        self.fingerprints: dict[str, str] = {}  # of what a resumed run must have in common with this one
        if self.checkpoints.folder is not None:
            self.fingerprints = self._fingerprints()
            if not (resume and self._load_checkpoint()):
                trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
                self.checkpoints.check_space(4 * 4 * trained)  # weights, best weights, what the optimizers remember
        elif resume:
            self.say("nothing to resume: no folder was given")

    def say(self, line: str) -> None:
        if self.shows:
            print(line)

    def autocast(self):
        """Inside of it products are computed in half precision, where the run wants that."""
        return torch.autocast(self.device.type, self.half) if self.half else nullcontext()

    def go(self, *, on_step: Watcher | None = None, on_evaluation: Watcher | None = None) -> History:
        """Step until the end, or until the test loss no longer falls, or until Ctrl-C; then keep the best weights."""
        history, h = self.history, self.h
        started = time.perf_counter() - history.seconds
        silent = {} if self.shows else {"disable": True}  # TQDM_DISABLE=1 counts only where `disable` is not given
        bar = tqdm(total=history.total_steps, initial=history.steps, desc=self.objective.name, unit="step", **silent)
        with bar, _interruptible() as interrupted:
            if not history.eval_loss:
                self._look(bar, on_evaluation)
            while history.steps < history.total_steps and not self._is_getting_worse():
                if self._over_processes(len(interrupted)):  # all must end after the same step
                    break
                self._step()
                bar.update()
                if on_step is not None:
                    on_step(history)
                if history.steps % h.eval_every == 0 or history.steps == history.total_steps:
                    self._look(bar, on_evaluation)
                history.seconds = time.perf_counter() - started
                if history.steps % h.checkpoint_every == 0 and history.steps < history.total_steps:
                    self._save_checkpoint()
            history.ended = self._why_ended()
            self._save_checkpoint()
        self.plain_model.load_state_dict(self.best, strict=False)  # frozen and tied weights are not there
        with self.autocast():
            history.test_loss = self.objective.look(self.model, whole=True)
        self.plain_model.eval()
        history.seconds = time.perf_counter() - started
        return history

    def _over_processes(self, number: float) -> float:
        """The sum of a number over all processes."""
        if self.processes == 1:
            return number
        return self.accelerator.reduce(torch.tensor(float(number), device=self.device)).item()

    def _is_getting_worse(self) -> bool:
        return self.history.looks_since_best() >= self.h.patience

    def _why_ended(self) -> str:
        if self.history.steps == self.history.total_steps:
            return "finished"
        if self._is_getting_worse():
            looks = f"the last {self.h.patience} looks at the test text"
            return f"stopped early: {looks} were no better than an earlier one"
        return "interrupted: resume goes on from here"

    def _step(self) -> None:
        """One step: the batches' gradients, each weighted by its size, are the gradient of one large batch."""
        history = self.history
        rate = learning_rate_at(history.steps, history.total_steps, self.h)
        set_learning_rate(self.optimizers, rate)
        batches = self.objective.batches()
        sizes = [self.objective.size(batch) for batch in batches]
        mean = (self._over_processes(sum(sizes)) or 1) / self.processes  # DDP takes the mean over the processes
        for _ in range(self.objective.updates):
            noted: dict[str, float] = {}
            for number, (batch, size) in enumerate(zip(batches, sizes, strict=True), 1):
                is_last = number == len(batches)  # only then do the processes add up their gradients
                with nullcontext() if is_last else self.accelerator.no_sync(self.model):
                    with self.autocast():
                        loss, values = self.objective.loss(self.model, batch)
                    self.accelerator.backward(self.scaler.scale(loss * (size / mean)))
                for name, value in values.items():
                    noted[name] = noted.get(name, 0.0) + value * (size / mean)
            self._follow_gradients()
        means = {name: self.accelerator.reduce(value, "mean").item() for name, value in noted.items()}
        if not math.isfinite(means["loss"]):
            happened = f"the loss became {means['loss']} at step {history.steps}"
            raise FloatingPointError(f"{happened}: try a learning_rate below {self.h.learning_rate}")
        history.train_loss.append(means.pop("loss"))
        history.learning_rate.append(rate)
        for name, value in self.objective.measured().items():  # of this process
            means[name] = self._over_processes(value) / self.processes if isinstance(value, float) else value
        for name, value in means.items():
            history.measured.setdefault(name, []).append(value)

    def _follow_gradients(self) -> None:
        """Clip, and step all optimizers. With fp16 they share one scaler, which is updated once, after the last."""
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.h.clip_norm)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
            optimizer.zero_grad()
        self.scaler.update()

    def _look(self, bar: tqdm, on_evaluation: Watcher | None) -> None:
        """Read (some of) the test text, note the loss, and keep the weights if they are the best so far."""
        history = self.history
        with self.autocast():
            loss = self.objective.look(self.model)
        if loss is None:
            return
        history.eval_step.append(history.steps)
        history.eval_loss.append(loss)
        if history.looks_since_best() == 0:
            self.best = _trained_weights(self.plain_model)
        bits = history.in_bits_per_byte(loss)
        bar.set_postfix_str(f"perplexity {history.eval_perplexity[-1]:.2f}, bits per byte {bits:.3f}")
        if on_evaluation is not None and self.accelerator.is_main_process:
            on_evaluation(history)

    def _save_checkpoint(self) -> None:
        """Write all that the run needs to go on."""
        if self.checkpoints.folder is None:
            return
        from accelerate.utils import gather_object

        positions = gather_object([self.objective.data.state_dict()])  # one of each process
        if not self.accelerator.is_main_process:
            return
        tensors = {"model": _trained_weights(self.plain_model), "best": self.best}
        tensors["optimizers"] = optimizer_tensors(self.optimizers)
        state = {"hyperparameters": asdict(self.h), "history": asdict(self.history), "facts": self.objective.facts}
        state |= {"positions": positions, "scaler": self.scaler.state_dict(), "fingerprints": self.fingerprints}
        self.checkpoints.save(self.history.steps, tensors, state)

    def _fingerprints(self) -> dict[str, str]:
        frozen = [(name, p) for name, p in self.plain_model.named_parameters() if not p.requires_grad]
        base = {"trained an adapter of another model": fingerprint_tensors(frozen)} if frozen else {}
        return base | self.objective.fingerprints()

    def _warn(self, line: str) -> None:
        """Tell of something that is wrong, also where no progress is to be shown."""
        self.say(line) if self.shows else warnings.warn(line, stacklevel=2)

    def _load_checkpoint(self) -> bool:
        """Bring back the newest whole checkpoint; False if there is none. Raises ValueError if it is of another run."""
        if (newest := self.checkpoints.newest(self._warn)) is None:
            self.say(f"nothing to resume in {self.checkpoints.folder}: starting afresh")
            return False
        (state, tensors), folder = newest, self.checkpoints.folder
        check_same_run(state, asdict(self.h), self.objective.facts, self.fingerprints, self.processes, folder)
        try:
            self._take_up(state, tensors)
        except (KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
            made = f"the newest checkpoint in {folder} does not fit ({type(error).__name__}: {error!s:.100})"
            raise ValueError(f"{made}: delete it to go on from the one before it, or start a new run") from error
        return True

    def _take_up(self, state: dict, tensors: dict[str, dict[str, Tensor]]) -> None:
        """Go on from what a checkpoint of this run holds."""
        folder = self.checkpoints.folder
        own = {name: p.shape for name, p in self.plain_model.named_parameters() if p.requires_grad}
        if {name: p.shape for name, p in tensors["model"].items()} != own:
            others = f"the run in {folder} has other weights than the model trains"
            raise ValueError(f"{others}: was its shape or its adapter changed?")
        saved = History(**{**state["history"], "ended": "", "test_loss": None})
        if (saved.passes, saved.bytes_per_token) != (self.history.passes, self.history.bytes_per_token):
            raise ValueError(f"the run in {folder} read another text: bring that back, or start a new run")
        self.plain_model.load_state_dict(tensors["model"], strict=False)
        self.best = tensors["best"]
        load_optimizer_tensors(self.optimizers, tensors["optimizers"])
        self.scaler.load_state_dict(state["scaler"])
        self.objective.data.load_state_dict(state["positions"][self.rank])
        self.history = saved


def _make_accelerator(device: torch.device):
    from accelerate import Accelerator  # here: it takes a second, and only a run needs it
    from accelerate.utils import DistributedDataParallelKwargs

    several = rank_and_world_size()[1] > 1
    if not several and device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # for accelerate, and for kernels that ask which GPU is the present one
    # buffers are constants: to send them would only wait for a process that has no test lines
    settings = [DistributedDataParallelKwargs(broadcast_buffers=False)]
    return Accelerator(mixed_precision="no", cpu=several and device.type == "cpu", kwargs_handlers=settings)


def _trained_weights(model: DecoderLanguageModel) -> dict[str, Tensor]:
    """Copies on the CPU of the weights that are not frozen, by name."""
    return {name: p.detach().cpu().clone() for name, p in model.named_parameters() if p.requires_grad}


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
