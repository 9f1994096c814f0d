"""Cohorts on a Dask cluster: workers that are killed, what is sent, and who may be asked."""

import os
import pickle
import random
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from certificates import make_certificates, security_of
from tiny_cohort import detect, log_of, make_scan
from tiny_model import NAMES, write_tiny_package

from H3DELandmarksLib.cohort.cluster import Address, Cluster, connected
from H3DELandmarksLib.cohort.result_files import ResultFiles
from H3DELandmarksLib.core.errors import InputError

distributed = pytest.importorskip("distributed")
HELPERS = Path(__file__).resolve().parents[1] / "helpers"
ROOT = HELPERS.parents[1]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_package(tmp_path_factory.mktemp("models") / "tiny").path


@pytest.fixture(autouse=True)
def no_other_models(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.delenv("H3DE_MODELS", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(HELPERS)]))


# Workers that are killed


class Killer(threading.Thread):
    """Kills workers of a cluster at random moments of the work, by the lines of its log."""

    def __init__(self, cluster, log, moments):
        super().__init__(daemon=True)
        self.cluster, self.log, self.moments, self.killed = cluster, log, moments, []

    def run(self):
        names = random.sample(list(self.cluster.workers), len(self.moments))
        for name, moment in zip(names, self.moments):
            while self.lines() < moment:
                time.sleep(0.01)
            pid = self.cluster.workers[name].pid
            os.kill(pid, signal.SIGKILL)
            self.killed.append((pid, self.lines()))

    def lines(self):
        return self.log.read_bytes().count(b"\n") if self.log.exists() else 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills with SIGKILL")
def test_nothing_is_lost_or_done_twice_where_two_of_three_workers_are_killed(tiny, tmp_path, capsys, monkeypatch):
    scans, out = tmp_path / "scans", tmp_path / "out"
    for k in range(24):
        make_scan(scans / f"sub-{k:02}" / "ct.nrrd", k)
    broken = [scans / f"sub-{k:02}" / "ct.nrrd" for k in (3, 11, 20)]
    for path in broken:
        path.write_bytes(path.read_bytes()[:-50])
    written = []
    original = ResultFiles.write
    monkeypatch.setattr(
        ResultFiles, "write", lambda files, *a, **k: (written.append(files.name), original(files, *a, **k))[1]
    )
    moments = [random.randint(2, 6), random.randint(7, 12)]
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, local_directory=str(tmp_path)
    ) as cluster:
        before = {worker.pid for worker in cluster.workers.values()}
        killer = Killer(cluster, out / "cohort.jsonl", moments)
        killer.start()
        words = (scans, "--model", tiny, "--scheduler", cluster.scheduler_address, "--shared-paths")
        code, result, _ = detect(capsys, out, *words)
        killer.join(5)
        plugins = list(cluster.scheduler.worker_plugins)
        alive = {worker.pid for worker in cluster.workers.values()}
    assert len(killer.killed) == 2 and {pid for pid, _ in killer.killed} <= before, moments
    assert all(lines < 24 for _, lines in killer.killed)
    assert not {pid for pid, _ in killer.killed} & alive
    assert len([name for name in plugins if name.endswith(".zip")]) == 1
    assert [scan.error for scan in result.scans if not scan.ok and Path(scan.scan) not in broken] == []
    assert code == 2 and (result.cohort.found, result.cohort.failed) == (21, 3)
    assert sorted(written) == sorted(f"sub-{k:02}_ct" for k in range(24) if k not in (3, 11, 20))
    log = log_of(out)
    assert len(log) == 24 == len({line.scan for line in log})
    assert [line.reason is None for line in log] == [k not in (3, 11, 20) for k in range(24)]
    assert len(list(out.glob("*.mrk.json"))) == 21
    assert (out / "cohort.csv").read_text().count("\n") == 1 + 21 * len(NAMES)


# What is sent


@pytest.fixture(scope="module")
def near(tmp_path_factory):
    """A cluster whose worker is a thread of this process."""
    folder = tmp_path_factory.mktemp("near")
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp://",
        host="127.0.0.1",
        dashboard_address=None,
        local_directory=str(folder),
    ) as cluster:
        yield cluster


def test_voxels_and_geometry_are_sent_and_no_names(tiny, near, tmp_path, capsys, monkeypatch):
    sent = []
    original = distributed.Client.submit

    def submit(client, function, *arguments, **more):
        sent.append(pickle.dumps((arguments, more)))
        return original(client, function, *arguments, **more)

    monkeypatch.setattr(distributed.Client, "submit", submit)
    scans = [make_scan(tmp_path / "SECRET" / "sub-Miller" / f"Miller-{k}.nrrd", k) for k in range(3)]
    out = tmp_path / "out"
    words = (
        tmp_path / "SECRET",
        "--model",
        tiny,
        "--scheduler",
        near.scheduler_address,
        "--series",
        "SECRET",
        "--picture",
    )
    code, result, _ = detect(capsys, out, *words)
    assert code == 0 and len(sent) == 3 and [scan.scan for scan in result.scans] == list(map(str, scans))
    assert not any(word in data for data in sent for word in (b"Miller", b"SECRET"))
    assert all(Path(scan.picture).read_bytes().startswith(b"\x89PNG") for scan in result.scans)
    assert '"file": "Miller-0.nrrd"' in (out / "Miller-0.provenance.json").read_text()
    _, here, _ = detect(capsys, tmp_path / "here", tmp_path / "SECRET", "--model", tiny)
    for one, other in zip(here.scans, result.scans):
        assert [p.position_lps_mm for p in one.landmarks] == [
            pytest.approx(p.position_lps_mm, abs=1e-3) for p in other.landmarks
        ]


def test_a_model_is_sent_once(tiny, near, tmp_path, capsys, monkeypatch):
    calls = []
    original = Cluster._send
    monkeypatch.setattr(Cluster, "_send", lambda self, name: (calls.append(name), original(self, name))[1])
    for k in range(4):
        make_scan(tmp_path / "scans" / f"{k}.nrrd", k)
    words = (tmp_path / "scans", "--model", tiny, "--scheduler", near.scheduler_address)
    assert detect(capsys, tmp_path / "out", *words)[0] == 0
    assert calls == [str(tiny)]
    detect(capsys, tmp_path / "again", *words)
    assert len([name for name in near.scheduler.worker_plugins if name.endswith(".zip")]) == 1


def test_errors_of_a_worker_cost_their_scan_alone(tiny, near, tmp_path, capsys):
    make_scan(tmp_path / "scans" / "a.nrrd")
    (tmp_path / "scans" / "b.nrrd").write_bytes(b"broken")
    words = (tmp_path / "scans", "--model", tiny, "--scheduler", near.scheduler_address, "--shared-paths")
    code, result, err = detect(capsys, tmp_path / "out", *words)
    assert code == 2 and [scan.ok for scan in result.scans] == [True, False]
    assert err.count("\n") == 1 and "b.nrrd" in err
    code, result, _ = detect(capsys, tmp_path / "out", *words, "--resume", "--retry-failed")
    assert code == 2 and result.cohort.resumed == 1


# Who may be asked


TLS = {"authority": "ca.pem", "certificate": "c.pem", "key": "k.pem"}


@pytest.mark.parametrize(
    ("address", "given", "word"),
    [
        ("tcp://gpu.clinic.example:8786", {}, "TLS"),
        ("gpu.clinic.example:8786", {"consent": "gpu.clinic.example"}, "TLS"),
        ("tcp://10.0.0.7:8786", {"consent": "10.0.0.7", **TLS}, "TLS"),
        ("tls://10.0.0.7:8786", {"consent": "10.0.0.7"}, "certificates"),
        ("tls://127.0.0.1:8786", {}, "certificates"),
        ("tcp://127.0.0.1:8786", TLS, "tls://"),
        ("tls://gpu.clinic.example:8786", TLS, "--consent gpu.clinic.example"),
        ("tls://gpu.clinic.example:8786", {"consent": "other.example", **TLS}, "agree"),
        ("tcp://localhost.evil.example:8786", {}, "TLS"),
        ("tcp://127.0.0.1.evil.example:8786", {}, "TLS"),
        ("tcp://", {}, "no address"),
        ("localhost", {}, "no address"),
        ("tls://gpu.clinic.example", {"consent": "gpu.clinic.example"}, "no address"),
        ("127.0.0.1:port", {}, "no address"),
        ("http://127.0.0.1:8786", {}, "no address"),
    ],
)
def test_scans_leave_this_computer_over_tls_and_with_consent_only(address, given, word):
    with pytest.raises(InputError, match=word):
        Address(address, **given).check()


@pytest.mark.parametrize(
    ("address", "given"),
    [
        ("tcp://127.0.0.1:8786", {}),
        ("127.0.0.1:8786", {}),
        ("tcp://[::1]:8786", {}),
        ("tcp://localhost:8786", {}),
        ("tls://gpu.clinic.example:8786", {"consent": "GPU.clinic.example", **TLS}),
    ],
)
def test_this_computer_needs_neither_and_another_one_both(address, given):
    Address(address, **given).check()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")
def test_both_sides_show_certificates(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("H3DELandmarksLib.cohort.cluster.CONNECT_S", 3)
    make_certificates(tmp_path, "clinic", "server", "client")
    make_certificates(tmp_path, "stranger", "intruder")
    security = security_of(distributed, tmp_path, "clinic", "server")
    make_scan(tmp_path / "scan.nrrd")
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tls://",
        host="127.0.0.1",
        security=security,
        dashboard_address=None,
        local_directory=str(tmp_path),
    ) as cluster:
        address = cluster.scheduler_address
        assert address.startswith("tls://")

        def words(authority, side):
            files = {"ca": f"{authority}.pem", "cert": f"{side}.pem", "key": f"{side}.key"}
            return [word for name, file in files.items() for word in (f"--tls-{name}", tmp_path / file)]

        given = (tmp_path / "scan.nrrd", "--model", tiny, "--scheduler", address)
        code, result, _ = detect(capsys, tmp_path / "out", *given, *words("clinic", "client"))
        assert code == 0 and result.scans[0].ok
        for authority, side in (("clinic", "intruder"), ("stranger", "client")):
            intruder = Address(address, *(str(path) for path in words(authority, side)[1::2]))
            with pytest.raises(InputError, match="does not answer"), connected(intruder):
                pass
