-- Grain: one row. Whoever makes an offer takes it first, so that two carts of one customer do not both find that there
-- was none.
create table if not exists ops.offer_lock (taken number(18, 0));

insert into ops.offer_lock (taken)
select 0 as taken
where not exists (select 1 from ops.offer_lock);
