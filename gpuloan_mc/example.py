"""Example books: the bundled one as a folder of one's own, or a synthetic one of any size from the archetypes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import UsageError
from .files import empty_folder
from .inputs.books import book_folder
from .reference.arithmetic import F64, I64

if TYPE_CHECKING:
    import pandas as pd

BUNDLED = "neocloud-2024"
MAX_LOANS = 100_000
SOFR = 0.046
CHIPS_IN_ALL = 300_000  # a synthetic book's chips, about; small against the depth of the bundled market
NODE = 8  # chips of a server


@dataclass(frozen=True, slots=True)
class Archetype:
    """A kind of GPU loan (docs/model.md 10). Money in dollars a chip; months from origination."""

    name: str
    gpu: str
    chip_cost: float
    contract_price: float | None  # None: spot market
    contract_months: int
    tenant_class: str | None
    loan_to_cost: float
    spread: float
    loan_months: int
    share: float  # of a synthetic book's loans
    service_month: int = 0

    @property
    def sweep(self) -> float:
        """A quarter of surplus prepays where there is no long contract."""
        return 0.0 if self.contract_months > 24 else 0.25


ARCHETYPES = (
    Archetype("ig-delayed-draw", "H100", 45e3, 2.60, 54, "investment-grade", 0.85, 0.060, 51, 0.25),
    Archetype("ai-lab-delayed-draw", "H100", 45e3, 2.50, 48, "ai-lab", 0.75, 0.065, 45, 0.20),
    Archetype("ig-blackwell", "B200", 62e3, 3.70, 60, "investment-grade", 0.85, 0.040, 57, 0.15, 3),
    Archetype("short-contracts", "H100", 45e3, 2.30, 18, "start-up", 0.50, 0.080, 36, 0.20),
    Archetype("merchant", "H100", 45e3, None, 0, None, 0.45, 0.080, 36, 0.12),
    Archetype("old-a100", "A100", 10e3, None, 0, None, 0.75, 0.090, 24, 0.08, -44),
)


def write_example(folder: str | Path, *, n_loans: int | None = None, seed: int = 1) -> Path:
    """Write an example book into a new or empty folder.

    Args:
        folder: where.
        n_loans: None: a copy of the bundled GPU book; 1 … 100,000: a synthetic book.
        seed: of the synthetic book; the same seed and size give the same files.

    Raises:
        UsageError: the folder holds something, or n_loans is out of range.
    """
    if n_loans is not None and not 1 <= n_loans <= MAX_LOANS:
        raise UsageError(f"loans is {n_loans}; it must be from 1 to {MAX_LOANS}")
    source = book_folder(Path(__file__).parent / "books" / BUNDLED)
    target = empty_folder(Path(folder))
    if n_loans is None:
        for file in sorted(source.iterdir()):
            shutil.copyfile(file, target / file.name)
        return target
    shutil.copyfile(source / "market.toml", target / "market.toml")
    for name, frame in synthetic_book(n_loans, seed).items():
        frame.to_csv(target / f"{name}.csv", index=False, lineterminator="\n")
    return target


def synthetic_book(n_loans: int, seed: int) -> dict[str, pd.DataFrame]:
    """Tapes of a book drawn from the archetypes; every figure is made up."""
    import pandas as pd

    draw = np.random.Generator(np.random.Philox(seed))
    kind = draw.choice(len(ARCHETYPES), n_loans, p=[a.share for a in ARCHETYPES])
    median = min(max(CHIPS_IN_ALL / n_loans, NODE), 800)
    units = NODE * np.clip(np.rint(median * np.exp(0.7 * draw.normal(size=n_loans)) / NODE), 1, 2000).astype(np.int64)
    deployments = _deployments(draw, kind, units)
    return {
        "loans": _loans(draw, kind, units),
        "deployments": pd.DataFrame(deployments),
        "obligors": _obligors(n_loans),
    }


def _of(kind: I64, field: str) -> F64:
    return np.array([getattr(a, field) or 0 for a in ARCHETYPES], dtype=np.float64)[kind]


def _names(prefix: str, numbers: I64, width: int) -> list[str]:
    return [f"{prefix}{i:0{width}}" for i in numbers]


def party_counts(n_loans: int) -> dict[str, int]:
    """Borrowers and tenants of a synthetic book by hazard class."""
    return {
        "neocloud": max(1, n_loans // 6),
        "investment-grade": max(1, n_loans // 40),
        "ai-lab": max(1, n_loans // 30),
        "start-up": max(2, n_loans // 4),
    }


def _obligors(n_loans: int) -> pd.DataFrame:
    import pandas as pd

    parts = []
    for hazard_class, n in party_counts(n_loans).items():
        numbers = np.arange(1, n + 1)
        parts.append(
            pd.DataFrame(
                {
                    "obligor_id": _names(f"{hazard_class}-", numbers, 5),
                    "name": _names(f"{hazard_class} ", numbers, 1),
                    "hazard_class": hazard_class,
                    "loading_demand": 0.3,
                    "loading_credit": 0.3,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def monthly_payment(balance: F64, rate: F64, months: F64) -> F64:
    """Level payment of an annuity at a yearly rate above 0."""
    r = rate / 12
    return balance * r / -np.expm1(-months * np.log1p(r))


def _loans(draw: np.random.Generator, kind: I64, units: I64) -> pd.DataFrame:
    import pandas as pd

    n = len(kind)
    term = _of(kind, "loan_months") - draw.integers(0, 12, n)
    spread = np.asarray(np.round(_of(kind, "spread") + 0.0025 * draw.integers(-3, 4, n), 4), dtype=np.float64)
    advance: F64 = _of(kind, "loan_to_cost") + 0.01 * draw.integers(-5, 6, n)
    balance = np.asarray(np.round(units * _of(kind, "chip_cost") * advance, -3), dtype=np.float64)
    borrower = 1 + draw.integers(0, party_counts(n)["neocloud"], n)
    reserve = np.round(3 * monthly_payment(balance, spread + SOFR, term))
    return pd.DataFrame(
        {
            "loan_id": _names("L", np.arange(1, n + 1), 6),
            "borrower_id": _names("neocloud-", borrower, 5),
            "balance_usd": balance.astype(np.int64),
            "spread": spread,
            "amortisation": "annuity",
            "term_months": term.astype(np.int64),
            "reserve_usd": reserve.astype(np.int64),
            "reserve_months": 3,
            "dscr_lockup": 1.2,
            "dscr_default": 1.05,
            "dscr_default_months": 6,
            "sweep_share": _of(kind, "sweep"),
            "remoteness": 0.65,
            "archetype": np.array([a.name for a in ARCHETYPES])[kind],
        }
    )


def _deployments(draw: np.random.Generator, kind: I64, units: I64) -> pd.DataFrame:
    """One to three a loan, of whole servers, each with its own tenant."""
    import pandas as pd

    servers = units // NODE
    count = np.minimum(draw.integers(1, 4, len(kind)), servers)
    loan = np.repeat(np.arange(len(kind)), count)
    place = np.arange(len(loan)) - np.repeat(np.cumsum(count) - count, count)
    even, rest = servers // count, servers % count
    mine = kind[loan]
    contracted = _of(mine, "contract_price") > 0
    tenant = np.full(len(loan), "", dtype=object)
    for hazard_class, n in party_counts(len(kind)).items():
        here = np.array([a.tenant_class == hazard_class for a in ARCHETYPES])[mine]
        tenant[here] = _names(f"{hazard_class}-", 1 + draw.integers(0, n, int(here.sum())), 5)
    price = np.round(_of(mine, "contract_price") * (1 + 0.01 * draw.integers(-5, 6, len(loan))), 2)
    months = _of(mine, "contract_months") - draw.integers(0, 7, len(loan))
    return pd.DataFrame(
        {
            "deployment_id": _names("D", np.arange(1, len(loan) + 1), 7),
            "loan_id": _names("L", loan + 1, 6),
            "gpu": np.array([a.gpu for a in ARCHETYPES])[mine],
            "units": NODE * (even[loan] + (place < rest[loan])),
            "in_service_month": _of(mine, "service_month").astype(np.int64),
            "tenant_id": tenant,
            "price_usd_per_hour": [f"{p:g}" if c else "" for p, c in zip(price, contracted, strict=True)],
            "contract_months": [f"{m:.0f}" if c else "" for m, c in zip(months, contracted, strict=True)],
        }
    )
