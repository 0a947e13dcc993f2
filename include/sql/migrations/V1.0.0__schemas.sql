-- Schemas of the platform. reporting is the only one that dashboards read.
create schema if not exists staging;
create schema if not exists core;
create schema if not exists marts;
create schema if not exists live;
create schema if not exists reporting;
create schema if not exists ops;
create schema if not exists raw;
