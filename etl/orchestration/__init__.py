"""What Airflow needs: operators, pod specs, assets, parameters, retry policy."""
