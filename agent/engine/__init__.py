"""The pipeline engine (Redpanda Connect) behind one interface, `agent.engine.api`."""
