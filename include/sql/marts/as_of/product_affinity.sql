-- Grain: one row per product and other product that is bought with it. Made anew as of the newest day in ops.day, from
-- the lines of the 90 days up to it. The rules are in the YAML twin.
delete from marts.product_affinity;

insert into marts.product_affinity (
    as_of_date,
    product_id,
    other_product_id,
    baskets,
    orders_product,
    orders_other,
    orders_together,
    pair_support,
    confidence,
    lift
)
with

as_of as (
    select
        max(order_date) as as_of_date,
        dateadd(day, -89, max(order_date))::timestamp_ntz as from_ts,
        dateadd(day, 1, max(order_date))::timestamp_ntz as to_ts
    from ops.day
),

headers as (
    select
        orders.event_id,
        orders.event_ts
    from core.order_header as orders
    cross join as_of
    where orders.event_ts >= as_of.from_ts and orders.event_ts < as_of.to_ts and orders.order_type = 'sale'
),

lines as (
    select
        line.event_id,
        line.event_ts,
        line.product_id
    from core.order_line as line
    cross join as_of
    where line.event_ts >= as_of.from_ts and line.event_ts < as_of.to_ts and line.quantity > 0
),

goods as (
    select distinct
        lines.event_id,
        lines.event_ts,
        lines.product_id
    from lines
    inner join headers on lines.event_id = headers.event_id and lines.event_ts = headers.event_ts
    left join core.product as product
        on
            lines.product_id = product.product_id
            and lines.event_ts >= product.valid_from_ts
            and lines.event_ts < product.valid_to_ts
    where coalesce(product.category, 'Unknown') <> 'Postage and fees'
),

-- Pairs grow with the square of a basket's size: a list of 1,114 lines would make more of them than 6,000 usual orders.
baskets as (
    select *
    from goods
    qualify count(*) over (partition by event_id, event_ts) <= 100
),

orders as (
    select distinct
        event_id,
        event_ts
    from baskets
),

totals as (
    select
        count(*) as baskets,
        greatest(20, count(*) / 1000) as fewest_orders
    from orders
),

-- What is rare by itself is in no frequent pair.
frequent as (
    select
        baskets.product_id,
        count(*) as orders
    from baskets
    cross join totals
    group by baskets.product_id
    having count(*) >= max(totals.fewest_orders)
),

frequent_lines as (
    select baskets.*
    from baskets
    inner join frequent on baskets.product_id = frequent.product_id
),

pairs as (
    select
        line.product_id,
        other_line.product_id as other_product_id,
        count(*) as orders_together
    from frequent_lines as line
    inner join frequent_lines as other_line
        on
            line.event_id = other_line.event_id
            and line.event_ts = other_line.event_ts
            and line.product_id < other_line.product_id
    cross join totals
    group by line.product_id, other_line.product_id
    having count(*) >= max(totals.fewest_orders)
),

directed as (
    select
        product_id,
        other_product_id,
        orders_together
    from pairs
    union all
    select
        other_product_id as product_id,
        product_id as other_product_id,
        orders_together
    from pairs
),

final as (
    select
        as_of.as_of_date,
        directed.product_id,
        directed.other_product_id,
        totals.baskets,
        product.orders as orders_product,
        other_product.orders as orders_other,
        directed.orders_together,
        round(directed.orders_together / totals.baskets, 6) as pair_support,
        round(directed.orders_together / product.orders, 6) as confidence,
        round(directed.orders_together * totals.baskets / (product.orders * other_product.orders), 4) as lift
    from directed
    inner join frequent as product on directed.product_id = product.product_id
    inner join frequent as other_product on directed.other_product_id = other_product.product_id
    cross join totals
    cross join as_of
)

select * from final;
