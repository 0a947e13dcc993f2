-- The live half: minutes as the streaming job sees them, and alerts with what was done about them.

-- Grain: one row per kind, minute and key of a batch that is being loaded; empty between loads. The columns of the file
-- that the streaming job writes.
create table if not exists staging.live_minute (
    kind varchar(16),
    minute_ts timestamp_ntz,
    country varchar(64),
    category varchar(64),
    channel varchar(16),
    orders number(18, 0),
    units number(18, 0),
    net_sales number(18, 4),
    refunds number(18, 0),
    sessions number(18, 0),
    views number(18, 0),
    carts number(18, 0),
    is_final boolean,
    version number(19, 0)
);

-- Grain: one row per minute, country, category and channel. version: the newest that was loaded, of final minutes above
-- 2^62. is_final: no event that live counts is still to come.
create table if not exists live.sales_minute (
    minute_ts timestamp_ntz,
    country varchar(64),
    category varchar(64),
    channel varchar(16),
    units number(18, 0),
    net_sales number(18, 4),
    version number(19, 0),
    is_final boolean
)
cluster by (to_date(minute_ts));

-- Grain: one row per minute, country and channel. sessions: those that began in it.
create table if not exists live.activity_minute (
    minute_ts timestamp_ntz,
    country varchar(64),
    channel varchar(16),
    orders number(18, 0),
    refunds number(18, 0),
    sessions number(18, 0),
    views number(18, 0),
    carts number(18, 0),
    version number(19, 0),
    is_final boolean
)
cluster by (to_date(minute_ts));

-- Grain: one row per batch that was loaded. final_until: minutes before it are final. events, late_to_stream, rejected:
-- what the job counted, left out and refused since the batch before. newest_arrival_ts: of the events in it.
create table if not exists live.batch (
    batch_id varchar(64),
    version number(19, 0),
    first_minute timestamp_ntz,
    last_minute timestamp_ntz,
    final_until timestamp_ntz,
    events number(18, 0),
    late_to_stream number(18, 0),
    rejected number(18, 0),
    written_ts timestamp_ntz,
    newest_arrival_ts timestamp_ntz,
    loaded_ts timestamp_ntz
)
cluster by (to_date(written_ts));

-- The same minutes as core has them, made when an hour is published.

-- Grain: one row per minute, country, category and channel.
create table if not exists marts.sales_minute (
    minute_ts timestamp_ntz,
    country varchar(64),
    category varchar(64),
    channel varchar(16),
    units number(18, 0),
    net_sales number(18, 4)
)
cluster by (to_date(minute_ts));

-- Grain: one row per minute, country and channel. The sessions are those of marts.session.
create table if not exists marts.activity_minute (
    minute_ts timestamp_ntz,
    country varchar(64),
    channel varchar(16),
    orders number(18, 0),
    refunds number(18, 0),
    views number(18, 0),
    carts number(18, 0)
)
cluster by (to_date(minute_ts));

-- Grain: one row per alert. reasons, details: JSON. state: open, acknowledged, resolved. raised_ts: when it was raised
-- first, times_raised how often; booked_ts: when it came here. notified_ts: when people were told. handled_ts,
-- handled_by: when alert_response did what `action` says, and which run of it.
create table if not exists ops.alert (
    alert_id varchar(32),
    source varchar(64),
    kind varchar(64),
    severity varchar(16),
    subject varchar(256),
    title varchar(256),
    reasons varchar(65536),
    action varchar(16),
    state varchar(16),
    details varchar(1000000),
    signal_id varchar(32),
    trace_id varchar(32),
    event_ts timestamp_ntz,
    arrival_ts timestamp_ntz,
    detected_ts timestamp_ntz,
    raised_ts timestamp_ntz,
    booked_ts timestamp_ntz,
    acknowledged_ts timestamp_ntz,
    resolved_ts timestamp_ntz,
    notified_ts timestamp_ntz,
    times_raised number(9, 0),
    handled_ts timestamp_ntz,
    handled_by varchar(256)
);

-- What alert_response does, each once for an alert. who: the run that did it, or the person that decided.

-- Grain: one row per alert and order. state: held, released, cancelled.
create table if not exists ops.held_order (
    alert_id varchar(32),
    order_id varchar(32),
    state varchar(16),
    reason varchar(2048),
    held_ts timestamp_ntz,
    held_by varchar(256),
    decided_ts timestamp_ntz,
    decided_by varchar(256)
);

-- Grain: one row per alert. state: draft, ordered, dropped.
create table if not exists ops.reorder_draft (
    alert_id varchar(32),
    warehouse_id varchar(16),
    product_id varchar(32),
    quantity number(18, 0),
    state varchar(16),
    drafted_ts timestamp_ntz,
    drafted_by varchar(256),
    decided_ts timestamp_ntz,
    decided_by varchar(256)
);

-- Grain: one row per alert. state: open, closed.
create table if not exists ops.incident (
    alert_id varchar(32),
    severity varchar(16),
    subject varchar(256),
    title varchar(256),
    state varchar(16),
    opened_ts timestamp_ntz,
    opened_by varchar(256),
    closed_ts timestamp_ntz,
    closed_by varchar(256)
);

-- Grain: one row per hour and thing that was compared, the last time that it was. live_value, core_value: of the hour;
-- share: of the difference in core's. docs/how-to/live-tables.md says what is compared.
create table if not exists ops.live_check (
    event_hour timestamp_ntz,
    what varchar(32),
    live_value number(38, 4),
    core_value number(38, 4),
    share float,
    checked_ts timestamp_ntz
);
