"""Postgres: the tables, the engine, and the SQL of each verb, one module a verb."""
