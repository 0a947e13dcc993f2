-- When an open alert was raised as worse than it was: the message of that time tells people, those before it no more.
alter table ops.alert add column if not exists worse_ts timestamp_ntz;
