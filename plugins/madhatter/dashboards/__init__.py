"""The Dashboards page: dashboard files in, a page and a read-only data API out.

`files` reads and checks include/dashboards/*.yml into `model`; `filters` turns a query string into bound parameters;
`query` asks the warehouse; `cache` keeps answers, `board` for as long as the data has the same version; `app` is what
the browser talks to; static/ is the page (`assets` serves it, `bundle` makes the Vega-Lite script beside it).
"""
