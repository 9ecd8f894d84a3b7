"""The bus contract: what Backwright reads from and writes to Kafka. Depends on nothing of `agent`."""
