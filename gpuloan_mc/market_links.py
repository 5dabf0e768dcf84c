"""Rules between the tables of market.toml, judged on plain values: they are told beside every other problem of the file."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from .errors import BrokenRule
from .text import shown


def broken_links(market: Mapping[str, Any]) -> list[BrokenRule]:
    """Broken rules between the tables of a market; what has another type than it should is passed over."""
    regimes = _table(market, "regimes")
    names = regimes.get("names", ["normal"])
    found = [*_doubled(_list(market, "hazard_classes"), "hazard_classes")]
    if isinstance(names, list):
        found += _lengths(market, len(names))
        initial = regimes.get("initial", "normal")
        if isinstance(initial, str) and initial not in names:
            found.append(_unknown("regimes.initial", "initial", initial, names))
    if isinstance(market.get("gpu"), Mapping):
        found += [BrokenRule(b.rule, f"gpu.{b.place}", str(b)) for b in broken_gpu_links(market["gpu"])]
    return found


def broken_gpu_links(gpu: Mapping[str, Any]) -> list[BrokenRule]:
    """Broken rules between the tables of [gpu], with places inside it."""
    generations = _list(gpu, "generations")
    names = [g["name"] for g in generations if isinstance(g, Mapping) and isinstance(g.get("name"), str)]
    found = [*_doubled(generations, "generations")]
    for i, expiry in enumerate(_list(_table(gpu, "overhang"), "calendar"), start=1):
        chip = expiry.get("gpu") if isinstance(expiry, Mapping) else None
        if isinstance(chip, str) and chip not in names:
            found.append(_unknown(f"overhang.calendar[{i}].gpu", "overhang.calendar names gpu", chip, names))
    forced = _list(gpu, "forced_prices")
    for i, path in enumerate(forced, start=1):
        chip = path.get("gpu") if isinstance(path, Mapping) else None
        if isinstance(chip, str) and chip not in names:
            found.append(_unknown(f"forced_prices[{i}].gpu", "forced_prices names gpu", chip, names))
    return [*found, *_doubled(forced, "forced_prices", "gpu")]


def _table(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, Mapping) else {}


def _list(parent: Mapping[str, Any], key: str) -> list[Any]:
    value = parent.get(key)
    return value if isinstance(value, list) else []


def _lengths(market: Mapping[str, Any], n: int) -> Iterator[BrokenRule]:
    """Lists that need one entry for each regime."""
    for i, item in enumerate(_list(market, "hazard_classes"), start=1):
        given = item.get("regime_multipliers") if isinstance(item, Mapping) else None
        if isinstance(given, list) and len(given) != n:
            text = f"hazard class {shown(item.get('name'))} has {len(given)} regime_multipliers"
            yield BrokenRule("lists-differ", f"hazard_classes[{i}].regime_multipliers", _one_each(text, n))
    renewal = _table(_table(market, "gpu"), "contracts").get("renewal")
    if isinstance(renewal, list) and len(renewal) != n:
        yield BrokenRule("lists-differ", "gpu.contracts.renewal", _one_each(f"renewal has {len(renewal)} entries", n))


def _one_each(found: str, n: int) -> str:
    return f"{found}; give one for each of the {n} regimes"


def _doubled(tables: list[Any], place: str, key: str = "name") -> Iterator[BrokenRule]:
    """Tables of a list that share a name."""
    seen: set[str] = set()
    for i, table in enumerate(tables, start=1):
        name = table.get(key) if isinstance(table, Mapping) else None
        if isinstance(name, str) and name in seen:
            yield BrokenRule("doubled-name", f"{place}[{i}].{key}", f"{place} has {shown(name)} twice")
        elif isinstance(name, str):
            seen.add(name)


def _unknown(place: str, what: str, found: str, known: list[Any]) -> BrokenRule:
    near = difflib.get_close_matches(found, [k for k in known if isinstance(k, str)], n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(map(str, known))}"
    return BrokenRule("unknown-name", place, f"{what} {shown(found)}; {hint}")
