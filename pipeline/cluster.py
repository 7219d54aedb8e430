"""Bands of rows as tasks of dask workers: processes of this machine, or of a cluster that runs.

Each worker has one band at a time and is named when a band is handed out, so it is known exactly
which band is lost with a worker. Why it is done so: `docs/decisions/0010-bands-and-dask.md`.
Results do not travel: a band's work ends with its shard, on storage that all workers share.
"""

# mypy: allow-untyped-calls
# (distributed says that it is typed, but half of what it exports is not)

import contextlib
import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from multiprocessing import resource_tracker
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import dask
from dask.system import CPU_COUNT
from distributed import Client, Future, KilledWorker, LocalCluster, Worker, wait

from landcover.errors import SettingsError
from pipeline.artifacts import Report, code_version

_CONNECT_SECONDS = 10.0
"""How long a scheduler and its first worker are waited for."""
_EMPTY_SECONDS = 600.0
"""How long a run waits for new workers when the last one is gone."""
_LOOK_SECONDS = 0.5
"""Pause between looks at which workers there are."""
_LOSSES = 5
"""Workers in a row that each band in flight may cost before the run ends."""

_LOCAL = {
    # A laptop that slept is not a lost worker: the nannies watch their processes anyway.
    "distributed.scheduler.worker-ttl": None,
    "distributed.worker.profile.enabled": False,
}

_one_band = threading.Lock()
"""Held in a worker while it works: what a dead run left running is waited for."""


def run_on_cluster(
    work: Callable[[range], None],
    bands: Sequence[range],
    *,
    workers: int | None,
    scheduler: str | None,
    done: Callable[[range], None],
    report: Report = print,
    cuda: bool = True,
) -> None:
    """Call `work` once for each band of rows, on workers that each have one band at a time.

    work: can be pickled; is called in another process and leaves its result on shared storage.
    workers: so many processes are started on this machine, loopback only, and share its processors
    (and its GPUs, in turns). scheduler: or the workers of this dask scheduler, tcp://HOST:PORT, are
    used; if any of them announces the resource GPU, then only those that do.
    A worker finds the processors that it may use in OMP_NUM_THREADS: its share of this machine, or
    the threads that it announces (`dask worker --nthreads`).
    done: is called in the calling thread with each band as it ends, in no order. report: takes a
    line of text when a worker is lost; its band is done again by another. cuda: whether a band may want
    a GPU; where not, this process does not import torch to count them.
    Raises what `work` raises, and hands out no band after that. Raises SettingsError where the
    scheduler cannot be reached or is lost, has no workers or some with another version of this
    program, and where bands cost one worker after another.
    """
    if (workers is None) == (scheduler is None):
        raise SettingsError("Bands go to --workers N or to a --scheduler; give one of the two.")
    with _connect(workers, scheduler) as client:
        gpus = _gpus() if cuda and workers else []
        _Dispatcher(client, gpus, work, bands, done, report).run()


@contextlib.contextmanager
def _connect(workers: int | None, scheduler: str | None) -> Iterator[Client]:
    """A client of a scheduler, or of workers of its own on this machine."""
    # `silence_logs` ends with the cluster, and what is torn down after it still tells of it.
    logging.getLogger("distributed").setLevel(logging.WARNING)
    if scheduler is not None:
        with _client(scheduler) as client:
            yield client
        return
    if workers is None or workers < 1:
        raise SettingsError(f"--workers is {workers}; it must be 1 or more.")
    with _same_environment(), _local_cluster(workers) as cluster, _client(cluster) as client:
        yield client


@contextlib.contextmanager
def _client(address: str | LocalCluster) -> Iterator[Client]:
    try:
        client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(
            f"No dask scheduler answers at {address}: {error}; start one there by `dask scheduler`, "
            "or give the address that it printed."
        ) from error
    with client, client.as_current():
        yield client


@contextlib.contextmanager
def _local_cluster(workers: int) -> Iterator[LocalCluster]:
    threads = max(1, _wanted_threads(CPU_COUNT) // workers)
    with TemporaryDirectory(prefix="landcover-") as folder, dask.config.set(_LOCAL):
        try:
            with _no_interrupt_in_children():
                cluster = LocalCluster(
                    n_workers=workers, threads_per_worker=threads, processes=True, memory_limit=0,
                    host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL,
                    env={"OMP_NUM_THREADS": threads}, local_directory=folder,
                )  # fmt: skip
        except (OSError, RuntimeError) as error:
            raise SettingsError(
                f"{workers} workers cannot be started on this machine: {error}; give fewer --workers."
            ) from error
        with cluster:
            try:
                yield cluster
            finally:
                cluster.sync(_kill_workers, cluster)


async def _kill_workers(cluster: LocalCluster) -> None:
    """End the workers at once: what they have done lies in shards, what they do nobody wants.

    Asked to end, each would first end its band, and be waited for.
    """
    for nanny in cluster.workers.values():
        nanny.close_gracefully("the run is over")  # or it would start another
        if nanny.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(nanny.pid, signal.SIGKILL)


@contextlib.contextmanager
def _no_interrupt_in_children() -> Iterator[None]:
    """Start threads and processes that Ctrl-C does not reach: this process is to end them.

    A terminal sends it to all; a worker that ends while its nanny ends may leave the nanny waiting
    for ever. Threads, and the processes that they start later, inherit what is blocked here.
    """
    resource_tracker.ensure_running()  # its start would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _same_environment() -> Iterator[None]:
    """Take back what dask sets in this process's environment for its children."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _wanted_threads(otherwise: int) -> int:
    """OMP_NUM_THREADS, if it says a number."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdigit() and int(wanted) else otherwise


def _gpus() -> list[str]:
    """The CUDA devices of this machine to share among workers of its own."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(n) for n in range(torch.cuda.device_count())]


def _prepare(gpus: Sequence[str], dask_worker: Worker) -> tuple[str, bool]:
    """In a new worker: take its share of the machine; return its code version and if it has a GPU."""
    # Dask starts workers with OMP_NUM_THREADS=1, as if all its tasks were small.
    threads = max(_wanted_threads(1), dask_worker.state.nthreads)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[int(dask_worker.name) % len(gpus)]
    return code_version(), dask_worker.state.total_resources.get("GPU", 0) >= 1


def _do(work: Callable[[range], None], band: range) -> None:
    """In a worker: do one band."""
    with _one_band:
        work(band)


class _Dispatcher:
    """Hands bands to idle workers, and hands out again those whose worker is gone."""

    def __init__(
        self,
        client: Client,
        gpus: Sequence[str],
        work: Callable[[range], None],
        bands: Sequence[range],
        done: Callable[[range], None],
        report: Report,
    ) -> None:
        self._client, self._gpus, self._work = client, gpus, work
        self._address = client.scheduler.address if client.scheduler else ""
        self._waiting = deque(bands)
        self._done, self._report = done, report
        self._workers: dict[str, bool] = {}  # address -> has a GPU
        self._running: dict[Future[None], tuple[range, str]] = {}
        self._most = 1  # workers at the same time
        self._lost = 0  # workers since a band was done
        self._alone_since: float | None = time.monotonic()
        self._patience = _CONNECT_SECONDS

    def run(self) -> None:
        """Work until no band is left."""
        try:
            while self._waiting or self._running:
                self._look()
                self._collect()
                self._hand_out()
                self._pause()
        finally:
            self._cancel()

    def _look(self) -> None:
        """Learn which workers there are; greet the new ones."""
        present = self._ask(self._client.nthreads)
        self._workers = {a: gpu for a, gpu in self._workers.items() if a in present}
        if new := present.keys() - self._workers.keys():
            self._greet(list(new))
        if self._workers:
            self._most = max(self._most, len(self._workers))
            self._alone_since, self._patience = None, _EMPTY_SECONDS
            return
        self._alone_since = self._alone_since or time.monotonic()
        if time.monotonic() - self._alone_since > self._patience:
            raise SettingsError(
                f"{self._place()} has no workers; start some by `dask worker`, then run again."
            )

    def _greet(self, new: list[str]) -> None:
        answers = self._ask(
            lambda: self._client.run(_prepare, self._gpus, workers=new, on_error="return")
        )
        for address, answer in answers.items():
            if isinstance(answer, OSError):  # it is gone again
                continue
            if not isinstance(answer, tuple):
                raise SettingsError(
                    f"The worker at {address} cannot run this program: {answer!r}; install the same "
                    "version there."
                )
            version, self._workers[address] = answer
            if version != code_version():
                raise SettingsError(
                    f"The worker at {address} has another version of this program or its packages; "
                    "install the same there and start it again."
                )

    def _hand_out(self) -> None:
        gpus = any(self._workers.values())
        busy = {address for _, address in self._running.values()}
        for address, has_gpu in self._workers.items():
            if self._waiting and address not in busy and (has_gpu or not gpus):
                band = self._waiting.popleft()
                future = self._client.submit(
                    _do, self._work, band, key=f"band-{band.start}-{uuid4().hex}", pure=False,
                    workers=[address], resources={"GPU": 1} if has_gpu else None,
                )  # fmt: skip
                self._running[future] = band, address

    def _pause(self) -> None:
        """Wait until a band ends, or it is time to look again."""
        if not self._running:
            time.sleep(_LOOK_SECONDS)
            return
        self._ask(self._wait)

    def _wait(self) -> None:
        with contextlib.suppress(TimeoutError):
            wait(list(self._running), _LOOK_SECONDS, return_when="FIRST_COMPLETED")

    def _collect(self) -> None:
        """Take note of bands that ended, well or badly, and of those whose worker is gone."""
        for future, (band, address) in list(self._running.items()):
            # Never future.result(): it would wait for a result that died with its worker.
            error = future.exception() if future.status == "error" else None
            if future.status == "finished":
                del self._running[future]
                self._lost = 0
                self._done(band)
            elif isinstance(error, KilledWorker) or address not in self._workers:
                del self._running[future]
                self._client.cancel([future], force=True)
                self._again(band)
            elif error is not None:
                raise error

    def _again(self, band: range) -> None:
        """Put back a band whose worker is gone: last, so that the others are not held up by it."""
        self._waiting.append(band)
        self._lost += 1
        rows = f"rows {band.start} to {band.stop - 1}"
        if self._lost >= _LOSSES * min(self._most, len(self._waiting) + len(self._running)):
            raise SettingsError(
                f"{self._lost} workers died one after the other, the last one on {rows}; if memory "
                "ran out, give fewer --workers or a smaller batch, then run again."
            )
        self._report(f"a worker died; {rows} will be done again")

    def _ask(self, question: Callable[[], Any]) -> Any:
        """Ask the scheduler; SettingsError where it is gone."""
        try:
            return question()
        except (OSError, CancelledError) as error:
            raise SettingsError(
                f"{self._place()} was lost; finished bands are kept, so run again once it is back."
            ) from error

    def _place(self) -> str:
        return f"The dask scheduler at {self._address}"

    def _cancel(self) -> None:
        if self._running:
            with contextlib.suppress(OSError, CancelledError):
                self._client.cancel(list(self._running), force=True)
