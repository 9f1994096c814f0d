"""Reading landmark positions and evidence out of heat maps and anchors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from H3DELandmarksLib.core.candidates import COUNT
from H3DELandmarksLib.networks.arrays import to_array, to_tensor

STRIDES = (4, 2, 1)
MIRROR_AXIS = 3
"""Axis of (batch, channels, rows, columns) that a mirror image reverses."""
MIRROR_SHIFT = 1
"""Cells by which the published code moves the mirror image's maps, turned back, before averaging: their cell c lies at
pixel s c + s - 1 of the image, after the move at s c - 1."""


@dataclass(frozen=True)
class PlanePeaks:
    """What heat maps at three resolutions say about each landmark of an image.

    Attributes:
        index: (B, K, 2) row and column in pixels of the network's input, 0 at the center of the first pixel.
        height: (B, K) highest values of the maps, averaged over resolutions; 1 for a perfect Gaussian, 0 where a map
            is nowhere above 0 (a miss).
    """

    index: np.ndarray
    height: np.ndarray


def decode_deep_supervision(maps: Sequence[Tensor]) -> PlanePeaks:
    """Mean over resolutions of the position of each map's peak, as published.

    Args:
        maps: (B, K, H', W') at strides 4, 2 and 1, as HyattNet returns them.
    """
    cells, heights = zip(*(quarter_shifted_peaks(level.float()) for level in maps))
    index = torch.stack([cell * stride for cell, stride in zip(cells, STRIDES)]).mean(dim=0)
    height = torch.stack(heights)
    height = height.mean(dim=0) * (height > 0).all(dim=0)
    return PlanePeaks(to_array(index.double()), to_array(height.double()))


def quarter_shifted_peaks(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Highest pixel of each map, moved by a quarter of a pixel towards the higher of its neighbors along each axis.

    As published, nothing moves unless row and column are both greater than 1 and less than the last, and a map that is
    nowhere above 0 has its peak at row -1, column -1.

    Args:
        maps: (B, K, H, W) float heat maps.

    Returns:
        Row and column, (B, K, 2), and height, (B, K), of the peaks.
    """
    height, width = maps.shape[2:]
    flat = maps.flatten(2)
    place = flat.argmax(dim=2, keepdim=True)
    value = flat.gather(2, place)[..., 0]
    cell = torch.cat([torch.div(place, width, rounding_mode="floor"), place % width], dim=2)
    inside = ((cell > 1) & (cell < torch.tensor([height - 1, width - 1], device=cell.device))).all(dim=2, keepdim=True)
    step = torch.tensor([width, 1], device=cell.device)
    # Where nothing moves the peak itself stands for its neighbors.
    before, after = (flat.gather(2, torch.where(inside, place + sign * step, place)) for sign in (-1, 1))
    shifted = cell + 0.25 * torch.sign(after - before)
    return torch.where(value[..., None] > 0, shifted, -1.0), value


def predict_with_mirror(
    network: Callable[[Tensor], Sequence[Tensor]], image: Tensor, mirror_order: Sequence[int], axis: int, shift: int = 0
) -> list[Tensor]:
    """Heat maps averaged over an image and its mirror image ("flip test").

    Args:
        network: image to heat maps (B, K, H', W') at strides 4, 2 and 1.
        image: (B, C, H, W).
        mirror_order: (K,) the landmark that each landmark of a mirror image really is, -1 where the scheme has none;
            see ``LandmarkScheme.mirror_order``.
        axis: 2 or 3, the axis of ``image`` that runs from left to right.
        shift: cells by which the mirror image's maps are moved along that axis, their first cells staying;
            `MIRROR_SHIFT` for networks whose maps are read as published.
    """
    # On a multiple of the coarsest stride, pixels of the mirror image's maps coincide with those of the image's.
    end = -image.shape[axis] % STRIDES[0]
    padded = F.pad(image, (0, end, 0, 0) if axis == 3 else (0, 0, 0, end), mode="replicate") if end else image
    known = torch.tensor([k >= 0 for k in mirror_order], device=image.device)[:, None, None]
    order = torch.tensor([max(k, 0) for k in mirror_order], device=image.device)
    averaged = []
    for stride, direct, mirrored in zip(STRIDES, network(padded), network(padded.flip(axis))):
        back = mirrored.flip(axis)[:, order]
        if shift:
            still = back.narrow(axis, 0, shift)
            back = torch.cat([still, back.narrow(axis, 0, back.shape[axis] - shift)], dim=axis)
        both = torch.where(known, (direct + back) / 2, direct)
        averaged.append(both.narrow(axis, 0, -(-image.shape[axis] // stride)))
    return averaged


# Anchors of H3DE-Net (arXiv 2502.14221): cells are 4 input voxels wide, and cell c lies at input voxel 4 c.
ANCHOR_STRIDE = 4
ANCHOR_RADII = (0.5, 0.75, 1.0, 1.25)


@dataclass(frozen=True)
class Peaks:
    """What a stack of heat maps, or a grid of anchors, says about each landmark.

    Attributes:
        index: (K, 3) continuous voxel indices in the network's input grid.
        presence_logit: (K,) log-odds of "somewhere in this crop" against "absent", before calibration.
        concentration: (K,) from 0 to 1, share of the evidence that lies around the peak; each decoder says what it
            counts.
    """

    index: np.ndarray
    presence_logit: np.ndarray
    concentration: np.ndarray


def decode_softmax(maps: Tensor, stride: int | np.ndarray, radius: int = 2) -> Peaks:
    """Peak and evidence of maps trained by `training.losses.spatial_cross_entropy`.

    All voxels of a map and one extra outcome "absent", whose logit is 0, share a softmax. The position is the center
    of mass of that distribution in the cube of ``(2 radius + 1)^3`` voxels around the highest voxel.

    Args:
        maps: (K, X, Y, Z) logits.
        stride: input voxels per map voxel, one number or three.
        radius: half width of the cube in map voxels.
    """
    maps = maps.float()
    flat = maps.flatten(1)
    mass = torch.logsumexp(flat, dim=1)
    window, inside, linear = _windows(_unravel(flat.argmax(dim=1), maps.shape[1:]), maps.shape[1:], radius)
    logits = flat.gather(1, linear.to(maps.device)).cpu().masked_fill(~inside, -torch.inf)
    weights = torch.softmax(logits, dim=1)
    cell = (weights[..., None] * window).sum(dim=1)
    concentration = torch.exp(torch.logsumexp(logits, dim=1) - mass.cpu())
    index = (to_array(cell.double()) + 0.5) * stride - 0.5
    return Peaks(index, to_array(mass.double()), to_array(concentration.double()))


def likeliest_places(
    maps: Tensor, stride: int | np.ndarray, radius: int = 2
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The likeliest separate places of maps that `decode_softmax` reads.

    Args:
        maps, stride, radius: as for `decode_softmax`.

    Returns:
        (K, M, 3) voxels of the network's input, (K, M) shares of probability, descending and 0 where there is no
        further place, and (K, M, 3, 3) covariances in voxels^2.
    """
    shape = tuple(maps.shape[1:])
    flat = maps.float().flatten(1)
    kernel = tuple(min(2 * radius, side) for side in shape)
    tops, where = F.max_pool3d(maps.float(), kernel, kernel, ceil_mode=True, return_indices=True)
    blocks = tops.flatten(1).topk(min(8 * COUNT, tops[0].numel()), dim=1).indices
    linear = where.flatten(1).gather(1, blocks).cpu()
    places, kept = _apart(_unravel(linear.flatten(), shape).reshape(*linear.shape, 3), 2 * radius)
    window, inside, linear = _windows(places.flatten(0, 1), shape, radius)
    rows = linear.reshape(len(flat), -1).to(maps.device)
    logits = flat.gather(1, rows).cpu().reshape(linear.shape).masked_fill(~inside, -torch.inf)
    # The softmax that all voxels share with the outcome "absent", whose logit is 0.
    mass = torch.logaddexp(torch.logsumexp(flat, dim=1), torch.zeros(())).cpu()
    share = torch.exp(torch.logsumexp(logits, dim=1).reshape(kept.shape) - mass[:, None]) * kept
    weights = torch.softmax(logits, dim=1)
    center = (weights[..., None] * window).sum(dim=1)
    offset = window - center[:, None]
    covariance = torch.einsum("np,npi,npj->nij", weights, offset, offset) + torch.eye(3) / 12
    scale = np.broadcast_to(np.asarray(stride, float), (3,))
    index = (to_array(center.double()).reshape(*kept.shape, 3) + 0.5) * scale - 0.5
    spread = to_array(covariance.double()).reshape(*kept.shape, 3, 3) * scale[:, None] * scale
    order = np.argsort(-to_array(share), axis=1, kind="stable")
    rows_of = np.arange(len(order))[:, None]
    return index[rows_of, order], to_array(share.double())[rows_of, order], spread[rows_of, order]


def _apart(places: Tensor, least: int) -> tuple[Tensor, Tensor]:
    """The first `COUNT` of (K, N, 3) places that are ``least`` voxels apart along an axis, and which there are."""
    chosen = torch.zeros(len(places), COUNT, dtype=torch.long)
    kept = torch.zeros(len(places), COUNT, dtype=torch.bool)
    free = torch.ones(places.shape[:2], dtype=torch.bool)
    rows = torch.arange(len(places))
    for number in range(COUNT):
        chosen[:, number], kept[:, number] = free.int().argmax(dim=1), free.any(dim=1)
        distance = (places - places[rows, chosen[:, number]][:, None]).abs().amax(dim=2)
        free &= distance > least
    return places[rows[:, None], chosen], kept


def decode_published_heatmap(maps: Tensor, stride: int | np.ndarray, voxels: int = 500) -> Peaks:
    """Peak and evidence of maps trained by `training.heatmap_losses.published_heatmap_loss`.

    The position is the mean coordinate of the highest voxels, as in H3DE-Net (arXiv 2502.14221): all above a threshold
    that is lowered from 0.999 of the map's maximum in steps of a tenth of it until enough voxels pass; where nothing
    is above 0, all above 1.5 times the maximum. Its evidence is this project's addition: the presence logit is
    4 (highest value - 0.5), since targets are 2 at a landmark and -1 where there is none; the concentration is the
    share of the averaged voxels that lie in a cube around their mean, half as wide again as a ball of ``voxels``.

    Args:
        maps: (K, X, Y, Z) linear heat maps.
        stride: input voxels per map voxel, one number or three.
        voxels: how many voxels are averaged at least.
    """
    flat = maps.float().flatten(1)
    half = 1.5 * (3 * voxels / (4 * math.pi)) ** (1 / 3)
    cell, near, top = np.empty((len(flat), 3)), np.empty(len(flat)), np.array([float(row.max()) for row in flat])
    for k, row in enumerate(flat):
        highest = to_array(_unravel(_above_lowered_threshold(row, top[k], min(voxels, len(row))), maps.shape[1:]))
        cell[k] = highest.mean(axis=0)
        near[k] = (np.abs(highest - cell[k]) <= half).all(axis=1).mean()
    return Peaks((cell + 0.5) * stride - 0.5, 4 * (top - 0.5), near)


def _above_lowered_threshold(values: Tensor, top: float, number: int) -> Tensor:
    """Which of the values (V,) pass the first threshold 0.999 top, 0.899 top, ... that at least ``number`` pass."""
    if not top > 0:
        return (~(values < 1.5 * top)).nonzero()[:, 0]
    shares = [0.999 - 0.1 * step for step in range(10)]
    few = (values >= shares[-1] * top).nonzero()[:, 0]
    heights = values[few]
    for share in shares:
        passing = heights >= share * top
        if int(passing.count_nonzero()) >= number:
            return few[passing]
    lowest = float(values.topk(number).values[-1])
    steps = math.ceil((shares[0] - lowest / top) / 0.1)
    return (values >= min(lowest, top * (shares[0] - 0.1 * steps))).nonzero()[:, 0]


def decode_published_anchor(
    maps: Tensor, stride: int | np.ndarray, candidates: int = 15, radii: Sequence[float] = ANCHOR_RADII
) -> Peaks:
    """Position and evidence of anchors trained by `training.anchor_loss.published_anchor_loss`.

    Each of the best (cell, anchor) candidates of a landmark votes for (cell + tanh(offset) r) * 4; the result is their
    medoid, the first in the grid's order of equal ones, as in H3DE-Net (arXiv 2502.14221), here for each sample on its
    own. Its evidence is this project's addition: the presence logit is the best
    candidate's, the concentration is the candidates' share, weighted by probability, that lies within one cell's width
    of the medoid.

    Args:
        maps: (X, Y, Z, anchors, 3 + K) offsets and class logits.
        stride: input voxels per voxel of the image that cells are `ANCHOR_STRIDE` of; 1 unless that was reduced.
        candidates: how many vote.
        radii: (anchors,) reach of each anchor in cells.
    """
    flat = maps.float().flatten(0, 3)
    logits = flat[:, 3:].T.contiguous()
    best = logits.topk(min(candidates, len(flat)), dim=1).indices.sort(dim=1).values
    logits, offset, best = logits.gather(1, best).cpu(), torch.tanh(flat[best, :3]).cpu(), best.cpu()
    *cell, anchor = np.unravel_index(to_array(best), tuple(maps.shape[:4]))
    reach = torch.tensor(radii)[to_tensor(anchor)]
    place = (to_tensor(np.stack(cell, axis=2)) + (offset * reach[..., None]).double()) * ANCHOR_STRIDE
    distance = torch.cdist(place, place, compute_mode="donot_use_mm_for_euclid_dist")
    medoid, rows = distance.sum(dim=2).argmin(dim=1), torch.arange(len(place))
    share = torch.softmax(F.logsigmoid(logits), dim=1) * (distance[rows, medoid] <= ANCHOR_STRIDE)
    index = (to_array(place[rows, medoid]) + 0.5) * stride - 0.5
    return Peaks(index, to_array(logits.amax(dim=1).double()), to_array(share.sum(dim=1).double()))


def decode_peak(maps: Tensor, stride: int | np.ndarray, radius: int = 1, extent: int = 8) -> Peaks:
    """Peak and evidence of maps trained by `training.heatmap_losses.gaussian_bce` or `ball_bce`.

    The position is the center of mass of the sigmoid heat in the cube of ``(2 radius + 1)^3`` voxels around the highest
    voxel: 27 voxels, in the network's grid, as nnLandmark (arXiv 2504.06742) does. On a wide blob that stays close to
    the highest voxel; a larger radius moves it further towards the true center. The presence logit is the peak's; the
    concentration is the share of voxels at least half as hot as the peak that lie close to it.

    Args:
        maps: (K, X, Y, Z) logits.
        stride: input voxels per map voxel, one number or three.
        radius: half width of the averaged cube in map voxels.
        extent: half width in map voxels of the cube that counts as close.
    """
    flat = maps.float().flatten(1)
    top, place = flat.max(dim=1, keepdim=True)
    peak = _unravel(place[:, 0], maps.shape[1:])
    window, inside, linear = _windows(peak, maps.shape[1:], radius)
    # Relative to the peak's own heat, which a logit of -100 would otherwise round to zero.
    weights = torch.exp(F.logsigmoid(flat.gather(1, linear.to(maps.device))) - F.logsigmoid(top)).cpu() * inside
    cell = (weights[..., None] * window).sum(dim=1) / weights.sum(dim=1, keepdim=True)
    half = F.logsigmoid(top) - math.log(2) - torch.log1p(-torch.sigmoid(top) / 2)
    _, inside, linear = _windows(peak, maps.shape[1:], extent)
    near = ((flat.gather(1, linear.to(maps.device)) >= half).cpu() & inside).sum(dim=1)
    # Map by map: PyTorch counts a whole tensor ten times as fast as along a dimension.
    hot = torch.stack([(row >= level).count_nonzero() for row, level in zip(flat, half)])
    concentration = near / hot.cpu()
    index = (to_array(cell.double()) + 0.5) * stride - 0.5
    return Peaks(index, to_array(top[:, 0].double()), to_array(concentration.double()))


def decode_published_hyatt(maps: Sequence[Tensor], strides: Sequence, extent: int = 8) -> Peaks:
    """Position and evidence of maps trained by `training.heatmap_losses_2d.deep_supervision_loss`.

    The position is the mean of the quarter-shifted peaks of all maps, as in HYATT-Net (arXiv 2412.06499), whose loss
    says nothing about absent landmarks. The evidence is this project's addition: the presence logit is
    8 (mean height - 0.5), since targets are Gaussians of height 1; the concentration is the share of the finest map's
    pixels at least half as high as its peak that lie close to the position. A miss, a map that is nowhere above 0,
    counts as height 0 and concentration 0; its position is the published one, next to the image's corner.

    Args:
        maps: (K, X, Y, 1) heat maps at `decoding_2d.STRIDES`.
        strides: not used; the published positions follow from the published strides.
        extent: half width in pixels of the square that counts as close.
    """
    # As rows and columns, of equally high pixels the published code's first is the first here, too.
    planes = [level.float()[None, ..., 0].transpose(2, 3) for level in maps]
    peaks = decode_deep_supervision(planes)
    fine, position = planes[-1][0].cpu(), to_tensor(peaks.index[0])
    top = fine.amax(dim=(1, 2), keepdim=True)
    hot = fine >= top - top.abs() / 2
    rows, columns = (
        (torch.arange(size) - position[:, axis, None]).abs() <= extent for axis, size in enumerate(fine.shape[1:])
    )
    near = hot & rows[:, :, None] & columns[:, None]
    concentration = to_array((near.sum(dim=(1, 2)) / hot.sum(dim=(1, 2))).double()) * (peaks.height[0] > 0)
    index = np.pad(peaks.index[0, :, ::-1], ((0, 0), (0, 1)))
    return Peaks(index, 8 * (peaks.height[0] - 0.5), concentration)


# A stage's entry ``decoding`` names one of these as its ``method``; its other entries are keyword arguments.
DECODERS: dict[str, Callable[..., Peaks]] = {
    "softmax": decode_softmax,
    "published-heatmap": decode_published_heatmap,
    "published-anchor": decode_published_anchor,
    "peak": decode_peak,
}
# Those that read all maps of a network at once.
DEEP_DECODERS: dict[str, Callable[..., Peaks]] = {"published-hyatt": decode_published_hyatt}


def _unravel(linear: Tensor, shape: Sequence[int]) -> Tensor:
    """(K, 3) voxels, on the CPU, from linear voxel numbers (K,)."""
    # numpy's unravel_index: torch's own imports for two seconds at its first call
    return to_tensor(np.stack(np.unravel_index(to_array(linear), tuple(shape)), axis=1))


def _windows(center: Tensor, shape: Sequence[int], radius: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cubes of (2 radius + 1)^3 = P voxels around voxels (K, 3), cut at the border of maps of that shape.

    Returns:
        Voxels (K, P, 3), clamped to the map; whether each lay inside it (K, P); their linear numbers (K, P).
    """
    size = torch.tensor(tuple(shape))
    voxel = center[:, None] + torch.cartesian_prod(*[torch.arange(-radius, radius + 1)] * 3)
    inside = ((voxel >= 0) & (voxel < size)).all(dim=2)
    voxel = voxel.clamp(min=torch.zeros(3, dtype=torch.long), max=size - 1)
    return voxel, inside, (voxel[..., 0] * size[1] + voxel[..., 1]) * size[2] + voxel[..., 2]
