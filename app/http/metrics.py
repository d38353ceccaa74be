"""Counts and durations of requests by route, as Prometheus text. One process counts for itself."""

import os
from bisect import bisect_left

from app.db.pool import Database

BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0)


class Metrics:
    """What has been counted since the process started. Routes are templates, so that no id becomes a label."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, int], int] = {}
        self.buckets: dict[str, list[int]] = {}
        self.seconds: dict[str, float] = {}

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts one answered request."""
        key = (method, route, status)
        self.requests[key] = self.requests.get(key, 0) + 1
        buckets = self.buckets.get(route)
        if buckets is None:
            buckets = self.buckets[route] = [0] * (len(BUCKETS_SECONDS) + 1)
        buckets[bisect_left(BUCKETS_SECONDS, seconds)] += 1
        self.seconds[route] = self.seconds.get(route, 0.0) + seconds

    def text(self, database: Database | None) -> str:
        """Everything in the Prometheus exposition format 0.0.4."""
        process = f'process="{os.getpid()}"'
        lines = ["# TYPE minga_requests_total counter"]
        for (method, route, status), count in sorted(self.requests.items()):
            labels = f'method="{method}",route="{route}",status="{status}",{process}'
            lines.append(f"minga_requests_total{{{labels}}} {count}")
        lines.append("# TYPE minga_request_seconds histogram")
        for route, buckets in sorted(self.buckets.items()):
            total = 0
            for edge, count in zip((*BUCKETS_SECONDS, "+Inf"), buckets, strict=True):
                total += count
                lines.append(f'minga_request_seconds_bucket{{route="{route}",le="{edge}",{process}}} {total}')
            lines.append(f'minga_request_seconds_sum{{route="{route}",{process}}} {self.seconds[route]:.6f}')
            lines.append(f'minga_request_seconds_count{{route="{route}",{process}}} {total}')
        if database is not None:
            for name, value in sorted(database.pool.get_stats().items()):
                lines.append(f"# TYPE minga_pool_{name} gauge")
                lines.append(f"minga_pool_{name}{{{process}}} {value}")
        return "\n".join(lines) + "\n"
