"""Every rule of the inputs in one table: the checks name its ids, the messages end with its way out, docs come from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scope = Literal["book", "file", "row", "market", "scenario", "pool", "plan", "warning"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule. Scope row: that row is wrong and can be left out; the others stop the book, a warning stops nothing."""

    id: str
    scope: Scope
    tapes: str
    states: str
    way_out: str


def _rules(scope: Scope, *rows: tuple[str, str, str, str]) -> list[Rule]:
    return [Rule(name, scope, tapes, states, way_out) for name, tapes, states, way_out in rows]


ALL = "every tape"

_TABLE = [
    *_rules(
        "book",
        ("no-book", "the folder", "the book is a folder, or the name of a bundled book", "check the path"),
        ("no-tape", "loans, obligors", "these tapes are there, as .csv or .parquet", "write the file"),
        ("no-market", "market.toml", "every book has one", "copy one: gpuloan-mc example DIR writes a book"),
        ("two-tapes", ALL, "a tape is one file, .csv or .parquet", "keep one of them"),
        ("not-a-file", "every file", "a file is a regular file or a link to one; no folder, pipe or dead link",
         "put the file itself there"),
        ("unreadable", "every file", "the file can be opened and decoded", "check permissions, or write it again"),
        ("too-large", "every file", "the file, its lines and what it decodes to keep to the caps",
         "split the book, or drop what is not needed"),
        ("not-a-table", "frames", "a table is a pandas frame or offers the Arrow stream interface",
         "give a DataFrame (collect a lazy one), a pyarrow Table or a DuckDB relation"),
    ),
    *_rules(
        "file",
        ("encoding", ALL, "text is UTF-8; a byte order mark is accepted", "save it as UTF-8"),
        ("empty-file", ALL, "a tape has a header line", "write the header, or leave the file out if it is optional"),
        ("nul-byte", ALL, "no NUL bytes", "the file is damaged or not text: export it again"),
        ("separator", ALL, "cells are separated by commas", "export with commas, and with points as decimal marks"),
        ("quoting", ALL, 'quotes are closed, and doubled inside a quoted cell', "export it again with standard quoting"),
        ("cut-file", ALL, "the last line is whole", "the file was cut: copy it again"),
        ("missing-column", ALL, "needed columns are there", "add the column"),
        ("unknown-column", ALL, "columns are known; only the loan tape may have columns of your own",
         "correct or drop it"),
        ("doubled-column", ALL, "a column stands in the header once", "keep one"),
        ("blank-header", ALL, "a column has a name", "name it, or drop the column"),
        ("column-type", ALL, "a column's type can hold its values: text or whole numbers for ids, numbers for numbers",
         "convert the column before it is written"),
        ("no-loans", "loans", "a book has a loan", "add one"),
        ("no-gpu-market", "deployments", "chips need the [gpu] part of market.toml", "add it"),
        ("book-size", "loans", "the book keeps to the cap on dollars", "split it, or check the currency's unit"),
        ("lgd-kinds", "loans", "distinct pairs of lgd and lgd_sd keep to the cap", "round them"),
        ("too-many-chips", "deployments", "chips of a generation keep to the cap", "check units"),
        ("too-many-vintages", "deployments", "vintages (gpu, in_service_month) keep to the cap",
         "round in_service_month"),
    ),
    *_rules(
        "row",
        ("ragged-row", ALL, "a row has as many cells as the header", "quote cells that hold a comma or a line break"),
        ("blank", ALL, "a needed cell is filled", "fill it"),
        ("not-a-number", ALL, "a number is digits, a point, and perhaps an exponent; finite", "write it as 1234.5"),
        ("not-whole", ALL, "months and counts are whole", "round it"),
        ("out-of-range", ALL, "a number lies in its column's range", "check the unit"),
        ("choice", "loans", "the cell is one of the column's words", "pick one"),
        ("control-character", ALL, "text has no control, direction or unpaired characters", "delete it"),
        ("long-cell", ALL, "a cell keeps to the cap on characters", "shorten it"),
        ("duplicate-id", "loans, deployments, obligors", "ids differ after trimming; the first row of an id is kept",
         "rename or drop one"),
        ("similar-id", "loans, deployments, obligors",
         "ids differ by more than case, width, accents' encoding or zero-width characters", "rename or drop one"),
        ("duplicate-month", "schedules", "a loan's month stands there once", "add the amounts up"),
        ("duplicate-price", "prices", "a chip's month stands there once", "keep one"),
        ("unknown-borrower", "loans", "borrower_id is an obligor_id", "add the obligor, or correct the id"),
        ("unknown-tenant", "deployments", "tenant_id is an obligor_id, or blank", "add the obligor, or correct the id"),
        ("unknown-loan", "deployments, schedules", "loan_id is in the loans tape", "add the loan, or correct the id"),
        ("unknown-gpu", "deployments, prices", "gpu is one of market.toml's gpu.generations", "add it there, or correct it"),
        ("unknown-class", "obligors", "hazard_class is one of market.toml's hazard_classes",
         "add it there, or correct it"),
        ("rate-or-spread", "loans", "exactly one of rate and spread is given", "fill one"),
        ("draw-month", "loans", "undrawn_usd above 0 and a draw_month up to the term go together", "give both, or none"),
        ("no-balance", "loans", "balance_usd and undrawn_usd are not both 0", "drop the row"),
        ("lgd-missing", "loans", "a loan without deployments has an lgd", "give it, or its chips"),
        ("lgd-of-gpu-loan", "loans", "lgd, lgd_sd and lgd_loading are for loans without deployments",
         "leave them blank: here the chips decide"),
        ("lgd-sd", "loans", "lgd_sd is below sqrt(lgd·(1 - lgd)), the largest a Beta has", "lower it"),
        ("no-schedule", "loans", "amortisation = schedule comes with rows in the schedules tape", "add them"),
        ("over-scheduled", "loans", "a schedule pays no more than the commitment", "lower its amounts"),
        ("not-scheduled", "schedules", "the loan has amortisation = schedule", "set it, or drop the row"),
        ("after-term", "schedules", "the month is not after the loan's term", "correct the month or the term"),
        ("loadings", "obligors", "the loadings explain less than all of the variance", "lower them"),
        ("contract", "deployments", "tenant_id, price_usd_per_hour and contract_months go together",
         "give all three, or leave all three blank for the spot market"),
        ("too-many-deployments", "loans", "a loan's deployments keep to the cap", "join those of one tenant and age"),
        ("service-after-term", "loans", "some chips are in service before the loan's term ends",
         "correct in_service_month or the term"),
        ("parent-rejected", "loans, deployments, schedules", "with --on-bad-row reject: the row's parent was not rejected",
         "mend the parent's row"),
        ("children-rejected", "loans",
         "with --on-bad-row reject: some of the loan's deployments, or schedule rows, were accepted", "mend those rows"),
    ),
    *_rules(
        "market",
        ("toml-encoding", "market.toml", "the file is UTF-8; a byte order mark is accepted", "save it as UTF-8"),
        ("toml-syntax", "market.toml", "the file is TOML", "correct the line"),
        ("toml-depth", "market.toml", "brackets and dotted keys keep to the cap on depth", "no table needs more than four"),
        ("unknown-key", "market.toml", "every key is known", "correct or drop it"),
        ("missing-key", "market.toml", "keys without a default are there", "add it"),
        ("wrong-type", "market.toml", "a value has the key's type", "numbers stand without quotes, dates as 2024-11-30"),
        ("market-range", "market.toml", "a value lies in the key's range", "check the unit"),
        ("not-finite", "market.toml", "numbers are finite", "write a finite number"),
        ("market-choice", "market.toml", "a word is one of the key's words", "pick one"),
        ("list-length", "market.toml", "a list has the length it needs", "add or drop entries"),
        ("lists-differ", "market.toml", "lists of regimes, factors and months have the same length",
         "give one entry for each"),
        ("doubled-name", "market.toml", "names of one list differ", "rename one"),
        ("unknown-name", "market.toml", "a name refers to something in the file", "correct it"),
        ("odd-name", "market.toml", "names have no control or direction characters", "delete them"),
        ("correlation", "market.toml", "a correlation matrix is square, symmetric, with 1 on its diagonal, positive definite",
         "shrink its off-diagonal entries"),
        ("transitions", "market.toml", "transitions have 0 on their diagonal", "give only rates from one regime to another"),
        ("curve", "market.toml", "months of a curve increase, and cumulative PDs do not fall", "sort it"),
        ("one-of", "market.toml", "of keys that exclude each other one is given", "give exactly one"),
        ("beta", "market.toml", "a Beta's sd is below sqrt(mean·(1 - mean))", "lower it"),
        ("order", "market.toml", "a lower bound does not exceed the upper", "swap them"),
        ("standstill", "market.toml", "launches move on: cadence and lag are not both 0", "give one of them"),
    ),
    *_rules(
        "scenario",
        ("no-scenario", "--scenario", "a scenario is a TOML file, or the name of a bundled one", "check the name"),
        ("no-target", "scenarios", "what a scenario changes or forces is in the book or its market",
         "correct the name, or copy the scenario and name something of this book"),
        ("no-row", "scenarios", "some row fits a filter", "correct its value"),
        ("not-to-scale", "scenarios", "numbers are scaled and shifted, text is set; a column is set to its own kind",
         "use set, or a value of the other kind"),
    ),
    *_rules(
        "pool",
        ("no-pool", "--pool", "the pool's file is there", "name one with --pool FILE (docs/waterfall.md shows one)"),
        ("pool-size", "pool.toml", "the tranches above the residual take less than the commitment",
         "lower a share or a size_usd"),
        ("residual", "pool.toml", "the last tranche has neither size, interest nor tests: it takes what is left",
         "add a tranche after it, or take that key away"),
        ("no-test", "pool.toml", "turbo = 'breach' has a test to wait for",
         "give a tranche overcollateralisation or interest_cover, or set turbo to never or always"),
    ),
    *_rules(
        "plan",
        ("id-hash", "loans, deployments, obligors", "ids of a kind differ in their 64-bit hashes", "rename one of them"),
        ("balance-growth", "loans",
         "interest that joins the balance before the first chip serves keeps it below a multiple of the commitment",
         "check rate and in_service_month"),
        ("default-months", "obligors", "hazard classes and distinct default_months keep to a cap",
         "let parties default in the same months"),
        ("chips-worth", "deployments", "what all chips cost when new keeps to a cap", "check units"),
    ),
    *_rules(
        "warning",
        ("no-effect", "loans", "terms of GPU loans do nothing for loans without deployments", "leave them blank"),
        ("debt-outlives-contracts", "loans", "at most 5 % of debt with contracts is due after the loan's last one",
         "the rest is paid by the spot market: look at price scenarios"),
        ("tenant-share", "deployments", "no tenant pays more than 40 % of the contracted revenue",
         "look at that tenant's default on its own"),
        ("contract-past-life", "deployments",
         "a contract ends by its generation's life_end_month (a warning: the model lets it run on, with chips at scrap)",
         "check contract_months and life_end_month"),
        ("life-over", "deployments",
         "the generation's life_end_month is after month 0 (a warning: the model values such chips at scrap)",
         "check life_end_month"),
        ("percent-suspected", "loans", "rate and spread are at most 0.5 a year", "write 8 % as 0.08"),
        ("fewer-children", "loans", "with --on-bad-row reject: a loan keeps all its deployments and schedule rows",
         "mend the rejected rows: the loan goes on with fewer"),
    ),
]  # fmt: skip

RULES: dict[str, Rule] = {rule.id: rule for rule in _TABLE}


def sentence(rule: str, found: str, hint: str = "") -> str:
    """What was found, then the way out: the hint if there is one, else the rule's."""
    end = hint or RULES[rule].way_out
    return f"{found.rstrip('.')}. {end[0].upper()}{end[1:]}{'' if end[-1] in '.?' else '.'}"
