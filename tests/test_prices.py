"""Points of simulated prices."""

import numpy as np
import pytest

from gpuloan_mc import risk
from gpuloan_mc.errors import UsageError
from gpuloan_mc.market import Market
from gpuloan_mc.prices import points_dict, simulate_prices


@pytest.fixture(scope="module")
def simulated():
    return simulate_prices(Market.read("neocloud-2024"), 5000, seed=3)


def test_points_are_lower_quantiles_between_their_order_statistics(simulated):
    for point in simulated.points():
        values = {"contract": simulated.contract, "spot": simulated.spot, "chip_value": simulated.chip_values}[point.kind]
        sample = np.sort(values[:, point.month, simulated.generations.index(point.gpu)])
        assert point.value == sample[int(np.ceil(point.level * 5000)) - 1]
        assert point.low <= point.value <= point.high
        share = [(sample <= x).mean() for x in (point.low, point.high)]
        if point.kind == "contract":
            assert point.level - 0.02 < share[0] < point.level < share[1] < point.level + 0.02
    assert len(simulated.points()) == 3 * 4 * 5 * 3


def test_regimes_are_counted(simulated):
    for share in simulated.regime_shares():
        regimes = simulated.regimes[:, share.month]
        assert share.share == (regimes == simulated.regime_names.index(share.regime)).mean()
    assert set(simulated.regimes[:, 0]) == {simulated.regime_names.index("normal")}


def test_few_paths_have_no_bounds():
    found = points_dict(simulate_prices(Market.read("neocloud-2024"), 3))
    assert found["contract"]["H100"]["12"]["p05_ci"][0] is None
    assert found["contract"]["H100"]["12"]["p95_ci"][1] is None


@pytest.mark.parametrize("n", [50, 1000])
def test_ranks_hold_the_quantile_with_the_confidence_asked_for(n):
    draws = np.sort(np.random.default_rng(n).uniform(size=(4000, n)), axis=1)
    for level in (0.1, 0.5):
        low, high = risk.quantile_ranks(n, level)
        held = ((draws[:, low - 1] <= level) & (level <= draws[:, high - 1])).mean()
        assert held > 0.95 - 4 * np.sqrt(0.05 * 0.95 / 4000)
        assert held < 0.985


def test_prices_without_chips_are_refused():
    with pytest.raises(UsageError, match=r"no \[gpu\] part"):
        simulate_prices(Market.read("vasicek-100"), 10)
