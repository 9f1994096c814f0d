"""Training steps and decoding: ours beside the published form and the literal definitions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.speed import published_training as published
from benchmarks.speed.contestants import (
    BUILDERS,
    CROP,
    LITERAL,
    OURS,
    PUBLISHED,
    add_literal_forms,
    crop,
    crop_shape,
    maps_of,
)
from benchmarks.speed.measure import compare, interleaved, load_libraries, memory_beyond
from H3DELandmarksLib.detection.decoding import decode_published_anchor, decode_published_heatmap
from H3DELandmarksResearch.training.published_losses import published_anchor_loss, published_heatmap_loss

Loss = Callable[[Tensor], Tensor]
LANDMARKS = 14


def training_step(head: str, batch: int, tiny: bool = False, budget: float = 40.0) -> dict:
    """Time of a training step: forward pass, targets, loss, gradients and an Adam step; and of the loss alone."""
    names = [PUBLISHED, OURS, *([LITERAL] if head == "anchor" else [])]
    steps = {name: _step(name, head, batch, tiny) for name in names}
    result = compare(interleaved(steps, budget, least=2, most=5), PUBLISHED)
    maps = maps_of(BUILDERS[OURS](head, tiny))(crop(batch, tiny)).detach()
    alone = {name: _loss_alone(_loss(name, head, batch, tiny), maps) for name in (PUBLISHED, OURS)}
    return result | {"loss": compare(interleaved(alone, 10.0, least=2, most=5), PUBLISHED)}


def training_memory(head: str, batch: int, contestant: str, tiny: bool = False) -> dict:
    """Megabytes that a first training step takes beyond the weights: activations, gradients and Adam's averages."""
    step = _step(contestant, head, batch, tiny)
    load_libraries()
    return {"megabytes": memory_beyond(step)}


def decoding(head: str, tiny: bool = False) -> dict:
    """Time to read 14 landmarks out of maps, and the largest distance in voxels between the two results."""
    maps = _plausible_maps(head, crop_shape(tiny))
    if head == "anchor":
        calls = {
            PUBLISHED: lambda: published.decode_anchors(maps),
            OURS: lambda: decode_published_anchor(maps, 1).index,
        }
    else:
        array = maps.numpy()
        calls = {
            PUBLISHED: lambda: published.decode_heatmaps(array),
            OURS: lambda: decode_published_heatmap(maps, 1).index,
        }
    apart = float(abs(calls[PUBLISHED]() - calls[OURS]()).max())
    return compare(interleaved(calls, 6.0, least=3), PUBLISHED) | {"largest_difference_voxels": apart}


def truth(batch: int, shape: tuple[int, ...] = CROP) -> tuple[Tensor, Tensor]:
    """Positions (batch, 14, 3) in voxels, at least 12 from the border, and presence; each sample lacks one landmark."""
    generator = torch.Generator().manual_seed(0)
    index = 12 + torch.rand(batch, LANDMARKS, 3, generator=generator) * (torch.tensor(shape) - 25)
    presence = torch.ones(batch, LANDMARKS)
    presence[torch.arange(batch), torch.arange(batch) % LANDMARKS] = 0
    return index, presence


def _step(name: str, head: str, batch: int, tiny: bool) -> Callable[[], None]:
    network = BUILDERS[name](head, tiny).train()
    call, image, loss = maps_of(network), crop(batch, tiny), _loss(name, head, batch, tiny)
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(call(image)).backward()
        optimizer.step()

    return step


def _loss(name: str, head: str, batch: int, tiny: bool) -> Loss:
    """The loss of a batch of maps; anchors' rows are made beforehand, as the published data loader does."""
    shape = crop_shape(tiny)
    index, presence = truth(batch, shape)
    if name == OURS:
        ours = published_anchor_loss if head == "anchor" else published_heatmap_loss
        return lambda maps: ours(maps, index, presence)
    if head == "heatmap":
        return lambda maps: published.heatmap_loss(maps, published.heatmap_targets(index, maps.shape[2:]))
    if name == LITERAL:
        literal = _literal_anchor_loss()
        return lambda maps: sum(literal(*sample) for sample in zip(maps, index, presence)) / len(maps)
    rows = published.anchor_rows(index, presence, [side // published.STRIDE for side in shape])
    return lambda maps: published.anchor_loss(maps, rows)


def _literal_anchor_loss() -> Callable[..., Tensor]:
    add_literal_forms()
    from literal_anchor_loss import literal_anchor_loss

    return literal_anchor_loss


def _loss_alone(loss: Loss, maps: Tensor) -> Callable[[], None]:
    leaf = nn.Parameter(maps.clone())

    def call() -> None:
        leaf.grad = None
        loss(leaf).backward()

    return call


def _plausible_maps(head: str, shape: tuple[int, ...]) -> Tensor:
    """Maps such as a trained network gives: (K, X, Y, Z), or (X/4, Y/4, Z/4, 4, 3 + K) for anchors; a little noise."""
    generator = torch.Generator().manual_seed(0)
    index, presence = truth(1, shape)
    if head == "heatmap":
        maps = published.heatmap_targets(index, shape)[0]
        return maps + 0.01 * torch.randn(maps.shape, generator=generator)
    grid = [side // published.STRIDE for side in shape]
    maps = torch.randn(*grid, len(published.RADII), 3 + LANDMARKS, generator=generator) - 8
    for a, rows in enumerate(published.anchor_rows(index, torch.ones_like(presence), grid)[0]):
        for x, y, z, *offset, k in rows[rows[:, 6] >= 0].tolist():
            anchor = maps[int(x), int(y), int(z), a]
            anchor[:3] = torch.atanh(0.99 * torch.tensor(offset))
            anchor[3 + int(k)] += 12
    return maps
