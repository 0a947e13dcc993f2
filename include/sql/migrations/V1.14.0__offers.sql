-- Grain: one row per offer that personal_offer has made: a product for who left a cart. Nothing is sent from here; who
-- sends it writes sent_ts. signal_id: the cart's signal, which has one offer at most.
create table if not exists ops.offer (
    signal_id varchar(32),
    customer_id varchar(32),
    product_id varchar(32),
    left_product_id varchar(32),
    lift float,
    trace_id varchar(32),
    left_ts timestamp_ntz,
    offered_ts timestamp_ntz,
    sent_ts timestamp_ntz
);
