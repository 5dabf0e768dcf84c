"""A Dask cluster: a client of one that is there, or of workers that are started here (docs/cluster.md)."""

from __future__ import annotations

import importlib
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from .errors import EnvironmentProblem, UsageError

_NEEDED = "a Dask cluster needs the package distributed: pip install 'gpuloan-mc[dask]'"
_LOCAL = ("localhost", "127.0.0.1", "::1")


@contextmanager
def connected(where: str, *, insecure_network: bool = False) -> Iterator[Any]:
    """A client of the cluster at `tcp://HOST:PORT` or `tls://HOST:PORT`, or of one started here: `local` or `local:N`.

    Raises:
        UsageError: no such address, or one on the network without TLS that was not allowed explicitly.
        EnvironmentProblem: Dask is not installed, or no scheduler answers.
    """
    n_workers = _local_workers(where)
    if n_workers is None:
        _check_address(where, insecure_network)
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise EnvironmentProblem(f"{_NEEDED} ({error})") from error
    with _without_logs():
        yield from _client(distributed, where, n_workers)


def _client(distributed: Any, where: str, n_workers: int | None) -> Iterator[Any]:
    if n_workers is None:
        try:
            client = distributed.Client(where, timeout="20s")
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise EnvironmentProblem(f"no Dask scheduler answers at {where}: {error}") from error
        with client:
            yield client
        return
    options = {"threads_per_worker": 1, "host": "127.0.0.1", "silence_logs": logging.CRITICAL}
    options |= {"dashboard_address": "127.0.0.1:0", "scheduler_kwargs": {"dashboard": False}}
    try:
        with _deaf_children():
            cluster = distributed.LocalCluster(n_workers=n_workers, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise EnvironmentProblem(f"the workers of {where} do not start: {error}") from error
    with cluster, distributed.Client(cluster) as client:
        yield client


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes that are started do not hear Ctrl-C, which a terminal sends to them too: this one stops them."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say so
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _without_logs() -> Iterator[None]:
    """Dask logs every lost connection with a traceback, from many loggers; what matters is told by the run."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _local_workers(where: str) -> int | None:
    """Workers of `local` or `local:N`; None for an address."""
    name, _, number = where.partition(":")
    if name != "local":
        return None
    if not number:
        from .engines.cores import available_cores

        return available_cores()
    if not number.isdigit() or not 1 <= int(number) <= 1024:
        raise UsageError(f"dask is {where!r:.60}; local:N takes a number of workers from 1 to 1024")
    return int(number)


def _check_address(where: str, insecure_network: bool) -> None:
    parts = urlsplit(where)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if parts.scheme not in ("tcp", "tls") or not host or not port:
        raise UsageError(f"dask is {where!r:.60}; it must be local, local:N, tcp://HOST:PORT or tls://HOST:PORT")
    if parts.scheme == "tcp" and host not in _LOCAL and not insecure_network:
        raise UsageError(
            f"{where} is on a network and not encrypted: whoever reaches it can run programs as you. Use tls://, or say "
            "--insecure-network where the network is yours alone"
        )
