"""Bundled and example books: sound, reproducible, and with the archetypes' risk where it should be."""

import re

import numpy as np
import pandas as pd
import pytest

from gpuloan_mc.errors import UsageError
from gpuloan_mc.example import ARCHETYPES, BUNDLED, SOFR, monthly_payment, synthetic_book, write_example
from gpuloan_mc.inputs.books import book_folder, bundled_books
from gpuloan_mc.market import Market
from gpuloan_mc.portfolio import Portfolio
from gpuloan_mc.simulation import simulate


@pytest.mark.parametrize("name", bundled_books())
def test_bundled_books_are_accepted_without_a_warning(name):
    portfolio = Portfolio.read(name)
    assert portfolio.warnings == ()
    assert (book_folder(name) / "README.md").is_file()


def test_neocloud_2024_is_the_book_its_readme_describes():
    portfolio = Portfolio.read(BUNDLED)
    assert portfolio.n_loans == 43
    assert portfolio.commitment_usd == pytest.approx(13.1e9, rel=0.01)
    assert portfolio.segment_columns == ("archetype", "vintage_year")
    assert set(portfolio.loans["archetype"]) == {a.name for a in ARCHETYPES}
    several = portfolio.deployments["loan_id"].value_counts()
    assert (several >= 2).sum() >= 15
    assert (portfolio.loans["undrawn_usd"] > 0).sum() >= 2
    named = set(portfolio.obligors["name"])
    assert {"CoreWeave", "Lambda", "Crusoe"} <= named


def test_vasicek_100_is_the_classic_pool():
    portfolio = Portfolio.read("vasicek-100")
    assert portfolio.n_loans == 100
    assert portfolio.commitment_usd == 100e6
    assert np.allclose(portfolio.obligors["loading_demand"] ** 2, 0.2)


@pytest.mark.parametrize("n_loans", [1, 7, 500])
def test_synthetic_books_are_accepted_and_reproducible(n_loans, tmp_path):
    for name in ("a", "b"):
        write_example(tmp_path / name, n_loans=n_loans, seed=4)
    portfolio = Portfolio.read(tmp_path / "a")
    assert portfolio.n_loans == n_loans
    for file in ("loans.csv", "deployments.csv", "obligors.csv", "market.toml"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    other = synthetic_book(n_loans, 5)["loans"]
    assert n_loans == 1 or not other.equals(pd.read_csv(tmp_path / "a" / "loans.csv"))
    text = pd.concat([portfolio.obligors["name"], portfolio.loans["loan_id"]])
    assert not text.str.match(r"[=+\-@]").any()


@pytest.mark.slow
def test_the_largest_synthetic_book_fits_the_limits(tmp_path):
    write_example(tmp_path / "big", n_loans=100_000)
    portfolio = Portfolio.read(tmp_path / "big")
    assert portfolio.n_loans == 100_000
    assert 1e9 < portfolio.commitment_usd < 1e11


@pytest.mark.parametrize("n_loans", [0, 100_001])
def test_impossible_sizes_are_refused(n_loans, tmp_path):
    with pytest.raises(UsageError, match="from 1 to 100000"):
        write_example(tmp_path / "x", n_loans=n_loans)


def archetype_book(market, chips=400, copies=8):
    """Loans of each archetype, new, each with its own borrower and tenant."""
    loans, deployments, obligors = [], [], []
    for kind in ARCHETYPES:
        balance = chips * kind.chip_cost * kind.loan_to_cost
        payment = monthly_payment(np.array([balance]), np.array([kind.spread + SOFR]), np.array([kind.loan_months]))[0]
        for i in range(copies):
            name = f"{kind.name}-{i}"
            loans.append(
                {
                    "loan_id": name,
                    "borrower_id": f"b-{name}",
                    "balance_usd": balance,
                    "spread": kind.spread,
                    "amortisation": "annuity",
                    "term_months": kind.loan_months,
                    "reserve_usd": round(3 * payment, 2),
                    "reserve_months": 3,
                    "dscr_lockup": 1.2,
                    "dscr_default": 1.05,
                    "dscr_default_months": 6,
                    "remoteness": 0.65,
                    "sweep_share": kind.sweep,
                    "archetype": kind.name,
                }
            )
            # "start-ups" are several tenants a loan; the others have one
            tenants = [f"t{j}-{name}" for j in range(4 if kind.tenant_class == "start-up" else 1)]
            let = kind.tenant_class is not None
            for tenant in tenants:
                deployments.append(
                    {
                        "deployment_id": tenant,
                        "loan_id": name,
                        "gpu": kind.gpu,
                        "units": chips // len(tenants),
                        "in_service_month": min(kind.service_month, 0),
                        "tenant_id": tenant if let else None,
                        "price_usd_per_hour": kind.contract_price,
                        "contract_months": kind.contract_months if let else None,
                    }
                )
            parties = [(f"b-{name}", "neocloud"), *((t, kind.tenant_class) for t in tenants if let)]
            obligors += [
                {"obligor_id": o, "hazard_class": c, "loading_demand": 0.3, "loading_credit": 0.3} for o, c in parties
            ]
    return Portfolio.from_frames(
        market=market, loans=pd.DataFrame(loans), deployments=pd.DataFrame(deployments), obligors=pd.DataFrame(obligors)
    )


SKETCH = {
    "ig-delayed-draw": (0.07, 0.17),
    "ai-lab-delayed-draw": (0.18, 0.42),
    "ig-blackwell": (0.08, 0.11),
    "short-contracts": (0.49, 0.26),
    "merchant": (0.48, 0.45),
    "old-a100": (0.10, 0.28),
}


def readme_figures():
    """(PD, LGD) of each archetype in the book's README."""
    page = (book_folder(BUNDLED) / "README.md").read_text()
    rows = re.findall(r"^\| ([a-z0-9-]+)[^|]* \| (0\.\d+) ± [\d.]+ \| (0\.\d+) ± [\d.]+ \|$", page, re.MULTILINE)
    return {name: (float(pd_), float(lgd)) for name, pd_, lgd in rows}


def test_the_archetypes_default_and_lose_as_sketched_and_as_the_readme_says():
    """Against a float64 sketch made before this code, for orientation (at most 0.03), and the README's longer run."""
    market = Market.read(BUNDLED)
    found = simulate(archetype_book(market), market, n_paths=2000, seed=1).segments("archetype").set_index("value")
    told = readme_figures()
    assert set(told) == set(SKETCH)
    for name, row in found.iterrows():
        for figure, error, sketched, said in zip(
            ("default_rate", "lgd"), ("default_rate_se", "lgd_se"), SKETCH[name], told[name], strict=True
        ):
            assert abs(row[figure] - sketched) < min(0.015 + 3 * row[error], 0.03), (name, row)
            assert abs(row[figure] - said) < 4 * row[error], (name, row)
