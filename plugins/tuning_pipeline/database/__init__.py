"""The study's database: server, account, tables, connections, and the study in it."""
