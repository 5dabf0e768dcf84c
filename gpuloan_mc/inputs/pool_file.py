"""pool.toml: the capital structure of a securitised pool, read with every problem at its place."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from ..errors import BrokenRule, InputRejected, Problem, UsageError
from ..market import Name, Rate, Share, Table
from ..text import shortened, shown
from .books import book_folder
from .limits import MAX_BALANCE_USD, MAX_TOML_BYTES
from .market_file import problems_of_table
from .rules import sentence
from .tapes import Unreadable, read_bytes
from .toml_text import parse_toml

FILE_NAME = "pool.toml"
MAX_TRANCHES = 20

Fee = Annotated[float, Field(ge=0, le=MAX_BALANCE_USD)]
Size = Annotated[float, Field(gt=0, le=MAX_BALANCE_USD)]
Trigger = Annotated[float, Field(gt=0, le=100)]


class Fees(Table):
    """What is paid before any tranche."""

    rate: Share = Field(default=0, description="a year, of the loans that live at the month's opening")
    usd_per_year: Fee = Field(default=0, description="fixed, a twelfth a month")


class Reserve(Table):
    """An account that pays fees and the senior tranche's interest where collections fall short."""

    share: Share = Field(
        default=0, description="of what the tranches above the residual are owed: paid in by the residual at closing, then "
        "the target that interest fills it up to, and what it is released down to"
    )  # fmt: skip


class Note(Table):
    """A tranche, from the most senior down; the last one is the residual."""

    name: Name = Field(description="its name")
    share: Annotated[float, Field(gt=0, lt=1)] | None = Field(default=None, description="of the book's commitment")
    size_usd: Size | None = Field(default=None, description="in dollars, in the place of share")
    coupon: Rate | None = Field(default=None, description="interest a year, fixed")
    spread: Rate | None = Field(default=None, description="interest a year over the market's base curve")
    overcollateralisation: Trigger | None = Field(
        default=None, description="lowest ratio of the pool to this tranche and those above it; below, interest is trapped"
    )
    interest_cover: Trigger | None = Field(
        default=None, description="lowest ratio of the month's interest, less fees, to what this tranche and those above are due"
    )

    @property
    def has_tests(self) -> bool:
        """Whether a ratio is held to."""
        return self.overcollateralisation is not None or self.interest_cover is not None


class PoolFile(Table):
    """The whole of pool.toml."""

    about: str = Field(default="", description="what the structure is, a sentence")
    source: str = Field(default="", description="where its numbers come from; whose judgement")
    allocation: Literal["sequential", "pro-rata"] = Field(
        default="sequential", description="of principal; pro-rata becomes sequential in months in which a test fails"
    )
    turbo: Literal["never", "breach", "always"] = Field(
        default="never", description="when all interest left over pays principal: never, while a test fails, or always"
    )
    fees: Fees = Field(default=Fees(), description="senior fees")
    reserve: Reserve = Field(default=Reserve(), description="the reserve account")
    tranches: Annotated[list[Note], Field(min_length=2, max_length=MAX_TRANCHES)] = Field(
        description="from the most senior to the residual, which takes what the others leave of the commitment"
    )

    @property
    def digest(self) -> str:
        """sha256 of the structure as canonical JSON; about and source are left out."""
        content = self.model_dump(mode="json", exclude={"about", "source"})
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @model_validator(mode="after")
    def _structure(self) -> Self:
        *notes, residual = self.tranches
        names = [n.name for n in self.tranches]
        for i, name in enumerate(names):
            if name in names[:i]:
                raise BrokenRule("doubled-name", f"tranches[{i + 1}].name", f"{shown(name)} names two tranches")
        for i, note in enumerate(notes, start=1):
            if (note.share is None) == (note.size_usd is None):
                raise BrokenRule("one-of", f"tranches[{i}]", f"{shown(note.name)} needs share or size_usd, one of them")
            if (note.coupon is None) == (note.spread is None):
                raise BrokenRule("one-of", f"tranches[{i}]", f"{shown(note.name)} needs coupon or spread, one of them")
        given = [k for k in ("share", "size_usd", "coupon", "spread") if getattr(residual, k) is not None]
        if given or residual.has_tests:
            what = given[0] if given else "a test"
            place = f"tranches[{len(names)}]"
            raise BrokenRule("residual", place, f"the last tranche is the residual and {shown(residual.name)} has {what}")
        if sum(n.share or 0 for n in notes) >= 1:
            raise BrokenRule("pool-size", "tranches", "the shares leave nothing of the commitment to the residual")
        if self.turbo == "breach" and not any(n.has_tests for n in notes):
            raise BrokenRule("no-test", "turbo", "turbo waits for a test to fail, and no tranche has one")
        return self


def read_pool(pool: str | Path) -> PoolFile:
    """The capital structure of a pool.toml, or of the one in a book's folder or a bundled book.

    Raises:
        InputRejected: no file, no TOML, or unknown or wrong keys; every problem is in the error.
    """
    path = _path(pool)
    try:
        return PoolFile.model_validate(parse_toml(read_bytes(path, MAX_TOML_BYTES)))
    except Unreadable as error:
        raise InputRejected([error.problem(path.name)]) from None
    except ValidationError as error:
        raise InputRejected(problems_of_table(path.name, error, PoolFile)) from None


def as_pool(pool: PoolFile | str | Path) -> PoolFile:
    """A capital structure by what names it.

    Raises:
        InputRejected: as `read_pool`.
        UsageError: it is of another type.
    """
    if isinstance(pool, PoolFile):
        return pool
    if isinstance(pool, (str, Path)):
        return read_pool(pool)
    raise UsageError(f"pool is {pool!r:.40}; it must be a PoolFile, a pool.toml, or a book whose folder has one")


def _path(pool: str | Path) -> Path:
    text = str(pool)
    try:
        if text.endswith(".toml") and os.path.lexists(text):
            return Path(text)
    except ValueError:  # no path at all
        pass
    path = Path(text) if text.endswith(".toml") else book_folder(pool) / FILE_NAME
    if not os.path.lexists(path):
        message = sentence("no-pool", "there is no such file")
        raise InputRejected([Problem(shortened(str(path)), message, "no-pool")])
    return path
