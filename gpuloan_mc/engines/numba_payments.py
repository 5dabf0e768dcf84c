"""The compiled waterfall of a pool on some threads (numba_waterfall.py)."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any

import numpy as np

from ..payments import Payments, carried, prices, reference_payments
from ..waterfall import Structure, check_balance
from .base import PoolCash
from .numba_compile import compiled


class Payer:
    """The waterfall of a structure on (n_paths,) paths: each thread gives rows of its receipts to its part of them.

    Raises:
        EnvironmentProblem: numba is missing, broken or can't compile here.
    """

    def __init__(self, structure: Structure, n_paths: int, width: int, workers: int) -> None:
        from . import numba_waterfall as loops
        from .numba_structs import Struct

        n_tranches = len(structure.sizes)
        self._terms = Struct(_terms(structure))
        self._found = loops.new_payments(n_paths, n_tranches, width)
        outs = [self._found._replace(sums=np.zeros_like(self._found.sums)) for _ in range(workers)]
        self._sums = [out.sums for out in outs]
        self._outs = [Struct(out) for out in outs]
        self._desks = [loops.new_desk(n_tranches, width) for _ in range(workers)]

    def pay(self, worker: int, receipts: Any, first: int, end: int, row: int) -> None:
        """Paths whose receipts are rows first … end - 1 of a Struct, into rows `row` … of what is found."""
        from numba import typeof

        from . import numba_waterfall as loops

        arguments = (self._terms, receipts, self._desks[worker], self._outs[worker], first, end, row)
        compiled(loops.pay_paths, tuple(typeof(a) for a in arguments)).entry(*arguments)

    @property
    def is_exact(self) -> bool:
        """Whether no path came near 2^53 cents."""
        return not self._found.beyond.any()

    def payments(self) -> Payments:
        """What came of it.

        Raises:
            AssertionError: cash in is not cash out on some path (a bug).
        """
        found = self._found
        check_balance(found.missing)
        interest, principal = np.sum(self._sums, axis=0).transpose(0, 1, 3, 2)
        return Payments(
            losses=found.owed.T,
            shortfalls=found.deferred.T,
            lives=found.lives.T,
            yields=found.yields.T,
            failed=found.failed,
            trapped=found.trapped,
            fees=found.fees,
            interest=carried(interest),
            principal=carried(principal),
        )


def receipts_of(cash: Any) -> Any:
    """The columns of a `PoolCash` as compiled code reads them."""
    from .numba_structs import Struct
    from .numba_waterfall import Receipts

    return Struct(Receipts(*(getattr(cash, name) for name in Receipts._fields)))


def compiled_payments(structure: Structure, cash: PoolCash, workers: int) -> Payments:
    """By numba, paths over lanes on some threads: the same integers; rates of return to the last digits of a float.

    Raises:
        EnvironmentProblem: numba is missing, broken or can't compile here.
        AssertionError: cash in is not cash out on some path (a bug).
    """
    n_paths, width = cash.interest.shape
    payer, receipts = Payer(structure, n_paths, width, workers), receipts_of(cash)
    edges = np.linspace(0, n_paths, workers + 1).astype(int).tolist()
    with ThreadPoolExecutor(workers, thread_name_prefix="gpuloan-mc") as threads:
        parts = [(k, receipts, edges[k], edges[k + 1], edges[k]) for k in range(workers)]
        for _ in threads.map(lambda part: payer.pay(*part), parts):
            pass
    return payer.payments() if payer.is_exact else reference_payments(structure, cash)


def warm_up() -> float:
    """Compile the waterfall, or load what was compiled before, for all structures: the seconds it took.

    Raises:
        EnvironmentProblem: numba is missing, broken or can't compile here.
    """
    from ..inputs.pool_file import read_pool
    from ..portfolio import Portfolio

    book = "neocloud-2024"
    start, market = time.perf_counter(), Portfolio.read(book).market
    structure = Structure.of(read_pool(book), market, balance=10**9, undrawn=0, last_draw=0, months=1)
    compiled_payments(structure, PoolCash(*(np.zeros((0, 2), np.int64) for _ in fields(PoolCash))), 1)
    return time.perf_counter() - start


def _terms(structure: Structure) -> Any:
    """The structure as compiled code reads it."""
    from .numba_waterfall import ALWAYS, BREACH, NEVER, Terms

    s, i64, f64 = structure, np.int64, np.float64
    notes = s.file.tranches[:-1]
    return Terms(
        sizes=np.array(s.sizes, f64),
        price=prices(s),
        rates=np.ascontiguousarray(s.rates.T),
        overcollateralisation=np.array([n.overcollateralisation or 0 for n in notes], f64),
        interest_cover=np.array([n.interest_cover or 0 for n in notes], f64),
        fee_rate=f64(s.fee_rate),
        fee=f64(s.fee),
        reserve_share=f64(s.file.reserve.share),
        reserve=f64(s.reserve),
        undrawn=f64(s.undrawn),
        opening=f64(s.opening),
        horizon=i64(s.horizon),
        lapse=i64(min(s.last_draw, s.horizon)),
        is_pro_rata=np.bool_(s.file.allocation == "pro-rata"),
        turbo={"never": NEVER, "breach": BREACH, "always": ALWAYS}[s.file.turbo],
    )
