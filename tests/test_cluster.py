"""Bands of rows on dask workers: of this machine, and of a scheduler that runs."""

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from distributed import Client

from landcover.errors import CheckpointError, LandcoverError, SettingsError
from pipeline import cluster
from pipeline.cluster import run_on_cluster

ROOT = Path(__file__).parent.parent
BANDS = [range(top, top + 10) for top in range(0, 60, 10)]


def note(folder: Path, band: range, seconds: float = 0.1) -> None:
    """Work that writes down where and when it was done."""
    begin = time.time()
    time.sleep(seconds)
    facts = [os.getpid(), begin, time.time()]
    facts += [os.environ.get(name, "") for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")]
    with (folder / f"{band.start}").open("a") as file:
        file.write(" ".join(map(str, facts)) + "\n")


def notes(folder: Path) -> dict[int, list[list[str]]]:
    """What `note` wrote, by first row."""
    return {
        int(path.name): [line.split(" ") for line in path.read_text().splitlines()]
        for path in folder.iterdir()
        if path.name.isdigit()
    }


def die_once(folder: Path, band: range) -> None:
    """Work whose process is killed in the middle of the second band, the first time."""
    marker = folder / "died"
    if band == BANDS[1] and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    note(folder, band)


def die_always(folder: Path, band: range) -> None:
    """Work that the second band kills whenever it is tried."""
    note(folder, band, 0)
    if band == BANDS[1]:
        os.kill(os.getpid(), signal.SIGKILL)


def fail(folder: Path, band: range) -> None:
    """Work that cannot be done on the second band."""
    if band == BANDS[1]:
        raise CheckpointError("The model is broken; mend it.")
    note(folder, band, 0.5)


def linger(folder: Path, _band: range) -> None:
    """Work that does not end by itself while a test lasts."""
    (folder / f"{os.getpid()}.pid").touch()
    time.sleep(600)


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def lingering(folder: Path) -> list[int]:
    """Processes that have begun to `linger`."""
    return [int(path.stem) for path in folder.glob("*.pid")]


class Dask:
    """A scheduler and workers as a user starts them, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        file = folder / "scheduler.json"
        self._start("scheduler", "--host", "127.0.0.1", "--port", 0, "--scheduler-file", file)
        wait_for(lambda: file.exists() and file.read_text().endswith("}"))
        self.address = str(json.loads(file.read_text())["address"])

    def worker(self, *options: object, root: Path = ROOT) -> subprocess.Popen[bytes]:
        """Start a worker that nobody restarts."""
        return self._start(
            "worker",
            self.address,
            "--no-nanny",
            "--local-directory",
            self._folder,
            *options,
            root=root,
        )

    def wait_for_workers(self, count: int) -> None:
        """Wait until the scheduler knows so many."""
        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=60)

    def _start(self, what: str, *options: object, root: Path = ROOT) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", "--no-dashboard"]
        with (self._folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [*command, *map(str, options)], cwd=root, stdout=log, stderr=log,
                env=os.environ | {"PYTHONPATH": str(root)},
            )  # fmt: skip
        self.processes.append(process)
        return process

    def stop(self) -> None:
        """End all of it."""
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    """A scheduler without workers."""
    running = Dask(tmp_path_factory.mktemp("dask"))
    yield running
    running.stop()


def run(work: Callable[[range], None], **options: object) -> tuple[list[range], list[str]]:
    """Do all bands; return those that were done, in their order, and what was reported."""
    finished: list[range] = []
    lines: list[str] = []
    threads: set[threading.Thread] = set()

    def done(band: range) -> None:
        threads.add(threading.current_thread())
        finished.append(band)

    where = {"workers": None, "scheduler": None} | options
    run_on_cluster(work, BANDS, done=done, report=lines.append, **where)
    assert threads == {threading.current_thread()}
    return finished, lines


def test_two_processes_share_the_bands_and_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each band is done once, one at a time in each process, with its share of threads and GPUs."""
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    before = dict(os.environ)
    finished, lines = run(partial(note, tmp_path), workers=2)
    assert sorted(finished, key=BANDS.index) == BANDS
    assert not lines
    assert dict(os.environ) == before
    assert not [p for p in psutil.Process().children() if "--multiprocessing-fork" in p.cmdline()]
    found = notes(tmp_path)
    assert all(len(times) == 1 for times in found.values())
    by_worker: dict[str, list[list[str]]] = {}
    for (facts,) in found.values():
        by_worker.setdefault(facts[0], []).append(facts[1:])
    assert len(by_worker) == 2
    for facts in by_worker.values():
        spans = sorted((float(begin), float(end)) for begin, end, *_ in facts)
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))
        assert {threads for *_, threads, _ in facts} == {"3"}
    gpus = [{gpu for *_, gpu in facts} for facts in by_worker.values()]
    assert sorted(gpus, key=str) == [{"3"}, {"5"}]


def test_a_worker_that_is_killed_costs_its_band(tmp_path: Path) -> None:
    """The band is done again by another process; no other band is done twice."""
    finished, lines = run(partial(die_once, tmp_path), workers=2)
    assert sorted(finished, key=BANDS.index) == BANDS
    assert lines == ["a worker died; rows 10 to 19 will be done again"]
    assert all(len(times) == 1 for times in notes(tmp_path).values())


def test_a_band_that_kills_its_workers_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other bands are done; then the run ends with a sentence that says which rows."""
    monkeypatch.setattr(cluster, "_LOSSES", 2)  # each costs a start of a process
    with pytest.raises(SettingsError, match=r"2 workers died .* the last one on rows 10 to 19;"):
        run(partial(die_always, tmp_path), workers=2)
    assert sorted(notes(tmp_path)) == [band.start for band in BANDS]


def test_an_error_of_the_work_ends_the_run(tmp_path: Path, dask: Dask) -> None:
    """It arrives as itself, and bands that were not begun are not done."""
    dask.worker("--nthreads", 4)
    with pytest.raises(CheckpointError, match=r"^The model is broken; mend it\.$"):
        run(partial(fail, tmp_path), scheduler=dask.address)
    time.sleep(1)
    assert list(notes(tmp_path)) == [0]


def test_workers_of_a_scheduler_do_the_bands(tmp_path: Path, dask: Dask) -> None:
    """Its workers share the bands, one at a time each, with the threads that they announce."""
    for threads in (1, 3):
        dask.worker("--nthreads", threads)
    dask.wait_for_workers(2)
    finished, lines = run(partial(note, tmp_path, seconds=0.5), scheduler=dask.address)
    assert sorted(finished, key=BANDS.index) == BANDS
    assert not lines
    found = [facts for (facts,) in notes(tmp_path).values()]
    assert {(int(pid), threads) for pid, *_, threads, _ in found} == {
        (worker.pid, threads) for worker, threads in zip(dask.processes[1:], "13", strict=True)
    }


def test_where_there_are_gpus_only_their_workers_are_used(tmp_path: Path, dask: Dask) -> None:
    """A worker that announces the resource GPU does all bands, though another is idle."""
    dask.worker("--nthreads", 1)
    gpu = dask.worker("--nthreads", 1, "--resources", "GPU=1")
    dask.wait_for_workers(2)
    run(partial(note, tmp_path), scheduler=dask.address)
    assert {facts[0] for (facts,) in notes(tmp_path).values()} == {str(gpu.pid)}


def test_workers_may_come_and_go(tmp_path: Path, dask: Dask) -> None:
    """A run takes in a worker that comes, and does again what one had that was killed."""
    first = dask.worker("--nthreads", 1)
    killed = []

    def replace() -> None:
        wait_for((tmp_path / "0").exists)
        dask.worker("--nthreads", 1)
        first.kill()
        killed.append(first.wait())

    thread = threading.Thread(target=replace)
    thread.start()
    finished, lines = run(partial(note, tmp_path, seconds=0.5), scheduler=dask.address)
    thread.join()
    assert killed == [-signal.SIGKILL]
    assert sorted(finished, key=BANDS.index) == BANDS
    assert len(lines) <= 1
    assert len({facts[0] for times in notes(tmp_path).values() for facts in times}) == 2


def test_a_worker_with_another_program_is_refused(tmp_path: Path, dask: Dask) -> None:
    """One changed line of source on a worker: it might draw another map, so nothing is done."""
    for package in ("landcover", "pipeline"):
        ignored = shutil.ignore_patterns("__pycache__", "weights")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    with (tmp_path / "landcover" / "errors.py").open("a") as file:
        file.write("# another line\n")
    dask.worker("--nthreads", 1, root=tmp_path)
    with pytest.raises(SettingsError, match=r"worker at tcp://.* has another version of this"):
        run(partial(note, tmp_path), scheduler=dask.address)
    assert not notes(tmp_path)


def test_a_worker_without_the_program_is_refused(tmp_path: Path, dask: Dask) -> None:
    """A worker that lacks what is asked of it, as before this program knew clusters, is named."""
    (tmp_path / "pipeline").mkdir()
    for name in ("__init__", "cluster"):
        (tmp_path / "pipeline" / f"{name}.py").touch()
    dask.worker("--nthreads", 1, root=tmp_path)
    with pytest.raises(
        SettingsError, match=r"worker at tcp://.* cannot run this program: .*cluster"
    ):
        run(partial(note, tmp_path), scheduler=dask.address)


def test_a_scheduler_without_workers_is_an_error(
    tmp_path: Path, dask: Dask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody to do the work, at the start or when the last worker is gone: one sentence."""
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 2.0)
    with pytest.raises(SettingsError, match=r"scheduler at tcp://\S+ has no workers; start some"):
        run(partial(note, tmp_path), scheduler=dask.address)
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 30.0)
    monkeypatch.setattr(cluster, "_EMPTY_SECONDS", 1.0)
    worker = dask.worker("--nthreads", 1)
    with (
        when(lambda: lingering(tmp_path), worker.kill),
        pytest.raises(SettingsError, match=r"has no workers; start some"),
    ):
        run(partial(linger, tmp_path), scheduler=dask.address)


@contextlib.contextmanager
def when(condition: Callable[[], object], act: Callable[[], object]) -> Iterator[None]:
    """Do something in another thread as soon as something is so."""
    thread = threading.Thread(target=lambda: (wait_for(condition), act()))
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_a_scheduler_that_is_lost_is_an_error(tmp_path: Path, dask: Dask) -> None:
    """Where the scheduler dies the run ends, and says that finished bands are kept."""
    dask.worker("--nthreads", 1)
    with (
        when(lambda: lingering(tmp_path), dask.processes[0].kill),
        pytest.raises(SettingsError, match=r"was lost; finished bands are kept"),
    ):
        run(partial(linger, tmp_path), scheduler=dask.address)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give one of the two"),
        ({"workers": 2, "scheduler": "tcp://127.0.0.1:1"}, "give one of the two"),
        ({"workers": 0}, "--workers is 0; it must be 1 or more"),
        ({"scheduler": "tcp://127.0.0.1:1"}, "No dask scheduler answers at tcp://127.0.0.1:1"),
        ({"scheduler": "tcp://no.such.host.invalid:8786"}, "No dask scheduler answers at"),
        ({"scheduler": "nonsense://x"}, "No dask scheduler answers at nonsense://x"),
        ({"scheduler": "tcp://"}, "No dask scheduler answers at tcp://"),
        ({"scheduler": ""}, "No dask scheduler answers at"),
    ],
    ids=str,
)
def test_settings_that_lead_nowhere_are_refused(
    options: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence says what is wrong, without a traceback of dask's."""
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 1.0)
    with pytest.raises(LandcoverError, match=message):
        run(print, **options)


_LINGERS = """
import signal
import sys
from functools import partial
from pathlib import Path
from pipeline.cluster import run_on_cluster
from tests.test_cluster import BANDS, linger
if __name__ == "__main__":
    # As in a terminal: what a shell starts in the background ignores Ctrl-C, and so do its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run_on_cluster(
        partial(linger, Path(sys.argv[1])), BANDS, workers=2, scheduler=None, done=print
    )
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_its_run(tmp_path: Path, ending: signal.Signals) -> None:
    """Killed or interrupted in mid-band, a run leaves no process behind, nor says a word too much."""
    script, screen = tmp_path / "lingers.py", tmp_path / "screen"
    script.write_text(_LINGERS)
    (tmp_path / "tmp").mkdir()
    with screen.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, str(script), str(tmp_path)], stderr=stderr, start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "tmp")},
        )  # fmt: skip
    try:
        wait_for(lambda: len(lingering(tmp_path)) == 2)
        children = psutil.Process(process.pid).children(recursive=True)
        assert {child.pid for child in children} >= set(lingering(tmp_path))
        # Ctrl-C in a terminal goes to all processes of the run.
        (os.killpg if ending == signal.SIGINT else os.kill)(process.pid, ending)
        assert process.wait(60) == -ending
        assert not psutil.wait_procs(children, timeout=30)[1]
        if ending == signal.SIGINT:
            assert re.fullmatch(r"Traceback.*\n(  .*\n)+KeyboardInterrupt\n", screen.read_text())
            assert not list((tmp_path / "tmp").glob("landcover-*"))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
