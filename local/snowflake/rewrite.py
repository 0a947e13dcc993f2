"""Rewrites on the way from Snowflake's SQL to DuckDB's, where fakesnow's give another answer than Snowflake."""

from __future__ import annotations

import re
from collections.abc import Callable

from fakesnow import transforms
from sqlglot import Expr, exp

from local.snowflake.errors import refused

# fakesnow sums NUMBER as DOUBLE (to accept text too): sums of NUMBER must be exact, text is refused by DuckDB.
transforms.numeric_agg_implicit_cast = lambda expression: expression


def before(expression: Expr) -> Expr:
    """On Snowflake's tree, before fakesnow's own transforms."""
    _name_outer_columns(expression)
    if isinstance(expression, exp.Create):
        _drop_keys(expression)
    for select in expression.find_all(exp.Select):
        if select.args.get("qualify"):
            _spell_out_group_by_all(select)
    return expression.transform(_snowflake_function, copy=False)


def after(expression: Expr) -> Expr:
    """On the tree for DuckDB, after fakesnow's transforms."""
    # From the leaves up: the rewrites keep what they wrap, so a walk from the root would meet it again.
    for node in list(expression.dfs())[::-1]:
        rewrite = _TYPED.get(type(node))
        if rewrite is not None:
            replacement = rewrite(node)
            if replacement is not node and node.parent is not None:
                node.replace(replacement)
    return expression


def _name_outer_columns(expression: Expr) -> None:
    """Snowflake names an unnamed column after its text in upper case."""
    select = expression
    while isinstance(select, exp.SetOperation):
        select = select.left
    if not isinstance(select, exp.Select):
        return
    for e in list(select.expressions):
        is_named = isinstance(e, (exp.Column, exp.Alias, exp.Subquery))
        is_count = isinstance(e, exp.Count) and isinstance(e.this, exp.Star)
        if is_count or not (is_named or e.find(exp.Star, exp.Placeholder)):
            e.replace(exp.alias_(e.copy(), e.sql(dialect="snowflake").upper(), quoted=True))


def _spell_out_group_by_all(select: exp.Select) -> None:
    """DuckDB has no GROUP BY ALL beside QUALIFY: name what it stands for."""
    group = select.args.get("group")
    if group is not None and group.args.get("all"):
        positions = [
            exp.Literal.number(position)
            for position, e in enumerate(select.expressions, 1)
            if not e.find(exp.AggFunc) and not e.find(exp.Window)
        ]
        select.set("group", exp.Group(expressions=positions) if positions else None)


def _drop_keys(create: exp.Create) -> None:
    """Keys are accepted and not enforced; a primary key's columns are NOT NULL, which is."""
    schema = create.this
    if not isinstance(schema, exp.Schema):
        return
    key_columns: set[str] = set()
    kept = []
    for item in schema.expressions:
        key = item.find(exp.PrimaryKey) if not isinstance(item, exp.ColumnDef) else None
        if key is not None:
            key_columns |= {column.name.upper() for column in key.expressions}
        if isinstance(item, (exp.ColumnDef, exp.Identifier)):
            kept.append(item)
    for column in kept:
        if not isinstance(column, exp.ColumnDef):
            continue
        constraints = []
        for constraint in column.args.get("constraints") or []:
            kind = constraint.args.get("kind")
            if isinstance(kind, exp.PrimaryKeyColumnConstraint):
                key_columns.add(column.name.upper())
            elif not isinstance(kind, (exp.UniqueColumnConstraint, exp.Reference)):
                constraints.append(constraint)
        has_null_rule = any(isinstance(c.args.get("kind"), exp.NotNullColumnConstraint) for c in constraints)
        if column.name.upper() in key_columns and not has_null_rule:
            constraints.append(exp.ColumnConstraint(kind=exp.NotNullColumnConstraint()))
        column.set("constraints", constraints)
    schema.set("expressions", kept)


_TIMESTAMPS = (exp.DataType.Type.TIMESTAMP, exp.DataType.Type.TIMESTAMPNTZ)


def _snowflake_function(e: Expr) -> Expr:
    if isinstance(e, exp.ToChar) and e.args.get("format"):
        return exp.func("STRFTIME", e.this, exp.Literal.string(_strftime(e.args["format"])), dialect="duckdb")
    if isinstance(e, exp.TimeToStr):  # sqlglot has mapped the format, as far as it knows
        text = re.sub(r'"([^"]*)"', "", re.sub(r"%-?\w", "", e.text("format")))
        if re.search(r"[A-Za-z]", text) or not isinstance(e.args["format"], exp.Literal):
            raise refused(f"TO_CHAR with the format {e.text('format')}")
        e.args["format"].set("this", e.text("format").replace('"', ""))
    if isinstance(e, exp.TryCast) and e.to.this in _TIMESTAMPS:
        # fakesnow makes of a timestamp's cast a macro, which would not be tried
        return exp.Anonymous(this="TRY", expressions=[exp.Cast(this=e.this, to=e.to)])
    if isinstance(e, exp.Anonymous) and e.name.upper() in {"TRY_TO_TIMESTAMP", "TRY_TO_TIMESTAMP_NTZ"}:
        if len(e.expressions) != 1:
            raise refused(f"{e.name.upper()} with a format")
        return exp.Anonymous(this="TRY", expressions=[exp.cast(e.expressions[0], "TIMESTAMP")])
    if isinstance(e, exp.WithinGroup) and isinstance(e.this, exp.PercentileCont):
        # Between two NUMBERs it interpolates with more digits than they have; DuckDB's is of their own scale.
        for ordered in e.expression.expressions:
            ordered.set("this", _six_more_digits(ordered.this.copy()))
        return e
    if isinstance(e, exp.CurrentWarehouse):
        return exp.cast(exp.null(), "VARCHAR")
    if isinstance(e, exp.HashAgg):
        # Content hash of a set of rows, whatever their order; NULLs count, 0 for no rows. Not Snowflake's number.
        values = [e.this, *e.expressions]
        if isinstance(values[0], exp.Distinct):
            values = values[0].expressions
        total = exp.Sum(this=exp.cast(_hash(values), "HUGEINT", dialect="duckdb"))
        modulo = exp.Mod(this=total, expression=exp.Literal.number(9223372036854775807))
        return exp.cast(exp.func("COALESCE", modulo, exp.Literal.number(0)), "BIGINT")
    if isinstance(e, exp.Anonymous) and e.name.upper() == "HASH":
        # 63 bits of it: DuckDB's is unsigned, Snowflake's NUMBER is not.
        half = exp.IntDiv(this=_hash(e.expressions), expression=exp.Literal.number(2))
        return exp.cast(half, "BIGINT")
    return e


def _hash(values: list[Expr]) -> Expr:
    starred = [exp.Anonymous(this="*COLUMNS", expressions=[v]) if isinstance(v, exp.Star) else v for v in values]
    return exp.Anonymous(this="hash", expressions=starred)


_FORMAT = {
    "YYYY": "%Y", "YY": "%y", "MMMM": "%B", "MON": "%b", "MM": "%m", "DD": "%d", "DY": "%a", "HH24": "%H", "HH12": "%I",
    "AM": "%p", "PM": "%p", "MI": "%M", "SS": "%S", "FF3": "%g", "FF6": "%f", "FF9": "%n", "FF": "%n",
}  # fmt: skip
_FORMAT_PART = re.compile("|".join(sorted(_FORMAT, key=len, reverse=True)) + r'|"[^"]*"|[^A-Za-z0-9$]', re.IGNORECASE)


def _strftime(format_: Expr) -> str:
    text, position, parts = format_.name, 0, []
    while position < len(text):
        match = _FORMAT_PART.match(text, position)
        if match is None or not isinstance(format_, exp.Literal):
            raise refused(f"TO_CHAR with the format {format_.sql(dialect='snowflake')}")
        part = match.group()
        parts.append(_FORMAT.get(part.upper()) or part.strip('"').replace("%", "%%"))
        position = match.end()
    return "".join(parts)


def _typed(value: Expr, like: Expr) -> Expr:
    """`value` cast to the type of `like`, which is never computed."""
    never = exp.Case(ifs=[exp.If(this=exp.false(), true=like)])
    return exp.Anonymous(this="cast_to_type", expressions=[value, never])


def _six_more_digits(e: Expr) -> Expr:
    return exp.Mul(this=exp.paren(e), expression=exp.cast(exp.Literal.number(1), "DECIMAL(38, 6)"))


def _average(e: Expr) -> Expr:
    """AVG of a NUMBER is a NUMBER with six more digits; DuckDB's is DOUBLE."""
    if e.find(exp.Placeholder) or isinstance(e.parent, (exp.Window, exp.Filter, exp.IgnoreNulls)):
        return e
    return _typed(e.copy(), _six_more_digits(exp.Sum(this=e.this.copy())))


def _quotient(e: Expr) -> Expr:
    """NUMBER / NUMBER is a NUMBER with six more digits; DuckDB's is DOUBLE."""
    is_null = isinstance(e.this.unnest(), exp.Null) or isinstance(e.expression.unnest(), exp.Null)
    if is_null or e.find(exp.Placeholder, exp.Window, exp.Interval):
        return e
    divisor = exp.paren(e.expression.copy())
    quotient = _typed(e.copy(), exp.Add(this=_six_more_digits(e.this.copy()), expression=divisor.copy()))
    if isinstance(e.expression, exp.Literal) and float(e.expression.name) != 0:
        return quotient
    is_zero = exp.and_(  # nothing by 0 is nothing, also in what DIV0 becomes
        exp.EQ(this=divisor, expression=exp.Literal.number(0)),
        exp.Not(this=exp.Is(this=exp.paren(e.this.copy()), expression=exp.Null())),
    )
    fails = exp.Anonymous(this="error", expressions=[exp.Literal.string("Division by zero")])
    return exp.Case(ifs=[exp.If(this=is_zero, true=fails)], default=quotient)


def _of_its_argument(e: Expr) -> Expr:
    """DATE_TRUNC and DATEADD of a DATE are a DATE; DuckDB's are TIMESTAMP."""
    unit = str(e.args.get("unit") or "").upper().strip("'\"")
    is_whole_days = isinstance(e, (exp.DateTrunc, exp.TimestampTrunc)) or unit in {
        "DAY",
        "WEEK",
        "MONTH",
        "QUARTER",
        "YEAR",
    }
    if not is_whole_days or e.find(exp.Placeholder) or isinstance(e.this, exp.Literal):
        return e
    return _typed(e.copy(), e.this.copy())


_TYPED: dict[type[Expr], Callable[[Expr], Expr]] = {
    exp.Avg: _average,
    exp.Div: _quotient,
    exp.DateTrunc: _of_its_argument,
    exp.TimestampTrunc: _of_its_argument,
    exp.DateAdd: _of_its_argument,
}
