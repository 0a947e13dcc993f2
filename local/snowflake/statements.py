"""What a statement is, decided before anything runs: query, DML, DDL, a documented no-op, or refused."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

import sqlglot
from fakesnow.dialect import syntax_error
from snowflake.connector.errors import ProgrammingError
from sqlglot import Expr, exp
from sqlglot.errors import ParseError, TokenError

from local.snowflake.errors import error, refused
from local.snowflake.locks import Mode

# sqlglot logs what it cannot parse and what it drops; this module refuses the former and knows the latter.
logging.getLogger("sqlglot").setLevel(logging.ERROR)


class Kind(Enum):
    """What a statement does to a transaction."""

    QUERY = "query"
    DML = "dml"
    DDL = "ddl"
    NO_OP = "no-op"
    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    SESSION = "session"


@dataclass(frozen=True)
class Statement:
    """One parsed statement. target: the table it locks, as written; mode: how it locks it."""

    text: str
    expression: Expr
    kind: Kind
    type_id: int
    target: exp.Table | None = None
    mode: Mode | None = None


# Snowflake's statementTypeId, by which the connector tells affected rows from a result.
_SELECT, _INSERT, _UPDATE, _DELETE, _MERGE, _COPY = 0x1000, 0x3100, 0x3200, 0x3300, 0x3400, 0x3600
_SCL, _SHOW, _DESCRIBE, _TCL, _DDL = 0x4000, 0x4400, 0x4500, 0x5000, 0x6000
AFFECTS_ROWS = frozenset({_INSERT, _UPDATE, _DELETE, _MERGE})
TRANSLATED_ONCE = AFFECTS_ROWS | {_SELECT}

_OBJECT = r"(create(\s+or\s+replace)?|alter|drop)(\s+(if\s+exists))?\s+"
# Access, compute and cloud wiring: they exist in production only and change no result here.
_NO_OP = re.compile(
    rf"(grant|revoke)\s|{_OBJECT}(warehouse|((database|application)\s+)?role|user|resource\s+monitor"
    r"|network\s+(policy|rule)|((storage|notification|api|security|catalog)\s+)?integration)\s"
    r"|use\s+(role|warehouse|secondary\s+roles)\s"
    r"|alter\s+(database|schema)\s+(if\s+exists\s+)?\S+\s+(un)?set\s+(data_retention|max_data_extension|comment)"
    r"|alter\s+table\s+(if\s+exists\s+)?\S+\s+((un)?set\s+(data_retention_time_in_days|change_tracking)"
    r"|cluster\s+by|drop\s+clustering\s+key|(suspend|resume)\s+recluster|(add|drop)\s+search\s+optimization"
    r"|(add|drop)\s+(constraint\s+\S+\s+)?(primary\s+key|unique|foreign\s+key))",
    re.IGNORECASE,
)
# Read before the parser: it would take these for something else, or run them as something else.
_REFUSED = re.compile(
    rf"{_OBJECT.replace('replace', '(replace|alter)')}((secure|temporary|temp|transient|local|global)\s+)*"
    r"(materialized\s+view|dynamic\s+table|external\s+table|hybrid\s+table|iceberg\s+table|event\s+table|task|pipe"
    r"|stream|alert|function|procedure|(masking|row\s+access|session|password|aggregation|projection)\s+policy|share"
    r"|tag|index|macro|secret|application|streamlit|notebook|external\s+function)\b"
    r"|create\s+or\s+alter\b|create\s+(or\s+replace\s+)?database\s+\S+\s+(clone|from)\b"
    r"|(call|execute|explain|undrop|put|get|list|ls|remove|rm|declare|unset|pragma|install|load|attach|detach|export"
    r"|import|checkpoint|vacuum|analyze|prepare|deallocate|lock)\b",
    re.IGNORECASE,
)
_COMMENT = re.compile(r"\s*(--[^\n]*(\n|$)|//[^\n]*(\n|$)|/\*.*?\*/)", re.DOTALL)


@lru_cache(maxsize=400)
def parse(text: str) -> Statement:
    """Classify one statement. Raises a Snowflake-shaped ProgrammingError for what is wrong or not supported."""
    bare = _without_leading_comments(text)
    if not bare:
        raise error(900, "42601", "SQL compilation error: Empty SQL statement.")
    if match := _REFUSED.match(bare):
        raise refused(" ".join(match.group().split()).upper(), f"In: {_excerpt(bare)}.")
    if _NO_OP.match(bare):
        return Statement(text, exp.Command(this="NO_OP"), Kind.NO_OP, _DDL)
    if re.match(r"start\s+transaction\s*;?\s*$", bare, re.IGNORECASE):
        return Statement(text, exp.Transaction(), Kind.BEGIN, _TCL)
    try:
        parsed = [e for e in sqlglot.parse(text, read="snowflake") if e and not isinstance(e, exp.Semicolon)]
    except ParseError as e:
        raise _named(syntax_error(e), bare) from e
    except TokenError as e:
        raise error(1003, "42000", f"SQL compilation error: syntax error. {e} In: {_excerpt(bare)}.") from e
    if len(parsed) != 1:
        raise error(
            8,
            "0A000",
            f"Actual statement count {len(parsed)} did not match the desired statement count 1: send them "
            f"one by one. In: {_excerpt(bare)}.",
        )
    return _classify(text, parsed[0])


def _classify(text: str, e: Expr) -> Statement:
    _resolve_identifiers(e)
    _refuse_what_would_differ(e)
    match e:
        case exp.Query() | exp.Values():
            return Statement(text, e, Kind.QUERY, _SELECT)
        case exp.Show() | exp.Command(this="SHOW" | "show"):
            return Statement(text, e, Kind.QUERY, _SHOW)
        case exp.Describe():
            return Statement(text, e, Kind.QUERY, _DESCRIBE)
        case exp.Insert():
            mode = Mode.UPDATE if e.args.get("overwrite") else Mode.INSERT
            return Statement(text, e, Kind.DML, _INSERT, _table(e.this), mode)
        case exp.Update():
            return Statement(text, e, Kind.DML, _UPDATE, _table(e.this), Mode.UPDATE)
        case exp.Delete():
            return Statement(text, e, Kind.DML, _DELETE, _table(e.this), Mode.UPDATE)
        case exp.Merge():
            return Statement(text, e, Kind.DML, _MERGE, _table(e.this), Mode.UPDATE)
        case exp.Copy():
            return Statement(text, e, Kind.DML, _COPY, _table(e.this), Mode.INSERT)
        case exp.Transaction():
            return Statement(text, e, Kind.BEGIN, _TCL)
        case exp.Commit():
            return Statement(text, e, Kind.COMMIT, _TCL)
        case exp.Rollback():
            return Statement(text, e, Kind.ROLLBACK, _TCL)
        case exp.Use() | exp.Set():
            if isinstance(e, exp.Use) and not e.args.get("kind"):  # `use d` and `use d.s`
                e.set("kind", exp.Var(this="SCHEMA" if e.this.args.get("db") else "DATABASE"))
            return Statement(text, e, Kind.SESSION, _SCL)
        case exp.Alter() if e.kind == "SESSION":
            return Statement(text, e, Kind.SESSION, _SCL)
        case exp.Create() | exp.Drop() | exp.Alter() if _kind(e) in {"TABLE", "VIEW"}:
            return Statement(text, e, Kind.DDL, _DDL, _table(e.this or e), Mode.DDL)
        case exp.Create() | exp.Drop() if _kind(e) in {"SCHEMA", "DATABASE", "STAGE", "SEQUENCE", "FILE FORMAT"}:
            return Statement(text, e, Kind.DDL, _DDL)
        case exp.TruncateTable():
            return Statement(text, e, Kind.DDL, _DDL, _table(e.expressions[0]), Mode.DDL)
        case exp.Comment():
            return Statement(text, e, Kind.DDL, _DDL)
    raise refused(_excerpt(_without_leading_comments(text)))


def _resolve_identifiers(e: Expr) -> None:
    """IDENTIFIER('name') of a table is the table `name`."""
    for table in list(e.find_all(exp.Table)):
        if isinstance(table.this, exp.DynamicIdentifier):
            if not isinstance(table.this.this, exp.Literal):
                raise refused(table.this.sql(dialect="snowflake"), "Its argument must be a literal.")
            named = exp.to_table(table.this.this.name, dialect="snowflake")
            for part in ("this", "db", "catalog"):
                table.set(part, named.args.get(part))


def _refuse_what_would_differ(e: Expr) -> None:
    """Clauses that sqlglot or DuckDB would drop or read in another way."""
    for table in e.find_all(exp.Table):
        if table.args.get("when"):
            raise refused("time travel (AT | BEFORE)", f"On table {table.name}.")
        if table.args.get("changes"):
            raise refused("CHANGES", f"On table {table.name}.")
    if any(select.args.get("locks") for select in e.find_all(exp.Select)):
        raise refused("SELECT ... FOR UPDATE", "Snowflake has it for hybrid tables only; lock a row with UPDATE.")
    for table in e.find_all(exp.Table):
        if isinstance(table.this, exp.Func):
            raise refused(f"the table function {table.this.sql(dialect='snowflake')}", "Snowflake wants TABLE(...).")
    if isinstance(e, exp.Show):
        like = () if e.name.upper() in {"TABLES", "VIEWS", "OBJECTS"} else ("like",)
        for clause in ("starts_with", "limit", "from_", *like):
            if e.args.get(clause):
                raise refused(f"SHOW {e.name} ... {clause.strip('_').upper()}", "Ask the information schema.")
    if e.find(exp.MatchRecognize):
        raise refused("MATCH_RECOGNIZE")
    if isinstance(e, exp.Alter):
        for action in e.args.get("actions") or []:
            if isinstance(action, (exp.SwapTable, exp.Command)):
                raise refused(f"ALTER {_kind(e)} ... {action.sql(dialect='snowflake')}")
    if isinstance(e, exp.Create):
        for p in e.find_all(exp.CheckColumnConstraint, exp.Check):
            raise refused(p.sql(dialect="snowflake"), "Snowflake tables have no CHECK constraints.")
        for p in e.find_all(exp.Property):
            if isinstance(p, (exp.MaterializedProperty, exp.DynamicProperty, exp.ExternalProperty)):
                raise refused(p.sql(dialect="snowflake"))
    if isinstance(e, exp.Create) and _kind(e) == "STAGE":
        given = {p.name.upper() for p in e.find_all(exp.Property) if type(p) is exp.Property}
        if "URL" not in given:
            raise refused("internal stages", "Give the stage a URL.")
        if unknown := given - {"URL", "STORAGE_INTEGRATION", "COMMENT"}:
            raise refused(f"CREATE STAGE ... {', '.join(sorted(unknown))}", "Name the file format in COPY INTO.")


def _table(e: Expr | None) -> exp.Table | None:
    return e.find(exp.Table) if e is not None else None


def _kind(e: Expr) -> str:
    return str(e.args.get("kind") or "").upper()


def _without_leading_comments(text: str) -> str:
    while match := _COMMENT.match(text):
        text = text[match.end() :]
    return text.strip().rstrip(";").strip()


def _excerpt(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 120 else f"{flat[:117]}..."


def _named(e: ProgrammingError, text: str) -> ProgrammingError:
    return error(1003, "42000", f"SQL compilation error: syntax error. {e.raw_msg} In: {_excerpt(text)}.")
