"""The profile of a book, by hand on two loans and against the plan."""

import dataclasses
import json
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from gpuloan_mc import cli
from gpuloan_mc.market import Market
from gpuloan_mc.outlook import Outlook
from gpuloan_mc.planning import build_plan
from gpuloan_mc.portfolio import Portfolio
from gpuloan_mc.prices import simulate_prices
from gpuloan_mc.profile import Profile
from gpuloan_mc.profile_page import page

HAZARD = {"hazard_classes": [{"name": "safe", "hazard": 0.0}, {"name": "risky", "hazard": 0.12}]}
OBLIGORS = [
    {"obligor_id": "B", "name": "Borrower B", "hazard_class": "risky"},
    {"obligor_id": "T", "name": "Tenant T", "hazard_class": "safe"},
    {"obligor_id": "U", "name": "Tenant U", "hazard_class": "risky"},
]


@pytest.fixture
def two(market, gpu, book):
    """Loan A: 100 new chips let for 18 months and 100 on the spot market, linear over 24 months at 12 %.

    Loan C: 50 chips in service from month 4, let from then for 12 months, bullet of $2m over 30 months at 6 %.
    Prices: H100 $2 an hour, utilisation 0.5, spot fee 0.2, opex 0.5, paid share 0.9; k = 0, life ends in month 60.
    """
    part = gpu(
        {"opex_usd_per_hour": 0.5, "cost_when_new_usd": 20_000.0},
        utilisation={"level": 0.5},
        spot={"fee": 0.2},
        contracts={"paid_share": 0.9, "renewal": [0.0]},
        value={"buyers_yield": 0.0},
    )
    world = market(gpu=part, horizon_months=24, **HAZARD)
    loans = [
        {"loan_id": "A", "borrower_id": "B", "balance_usd": 2.4e6, "rate": 0.12, "term_months": 24,
         "amortisation": "linear", "reserve_usd": 248_000, "dscr_lockup": 1.5, "dscr_default": 1.05, "ltv_cap": 0.5},
        {"loan_id": "C", "borrower_id": "B", "balance_usd": 2e6, "rate": 0.06, "term_months": 30,
         "dscr_lockup": 8.0, "dscr_default": 8.0},
    ]  # fmt: skip
    let = {"gpu": "H100", "price_usd_per_hour": 3.0}
    deployments = [
        {"deployment_id": "A1", "loan_id": "A", "units": 100, "tenant_id": "T", "contract_months": 18} | let,
        {"deployment_id": "A2", "loan_id": "A", "units": 100, "gpu": "H100", "in_service_month": -14},
        {"deployment_id": "C1", "loan_id": "C", "units": 50, "in_service_month": 4, "tenant_id": "U",
         "contract_months": 12} | let,
    ]  # fmt: skip
    return book(world, loans, OBLIGORS, deployments), world


# by hand, a chip's month of 730 hours
LET, SPOT, COST = 730 * 3 * 0.9, 730 * 2 * 0.5 * 0.8, 730 * 0.5
VALUE = 8760 * (2 * 0.5 - 0.5) * 5  # five years of rent, below the cap of 20,000
C_BALANCE = 2e6 * 1.005**3  # interest of months 1 to 3 joins it
A_SERVICE, C_SERVICE = 100_000 + 24_000, C_BALANCE * 0.005


def test_ratios_of_the_first_month_of_service(two):
    rows = Profile.of(*two).gpu_loans.set_index("loan_id")
    assert rows["month"].to_list() == [1, 4]
    assert rows["income_usd"].to_list() == pytest.approx([100 * LET + 100 * SPOT - 200 * COST, 50 * (LET - COST)])
    assert rows["service_usd"].to_list() == pytest.approx([A_SERVICE, C_SERVICE])
    assert rows["dscr"].to_list() == pytest.approx(rows["income_usd"] / [A_SERVICE, C_SERVICE])
    assert VALUE == 21_900  # so the cap holds: the recoverable share 1 × 20,000
    assert rows["ltv"].to_list() == pytest.approx([2.4e6 / (200 * 20_000), C_BALANCE / (50 * 20_000)])
    assert rows["reserve_months"].to_list() == pytest.approx([2.0, 0.0])


def test_weights_and_counts(two):
    profile = Profile.of(*two)
    a, c = 182_500 / A_SERVICE, 80_300 / C_SERVICE  # 1.47 and 7.91
    mean = (a * 2.4e6 + c * C_BALANCE) / (2.4e6 + C_BALANCE)
    assert dataclasses.astuple(profile.dscr) == pytest.approx((mean, a, c, 2))
    found = profile.to_json_dict()
    assert (found["n_below_lockup"], found["n_below_default"]) == (2, 1)
    assert found["n_above_ltv_cap"] == 1  # A at 0.6 over 0.5; C has no cap
    assert found["spot_share"] == pytest.approx(100 / 250)
    assert found["chip_value_usd"] == pytest.approx(250 * 20_000)
    assert found["lgd"] is None


def test_the_wall_of_expiries(two):
    years = Profile.of(*two).years.set_index("year")
    c = C_BALANCE
    assert years["debt_usd"].to_list() == pytest.approx([4.4e6, 1.2e6 + c, c, 0.0])
    # A: half of its chips never had a contract, the other half's ends in month 18; C's ends in month 15
    assert years["off_contract_usd"].to_list() == pytest.approx([1.2e6, 0.6e6, c, 0.0])
    assert years["contracted_share"].to_list() == pytest.approx([0.6, 0.6, 0.0, 0.0])
    assert years["ending_chips"].to_list() == [0, 0, 150, 0]
    rent = [0, 12 * 100 * LET + 9 * 50 * LET, 6 * 100 * LET + 3 * 50 * LET, 0]
    assert years["revenue_usd"].to_list() == pytest.approx(rent)


def test_parties_maturities_chips_and_classes(two):
    profile = Profile.of(*two)
    assert profile.maturities.to_dict("list") == {
        "year": [2, 3], "loans": [1, 1], "commitment_usd": [2.4e6, 2e6],
        "last_payment_usd": pytest.approx([100_000, C_BALANCE]),
    }  # fmt: skip
    assert profile.tenants["obligor_id"].to_list() == ["T", "U"]
    assert profile.tenants["revenue_usd"].to_list() == pytest.approx([18 * 100 * LET, 12 * 50 * LET])
    assert profile.tenants["share"].to_list() == pytest.approx([0.75, 0.25])
    assert profile.tenant_herfindahl == pytest.approx(0.75**2 + 0.25**2)
    assert profile.borrowers.to_dict("records") == [
        {
            "obligor_id": "B",
            "name": "Borrower B",
            "hazard_class": "risky",
            "loans": 2,
            "commitment_usd": 4.4e6,
            "share": 1,
        }
    ]
    assert profile.borrower_herfindahl == 1
    assert profile.chips[["age_years", "chips"]].to_numpy().tolist() == [[-1, 50], [0, 100], [1, 100]]
    assert profile.chips["share"].to_list() == pytest.approx([0.2, 0.4, 0.4])
    classes = profile.hazard_classes.set_index("hazard_class")
    assert classes.loc["risky", "pd_1_year"] == pytest.approx(1 - np.exp(-0.12))
    assert classes.loc["risky", "pd_horizon"] == pytest.approx(1 - np.exp(-0.24))
    assert classes["tenants"].to_list() == [1, 1]
    assert classes["revenue_share"].to_list() == pytest.approx([0.75, 0.25])


@pytest.mark.parametrize("name", ["neocloud-2024", "vasicek-100"])
def test_debt_is_the_plans(name):
    """Schedules, draws and capitalised interest of the outlook are those that the engines run on."""
    world = Market.read(name)
    portfolio = Portfolio.read(name, world)
    outlook, plan = Outlook.of(portfolio, world), build_plan(portfolio, world)
    months = slice(1, int(plan.market.horizon) + 1)
    dollars = (portfolio.loans["balance_usd"] + portfolio.loans["undrawn_usd"]).to_numpy()
    assert np.array_equal(
        outlook.opening[plan.plain.index, months], (plan.plain.opening.T * dollars[plan.plain.index]).T[:, months]
    )
    planned = plan.loans.principal.T * dollars[plan.loans.index]
    assert np.allclose(outlook.principal[plan.loans.index, months], planned.T[:, months], rtol=1e-6, atol=1)
    assert np.array_equal(outlook.plan.deployments.contract_end, plan.deployments.contract_end)
    assert outlook.owed(0).sum() == pytest.approx(portfolio.balance_usd)
    assert outlook.principal.sum() == pytest.approx(portfolio.commitment_usd + _accrued(outlook))
    assert outlook.owed(10**6).sum() == outlook.closing[:, -1].sum() == 0


def _accrued(outlook):
    """Interest that joins balances before the first month of service."""
    grown = outlook.closing[:, 1:] - outlook.opening[:, 1:]
    return np.maximum(grown, 0).sum()


def test_chip_values_are_those_of_simulated_paths_at_month_0(two):
    portfolio, world = two
    volatile = world.replace(gpu=world.gpu.replace(overhang={"impact": 1.0}, costs={"rise": 0.3}))
    simulated = simulate_prices(volatile, n_paths=2).chip_values[:, 0, 0]
    new = Profile.of(portfolio, volatile).chips.set_index("age_years").loc[0]
    assert np.all(100 * simulated == new["value_usd"])


def test_a_horizon_shorter_than_the_loans_changes_no_figure_but_the_pds(two):
    portfolio, world = two
    long, short = Profile.of(portfolio, world), Profile.of(portfolio, world.replace(horizon_months=1))
    for field in dataclasses.fields(Profile):
        if field.name not in ("horizon_months", "hazard_classes"):
            one, other = getattr(long, field.name), getattr(short, field.name)
            assert one.equals(other) if hasattr(one, "equals") else one == other, field.name


def text(items):
    console = Console(file=StringIO(), width=100, markup=False, emoji=False)
    for item in items:
        console.print(item, highlight=False)
    return console.file.getvalue()


def test_the_page_says_the_wall_and_leaves_out_what_is_not_there(two, pool, market):
    shown = text(page("book", Profile.of(*two)))
    for part in ("the wall of expiries", "DSCR", "LTV", "Tenant T", "Herfindahl", "to come", "risky"):
        assert part in shown
    plain = pool(market(hazard_classes=[{"name": "pool", "hazard": 0.01}]), 3)
    shown = text(page("plain", Profile.of(plain, plain.market)))
    assert "mean LGD of plain loans   45.0%" in shown
    for part in ("chips", "DSCR", "tenants by", " nan", "inf"):
        assert part not in shown


def test_a_book_without_contracts_or_debt_service(market, gpu, book):
    """A chip worth nothing and a loan without interest: no ratio is made up, nothing fails."""
    world = market(gpu=gpu({"opex_usd_per_hour": 50.0}))
    loans = [{"loan_id": "A", "borrower_id": "B", "balance_usd": 1e6, "rate": 0.0, "term_months": 30}]
    deployments = [{"deployment_id": "D", "loan_id": "A", "gpu": "H100", "units": 8}]
    parties = [{"obligor_id": "B", "hazard_class": "safe"}]
    profile = Profile.of(book(world, loans, parties, deployments), world)
    assert (profile.dscr, profile.ltv, profile.reserve_months) == (None, None, None)
    assert profile.spot_share == 1
    assert profile.tenant_herfindahl is None
    json.dumps(profile.to_json_dict(), allow_nan=False)
    shown = text(page("spot", profile))
    assert "tenants by" not in shown
    assert "100.0%" in shown


def test_names_are_text_on_one_line(two):
    portfolio, world = two
    hostile = portfolio.obligors.assign(name="[red]x" + "y" * 500)
    shown = text(page("[bold]", Profile.of(portfolio.replace(obligors=hostile), world)))
    assert "[red]xyyy" in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_check_prints_the_page_json_and_every_problem(monkeypatch, capsys, tmp_path):
    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["gpuloan-mc", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code, capsys.readouterr()

    code, shown = run("check", "neocloud-2024")
    assert (code, shown.err) == (0, "")
    assert "the wall of expiries" in shown.out
    code, shown = run("check", "neocloud-2024", "--json")
    found = json.loads(shown.out)
    assert (code, found["n_loans"], found["n_chips"]) == (0, 43, 380_632)
    assert sum(row["share"] for row in found["tenants"]) == pytest.approx(1)
    (tmp_path / "loans.csv").write_text("loan_id,borrower_id,balance_usd,rate,term_months,lgd\nA,B,x,70,12,0.5\n")
    (tmp_path / "obligors.csv").write_text("obligor_id,hazard_class\nB,bad\n")
    (tmp_path / "market.toml").write_text(
        'start_date = 2024-11-30\nhorizon_months = 12\n[[hazard_classes]]\nname = "good"\nhazard = 0.1\n'
    )
    code, shown = run("check", tmp_path)
    assert (code, shown.out) == (3, "")
    for part in ("balance_usd", "rate is 70", "hazard_class 'bad'"):
        assert part in shown.err
