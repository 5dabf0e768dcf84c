"""Caps on what is let in, checked before memory is spent. docs/input-rules.md states them from here."""

from __future__ import annotations

MIB = 2**20

MAX_ROWS = 2_000_000
MAX_COLUMNS = 500
MAX_CELLS = 50_000_000
MAX_FILE_BYTES = 256 * MIB
MAX_DECODED_BYTES = 2048 * MIB
MAX_LINE_CHARACTERS = MIB
MAX_CELL_CHARACTERS = 10_000
MAX_TOML_BYTES = MIB
MAX_TOML_DEPTH = 16
MAX_LISTED_PER_RULE = 100_000
MAX_SUGGESTIONS_PER_RULE = 20

MAX_BALANCE_USD = 1e12
MAX_DEPLOYMENTS = 8
MAX_CHIPS = 2**31 - 1
MAX_LGD_KINDS = 256
MAX_VINTAGES = 64

DEBT_AFTER_CONTRACTS_WARNED = 0.05
TENANT_SHARE_WARNED = 0.40
RATE_WARNED = 0.50

CAPS: tuple[tuple[str, str], ...] = (
    ("rows of a tape", f"{MAX_ROWS:,}"),
    ("columns of a tape", f"{MAX_COLUMNS:,}"),
    ("cells of a tape", f"{MAX_CELLS:,}"),
    ("bytes of a tape's file", f"{MAX_FILE_BYTES // MIB:,} MiB"),
    ("bytes of a tape once decoded (Parquet, frames)", f"{MAX_DECODED_BYTES // MIB:,} MiB"),
    ("characters of a line of CSV", f"{MAX_LINE_CHARACTERS:,}"),
    ("characters of a cell", f"{MAX_CELL_CHARACTERS:,}"),
    ("bytes of market.toml", f"{MAX_TOML_BYTES // MIB:,} MiB"),
    ("depth of brackets and dotted keys in market.toml", f"{MAX_TOML_DEPTH}"),
    ("deployments of a loan", f"{MAX_DEPLOYMENTS}"),
    ("chips of a generation in a book", f"{MAX_CHIPS:,}"),
    ("dollars of a loan, and of a book", f"{MAX_BALANCE_USD:,.0f}"),
    ("vintages (gpu, in_service_month) of a book", f"{MAX_VINTAGES}"),
    ("distinct (lgd, lgd_sd) of a book", f"{MAX_LGD_KINDS}"),
    ("problems of one rule listed one by one", f"{MAX_LISTED_PER_RULE:,}; the rest are counted"),
)
