"""Networks and their weights; knows neither the lake nor Airflow."""
