"""The tables of a run as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.speed.contestants import LITERAL, OURS, PUBLISHED
from benchmarks.speed.goals import GOALS, Results
from benchmarks.speed.machine import busy_warning
from benchmarks.speed.plan import HEADS, THREADS
from benchmarks.speed.report_tables import (
    backends_table,
    cohort_table,
    floor_table,
    gpu_table,
    growth_table,
    peers_table,
    scan_table,
)
from benchmarks.speed.tables import duration, measured_on, megabytes, spread, table

METHOD = f"""Every ratio comes from one process in which both sides take turns (A B A B ...) after a warm-up round: the
median of the rounds' quotients, with the least and the largest in brackets. Input is one crop of 128 x 128 x 64 in
float32 unless said. "{PUBLISHED}" (benchmarks/speed/published_form.py and published_training.py) has the same weights
and goes about its work as the published code does, unused computations included; the literal transcription is what the
tests compare values with, written for reading. Goals are ratios to the published form. Memory is the peak of a fresh
process beyond what it held before (weights and libraries)."""


def markdown(results: Results, machine: dict, command: str) -> str:
    """The whole report; a measurement that failed or was left out is named in its table."""
    sections = [
        ("Figures to reach", goals_table(results)),
        ("Forward pass", forward_table(results)),
        ("Engines", backends_table(results)),
        ("Radiographs: HYATT-Net and HAN", flat_table(results)),
        ("Training step with loss", training_table(results)),
        ("Decoding", decoding_table(results)),
        ("Other projects' networks", peers_table(results)),
        ("A large CT", scan_table(results)),
        ("Growth", growth_table(results)),
        ("Many scans", cohort_table(results)),
        ("What the machine allows", floor_table(results)),
        *([("GPU", gpu_table(results))] if "gpu" in results else []),
    ]
    head = ["# Speed, as measured", "", f"    {command}", "", *machine_lines(machine), "", METHOD]
    failed = [f"- {key}: {result['error']}" for key, result in results.items() if "error" in result]
    tail = ["", "## What failed", "", *failed] if failed else []
    if "--quick" in command:
        head[1:1] = ["", "**Tiny networks and small scans: these figures only show that everything runs.**"]
    return "\n".join([*head, *(f"\n## {title}\n\n{text}" for title, text in sections), *tail]) + "\n"


def machine_lines(machine: dict) -> list[str]:
    """What the figures were measured on, and a warning where it was busy."""
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB"
        + (f", {machine['gpu']}" if machine["gpu"] else "")
        + f"; PyTorch {machine['torch']}, Python {machine['python']}; commit {machine['commit']}, {machine['date']};",
        f"load {machine['load_before']} before and {machine.get('load_after')} after; "
        f"the run took {duration(machine.get('seconds'))}.",
    ]
    warning = busy_warning(machine["load_before"], machine["cores"])
    return [*lines, *(["", f"**{warning}**"] if warning else [])]


def goals_table(results: Results) -> str:
    """Every figure to reach with what was measured."""
    rows = []
    for goal in GOALS:
        value, verdict = goal.verdict(results)
        sign = ">=" if goal.at_least else "<="
        shown = "" if value is None else f"{value:.{2 if value < 100 else 0}f} {goal.unit}"
        rows.append([goal.figure, shown, f"{sign} {goal.limit:g} {goal.unit}", verdict])
    return table(["figure", "measured", "goal", "reached"], rows)


def forward_table(results: Results) -> str:
    """Times and memory of forward passes."""
    rows = []
    for head in HEADS:
        for threads in THREADS:
            result = results.get(f"forward {head} {threads}", {})
            if "seconds" not in result:
                continue
            seconds, ratio = result["seconds"], result["times_faster"][OURS]
            rows.append(
                [
                    head,
                    threads,
                    *(duration(seconds[name]["median"]) for name in (PUBLISHED, LITERAL, OURS)),
                    spread(ratio),
                    f"{result['faster_than_literal']:.2f}",
                    f"{result['difference_to_literal']:.0e}",
                    *(
                        megabytes(results.get(f"memory {head} {name}")) if threads == THREADS[-1] else ""
                        for name in (PUBLISHED, OURS)
                    ),
                ]
            )
    header = [
        "network",
        "threads",
        PUBLISHED,
        "literal",
        "ours",
        f"times faster than the {PUBLISHED}",
        "than literal",
        "largest difference",
        "memory, published form",
        "memory, ours",
    ]
    return table(header, rows)


def flat_table(results: Results) -> str:
    """Times of HYATT-Net's forward pass, with the machine where it isn't the report's."""
    rows, notes = [], []
    for key, result in _with(results, "radiograph ", "seconds"):
        seconds, side = result["seconds"], result["side"]
        rows.append(
            [
                f"{side} x {side}",
                key.split()[-1],
                *(duration(seconds[name]["median"]) for name in (PUBLISHED, OURS)),
                spread(result["times_faster"][OURS]),
                spread(result["processor"]["times_faster"][OURS]),
                f"{result['difference_to_range']:.0e}",
            ]
        )
        notes.append(measured_on(result["machine"]))
    if not rows:
        return "not measured"
    header = ["pixels", "threads", PUBLISHED, "ours", "times faster", "in processor time"]
    header.append("largest difference, share of the range")
    measured = "\n".join(f"- {row[0]}, threads: {row[1]}: {note}" for row, note in zip(rows, notes))
    return (
        table(header, rows) + "\n\nThe published size (80 million parameters) in float32; HAN is the same function.\n"
        "Where the load exceeds the cores, two threads wait for each other, and their ratios say little.\n"
        f"Measured on:\n\n{measured}"
    )


def training_table(results: Results) -> str:
    """Times and memory of training steps."""
    rows = []
    for key, result in _with(results, "training ", "loss"):
        seconds, loss = result["seconds"], result["loss"]
        head, batch = key.split()[1:]
        rows.append(
            [
                head,
                batch,
                duration(seconds[PUBLISHED]["median"]),
                duration(seconds[OURS]["median"]),
                spread(result["times_faster"][OURS]),
                duration(seconds[LITERAL]["median"]) if LITERAL in seconds else "",
                duration(loss["seconds"][PUBLISHED]["median"]),
                duration(loss["seconds"][OURS]["median"]),
                *(megabytes(results.get(f"training memory {head} {batch} {name}")) for name in (PUBLISHED, OURS)),
            ]
        )
    header = [
        "network",
        "batch",
        PUBLISHED,
        "ours",
        "times faster",
        "literal",
        "loss alone, published form",
        "loss alone, ours",
        "memory, published form",
        "memory, ours",
    ]
    note = (
        f"\n{THREADS[-1]} threads; forward pass, targets, loss, gradients and an Adam step; 13 of 14 landmarks are "
        "there. The literal column: literal network and literal loss, which exists for anchors only. Memory includes "
        "gradients and Adam's averages."
    )
    return table(header, rows) + "\n" + note


def decoding_table(results: Results) -> str:
    """Times of the published decoders."""
    rows = [
        [
            key.split()[1],
            duration(result["seconds"][PUBLISHED]["median"]),
            duration(result["seconds"][OURS]["median"]),
            spread(result["times_faster"][OURS]),
            f"{result['largest_difference_voxels']:.2f}",
        ]
        for key, result in _with(results, "decoding ", "seconds")
    ]
    return table(["decoder", PUBLISHED, "ours", "times faster", "largest difference, voxels"], rows)


def _with(results: Results, prefix: str, field: str) -> Iterable[tuple[str, dict]]:
    return ((key, result) for key, result in results.items() if key.startswith(prefix) and field in result)


def summary_lines(results: Results) -> Sequence[str]:
    """The figures to reach, for the end of the run."""
    verdicts = [(goal, *goal.verdict(results)) for goal in GOALS]
    reached = sum(verdict == "yes" for _, _, verdict in verdicts)
    return [f"{reached} of {len(verdicts)} figures reached"]
