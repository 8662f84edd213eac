"""From verdicts to alerts: lifecycle, durable outbox, MQTT."""
