"""How the database is reached: its URL, TLS, connections, their errors and retries."""
