"""What the rows and columns of a plan are called in its book."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .plan import Plan
from .planning import generation_order, hash_ids

if TYPE_CHECKING:
    from .portfolio import Portfolio

FAMILIES = ("launches", "rival launches")


class Names:
    """Names by position. A plan knows parties and deployments by the hashes of their ids alone."""

    def __init__(self, portfolio: Portfolio, plan: Plan) -> None:
        self.portfolio, self.plan = portfolio, plan
        self.loans = [str(i) for i in portfolio.loans["loan_id"]]
        self.borrowers = [str(i) for i in portfolio.loans["borrower_id"]]
        self.regimes = list(portfolio.market.regimes.names)
        gpu = portfolio.market.gpu
        self.generations = [] if gpu is None else [gpu.generations[i].name for i in generation_order(gpu)]

    @cached_property
    def obligors(self) -> list[str]:
        """Ids of the columns of default months."""
        keys = np.concatenate([self.plan.obligors.own_key, self.plan.obligors.grouped_key])
        ids = [str(i) for i in self.portfolio.obligors["obligor_id"]]
        return _in_order(ids, hash_ids("obligor", ids), keys)

    @cached_property
    def vintages(self) -> list[tuple[str, int]]:
        """(generation, in-service month) of the vintages."""
        tape = self.portfolio.deployments
        return sorted({(str(g), int(m)) for g, m in zip(tape["gpu"], tape["in_service_month"], strict=True)})

    @cached_property
    def tenants(self) -> list[str]:
        """Tenant's id of each deployment of the plan; "": the spot market."""
        tape = self.portfolio.deployments
        ids = [str(i) for i in tape["deployment_id"]]
        rows = _in_order(list(range(len(ids))), hash_ids("deployment", ids), self.plan.deployments.key)
        tenants = [str(i) for i in tape["tenant_id"]]
        return [tenants[i] for i in rows]


def _in_order(values: list[Any], keys: Any, wanted: Any) -> list[Any]:
    """The values whose keys are the wanted ones, in their order."""
    place = dict(zip(keys.tolist(), values, strict=True))
    return [place[key] for key in wanted.tolist()]
