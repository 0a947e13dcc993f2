-- Grain: one row per product, with today's category; of too many the first.
select
    product_id,
    coalesce(category, 'Unknown') as category
from core.product
where is_current
qualify row_number() over (order by product_id) <= :most
