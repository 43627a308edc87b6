"""What a server counts, for Prometheus, under the names that TensorFlow Serving has."""

import prometheus_client
from prometheus_client.core import Metric

# From 10 microseconds to 20 minutes, as in tensorflow_serving/servables/tensorflow/util.cc.
BUCKETS = [10 * 1.8**i for i in range(33)]
OTHERS = "(unknown)"  # stands for all names that no model has: labels must not grow without bound


class Metrics:
    """Counters of one server."""

    def __init__(self, known_models, pending):
        self.registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self.registry)
        self.known_models = known_models
        self.counts = {}
        self.registry.register(self)
        self.latency = prometheus_client.Histogram(
            ":tensorflow:serving:request_latency",
            "Microseconds from the request to the reply.",
            ("model_name", "API", "entrypoint"),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.batch_size = prometheus_client.Histogram(
            "keras_bert_batch_size",
            "Rows of a run.",
            buckets=[2**i for i in range(11)],
            registry=self.registry,
        )
        waiting = prometheus_client.Gauge(
            "keras_bert_waiting_requests", "Requests that wait for a thread.", registry=self.registry
        )
        waiting.set_function(pending)

    def collect(self):
        # A Counter of prometheus_client would be called ..._total.
        metric = Metric(":tensorflow:serving:request_count", "The total number of requests.", "unknown")
        known = {(model, "OK"): 0 for model in self.known_models()}
        for (model, code), number in (known | self.counts).items():
            metric.add_sample(metric.name, {"model_name": model, "status": code}, number)
        yield metric

    def count(self, model, verb, code, seconds):
        """Counts a request.

        Args:
            model: its name in the path.
            verb: such as `predict`.
            code: name of the status code.
            seconds: that it took.
        """
        model = model if model in self.known_models() else OTHERS
        self.counts[model, code] = self.counts.get((model, code), 0) + 1
        self.latency.labels(model, verb.capitalize(), "REST").observe(1e6 * seconds)

    def page(self):
        """The bytes that Prometheus reads."""
        return prometheus_client.generate_latest(self.registry)
