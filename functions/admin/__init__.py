"""The admin API: keys, users, teams, spend, models and health. And the migrations, run at each deploy."""
