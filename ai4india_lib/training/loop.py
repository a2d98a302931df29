"""batches + model → trained model + history: the one loop of pretraining, fine-tuning, DPO and GRPO.

A step reads batches, computes a loss, and follows its gradient. Now and then a run looks at the test text, keeps the
weights that were best on it, and writes a checkpoint from which the same run can go on, bit for bit. What differs
between the kinds of training is their objective: which batches a step reads, and their loss (`objective.py`).
"""

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from ..basics.device import keep_freed_memory, pick_device, pick_precision
from ..basics.processes import rank_and_world_size
from ..model.decoder import DecoderLanguageModel
from ..model.first_weights import begin_by_copying, begin_by_counting
from ..text.packing import in_light_groups
from ..text.resumable import TextLoader
from ..text.tokenizer import encode_documents
from .clock import Clock, Costs, first_pace, is_time_to_look, is_time_to_save
from .history import History
from .hyperparameters import Hyperparameters, given_or_preset
from .interrupts import interrupts_wait
from .objective import NextToken, Objective
from .optimizers import learning_rate_at, make_optimizers, set_learning_rate
from .processes import cuts_up, make_accelerator, partners_may_end, prepared
from .progress import Progress
from .resume import Checkpoints
from .saved_run import fingerprints_of, load_run, save_run
from .sharding import put_weights, trained_weights

COUNTED_BYTES = 4_000_000  # of text for word vectors: some half a million tokens, a second
Watcher = Callable[[History], None]  # is called with the history of a run that goes on


def make_model(hyperparameters: Hyperparameters, tokenizer, lines: Iterable[str] | None = None) -> DecoderLanguageModel:
    """An untrained model for this tokenizer, its first weights drawn with the seed of `hyperparameters`.

    Its attention begins as a copier (see `first_weights.begin_by_copying`), so that it learns sooner to look back. With
    `word_vectors` its embeddings begin as word vectors, counted in the first `COUNTED_BYTES` of `lines`.

    Raises ValueError where `word_vectors` has no lines to be counted in.
    """
    h = hyperparameters
    if h.word_vectors and lines is None:
        raise ValueError("word_vectors are counted in the text: give make_model its lines")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(h.seed)
        model = DecoderLanguageModel(
            len(tokenizer), h.emb_dim, h.num_heads, h.num_blocks, tokenizer.pad_token_id,
            num_kv_heads=h.num_kv_heads, context_size=h.context_size, qk_norm=h.qk_norm,
        )  # fmt: skip
    begin_by_copying(model)
    if h.word_vectors:
        begin_by_counting(model, _first_documents(lines, tokenizer), h.seed)
    return model


def _first_documents(lines: Iterable[str], tokenizer) -> Iterator[list[int]]:
    """Ids of a text's documents, of its first `COUNTED_BYTES`."""
    size = 0
    for group in in_light_groups(lines):
        yield from encode_documents(tokenizer, group)
        size += sum(len(line.encode()) for line in group)
        if size >= COUNTED_BYTES:
            return


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
    reserved: float = 0.0,
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
        reserved: of a run with `minutes` the seconds that are not for this call: for what was done before, such as
            learning a vocabulary, and for what comes after.

    Ctrl-C (or the notebook's stop button) ends the run after the current step, with a checkpoint and with what was
    learned; a second one raises KeyboardInterrupt at once. Same seed, same machine, same number of threads: the same
    run. A resumed run repeats an uninterrupted one bit for bit.
    """
    h = given_or_preset(hyperparameters, "laptop")
    if progress and rank_and_world_size()[0] == 0:
        print("reading the text …", flush=True)
    with interrupts_wait():
        objective = NextToken(train_loader, test_loader, h, teacher, floor_bits_per_byte)
        more = {"folder": folder, "resume": resume, "device": device, "progress": progress, "reserved": reserved}
        run = Run(model, objective, h, **more)
        run.say(run.history.plan_in_words())
        history = run.go(on_evaluation=on_evaluation)
        run.say(history.result_in_words())
    return history


class Run:
    """One training run and what can happen in it: a step, a look at the test text, a checkpoint.

    Several processes (`torchrun`, `accelerate launch`) share a run: each has some rows of each batch, and `accelerate`
    adds up their gradients. Either each has the whole model (DDP), or a copy of it is cut up over them (FSDP2), and
    `given_model` gets the weights in the end. All do the same at the same time; the first one alone prints and writes.
    Precision is ours, so that runs of one program need not agree on it. The arguments are those of `train`, with an
    objective.
    """

    def __init__(self, model, objective: Objective, h: Hyperparameters, *, folder=None, resume=False, device=None,
                 progress=True, reserved=0.0):  # fmt: skip
        self.started, self.reserved, self.costs = time.perf_counter(), reserved, Costs()
        self.clock: Clock | None = None  # as long as the number of steps is open
        keep_freed_memory()
        self.h, self.objective = h, objective
        self.checkpoints = folder if isinstance(folder, Checkpoints) else Checkpoints(folder)
        self.accelerator = make_accelerator(pick_device(device))
        self.processes, self.rank = self.accelerator.num_processes, self.accelerator.process_index
        self.device = self.accelerator.device if self.processes > 1 else pick_device(device)
        precision = pick_precision(self.device) if h.precision == "auto" else h.precision
        self.half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self.given_model, self.is_sharded = model, cuts_up(self.accelerator)
        self.plain_model = (copy.deepcopy(model) if self.is_sharded else model.to(self.device)).train()
        optimizers = make_optimizers(self.plain_model, h)
        self.model, *self.optimizers = prepared(self.accelerator, self.plain_model, optimizers)
        for optimizer in self.optimizers:
            optimizer.zero_grad()  # of what was computed before the run
        self.shows = progress and self.accelerator.is_main_process
        self.best: dict[str, Tensor] = {}  # the weights that were best on the test text
        self.history = objective.prepare(self)
        self.most_steps = self.history.total_steps
        if h.minutes is not None:
            self.history.pace = first_pace(h, self.most_steps)
        self.fingerprints: dict[str, str] = {}  # of what a resumed run must have in common with this one
        if self.checkpoints.folder is not None:
            self.fingerprints = fingerprints_of(self)
            if not (resume and load_run(self)):
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
        self.started -= self.history.seconds  # of the run that this one goes on with
        if self.history.is_open:
            self.clock = Clock(self.h.minutes * 60 - self.reserved, self.started, self.device)
        bar = Progress(self.history, self.objective.name, self.shows)
        with partners_may_end(), interrupts_wait() as interrupted, bar as self.progress:
            self._go_on(interrupted, on_step, on_evaluation)
            self.history.ended = self._why_ended()
            self._save_checkpoint()
            if self.history.steps not in self.history.eval_step:
                self._look(on_evaluation)  # not in the checkpoint: a run that goes on will not have looked here
            self._keep_the_best(interrupted)
        self.history.seconds = time.perf_counter() - self.started
        return self.history

    def _go_on(self, interrupted: list, on_step: Watcher | None, on_evaluation: Watcher | None) -> None:
        """The steps, and the looks and checkpoints between them."""
        history = self.history
        if not history.eval_loss:
            self._look(on_evaluation)
        while history.steps < history.total_steps and not self._is_getting_worse():
            if self._over_processes(len(interrupted)):  # all must end after the same step
                break
            self._step()
            self.progress.step_done()
            if on_step is not None:
                on_step(history)
            if self.clock is not None:
                self.clock.step_done()
            if is_time_to_look(history, self.h):
                self._look(on_evaluation)
            history.seconds = time.perf_counter() - self.started
            if self.clock is not None:
                self._fix_steps()
            if is_time_to_save(history, self.h):
                self._save_checkpoint()

    def _fix_steps(self) -> None:
        """Once enough steps of a run by the clock were timed, fix their number, and later anew: the first process
        decides for all."""
        history, is_first = self.history, self.history.is_open
        if not self._over_processes(self.rank == 0 and self.clock.knows(history)):
            return
        if is_first:
            self._save_checkpoint()  # to know how long that takes
        if not self.costs.look:  # the same, where this run has not looked yet, as it goes on with another
            self._read_test_text()
        fixed = [self.clock.fix(history, self.most_steps, self.h, self.costs, self.objective.test_batches())]
        if self.processes > 1:
            from accelerate.utils import broadcast_object_list

            broadcast_object_list(fixed)
        steps, pace = fixed[0]
        history.set_total_steps(steps)
        history.pace |= pace
        if history.pace["again_at"] is None:
            self.clock = None
        self.progress.fixed(history.pace_in_words(self.most_steps) if is_first else None)
        self._save_checkpoint()  # a run that is killed from here on goes on with this number

    def _keep_the_best(self, interrupted: list) -> None:
        """Give the model the weights that were best on the test text, and read all of that with them."""
        history = self.history
        put_weights(self.plain_model, self.best)
        self.plain_model.eval()
        if self.is_sharded:
            put_weights(self.given_model, self.best or trained_weights(self.plain_model))
            self.given_model.eval()
        history.test_loss = min(history.eval_loss, default=None)
        if self._over_processes(len(interrupted)):
            return
        with self.autocast():
            loss = self.objective.look(self.model, history.pace.get("last_batches"), going_on=lambda: not interrupted)
        if not self._over_processes(len(interrupted)):
            history.test_loss = loss

    def _over_processes(self, number: float) -> float:
        """The sum of a number over all processes."""
        if self.processes == 1:
            return number
        return self.accelerator.reduce(torch.tensor(float(number), device=self.device)).item()

    def _is_getting_worse(self) -> bool:
        every = self.history.pace.get("eval_every", self.h.eval_every)  # early looks do not count
        return self.history.steps_since_best() >= self.h.patience * every

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
        rate = learning_rate_at(history.steps, history.total_steps, self.h, history.pace.get("warmup_steps"))
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

    def _look(self, on_evaluation: Watcher | None) -> None:
        """Read (some of) the test text, note the loss, and keep the weights if they are the best so far."""
        history, began = self.history, time.perf_counter()
        if (loss := self._read_test_text()) is None:
            return
        history.eval_step.append(history.steps)
        history.eval_loss.append(loss)
        if history.looks_since_best() == 0:
            self.best = trained_weights(self.plain_model)
        self.progress.looked()
        if on_evaluation is not None and self.accelerator.is_main_process:
            on_evaluation(history)
        self.costs.look = time.perf_counter() - began
        if self.clock is not None:
            self.clock.pause()

    def _read_test_text(self) -> float | None:
        """The loss on as much of it as a look reads."""
        began = time.perf_counter()
        with self.autocast():
            loss = self.objective.look(self.model, self.h.eval_batches)
        self.costs.look = time.perf_counter() - began
        batches = min(self.h.eval_batches or math.inf, max(1.0, self.objective.test_batches()))
        self.costs.test_batch = self.costs.look / batches
        return loss

    def _save_checkpoint(self) -> None:
        """Write all that the run needs to go on."""
        began = time.perf_counter()
        save_run(self)
        self.costs.checkpoint = time.perf_counter() - began
        if self.clock is not None:
            self.clock.pause()
