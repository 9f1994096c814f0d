"""Several processes that train one model together, as ``torchrun`` starts them: one batch, the same weights in each.

Each process makes its own samples of a batch; PyTorch's DistributedDataParallel sums their gradients, by gloo on CPUs
and NCCL on CUDA devices. Only the first process writes files.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from H3DELandmarksLib.core.errors import Cancelled, InputError
from H3DELandmarksLib.formats.training import TrainingStage
from H3DELandmarksLib.training.cases import TrainingCase
from H3DELandmarksLib.training.loop import StageTrainer, is_out_of_memory
from H3DELandmarksLib.training.sampling import CropSampler


def starts_alone_or_leads() -> bool:
    """Whether this process is the one that writes and speaks; known before it has joined its peers."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class Peers:
    """The processes of one training.

    Attributes:
        rank: number of this process.
        count: how many there are; 1 where it trains alone.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def joined(cls) -> Peers:
        """Join the others that ``torchrun`` has started; alone where it has not."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1 or not dist.is_available():
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
            atexit.register(dist.destroy_process_group)  # its threads must not outlive the program
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def device(self, usual: torch.device) -> torch.device:
        """The device of this process: each its own where there are several."""
        if self.count == 1 or usual.type != "cuda":
            return usual
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))

    def numbers(self, batch: int) -> range:
        """Which samples of a batch this process makes.

        Raises:
            InputError: there are more processes than samples.
        """
        if batch < self.count:
            raise InputError(
                f"A batch of {batch} samples cannot be shared by {self.count} processes: start fewer, or set `batch` "
                "higher in the configuration."
            )
        return range(self.rank, batch, self.count)

    def total(self, value: float, device: torch.device) -> float:
        """The sum of a number over all processes."""
        if self.count == 1:
            return value
        number = torch.tensor(value, dtype=torch.float64, device=device)
        dist.all_reduce(number)
        return float(number)

    def wait(self) -> None:
        """Wait until all processes have come here."""
        if self.count > 1:
            dist.barrier()

    def shared(self, network: nn.Module, device: torch.device) -> nn.Module:
        """The network whose backward pass averages gradients over all processes; the same one where it trains alone.

        Raises:
            InputError: it normalizes over batches, which are only summed up over processes on CUDA devices.
        """
        if self.count == 1:
            return network
        if any(isinstance(layer, _BatchNorm) for layer in network.modules()):
            if device.type != "cuda":
                raise InputError(
                    'The network normalizes over batches (`norm` "batch"), which several processes on CPUs cannot do '
                    'together: set `norm` to "group", or train with one process.'
                )
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)


class SharedTrainer(StageTrainer):
    """Trains the network of one stage together with the other processes; none of them can go on alone."""

    def __init__(
        self, stage: TrainingStage, sampler: CropSampler, folder: Path, device: torch.device, peers: Peers | None = None
    ) -> None:
        """As `StageTrainer`; the processes are those that ``torchrun`` has started when not given."""
        self.peers = peers = peers or Peers.joined()
        self.rank, self.count = peers.rank, peers.count
        super().__init__(stage, sampler, folder, peers.device(device))
        self.numbers = peers.numbers(self.settings.batch)
        self.trained = peers.shared(self.network, self.device)

    def run(self, *arguments, **named) -> None:
        """As `StageTrainer.run`; returns once the last checkpoint is written."""
        super().run(*arguments, **named)
        self.peers.wait()

    def _tell(self, watch: Callable[[int], None]) -> None:
        """Give all processes the word to stop that any of them has got."""
        stop: Cancelled | None = None
        try:
            watch(self.step)
        except Cancelled as wish:
            stop = wish
        if self._total(float(stop is not None)) > 0:
            self.save()
            self.peers.wait()
            raise stop or Cancelled("The training was cancelled; it can be resumed.")

    def _gradients_of_step(self, cases: Sequence[TrainingCase]) -> float:
        try:
            return self._total(self._gradients(self._batch(cases), 1))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise InputError("The memory is too small for this process's samples: start more processes.") from error

    def _total(self, value: float) -> float:
        return self.peers.total(value, self.device)
