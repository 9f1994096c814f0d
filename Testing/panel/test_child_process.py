"""Programs that run beside Slicer: what they say, and how they and their children are ended."""

import sys
import time

import pytest
from operating import computing_time, descendants, is_running

pytestmark = pytest.mark.usefixtures("module")


@pytest.fixture
def start(tmp_path, module):
    """Starts a Python program given as text."""
    from H3DELandmarksPanel.Worker import ChildProcess

    children = []

    def run(code, **environment):
        script = tmp_path / f"program{len(children)}.py"
        script.write_text(code, encoding="utf-8")
        folder = tmp_path / f"output{len(children)}"
        folder.mkdir()
        children.append(ChildProcess([sys.executable, script], environment, folder))
        return children[-1]

    yield run
    for child in children:
        child.end()


def wait(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited for too long"
        time.sleep(0.02)


def all_events(child):
    """Every event until the program has ended."""
    events = []
    while True:
        ended = child.returnCode is not None
        new = child.newEvents()
        events += new
        if ended and not new:
            return events
        time.sleep(0.01)


def test_events_come_in_order_without_what_is_no_event(start):
    child = start(
        "import sys, json\n"
        "print('a package says hello')\n"
        'print(\'{"no": "event"}\')\n'
        "for i in range(3): print(json.dumps({'event': 'progress', 'i': i, 'text': 'größer'}), flush=True)\n"
        "print('5')\n"
        "sys.exit(7)\n"
    )
    events = all_events(child)
    assert [event["i"] for event in events] == [0, 1, 2] and events[0]["text"] == "größer"
    assert child.returnCode == 7


def test_a_line_is_taken_only_when_it_is_complete(start, tmp_path):
    go = tmp_path / "go"
    child = start(
        "import os, sys, time\n"
        "sys.stdout.write('{\"event\":'); sys.stdout.flush()\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.02)\n"
        "sys.stdout.write(' \"result\"}\\n')\n"
    )
    wait(lambda: (tmp_path / "output0" / "output.jsonl").stat().st_size)
    assert child.newEvents() == []
    go.touch()
    assert all_events(child) == [{"event": "result"}]


def test_a_flood_is_read_in_portions_and_a_long_line_whole(start):
    child = start(
        "import json\n"
        "print(json.dumps({'event': 'long', 'text': 'x' * 300000}))\n"
        "for i in range(20000): print(json.dumps({'event': 'flood', 'i': i}))\n"
    )
    wait(lambda: child.returnCode is not None)
    portions, times = [], []
    while not portions or portions[-1]:
        times.append(computing_time(lambda: portions.append(child.newEvents())))
    assert max(times) < 0.1 and sum(times) / len(times) < 0.05
    assert len(portions[0][0]["text"]) == 300000
    assert sum(map(len, portions)) == 20001 and max(map(len, portions)) < 5000


def test_messages_for_people_are_cut_to_their_end(start):
    child = start("import sys\nsys.stderr.write('noise ' * 100000 + 'the reason')")
    wait(lambda: child.returnCode is not None)
    assert child.messages().endswith("the reason") and len(child.messages()) <= 4000


def test_variables_are_handed_over(start):
    child = start("import os, json; print(json.dumps({'event': os.environ['H3DE_TEST']}))", H3DE_TEST="seen")
    assert all_events(child) == [{"event": "seen"}]


def test_ending_ends_children_of_children_that_ignore_polite_requests(start):
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    before = set(descendants())
    child = start(
        "import subprocess, sys, time\n"
        f"code = {stubborn!r}\n"
        "start = f'subprocess.Popen([sys.executable, \"-c\", {code!r}])'\n"
        "nested = f'import subprocess, sys, time; {start}; time.sleep(600)'\n"
        "subprocess.Popen([sys.executable, '-c', nested])\n"
        "time.sleep(600)\n"
    )
    wait(lambda: len(set(descendants()) - before) == 3)
    family = set(descendants()) - before
    begin = time.monotonic()
    child.end()
    wait(lambda: not any(map(is_running, family)), seconds=2)
    assert time.monotonic() - begin < 2
    child.end()  # twice does no harm


def test_asking_leaves_time_to_a_child_of_a_launcher_that_is_gone(start, tmp_path):
    polite = (
        "import pathlib, signal, sys, time\n"
        "def keep(*_): time.sleep(1); pathlib.Path(sys.argv[1]).write_text('kept'); sys.exit()\n"
        "signal.signal(signal.SIGTERM, keep)\n"
        "pathlib.Path(sys.argv[1]).write_text('ready')\n"
        "time.sleep(600)\n"
    )
    kept = tmp_path / "kept.txt"
    child = start(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {polite!r}, {str(kept)!r}])")
    wait(lambda: kept.exists() and kept.read_text() == "ready")
    family = [pid for pid, command in descendants().items() if str(kept) in command or "program0" in command]
    assert len(family) == 2 and child.askToEnd()
    wait(lambda: child.returnCode is not None, 5)
    assert child.isAlive, "the launcher is gone, its child keeps its work"
    wait(lambda: kept.read_text() == "kept", 5)
    child.end()
    wait(lambda: not any(map(is_running, family)), 2)


def test_no_code_of_the_current_folder_runs(start, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "json.py").write_text("raise SystemExit(5)", encoding="utf-8")
    monkeypatch.chdir(tmp_path / "elsewhere")
    child = start("import json, os, sys; print(json.dumps({'event': os.getcwd(), 'path': sys.path}))")
    (event,) = all_events(child)
    assert event["event"] == str(tmp_path / "output0") and str(tmp_path / "elsewhere") not in event["path"]
    assert sys.version_info < (3, 11) or str(tmp_path) not in event["path"]


def test_a_program_that_does_not_exist_raises(module, tmp_path):
    from H3DELandmarksPanel.Worker import ChildProcess

    with pytest.raises(OSError):
        ChildProcess([tmp_path / "nothing"], {}, tmp_path)
