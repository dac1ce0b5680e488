"""Services that several flows share: the home, its logs, snapshots, warm-up, latency budget, metrics."""
