"""The training loop of one stage: AdamW, cosine schedule, averaged weights, validation in mm, checkpoint and resume."""

from __future__ import annotations

import csv
import io
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from H3DELandmarksLib.core.errors import Cancelled, InputError, MissingDependencyError
from H3DELandmarksLib.core.execution import Progress
from H3DELandmarksLib.core.files import atomic_write, write_watched
from H3DELandmarksLib.core.resources import research_module
from H3DELandmarksLib.detection.stage import NetworkIO, choose_decoder
from H3DELandmarksLib.formats.training import Training, TrainingStage
from H3DELandmarksLib.networks import build_network, output_maps
from H3DELandmarksLib.networks.arrays import to_array, to_tensor
from H3DELandmarksLib.training.cases import TrainingCase
from H3DELandmarksLib.training.checkpoints import (
    CHECKPOINT,
    Checkpoint,
    TrainingProgress,
    has_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from H3DELandmarksLib.training.losses import choose_objective, start_at_background
from H3DELandmarksLib.training.sampling import CropSampler, draw_batch

logger = logging.getLogger(__name__)
CURVE = "curve.csv"
PEERS = "Training by several processes"
PROCESS_SEED = 1_000_003
# What the networks call the layers that read the image.
EARLY = ("encoder.", "backbone.")
# What PyTorch says where memory is short, on CUDA and MPS, and on CPUs.
OUT_OF_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is short; PyTorch has no class of errors for all devices."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY_WORDS)


class MemoryPlan:
    """Into how many parts a batch is cut; what was found to fit is kept.

    Attributes:
        parts: 1 is the whole batch at once.
    """

    def __init__(self, batch: int) -> None:
        """Begin with a whole batch of so many samples."""
        self.batch, self.parts = batch, 1

    def attempt(self, work: Callable[[int], float], leave_device: Callable[[], str | None]) -> float:
        """Do the work for a batch; where memory is short, in more parts, and then on the CPU, with one warning.

        Args:
            work: gets the number of parts; may be called again after it failed.
            leave_device: moves everything to the CPU; returns the device that was left, None on the CPU already.

        Raises:
            InputError: not even one sample fits into the memory.
        """
        before, left = self.parts, None
        while True:
            try:
                result = work(self.parts)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            if self.parts < self.batch:
                self.parts = min(self.batch, 2 * self.parts)
            elif not (left := leave_device()):
                raise InputError("The memory is too small for training this model: close other programs.")
        if left:
            logger.warning("The memory of the %s device is too small: training goes on with the CPU, slowly.", left)
        elif self.parts > before:
            logger.warning(
                "The memory is too small for a whole batch: training goes on with %d parts of it.", self.parts
            )
        return result


def append_row(path: Path, row: Mapping[str, float]) -> None:
    """Add a line; the file is written anew, so that a kill leaves the old one."""
    _write(path, [*read_curve(path), {name: f"{value:.6g}" for name, value in row.items()}])


def trim_curve(path: Path, step: int) -> None:
    """Leave out what was written after a checkpoint, whose training is done again."""
    rows = read_curve(path)
    kept = [row for row in rows if int(row["step"]) <= step]
    if len(kept) < len(rows):
        _write(path, kept)


def read_curve(path: Path) -> list[dict[str, str]]:
    """All lines by column; none where the file is not there."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def draw_curve(path: Path) -> None:
    """Draw the curve as a PNG beside its file; nothing before the first line, or in Slicer."""
    rows = read_curve(path)
    if not rows:
        return
    try:
        picture = research_module("figures.plots", "The picture of a curve").draw_training_curve(rows)
    except MissingDependencyError:
        return
    with atomic_write(path.with_suffix(".png")) as partial:
        partial.write_bytes(picture)


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_watched(path, text.getvalue())


def parameter_groups(network: nn.Module, settings: Training) -> list[dict]:
    """Groups for an optimizer: biases and norms without weight decay, early layers at a rate of their own.

    Args:
        network: its early parameters are frozen where their rate is 0.
        settings: how the stage is trained.
    """
    factor = 1.0 if settings.early_rate is None else settings.early_rate
    named = list(network.named_parameters())
    if factor == 1:
        return _by_decay([p for _, p in named], settings.weight_decay)
    early = [p for name, p in named if name.startswith(EARLY)]
    groups = _by_decay([p for name, p in named if not name.startswith(EARLY)], settings.weight_decay)
    if factor == 0:
        for parameter in early:
            parameter.requires_grad_(False)
        return groups
    rate = settings.learning_rate * factor
    return [*groups, *({**group, "lr": rate} for group in _by_decay(early, settings.weight_decay))]


def _by_decay(parameters: list[nn.Parameter], weight_decay: float) -> list[dict]:
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


class StageTrainer:
    """Trains the network of one stage.

    A batch depends only on the seed and the step number, so that a resumed run sees what an uninterrupted one would
    have seen, with any number of processes.

    Attributes:
        rank, count: number of this process, and how many train together; only the first of them writes files.
    """

    rank, count = 0, 1

    def __init__(self, stage: TrainingStage, sampler: CropSampler, folder: Path, device: torch.device) -> None:
        """Prepare network and optimizer.

        Args:
            stage: its design and how it is trained.
            sampler: source of samples.
            folder: where checkpoint and curve are kept.
            device: where the network runs; a CUDA device also makes the samples.
        """
        self.stage = stage
        self.settings = settings = stage.training
        self.sampler = sampler
        self.folder = folder
        self.device = device
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(settings.seed)
        self.io = NetworkIO.of(stage)
        self.network = build_network(stage.network.architecture, stage.network.settings).to(device)
        self.objective = choose_objective(settings)
        self.decode = choose_decoder(stage.decoding)
        # Voxels of a heat map at each of the network's resolutions.
        cells = [float(np.prod(np.array(stage.shape) / stride)) for stride in self.io.strides]
        background = [self.objective.background(voxels) for voxels in cells]
        start_at_background(self.network.get_submodule("head"), *background)
        self.optimizer = torch.optim.AdamW(parameter_groups(self.network, settings), lr=settings.learning_rate)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate)
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(settings.ema))
        self.numbers = range(settings.batch)
        self.memory = MemoryPlan(settings.batch)
        self.trained: nn.Module = self.network
        self.step = 0
        self.losses: list[float] = []
        self.learnt: frozenset[str] = frozenset()

    def _rate(self, step: int) -> float:
        warmup, total = self.settings.warmup, self.settings.steps
        if self.settings.cosine == "from-start":
            return min(1.0, (step + 1) / max(1, warmup)) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))
        if step < warmup:
            return (step + 1) / warmup
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    @property
    def checkpoint(self) -> Path:
        """File that holds the state to resume from."""
        return self.folder / CHECKPOINT

    def resume(self) -> bool:
        """Continue from the checkpoint if there is one; return whether there was."""
        if not has_checkpoint(self.checkpoint):
            return False
        state = load_checkpoint(self.checkpoint)
        groups = self.optimizer.state_dict()["param_groups"]
        try:
            self.network.load_state_dict(state.network)
            self.average.load_state_dict(state.average)
            self.optimizer.load_state_dict({"state": state.optimizer, "param_groups": groups})
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"The checkpoint '{self.checkpoint}' is of another network: delete it to start this stage again."
            ) from error
        self.step, self.losses = state.progress.step, list(state.progress.losses)
        self.learnt = frozenset(state.progress.learnt)
        self.schedule.load_state_dict({"lr_lambdas": [], "last_epoch": self.step, "_step_count": self.step + 1})
        for group, rate in zip(self.optimizer.param_groups, self.schedule.base_lrs):
            group["lr"] = rate * self._rate(self.step)
        if self.leads:
            trim_curve(self.folder / CURVE, self.step)
        return True

    def save(self) -> None:
        """Write the checkpoint; of several processes, the first does.

        Raises:
            InputError: the weights are no numbers any more; the checkpoint before stays.
        """
        if not self.leads:
            return
        if not all(bool(value.isfinite().all()) for value in self.network.state_dict().values()):
            raise InputError(
                f"The training of '{self.stage.name}' has diverged by step {self.step}: its weights are no numbers any "
                f"more. Start this stage again with a smaller learning_rate than {self.settings.learning_rate:g}."
            )
        progress = TrainingProgress(self.step, tuple(self.losses), tuple(sorted(self.learnt)), self.stage.landmarks)
        parts = self.network.state_dict(), self.average.state_dict(), self.optimizer.state_dict()["state"]
        save_checkpoint(self.checkpoint, Checkpoint(progress, *parts))

    def run(
        self,
        training: Sequence[TrainingCase],
        validation: Sequence[TrainingCase],
        progress: Progress | None = None,
        watch: Callable[[int], None] | None = None,
    ) -> None:
        """Train until the configured number of steps, checkpointing on the way.

        Args:
            training: cases to learn from.
            validation: cases for the curve.
            progress: receives the fraction of the stage and a sentence after each validation.
            watch: receives the number of steps done after each step.

        Raises:
            Cancelled: `watch` raised it; the checkpoint holds everything up to this step.
        """
        saved = time.monotonic()
        if self.step < self.settings.steps:
            self.learnt |= {each.case.name for each in training}
        while self.step < self.settings.steps:
            self.losses.append(self._train_step(training))
            self.step += 1
            done = self.step == self.settings.steps
            if self.step % self.settings.validate_every == 0 or done:
                if self.leads:
                    self._report(float(np.mean(self.losses)), self.validate(validation), progress)
                self.losses.clear()
            if self.leads and (done or time.monotonic() - saved > self.settings.checkpoint_seconds):
                self.save()
                draw_curve(self.folder / CURVE)
                saved = time.monotonic()
            if watch:
                self._tell(watch)

    def _tell(self, watch: Callable[[int], None]) -> None:
        try:
            watch(self.step)
        except Cancelled:
            self.save()
            raise

    def _train_step(self, cases: Sequence[TrainingCase]) -> float:
        self.trained.train()
        loss = self._gradients_of_step(cases)
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.average.update_parameters(self.network)
        return loss

    def _batch(self, cases: Sequence[TrainingCase]) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """The batch of this step, the same whenever it is asked for."""
        seed = (self.settings.seed, self.step)
        return draw_batch(self.sampler, cases, self.numbers, seed, self._sampling_device)

    @property
    def _sampling_device(self) -> torch.device:
        """Where crops are cut out and changed; PyTorch has no sampling of volumes for MPS."""
        return self.device if self.device.type == "cuda" else torch.device("cpu")

    def _gradients_of_step(self, cases: Sequence[TrainingCase]) -> float:
        """Gradients of this step's batch, in as many parts as the memory asks for; returns the loss."""
        return self.memory.attempt(lambda parts: self._gradients(self._batch(cases), parts), self._leave_device)

    def _total(self, value: float) -> float:
        """The sum of a number over all processes."""
        return value

    def _gradients(self, batch: tuple[Tensor, np.ndarray, np.ndarray], parts: int) -> float:
        """Gradients of a batch in several parts, each weighted by its share of known landmarks; returns the loss.

        Of a batch that is shared with other processes, `batch` and the loss returned are this one's part.
        """
        self.optimizer.zero_grad(set_to_none=True)
        # For branches that a network leaves out at random.
        torch.manual_seed(self.settings.seed + self.step + PROCESS_SEED * self.rank)
        known = max(1.0, self._total(float((~np.isnan(batch[2])).sum())))
        whole = parts == self.count == 1
        total = 0.0
        cut = (batch[0].tensor_split(parts), *(np.array_split(array, parts) for array in batch[1:]))
        for images, index, presence in zip(*cut):
            points, there = (to_tensor(array).to(self.device) for array in (index, presence))
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                maps = self._maps(self.trained, images)
            loss = self.objective.total(maps, self.io.strides, points, there)
            loss = loss if whole else loss * (int((~np.isnan(presence)).sum()) / known)
            (loss * self.count).backward()  # gradients are averaged over processes
            total += float(loss.detach())
        return total

    def _leave_device(self) -> str | None:
        """Go on with the CPU; returns the name of the device that was left, None where there is no other one."""
        if self.device.type == "cpu":
            return None
        left, self.device = self.device.type, torch.device("cpu")
        state = self.optimizer.state_dict()
        self.network.to(self.device)
        self.average.to(self.device)
        self.optimizer.load_state_dict(state)  # brings its own tensors to where the parameters are
        return left

    def _maps(self, network: nn.Module, crops: Tensor) -> list[Tensor]:
        """All maps of (B, 1, X, Y, Z) crops on any device."""
        images = self.io.repeated(crops).contiguous().to(self.device)
        return self.io.from_network(output_maps(network(images)))

    @torch.inference_mode()
    def validate(self, cases: Sequence[TrainingCase]) -> dict[str, float]:
        """Errors in mm of the averaged weights on unaugmented crops of unseen cases, and accuracy of presence."""
        self.average.eval()
        errors, right = [], []
        for case in cases:
            for group in range(len(self.sampler.groups)):
                sample = self.sampler.plain(case, group, self._sampling_device)
                maps = self._maps(self.average, sample.image[None, None])
                peaks = self.decode([level[0] for level in maps], self.io.strides)
                present = sample.presence == 1
                distance = np.linalg.norm(peaks.index - sample.index, axis=1) * self.sampler.spacing(case)
                errors.append(distance[present])
                known = ~np.isnan(sample.presence)
                right.append(((peaks.presence_logit > 0) == present)[known])
        if not errors:
            return dict.fromkeys(("mean_mm", "median_mm", "p90_mm", "presence"), math.nan)
        error = np.concatenate(errors)
        statistics = (np.mean, np.median, lambda e: np.percentile(e, 90))
        mean, median, p90 = (float(f(error)) if error.size else math.nan for f in statistics)
        return {"mean_mm": mean, "median_mm": median, "p90_mm": p90, "presence": float(np.concatenate(right).mean())}

    def _report(self, loss: float, scores: dict[str, float], progress: Progress | None) -> None:
        append_row(self.folder / CURVE, {"step": self.step, "loss": loss, **scores})
        text = f"{self.stage.name}: step {self.step}, loss {loss:.3f}, validation mean {scores['mean_mm']:.3f} mm"
        logger.info(text)
        if progress:
            progress(self.step / self.settings.steps, text)

    def weights(self) -> dict[str, Tensor]:
        """Averaged weights by the network's parameter names."""
        return {name: value.detach().cpu() for name, value in self.average.module.state_dict().items()}


def has_peers() -> bool:
    """Whether ``torchrun`` has started several processes, which train one model together."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def stage_trainer(stage: TrainingStage, sampler: CropSampler, folder: Path, device: torch.device) -> StageTrainer:
    """What trains a stage, alone or with the other processes; parameters as for `StageTrainer`.

    Raises:
        MissingDependencyError: there are others, and the research package is not installed.
    """
    if not has_peers():
        return StageTrainer(stage, sampler, folder, device)
    return research_module("training.peers", PEERS).SharedTrainer(stage, sampler, folder, device)


def half_precision(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Weights as packages keep them: half precision halves the download; loading makes single precision of it again."""
    return {name: to_array(value.half() if value.is_floating_point() else value) for name, value in tensors.items()}
