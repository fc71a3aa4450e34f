"""The demo: pictures on a loopback server, a supervised loopback Airflow, and the run that make demo shows."""
