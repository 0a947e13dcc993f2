"""Stand-in for Google Dataflow: its REST v1b3 and gRPC v1beta3 control plane over Beam pipelines that run here.

The service's own clients and Airflow's operators work unmodified. Deviations from the real service: parameters that
the template's metadata does not name are refused without exception (Dataflow lets some worker options pass); updating
a streaming job, `createJob`, snapshots and metrics are missing; a job that `make down` ends starts anew with `make up`.
"""
