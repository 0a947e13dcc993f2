"""Contracts: what is generated is what is committed, and an error says file, place and words."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.contracts import generate, odcs
from include.contracts.contract import contract, models, topics

ORDERS = odcs.FOLDER / "sales.orders.yaml"
Change = Callable[[dict[str, Any]], None]


def properties(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The event's properties by name."""
    return {prop["name"]: prop for prop in raw["schema"][0]["properties"]}


def line_properties(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {prop["name"]: prop for prop in properties(raw)["lines"]["items"]["properties"]}


def custom(raw: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(prop for prop in raw["customProperties"] if prop["property"] == name)
    return found


def changed(folder: Path, change: Change) -> Path:
    """sales.orders.yaml in another folder, with one change."""
    raw = yaml.safe_load(ORDERS.read_text())
    change(raw)
    path = folder / ORDERS.name
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


def test_what_is_committed_is_what_the_contracts_say() -> None:
    expected = generate.outputs(odcs.read_all())
    found = {path: (generate.ROOT / path).read_text() for path in expected if (generate.ROOT / path).exists()}
    assert found == expected, "run `make contract` and commit what it writes"
    assert generate.stale(expected) == []


def test_a_file_that_no_contract_asks_for_is_stale() -> None:
    expected = generate.outputs(odcs.read_all())
    orphan = "include/sql/core/order_line.sql"
    assert generate.stale({path: text for path, text in expected.items() if path != orphan}) == [orphan]


def test_generated_module_holds_the_contract_that_the_file_describes() -> None:
    assert tuple(one.topic for one in odcs.read_all()) == topics()
    assert odcs.read(ORDERS) == contract("sales.orders")


def test_unknown_topic_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(LookupError, match=r"'sales\.refunds'.*known are .*sales\.orders"):
        contract("sales.refunds")


def _rename_a_line_column(raw: dict[str, Any]) -> None:
    line_properties(raw)["product_id"]["name"] = "order_id"


def _remove_event_id(raw: dict[str, Any]) -> None:
    raw["schema"][0]["properties"].remove(properties(raw)["event_id"])
    for part in ("lines", "payments"):
        properties(raw)[part]["customProperties"][0]["value"].remove("event_id")


ERRORS: list[tuple[str, Change, str]] = [
    ("unknown key", lambda raw: raw.update(colour="red"), r"top level: .*'colour'"),
    (
        "unknown key in a property",
        lambda raw: properties(raw)["country"].update(nullable=True),
        r"schema\.0\.properties\.\d+: .*'nullable'",
    ),
    (
        "wrong physicalType",
        lambda raw: line_properties(raw)["unit_price"].update(physicalType="varchar(10)"),
        r"schema\.order_line\.unit_price: physicalType 'varchar\(10\)' does not fit logicalType number",
    ),
    (
        "a logicalType that has no column",
        lambda raw: properties(raw)["channel"].update(logicalType="time"),
        r"schema\.order_header\.channel: logicalType 'time' is not one of string, integer",
    ),
    (
        "event_id is missing",
        _remove_event_id,
        r"schema\.order_header\.lines\.inherits: event_id is missing: rows are found by it",
    ),
    (
        "event_id is optional",
        lambda raw: properties(raw)["event_id"].update(required=False),
        r"schema\.order_header: a required string property event_id is needed",
    ),
    (
        "an option that is not honoured",
        lambda raw: properties(raw)["country"].update(logicalTypeOptions={"pattern": "^[A-Z]"}),
        r"schema\.order_header\.country\.logicalTypeOptions: pattern is not understood for string",
    ),
    (
        "an array option that is not honoured",
        lambda raw: properties(raw)["lines"].update(logicalTypeOptions={"uniqueItems": True}),
        r"schema\.order_header\.lines: uniqueItems is not understood for an array",
    ),
    (
        "inherits an unknown column",
        lambda raw: properties(raw)["lines"]["customProperties"][0].update(value=["event_id", "till"]),
        r"schema\.order_header\.lines\.inherits: till is no column of order_header",
    ),
    (
        "a line's column has the name of an inherited one",
        _rename_a_line_column,
        r"schema\.order_line: column names stand twice: order_id",
    ),
    (
        "a column has the name of a position column",
        lambda raw: properties(raw)["channel"].update(name="slice_id"),
        r"schema\.order_header: column names stand twice: slice_id",
    ),
    (
        "bad severity",
        lambda raw: raw["schema"][0]["quality"][0].update(severity="fatal"),
        r"schema\.order_header\.quality\.most_orders_are_sales: severity 'fatal' is not error .* or warning",
    ),
    (
        "a rule over no column",
        lambda raw: raw["schema"][0]["quality"][0]["implementation"]["kwargs"].update(column="kind"),
        r"schema\.order_header\.quality\.most_orders_are_sales: column 'kind' is not in the table",
    ),
    (
        "no documentation",
        lambda raw: properties(raw)["channel"].pop("description"),
        r"schema\.order_header\.channel: description and one example are needed",
    ),
    ("another topic's id", lambda raw: raw.update(id="sales.refunds"), r"id: 'sales\.refunds' is not the file's name"),
    (
        "a setting is missing",
        lambda raw: raw["customProperties"].remove(custom(raw, "partitions")),
        r"customProperties: partitions is missing",
    ),
    (
        "a setting of the wrong type",
        lambda raw: custom(raw, "partitions").update(value="four"),
        r"customProperties\.partitions: 'four' is not a whole number of at least 1",
    ),
    (
        "a time without a zone",
        lambda raw: custom(raw, "acceptedFrom").update(value="2009-01-01T00:00:00"),
        r"customProperties\.acceptedFrom: 2009-01-01T00:00:00 is no time with a zone",
    ),
    (
        "no time",
        lambda raw: custom(raw, "acceptedFrom").update(value="long ago"),
        r"customProperties\.acceptedFrom: long ago is no time with a zone",
    ),
    (
        "a lookup in no reference",
        lambda raw: properties(raw)["region"].update(transformLogic="country.continent"),
        r"schema\.order_header\.region\.transformLogic: 'country\.continent' is not one of country\.country_code, ",
    ),
    (
        "a lookup by no column",
        lambda raw: properties(raw)["region"].update(transformSourceObjects=["town"]),
        r"schema\.order_header\.region\.transformSourceObjects: 'town' is no column of order_header",
    ),
    (
        "a lookup that is required",
        lambda raw: properties(raw)["region"].update(required=True),
        r"schema\.order_header\.region: what is looked up is an optional string",
    ),
    (
        "an array without a table",
        lambda raw: properties(raw)["lines"].pop("physicalName"),
        r"schema\.order_header\.lines: an array needs physicalName",
    ),
]


@pytest.mark.parametrize(("change", "words"), [error[1:] for error in ERRORS], ids=[error[0] for error in ERRORS])
def test_contract_error_says_file_place_and_what_is_wrong(tmp_path: Path, change: Change, words: str) -> None:
    path = changed(tmp_path, change)
    with pytest.raises(odcs.ContractError, match=rf"^sales\.orders\.yaml: {words}"):
        odcs.read(path)


@pytest.mark.parametrize("text", ["id: [sales.orders", "id: \t- x", "\x07"])
def test_file_that_is_not_yaml_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sales.orders.yaml"
    path.write_text(text)
    with pytest.raises(odcs.ContractError, match=r"^sales\.orders\.yaml: not YAML: "):
        odcs.read(path)


@pytest.mark.parametrize("text", ["", "just words", "- a\n- list"])
def test_file_that_is_no_mapping_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sales.orders.yaml"
    path.write_text(text)
    with pytest.raises(odcs.ContractError, match=r"^sales\.orders\.yaml: top level: .* is not of type 'object'"):
        odcs.read(path)


def _lengthen_channel(raw: dict[str, Any]) -> None:
    properties(raw)["channel"]["physicalType"] = "varchar(17)"


def _change_grain(raw: dict[str, Any]) -> None:
    raw["schema"][0]["dataGranularityDescription"] = "One row per refund."


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_lengthen_channel, r"column channel is varchar\(17\), but varchar\(16\) in sales\.orders\.yaml"),
        (
            _change_grain,
            r"its rows are 'One row per refund\.' of the event, but 'One row per order\.' of the event in ",
        ),
    ],
)
def test_two_topics_that_describe_a_table_differently_are_refused(tmp_path: Path, change: Change, words: str) -> None:
    raw = yaml.safe_load(changed(tmp_path, lambda _: None).read_text())
    raw["id"] = "sales.refunds"
    change(raw)
    (tmp_path / "sales.refunds.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(odcs.ContractError, match=rf"^sales\.refunds\.yaml: schema\.order_header: {words}"):
        odcs.read_all(tmp_path)


def test_table_of_two_topics_has_the_columns_of_both_and_requires_what_both_require() -> None:
    (interaction,) = [model for model in models() if model.table.name == "interaction"]
    assert interaction.topics == ("mobile.interactions", "web.interactions")
    required = {column.name: column.is_required for column in interaction.table.columns}
    assert required["page"]
    assert not required["app_version"], "the web may leave it out"


def _remove(name: str) -> Change:
    return lambda raw: raw["schema"][0]["properties"].remove(properties(raw)[name])


def _add_required(raw: dict[str, Any]) -> None:
    till = {"name": "till", "logicalType": "string", "physicalType": "varchar(8)", "required": True}
    raw["schema"][0]["properties"].append(till | {"description": "Till.", "examples": ["7"]})


def _options(name: str, **options: int) -> Change:
    """Other options of a column of the order's lines."""
    return lambda raw: line_properties(raw)[name].update(logicalTypeOptions=options)


def _to_object(raw: dict[str, Any]) -> None:
    payments = properties(raw)["payments"]
    items = payments.pop("items")
    payments.update(logicalType="object", logicalTypeOptions={}, properties=items["properties"])


def _add_required_part(raw: dict[str, Any]) -> None:
    code: dict[str, Any] = {"name": "code", "logicalType": "string", "physicalType": "varchar(12)"}
    items = {"logicalType": "object", "properties": [code | {"description": "Code.", "examples": ["HATS10"]}]}
    inherits = [{"property": "inherits", "value": ["event_id", "event_ts"]}]
    part = {"name": "vouchers", "physicalName": "voucher", "logicalType": "array", "required": True, "items": items}
    raw["schema"][0]["properties"].append(part | {"customProperties": inherits})


def _send_region(raw: dict[str, Any]) -> None:
    for name in ("transformLogic", "transformSourceObjects"):
        properties(raw)["region"].pop(name)


def _own_country(raw: dict[str, Any]) -> None:
    payments = properties(raw)["payments"]
    payments["customProperties"][0]["value"].remove("country")
    payments["items"]["properties"].append(copy.deepcopy(properties(raw)["country"]))


BREAKING: list[tuple[str, Change, str]] = [
    (
        "type",
        lambda raw: line_properties(raw)["unit_price"].update(physicalType="number(14,3)"),
        r"schema\.order_line\.unit_price: number\(12,3\) became number\(14,3\)",
    ),
    ("required column removed", _remove("currency"), r"schema\.order_header\.currency: it was required and is gone"),
    ("required column added", _add_required, r"schema\.order_header\.till: it is new and required"),
    (
        "required from now on",
        lambda raw: properties(raw)["session_id"].update(required=True),
        r"schema\.order_header\.session_id: it was optional and became required",
    ),
    (
        "enum value removed",
        lambda raw: properties(raw)["channel"]["enum"].pop(),
        r"schema\.order_header\.channel: store is no value any more",
    ),
    (
        "field of the event renamed",
        lambda raw: properties(raw)["channel"].update(name="way", physicalName="channel"),
        r"schema\.order_header\.channel: it was channel of the event and became way",
    ),
    ("table removed", _remove("payments"), r"schema\.payment: the table is gone"),
    (
        "fewer partitions",
        lambda raw: custom(raw, "partitions").update(value=3),
        r"customProperties\.partitions: 4 became 3, but Kafka never removes one",
    ),
    (
        "another key",
        lambda raw: custom(raw, "key").update(value=["order_id"]),
        r"customProperties\.key: \[customer_id, order_id\] became \[order_id\], and what had one key would lose",
    ),
    (
        "accepted from later on",
        lambda raw: custom(raw, "acceptedFrom").update(value="2011-01-01T00:00:00Z"),
        r"customProperties\.acceptedFrom: 2009-01-01T00:00:00Z became 2011-01-01T00:00:00Z",
    ),
    (
        "accepted less far ahead",
        lambda raw: custom(raw, "acceptedAheadS").update(value=299),
        r"customProperties\.acceptedAheadS: 300 became 299",
    ),
    (
        "higher minimum",
        _options("unit_price", minimum=1),
        r"schema\.order_line\.unit_price: minimum 0 became 1",
    ),
    (
        "new minimum of a whole number",
        _options("quantity", minimum=0),
        r"schema\.order_line\.quantity: minimum -999999999 became 0",
    ),
    (
        "new maximum",
        _options("unit_price", minimum=0, maximum=100_000),
        r"schema\.order_line\.unit_price: maximum none became 100000",
    ),
    (
        "lower maximum of a whole number",
        _options("line_no", minimum=1, maximum=500),
        r"schema\.order_line\.line_no: maximum 999999999 became 500",
    ),
    (
        "higher minLength",
        _options("product_id", minLength=5),
        r"schema\.order_line\.product_id: minLength 1 became 5",
    ),
    (
        "new minLength",
        _options("description", minLength=1),
        r"schema\.order_line\.description: minLength none became 1",
    ),
    (
        "only some values of what was any text",
        lambda raw: line_properties(raw)["description"].update(enum=[{"value": "HAT"}]),
        r"schema\.order_line\.description: any value was fine, now only HAT",
    ),
    (
        "kind of number",
        lambda raw: line_properties(raw)["quantity"].update(logicalType="number"),
        r"schema\.order_line\.quantity: integer became number",
    ),
    (
        "higher minItems",
        lambda raw: properties(raw)["lines"]["logicalTypeOptions"].update(minItems=2),
        r"schema\.order_line: minItems 1 became 2",
    ),
    (
        "lower maxItems",
        lambda raw: properties(raw)["payments"]["logicalTypeOptions"].update(maxItems=10),
        r"schema\.payment: maxItems 100 became 10",
    ),
    (
        "part required from now on",
        lambda raw: properties(raw)["payments"].update(required=True),
        r"schema\.payment: payments was optional and became required",
    ),
    (
        "part from another field",
        lambda raw: properties(raw)["payments"].update(name="attempts"),
        r"schema\.payment: its rows came from the array payments and now from the array attempts",
    ),
    (
        "array became an object",
        _to_object,
        r"schema\.payment: its rows came from the array payments and now from the object payments",
    ),
    ("required part added", _add_required_part, r"schema\.voucher: vouchers is new and required, but stored events"),
    (
        "grain",
        lambda raw: raw["schema"][0].update(dataGranularityDescription="One row per parcel."),
        r"schema\.order_header: its grain was 'One row per order\.' and became 'One row per parcel\.'",
    ),
    (
        "lookup of another column",
        lambda raw: properties(raw)["region"].update(transformLogic="country.country_code"),
        r"schema\.order_header\.region: it was looked up as country\.region by country and became looked up as "
        r"country\.country_code by country",
    ),
    (
        "lookup by another column",
        lambda raw: properties(raw)["region"].update(transformSourceObjects=["channel"]),
        r"schema\.order_header\.region: .* by country and became looked up as country\.region by channel",
    ),
    (
        "sent from now on, no longer looked up",
        _send_region,
        r"schema\.order_header\.region: it was looked up as country\.region by country and became sent with the event",
    ),
    (
        "looked up from now on, no longer sent",
        lambda raw: properties(raw)["session_id"].update(
            transformSourceObjects=["country"], transformLogic="country.region"
        ),
        r"schema\.order_header\.session_id: it was sent with the event and became looked up",
    ),
    (
        "inherited no longer",
        _own_country,
        r"schema\.payment\.country: it came from the event and now from the part",
    ),
]


@pytest.mark.parametrize(("change", "words"), [one[1:] for one in BREAKING], ids=[one[0] for one in BREAKING])
def test_breaking_change_is_refused_with_its_place_and_what_to_do(tmp_path: Path, change: Change, words: str) -> None:
    read = odcs.read(changed(tmp_path, change))
    with pytest.raises(odcs.ContractError, match=rf"^sales\.orders\.yaml: {words}.*a breaking change\..* a new topic"):
        odcs.refuse_breaking([read])


LOOSER: list[tuple[str, Change]] = [
    ("optional column removed", _remove("session_id")),
    ("more partitions", lambda raw: custom(raw, "partitions").update(value=8)),
    ("accepted from earlier on", lambda raw: custom(raw, "acceptedFrom").update(value="2008-01-01T00:00:00Z")),
    ("accepted further ahead", lambda raw: custom(raw, "acceptedAheadS").update(value=600)),
    ("lower minimum", _options("line_no", minimum=0)),
    ("no minimum", lambda raw: line_properties(raw)["unit_price"].pop("logicalTypeOptions")),
    ("no minLength", lambda raw: line_properties(raw)["product_id"].pop("logicalTypeOptions")),
    ("fewer items", lambda raw: properties(raw)["lines"]["logicalTypeOptions"].update(minItems=0)),
    ("more items", lambda raw: properties(raw)["payments"]["logicalTypeOptions"].update(maxItems=200)),
    ("no maxItems", lambda raw: properties(raw)["payments"]["logicalTypeOptions"].pop("maxItems")),
    ("part no longer required", lambda raw: properties(raw)["lines"].update(required=False)),
    ("column no longer required", lambda raw: line_properties(raw)["product_id"].update(required=False)),
    ("one more value", lambda raw: properties(raw)["channel"]["enum"].append({"value": "phone"})),
    ("any value", lambda raw: properties(raw)["channel"].pop("enum")),
    ("other words", lambda raw: properties(raw)["channel"].update(description="Where it was sold.")),
]


@pytest.mark.parametrize("change", [one[1] for one in LOOSER], ids=[one[0] for one in LOOSER])
def test_change_that_old_events_survive_is_accepted(tmp_path: Path, change: Change) -> None:
    odcs.refuse_breaking([odcs.read(changed(tmp_path, change))])


def test_contract_command_ends_with_the_error_and_writes_nothing(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda raw: properties(raw)["country"].update(logicalTypeOptions={"format": "x"}))
    with pytest.raises(odcs.ContractError):
        generate.write([odcs.read(path)])
    assert generate.stale(generate.outputs(odcs.read_all())) == []


def test_new_optional_column_reaches_struct_tables_publication_and_page(tmp_path: Path) -> None:
    def add(raw: dict[str, Any]) -> None:
        voucher: dict[str, Any] = {"name": "voucher", "logicalType": "string", "physicalType": "varchar(12)"}
        voucher |= {"description": "Code of the voucher.", "examples": ["HATS10"]}
        raw["schema"][0]["properties"].append(voucher)

    before = generate.outputs([odcs.read(ORDERS)])
    after = generate.outputs([odcs.read(changed(tmp_path, add))])
    added = {
        path: [line.strip() for line in text.splitlines() if "voucher" in line and line not in before[path]]
        for path, text in after.items()
        if text != before[path]
    }
    migration = added["include/sql/migrations/R__table_order_header.sql"]
    assert migration.count("voucher varchar(12),") == 2
    for table in ("staging.order_header", "core.order_header"):
        assert f"alter table {table} add column if not exists voucher varchar(12);" in migration
    struct = "voucher: Annotated[str, Meta(max_length=12)] | None = None"
    assert struct in added["include/contracts/generated/sales_orders.py"]
    row = "| `voucher` | varchar(12) | optional, card numbers masked | Code of the voucher. |"
    assert added["docs/contracts/sales.orders.md"] == [row]
    assert added["include/sql/core/order_header.sql"] == ["voucher,", "voucher,"]
    assert "include/sql/core/order_line.sql" not in added


def test_limits_of_a_number_become_rules_of_the_audit(tmp_path: Path) -> None:
    limits = {"minimum": 0, "maximum": 100_000}
    path = changed(tmp_path, lambda raw: line_properties(raw)["unit_price"].update(logicalTypeOptions=limits))
    suite = json.loads(generate.outputs([odcs.read(path)])["include/contracts/generated/sales_orders.suite.json"])
    (rule,) = [r for r in suite["order_line"] if r["type"] == "expect_column_values_to_be_between"]
    assert rule["kwargs"] == {"column": "unit_price", "min_value": 0, "max_value": 100_000}


def test_generated_parser_is_valid_python_with_nested_objects(tmp_path: Path) -> None:
    def nest(raw: dict[str, Any]) -> None:
        city: dict[str, Any] = {
            "name": "city",
            "logicalType": "string",
            "physicalType": "varchar(20)",
            "required": True,
        }
        city |= {"required": True, "description": "Town.", "examples": ["Leeds"]}
        raw["schema"][0]["properties"].append(
            {"name": "address", "logicalType": "object", "properties": [city], "required": False}
        )

    read = odcs.read(changed(tmp_path, nest))
    column = read.tables[0].columns[-1]
    assert (column.name, column.path, column.is_required) == ("address_city", "address.city", False)
    scope: dict[str, Any] = {"__name__": "generated"}
    exec(generate.outputs([read])["include/contracts/generated/sales_orders.py"], scope)
    assert scope["CONTRACT"] == read
