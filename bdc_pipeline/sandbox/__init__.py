"""The APIs served on loopback from generated data, with latency, limits and faults on demand."""
