"""Tables of the report on what surrounds the network: engines, peers, scans, growth, limits, GPU."""

from __future__ import annotations

from benchmarks.speed.contestants import OURS, PUBLISHED
from benchmarks.speed.floor import HALF
from benchmarks.speed.goals import Results
from benchmarks.speed.plan import HEADS, THREADS
from benchmarks.speed.tables import duration, measured_on, megabytes, spread, table


def backends_table(results: Results) -> str:
    """Engines with their error against PyTorch in float32."""
    rows = [
        [
            head,
            threads,
            name,
            duration(engine["seconds"]),
            spread(engine["range"]),
            f"{engine['relative_error']:.1e}",
            f"{engine['largest_error']:.1e}",
            duration(engine["first_call"]),
        ]
        for head in HEADS
        for threads in THREADS
        for name, engine in results.get(f"backends {head} {threads}", {}).get("engines", {}).items()
    ]
    notes = {result["note"] for key, result in results.items() if key.startswith("backends") and result.get("note")}
    header = [
        "network",
        "threads",
        "engine",
        "forward",
        "times faster than the published form",
        "relative L2 error to PyTorch float32",
        "largest error",
        "first call",
    ]
    return "\n\n".join([table(header, rows), *sorted(notes)])


def peers_table(results: Results) -> str:
    """Other networks on the same input."""
    peers = results.get("peers", {})
    if "seconds" not in peers:
        return "not measured"
    base = peers["seconds"][peers["reference"]]["median"]
    rows = []
    for name, seconds in peers["seconds"].items():
        memory = f"memory {name.split(', ')[1]} {OURS}" if name.startswith(OURS) else f"memory {name}"
        rows.append(
            [
                name,
                duration(seconds["median"]),
                f"{seconds['median'] / base:.2f}",
                f"{peers['million_parameters'][name]:.1f} M",
                megabytes(results.get(memory)),
            ]
        )
    header = ["network", "forward", "time over our anchor network", "parameters", "memory of a forward pass"]
    note = (
        f"{THREADS[-1]} threads. Our anchor network gives a quarter-resolution grid, all others maps at full "
        "resolution; all with 14 output channels and random weights."
    )
    return table(header, rows) + "\n\n" + note


def scan_table(results: Results) -> str:
    """A 512 x 512 x 300 scan by stage."""
    scan = results.get("scan", {})
    if "profile" not in scan:
        return "not measured"
    profile, whole = scan["profile"], scan["profile"]["whole"]
    rows = [[name, duration(seconds), f"{100 * seconds / whole:.0f} %"] for name, seconds in profile.items()]
    seconds = scan["seconds"]
    text = (
        f"From file to landmarks: **{duration(seconds['median'])}** ({duration(seconds['least'])} to "
        f"{duration(seconds['most'])}, {seconds['rounds']} runs; the first {duration(scan['first_seconds'])}), with "
        f"the model loaded, which takes {duration(scan['loading_seconds'])}. Peak memory beyond the imported "
        f"libraries, model included: **{megabytes(results.get('scan memory'))}**. {scan['found']} of 14 landmarks "
        f"found, mean error {scan['mean_error_mm']:.2f} mm. int16, 0.4 mm, compressed NRRD of "
        f"{scan['file_megabytes']:.0f} MB: a phantom jaw in a head of soft tissue (benchmarks/speed/scan_volume.py); "
        "model mandibular-molar-phantom. The stages are those of one profiled run:"
    )
    return text + "\n\n" + table(["stage or part", "time", "share"], rows)


def growth_table(results: Results) -> str:
    """How cost grows with the volume."""
    parts = []
    network = results.get("growth anchor", {})
    if "seconds" in network:
        rows = []
        for voxels, seconds in zip(network["voxels"], network["seconds"]):
            side = round(voxels ** (1 / 3))
            memory = megabytes(results.get(f"growth memory {side}"))
            rows.append([f"{side}^3", duration(seconds), f"{1e9 * seconds / voxels:.0f} ns", memory])
        parts.append(
            f"Anchor network; time grows with the voxels to the power of {network['exponent']:.2f}:\n\n"
            + table(["input", "forward", "a voxel", "memory"], rows)
        )
    scans = results.get("detection growth", {})
    if "seconds" in scans:
        rows = [
            [f"{side}^3 ({0.4 * side:.0f} mm)", duration(seconds), f"{memory:.0f} MB"]
            for side, seconds, memory in zip(scans["sides"], scans["seconds"], scans["megabytes"])
        ]
        parts.append(
            "Whole detection in a scan that is in memory (0.4 mm, without reading it); time grows with the voxels to "
            f"the power of {scans['time_exponent']:.2f}, memory beyond the scan to {scans['memory_exponent']:.2f}:\n\n"
            + table(["scan", "detection", "memory beyond the scan"], rows)
        )
    return "\n\n".join(parts) or "not measured"


def floor_table(results: Results) -> str:
    """Lower bounds on the CPU and how far ours is from them."""
    rows, peaks = [], []
    for threads in THREADS:
        limits = results.get(f"floor {threads}", {})
        if "peaks" not in limits:
            continue
        peaks.append(_peaks(f"{threads} thread{'s' * (threads > 1)}", limits))
        for head in HEADS:
            forward = results.get(f"forward {head} {threads}", {}).get("seconds")
            rows.append(_floor_row(head, threads, limits[head], forward and forward[OURS]["median"]))
    header = [
        "network",
        "threads",
        "GFLOP",
        "million numbers moved",
        "computing",
        "moving",
        "floor, float32",
        "ours over the floor",
        f"floor, {HALF}",
    ]
    note = "A bound layer by layer (benchmarks/speed/floor.py says what it takes as free). Measured peaks: "
    return table(header, rows) + ("\n\n" + note + "; ".join(peaks) + "." if peaks else "")


def gpu_table(results: Results) -> str:
    """Absolute times and distance from the bound on a GPU."""
    gpu = results["gpu"]
    if "heads" not in gpu:
        return "not measured"
    rows = []
    for head, result in gpu["heads"].items():
        for name, seconds in result["seconds"].items():
            kind = "float32" if name.endswith("float32") else HALF
            least = gpu["floors"][head][kind]["floor"]
            faster = result["times_faster"].get(name)
            memory = result["megabytes"][name]
            rows.append(
                [
                    head,
                    name,
                    duration(seconds["median"]),
                    spread(faster) if faster else "1",
                    duration(least),
                    f"{seconds['median'] / least:.1f}",
                    "" if memory is None else f"{memory:.0f} MB",
                ]
            )
    header = [
        "network",
        "who",
        "forward",
        f"times faster than {PUBLISHED}, float32",
        "floor",
        "over the floor",
        "device memory",
    ]
    return table(header, rows) + "\n\nMeasured peaks: " + _peaks("GPU", gpu["floors"]) + "."


def _floor_row(head: str, threads: int, limit: dict, ours: float | None) -> list[str]:
    full, half = limit["float32"], limit[HALF]
    return [
        head,
        str(threads),
        f"{limit['giga_operations']:.1f}",
        f"{limit['million_numbers']:.0f}",
        duration(full["computing"]),
        duration(full["moving"]),
        duration(full["floor"]),
        "" if ours is None else f"{ours / full['floor']:.2f}",
        duration(half["floor"]),
    ]


def _peaks(name: str, limits: dict) -> str:
    full, half = limits["peaks"]["float32"], limits["peaks"][HALF]
    return (
        f"{name} {full['operations'] / 1e9:.0f} GFLOP/s in float32, {half['operations'] / 1e9:.0f} in {HALF}, "
        f"{full['bytes'] / 1e9:.1f} GB/s"
    )


def cohort_table(results: Results) -> str:
    """Many scans by one command, and what a cluster costs."""
    cohort, cluster = results.get("cohort", {}), results.get("cluster", {})
    if "seconds" not in cohort:
        return "not measured"
    columns = (cohort[name] for name in ("counts", "seconds", "processor_seconds", "megabytes"))
    rows = [
        [count, duration(seconds), duration(seconds / count), duration(busy / count), f"{size:.0f} MB"]
        for count, seconds, busy, size in zip(*columns)
    ]
    lines = [
        table(["scans", "whole process", "a scan", "a scan, processor time", "peak memory of the process"], rows),
        f"The bundled sample, {cohort['jobs']} at a time: {cohort['scans_per_hour_and_core']:.0f} scans an hour and "
        f"core, {cohort['scans_per_processor_hour']:.0f} an hour of processor time; computing "
        f"{100 * cohort['computing']:.0f} % of the time of all jobs. A process for each scan takes "
        f"{duration(cohort['alone_seconds'])}, {cohort['times_faster']:.1f} times as long, and "
        f"{cohort['times_less_processor']:.1f} times the processor time.",
    ]
    if cohort["time_exponent"] is not None:
        lines[-1] += (
            f" Time grows with the scans to the power of {cohort['time_exponent']:.2f}, processor time to "
            f"{cohort['processor_exponent']:.2f}."
        )
    if "examining" in cohort:
        lines[-1] += (
            f" Of the processor time that further scans take, {100 * cohort['examining']:.0f} % is that of the threads "
            "that examine; the rest reads and writes."
        )
    if "overhead_as_path" in cluster:
        lines.append(
            f"A cluster costs {duration(cluster['overhead_as_path'])} a scan beside reading and examining where it is "
            f"sent as a path, {duration(cluster['overhead_as_voxels'])} where its voxels are sent."
        )
    measured = {f"- {measured_on(part['machine'])}": None for part in (cohort, cluster) if "machine" in part}
    lines.append("Measured on:\n\n" + "\n".join(measured))
    return "\n\n".join(lines)
