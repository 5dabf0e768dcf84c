"""Contracts of deployments in the engine numba-cuda: a month of a loan's chips."""

from __future__ import annotations

from typing import Any

from ..paths.loans import renewed_rate
from ..paths.philox import RENEWAL, chosen, draw_four, event_word
from .numba_cuda_layout import (
    END,
    END_DEPLOYMENT,
    FIRST_DEPLOYMENT,
    FLAGS,
    GENERATION,
    PAID_SHARE,
    RENEWAL_KEEP,
    RENEWAL_TERM,
    START,
    TENANT,
    TENANT_LOST,
    UNITS,
)
from .numba_cuda_memory import CLAIM, CONTRACT, LET, RELEASED, cuda, i32, path_of, u64


def release(book: Any, work: Any, shared: Any, s: Any, q: Any, d: Any) -> None:
    """(2.7) chips count once a path. Blocks' threads add whole numbers, in any order."""
    if work.deployment[s, FLAGS, d] & RELEASED == 0:
        work.deployment[s, FLAGS, d] |= RELEASED
        cuda.atomic.add(shared.released, (q, book.deployments[GENERATION, d]), book.deployments[UNITS, d])


def end_contract(book: Any, work: Any, shared: Any, s: Any, q: Any, d: Any) -> None:
    """The contract is over and its chips come back."""
    work.deployment[s, FLAGS, d] &= ~LET
    release(book, work, shared, s, q, d)


def step_deployments(book: Any, work: Any, shared: Any, here: Any, q: Any, t: Any, loan: Any) -> None:
    """(5.1), (5.2) of a loan's deployments."""
    s = here.slot + q
    for d in range(book.loans[FIRST_DEPLOYMENT, loan], book.loans[END_DEPLOYMENT, loan]):
        if work.deployment[s, FLAGS, d] & LET != 0 and book.deployments[START, d] <= t:
            if work.months[s, book.deployments[TENANT, d]] <= t:
                work.deployment[s, FLAGS, d] |= CLAIM
                work.loan[s, TENANT_LOST, loan] = 1
                end_contract(book, work, shared, s, q, d)
            elif work.deployment[s, END, d] < t:
                renew(book, work, shared, here, q, t, d)


def renew(book: Any, work: Any, shared: Any, here: Any, q: Any, t: Any, d: Any) -> None:
    """(5.2) at the end of a contract."""
    s = here.slot + q
    key = book.keys[book.keys.shape[0] - book.deployments.shape[1] + d]
    w = chosen(draw_four(here.seed, path_of(here, q), RENEWAL, u64(t), key), q)
    if event_word(w) >= book.regimes[work.regime[s, t], book.regimes.shape[1] - 1]:
        end_contract(book, work, shared, s, q, d)
        return
    price = shared.generation[q, CONTRACT, book.deployments[GENERATION, d]]
    work.rate[s, d] = renewed_rate(price, book.real[RENEWAL_KEEP], book.real[PAID_SHARE])
    work.deployment[s, END, d] = i32(t - 1 + book.whole[RENEWAL_TERM])
