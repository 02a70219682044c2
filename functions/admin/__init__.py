"""Keys, users, teams, models and health; and the migrations at deploy."""
