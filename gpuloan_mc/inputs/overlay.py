"""A scenario's changes on plain values: the market as nested dicts and lists, the tapes as frames."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import Problem
from ..text import shown
from .books import suggest
from .cells import Mask
from .columns import TAPES
from .rules import sentence
from .scenario_file import ForcedDefault, MarketChange, OutsideSupply, RowChange

if TYPE_CHECKING:
    import pandas as pd

ALL = "*"
NO_GPU = "this market has no [gpu] part"
_TEXT = ("id", "text", "choice")
_WHOLE = ("months", "count")

Place = tuple[Any, Any]  # a dict or list, and the key or position in it


class _Wrong(Exception):
    """A change that can't be made."""

    def __init__(self, rule: str, found: str, hint: str = "") -> None:
        super().__init__(found)
        self.rule, self.found, self.hint = rule, found, hint

    def problem(self, file: str, place: str) -> Problem:
        return Problem(file, sentence(self.rule, self.found, self.hint.strip()), self.rule, None, place)


class _Opened(dict[str, Any]):
    """A table that the market did not have; its keys are judged with the market."""


# --- market -----------------------------------------------------------------------------------------------------------


def change_market(file: str, tree: dict[str, Any], change: MarketChange) -> list[Problem]:
    """Change a market's tree in place; what can't be changed is told."""
    problems = []
    for kind in ("set", "scale", "shift"):
        for path, value in _flat(getattr(change, kind)):
            try:
                _change(tree, path, kind, value)
            except _Wrong as wrong:
                problems.append(wrong.problem(file, f"market.{kind}.{path}"))
    return problems


def _flat(table: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values, whether they were written as one word or as tables."""
    for key, value in table.items():
        path = f"{place}.{key}" if place else key
        if isinstance(value, dict):
            yield from _flat(value, path)
        else:
            yield path, value


def _change(tree: dict[str, Any], path: str, kind: str, value: Any) -> None:
    if tree["gpu"] is None and path.partition(".")[0] == "gpu":
        raise _Wrong("no-target", NO_GPU)
    regimes = tree["regimes"]["names"]
    found = list(places(tree, path, regimes, opening=kind == "set"))
    if kind == "set":
        for container, key in found:
            container[key] = copy.deepcopy(value)
        return
    given = [(container, key) for container, key in found if container[key] is not None]
    if not given:
        raise _Wrong("not-to-scale", f"this market does not give {path}", "set it")
    amount = _number(value)
    move: Callable[[float], float] = (lambda x: x * amount) if kind == "scale" else (lambda x: x + amount)
    for container, key in given:
        container[key] = _moved(container[key], move)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        raise _Wrong("not-to-scale", f"{shown(value)} is not a finite number")
    return value


def _moved(value: Any, move: Callable[[float], float]) -> Any:
    if isinstance(value, list):
        return [_moved(item, move) for item in value]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _Wrong("not-to-scale", f"{shown(value)} can't be scaled or shifted" if value is not None else "not given")
    return round(move(value)) if isinstance(value, int) else move(value)


def places(tree: Any, path: str, regimes: list[str], *, opening: bool = False) -> Iterator[Place]:
    """Where a dotted key leads.

    Raises:
        _Wrong: nowhere; with the nearest key.
    """
    known = _keys(tree, regimes)
    part, rest = _first_part(path, list(known))
    if part == ALL and isinstance(tree, list):
        keys: list[Any] = list(range(len(tree)))
    elif part in known:
        keys = [known[part]]
    elif isinstance(tree, _Opened):
        tree.setdefault(part, None)
        keys = [part]
    else:
        raise _Wrong("no-target", f"unknown key {shown(part)}", suggest(part, [k for k in known if not k.isdigit()]))
    for key in keys:
        if not rest:
            yield tree, key
            continue
        if tree[key] is None and opening:
            tree[key] = _Opened()
        if not isinstance(tree[key], (dict, list)):
            raise _Wrong(
                "no-target", f"{shown(part)} has nothing inside" if tree[key] is not None else f"no {part} here"
            )
        yield from places(tree[key], rest, regimes, opening=opening)


def _keys(tree: Any, regimes: list[str]) -> dict[str, Any]:
    """Words that lead on from here: keys of a table; names, or places from 1, of a list."""
    if isinstance(tree, dict):
        return {key: key for key in tree}
    found: dict[str, Any] = {str(i + 1): i for i in range(len(tree))}
    found |= {item["name"]: i for i, item in enumerate(tree) if isinstance(item, dict) and "name" in item}
    if len(tree) == len(regimes) and not any(isinstance(item, dict) for item in tree):
        found |= {name: i for i, name in enumerate(regimes)}
    return found


def _first_part(path: str, known: list[str]) -> tuple[str, str]:
    """The first word of a dotted key and what follows; a known name may hold dots itself."""
    for name in sorted((k for k in known if "." in k), key=len, reverse=True):
        if path == name or path.startswith(f"{name}."):
            return name, path[len(name) + 1 :]
    part, _, rest = path.partition(".")
    return part, rest


def add_supply(file: str, tree: dict[str, Any], supplies: list[OutsideSupply]) -> list[Problem]:
    """Spread outside chips over the calendar, whole chips a month."""
    if supplies and tree["gpu"] is None:
        return [_Wrong("no-target", NO_GPU).problem(file, "outside_supply")]
    for supply in supplies:
        n = supply.last_month - supply.first_month + 1
        for i in range(n):
            units = supply.units * (i + 1) // n - supply.units * i // n
            entry = {"gpu": supply.gpu, "month": supply.first_month + i, "units": units}
            tree["gpu"]["overhang"]["calendar"].append(entry)
    return []


def force_prices(file: str, tree: dict[str, Any], paths: list[dict[str, Any]]) -> list[Problem]:
    """Price paths, each in the place of an earlier one of the same generation."""
    if paths and tree["gpu"] is None:
        return [_Wrong("no-target", NO_GPU).problem(file, "force.price")]
    if paths:
        names = [path["gpu"] for path in paths]
        kept = [p for p in tree["gpu"]["forced_prices"] if p["gpu"] not in names]
        tree["gpu"]["forced_prices"] = kept + paths
    return []


# --- tapes ------------------------------------------------------------------------------------------------------------


def change_rows(
    file: str, name: str, frame: pd.DataFrame, changes: list[RowChange]
) -> tuple[pd.DataFrame, list[Problem]]:
    """A tape with its columns changed in the rows that the filters let through."""
    frame = frame.copy()
    problems: list[Problem] = []
    for i, change in enumerate(changes, start=1):
        place = f"{name}[{i}]"
        try:
            rows = _rows(name, frame, change)
        except _Wrong as wrong:
            problems.append(wrong.problem(file, f"{place}.where"))
            continue
        for kind in ("set", "scale", "shift"):
            for column, value in getattr(change, kind).items():
                try:
                    frame[column] = _column(name, frame, column, rows, kind, value)
                except _Wrong as wrong:
                    problems.append(wrong.problem(file, f"{place}.{kind}.{column}"))
    return frame, problems


def _kind(name: str, frame: pd.DataFrame, column: str) -> str:
    kinds: dict[str, str] = {c.name: c.kind for c in TAPES[name]}
    if column not in frame.columns:
        raise _Wrong(
            "no-target", f"{name} has no column {shown(column)}", suggest(column, [str(c) for c in frame.columns])
        )
    return kinds.get(column, "number" if name == "obligors" else "text")


def _rows(name: str, frame: pd.DataFrame, change: RowChange) -> Mask:
    rows = np.ones(len(frame), dtype=np.bool_)
    for column, value in change.where.items():
        kind, values = _kind(name, frame, column), value if isinstance(value, list) else [value]
        if kind in _TEXT:
            rows &= frame[column].astype(str).isin([str(v) for v in values]).to_numpy()
        else:
            rows &= frame[column].isin([_number(v) for v in values]).to_numpy()
    if not rows.any():
        raise _Wrong("no-row", f"no row of {name} has {_filter(change)}" if change.where else f"{name} has no rows")
    return rows


def _filter(change: RowChange) -> str:
    return " and ".join(f"{column} = {shown(value)}" for column, value in change.where.items())


def _column(name: str, frame: pd.DataFrame, column: str, rows: Mask, kind: str, value: Any) -> Any:
    """The column's new values."""
    what = _kind(name, frame, column)
    if what in _TEXT:
        if kind != "set" or not isinstance(value, str):
            raise _Wrong("not-to-scale", f"{column} is text", "set it to a text")
        return frame[column].astype(object).where(~rows, value)
    amount = _number(value)
    values = frame[column].to_numpy(np.float64).copy()
    if kind == "set":
        values[rows] = amount
    else:
        optional = {c.name for c in TAPES[name] if c.kind in _WHOLE and not c.required and c.default is None}
        rows = rows & ~((values == 0) & (column in optional))  # blank months are 0, and stay blank
        values[rows] = values[rows] * amount if kind == "scale" else values[rows] + amount
        if what in _WHOLE:
            values[rows] = np.rint(values[rows])
    whole = what in _WHOLE and bool((values == np.rint(values)).all() and (np.abs(values) < 2**53).all())
    return values.astype(np.int64) if whole else values


def force_defaults(
    file: str, obligors: pd.DataFrame, forced: list[ForcedDefault]
) -> tuple[pd.DataFrame, list[Problem]]:
    """Obligors with their default months."""
    obligors, known = obligors.copy(), [str(i) for i in obligors["obligor_id"]]
    problems: list[Problem] = []
    for i, force in enumerate(forced, start=1):
        if force.obligor not in known:
            wrong = _Wrong(
                "no-target", f"no obligor {shown(force.obligor)} in this book", suggest(force.obligor, known)
            )
            problems.append(wrong.problem(file, f"force.default[{i}].obligor"))
        obligors.loc[obligors["obligor_id"] == force.obligor, "default_month"] = force.month
    return obligors, problems
