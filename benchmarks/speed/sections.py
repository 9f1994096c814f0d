"""Everything that `make bench` measures, by name; each function returns a JSON-ready dictionary."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.speed import backends, cohort, detection, floor, networks, training

SECTIONS: dict[str, Callable[..., dict]] = {
    "forward": networks.forward,
    "flat forward": networks.flat_forward,
    "forward memory": networks.forward_memory,
    "growth": networks.growth,
    "growth memory": networks.growth_memory,
    "sizes": networks.sizes,
    "peers": networks.peers,
    "peer memory": networks.peer_memory,
    "training": training.training_step,
    "training memory": training.training_memory,
    "decoding": training.decoding,
    "backends": backends.backends,
    "scan": detection.scan,
    "scan memory": detection.scan_memory,
    "detection growth": detection.growth,
    "cohort": cohort.cohort,
    "cluster": cohort.cluster,
    "floor": floor.floor,
    "gpu": floor.gpu,
}
