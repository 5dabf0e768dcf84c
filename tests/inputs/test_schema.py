"""The schema of market.toml and the references: complete, true to the code, and fit for an editor."""

import datetime
import json
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from gpuloan_mc import cli
from gpuloan_mc.inputs.books import book_folder, bundled_books
from gpuloan_mc.inputs.columns import TAPES
from gpuloan_mc.inputs.reference import KINDS, column_reference
from gpuloan_mc.inputs.schema import column_schema, market_schema, schema_files, write_schema
from gpuloan_mc.market import Market

DOCS = Path(__file__).parent.parent.parent / "docs"
GOOD = tomllib.loads((book_folder("neocloud-2024") / "market.toml").read_text())
TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict}


def mistakes(schema, value, root=None, place=""):
    """A small validator of the parts of JSON Schema that the schema uses; the places of what is wrong."""
    root = schema if root is None else root
    if "$ref" in schema:
        return mistakes(root["$defs"][schema["$ref"].removeprefix("#/$defs/")], value, root, place)
    if isinstance(value, datetime.date):  # editors see TOML's dates as text
        value = value.isoformat()
    if not isinstance(value, TYPES[schema["type"]]) or (isinstance(value, bool) and schema["type"] != "boolean"):
        return [place]
    found = [place for fails in _limits(schema, value) if fails]
    if isinstance(value, list):
        for i, item in enumerate(value):
            found += mistakes(schema["items"], item, root, f"{place}[{i + 1}]")
    if isinstance(value, dict):
        found += [f"{place}.{key}" for key in schema.get("required", ()) if key not in value]
        alternatives = schema.get("oneOf")
        if alternatives and sum(all(k in value for k in a["required"]) for a in alternatives) != 1:
            found.append(place)
        for key, item in value.items():
            known = schema["properties"].get(key)
            found += [f"{place}.{key}"] if known is None else mistakes(known, item, root, f"{place}.{key}")
    return found


def _limits(schema, value):
    if "enum" in schema:
        yield value not in schema["enum"]
    if isinstance(value, (int, float)):
        yield value < schema.get("minimum", value)
        yield value > schema.get("maximum", value)
        yield "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]
        yield "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]
    if isinstance(value, list):
        yield len(value) < schema.get("minItems", 0)
        yield len(value) > schema.get("maxItems", len(value))
    if isinstance(value, str):
        yield len(value) < schema.get("minLength", 0)


def tables():
    schema = market_schema()
    return [("Market", schema), *schema["$defs"].items()]


@pytest.mark.parametrize("name, table", tables(), ids=[name for name, _ in tables()])
def test_every_table_and_key_is_described(name, table):
    assert table["description"]
    assert table["additionalProperties"] is False
    for key, found in table["properties"].items():
        assert found.get("description"), f"{name}.{key}: give it a description with unit, symbol and equation"


def test_numbers_say_their_unit():
    """A number's description, name or range of 0 to 1 says what it is measured in."""
    words = (
        "year month dollar chip share fraction probability log factor degrees shape multiplied weight ratio β".split()
    )
    for name, table in tables():
        for key, found in table["properties"].items():
            if found.get("type") in ("number", "integer"):
                text = f"{key} {found['description']}"
                share = (found.get("minimum"), found.get("maximum")) == (0, 1)
                assert share or any(w in text for w in words), f"{name}.{key}: {found['description']}"


@pytest.mark.parametrize("book", bundled_books())
def test_bundled_markets_are_valid(book):
    data = tomllib.loads((book_folder(book) / "market.toml").read_text())
    assert mistakes(market_schema(), data) == []


def changed(**changes):
    return {key: value for key, value in (GOOD | changes).items() if value is not None}


GPU = GOOD["gpu"]
BAD = [
    (changed(horizon_months=None), ".horizon_months"),
    (changed(horizon_months=0), ".horizon_months"),
    (changed(horizon_months=6.5), ".horizon_months"),
    (changed(demand={"mean_revertion": 2.0}), ".demand.mean_revertion"),
    (changed(dependence={"copula": "clayton"}), ".dependence.copula"),
    (changed(dependence={"grouped": 1}), ".dependence.grouped"),
    (changed(hazard_classes=[]), ".hazard_classes"),
    (changed(hazard_classes=[{"name": "x"}]), ".hazard_classes[1]"),
    (changed(hazard_classes=[{"name": "x", "hazard": 0.1, "pd_by_year": [0.1]}]), ".hazard_classes[1]"),
    (changed(hazard_classes=[{"name": "", "hazard": 0.1}]), ".hazard_classes[1].name"),
    (changed(gpu=GPU | {"spot": {"premium": 0}}), ".gpu.spot.premium"),
    (changed(gpu=GPU | {"recovery": {"haircut_mean": 1.0}}), ".gpu.recovery.haircut_mean"),
    (changed(gpu={k: v for k, v in GPU.items() if k != "value"}), ".gpu.value"),
]


@pytest.mark.parametrize("data, place", BAD, ids=[place for _, place in BAD])
def test_what_the_schema_refuses_the_reader_refuses(data, place):
    assert mistakes(market_schema(), data) == [place]
    with pytest.raises(ValidationError):
        Market.model_validate(data)


def test_toml_has_no_null_so_the_schema_has_none():
    text = json.dumps(market_schema())
    assert "null" not in text
    assert "anyOf" not in text


def test_columns_are_those_of_the_tapes():
    found = json.loads(schema_files()["columns.json"])
    assert found == json.loads(json.dumps(column_schema()))
    assert {name: [c["name"] for c in tape["columns"]] for name, tape in found["tapes"].items()} == {
        name: [c.name for c in columns] for name, columns in TAPES.items()
    }
    assert {c["kind"] for tape in found["tapes"].values() for c in tape["columns"]} == set(KINDS)
    assert [name for name, tape in found["tapes"].items() if tape["required"]] == ["loans", "obligors"]


def test_the_references_in_docs_are_written_from_the_code():
    assert (DOCS / "columns.md").read_text() == column_reference()
    assert (DOCS / "market.md").read_text() == schema_files()["market.md"]


def test_the_market_reference_has_every_key_once():
    text = schema_files()["market.md"]
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    schema = market_schema()
    launches = len(schema["$defs"]["Launches"]["properties"])  # stands there twice: the makers' and the rivals'
    assert len(lines) == sum(len(table["properties"]) for _, table in tables()) + launches
    assert all(line.count("|") == 6 for line in lines)


def test_schema_prints_or_writes(monkeypatch, capsys, tmp_path):
    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["gpuloan-mc", "schema", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code, capsys.readouterr()

    code, shown = run()
    assert (code, json.loads(shown.out)) == (0, market_schema())
    for _ in range(2):  # a second time replaces the files
        code, shown = run("--out", tmp_path / "a" / "b")
        assert code == 0
        assert shown.out.count("wrote ") == 4
    assert json.loads((tmp_path / "a" / "b" / "market.schema.json").read_text()) == market_schema()
    (tmp_path / "file").write_text("mine")
    code, shown = run("--out", tmp_path / "file" / "x")
    assert (code, "can't be used" in shown.err) == (2, True)
    assert [p.name for p in write_schema(tmp_path / "c")] == list(schema_files())


def test_a_market_with_the_schema_line_is_read(tmp_path):
    text = (book_folder("vasicek-100") / "market.toml").read_text()
    (tmp_path / "market.toml").write_text("#:schema ./market.schema.json\n" + text)
    assert Market.read(tmp_path) == Market.read("vasicek-100")
