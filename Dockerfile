# The image that `astro dev start` and `astro deploy` build: Astro Runtime 3.3 carries Airflow 3.3; requirements.txt and packages.txt
# are installed by its own build steps.
FROM astrocrpublic.azurecr.io/runtime:3.3-1

# The project root is importable there, the operators lie in plugins/.
ENV PYTHONPATH=/usr/local/airflow:/usr/local/airflow/plugins
# A cleared task that had succeeded must run again, not return its old result.
ENV AIRFLOW__STATE_STORE__CLEAR_ON_SUCCESS=True
