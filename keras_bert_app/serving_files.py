"""What TensorFlow Serving needs beside a model: configuration, a compose file, Kubernetes manifests."""

import re
from pathlib import Path

import yaml

from keras_bert_app import files

# The newest of which the operations were looked up, see `serving_ops`; all from 2.12 on have them.
IMAGE = "tensorflow/serving:2.19.1"
PORT = 8501
GRPC_PORT = 8500
CONFIG = "/config"
STATUS_PATH = "/v1/models/{name}"

MODELS = """\
# Read by tensorflow_model_server and by keras-bert serve with --model_config_file.
model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
    # The two newest versions, so that there is one to go back to.
    model_version_policy {{ latest {{ num_versions: 2 }} }}
    # /v1/models/{name}/labels/stable:predict is this version. Give the label to a newer one, here or with
    # keras-bert export --serving-files, before there are two that are newer.
    version_labels {{ key: "stable" value: {version} }}
  }}
}}
"""

BATCHING = """\
# --enable_batching --batching_parameters_file; keras-bert serve reads it too.
# Texts are padded within the graph, to the longest of a batch: rows need no padding before they are joined.
# Requests with ids, or with choices, are joined only if all have the same width: send them padded to one.
max_batch_size { value: 32 }
# How long the first request of a batch waits for others. On a CPU more would only add to its latency.
batch_timeout_micros { value: 2000 }
# What comes when so many batches wait is refused with 503 at once, instead of timing out.
max_enqueued_batches { value: 64 }
# As many as there are processor cores.
num_batch_threads { value: 4 }
# A batch is filled up to the next of these, so that the same few shapes come again and again.
allowed_batch_sizes: 1
allowed_batch_sizes: 2
allowed_batch_sizes: 4
allowed_batch_sizes: 8
allowed_batch_sizes: 16
allowed_batch_sizes: 32
"""

MONITORING = """\
# --monitoring_config_file: metrics for Prometheus.
prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""

ARGUMENTS = [
    f"--rest_api_port={PORT}",
    f"--port={GRPC_PORT}",
    f"--model_config_file={CONFIG}/models.config",
    "--enable_batching=true",
    f"--batching_parameters_file={CONFIG}/batching.config",
    f"--monitoring_config_file={CONFIG}/monitoring.config",
    # A label is in the configuration before its version is loaded.
    "--allow_version_labels_for_unavailable_models=true",
    "--file_system_poll_wait_seconds=5",
]


def write(folder, version):
    """Writes the files into `serving` in the folder of a model.

    Args:
        folder: of the model, such as `saved_models/reviews`.
        version: number of the version that gets the label `stable`.

    Returns:
        Path of the folder written.

    Raises:
        ValueError: the folder's name cannot be that of a model.
    """
    folder = Path(folder).resolve()
    name = folder.name
    if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
        raise ValueError(
            f"the folder is called {name!r}: name it with letters, digits, '.', '_' and '-' alone, as it is "
            "the name of the model in paths"
        )
    target = folder / "serving"
    configs = {
        "models.config": MODELS.format(name=name, version=version),
        "batching.config": BATCHING,
        "monitoring.config": MONITORING,
    }
    texts = {
        **configs,
        "compose.yaml": _as_yaml(f"docker compose up  # then ask localhost:{PORT}", compose(name)),
        "kubernetes.yaml": _as_yaml(
            f"kubectl apply -f kubernetes.yaml, with the model in the volume claim models under {name}",
            *kubernetes(name, configs),
        ),
        "kserve.yaml": _as_yaml("kubectl apply -f kserve.yaml, where KServe is installed", kserve(name)),
    }
    target.mkdir(exist_ok=True)
    for file, text in texts.items():
        with files.whole(target / file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return target


def _as_yaml(comment, *documents):
    return f"# {comment}\n" + yaml.safe_dump_all(documents, sort_keys=False)


def _resource_name(name):
    """The name of a model as Kubernetes takes names: RFC 1123."""
    return re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-") or "model"


def compose(name):
    """A service of Docker Compose, to be started from the folder `serving`."""
    return {
        "services": {
            "serving": {
                "image": IMAGE,
                "command": ARGUMENTS,
                # For who may ask from other machines, leave out the address.
                "ports": [f"127.0.0.1:{PORT}:{PORT}"],
                "volumes": [f"..:/models/{name}:ro", f".:{CONFIG}:ro"],
                "read_only": True,
                "tmpfs": ["/tmp"],
                "restart": "unless-stopped",
                "mem_limit": "2g",
                "healthcheck": {
                    # The image has no curl: bash opens the port itself.
                    "test": ["CMD", "bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{PORT}"],
                    "interval": "10s",
                    "timeout": "2s",
                    "retries": 3,
                    "start_period": "30s",
                },
            }
        }
    }


def kubernetes(name, configs):
    """A ConfigMap with the configuration, a Deployment and a Service."""
    app = _resource_name(name)
    labels = {"app": app}
    ready = {"httpGet": {"path": STATUS_PATH.format(name=name), "port": "http"}}
    container = {
        "name": "serving",
        "image": IMAGE,
        "args": ARGUMENTS,
        "ports": [
            {"name": "http", "containerPort": PORT},
            {"name": "grpc", "containerPort": GRPC_PORT},
        ],
        "startupProbe": {**ready, "periodSeconds": 2, "failureThreshold": 60},
        "readinessProbe": {**ready, "periodSeconds": 5, "failureThreshold": 2},
        "livenessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 10, "failureThreshold": 3},
        # TensorFlow Serving loses what is under way when it is told to end: let the others go first.
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "10"]}}},
        "resources": {
            "requests": {"cpu": "1", "memory": "1Gi"},
            "limits": {"cpu": "4", "memory": "2Gi"},
        },
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "models", "mountPath": f"/models/{name}", "subPath": name, "readOnly": True},
            {"name": "config", "mountPath": CONFIG, "readOnly": True},
            {"name": "temporary", "mountPath": "/tmp"},
        ],
    }
    pod = {
        "terminationGracePeriodSeconds": 45,
        "containers": [container],
        "volumes": [
            {"name": "models", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}},
            {"name": "config", "configMap": {"name": f"{app}-config"}},
            {"name": "temporary", "emptyDir": {}},
        ],
    }
    annotations = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(PORT),
        "prometheus.io/path": "/monitoring/prometheus/metrics",
    }
    return (
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"{app}-config", "labels": labels},
            "data": configs,
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": app, "labels": labels},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": app, "labels": labels},
            "spec": {"selector": labels, "ports": [{"name": "http", "port": PORT, "targetPort": "http"}]},
        },
    )


def kserve(name):
    """An InferenceService that runs TensorFlow Serving."""
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": _resource_name(name)},
        "spec": {
            "predictor": {
                "minReplicas": 1,
                "model": {
                    "modelFormat": {"name": "tensorflow"},
                    "runtimeVersion": IMAGE.partition(":")[2],
                    "storageUri": f"pvc://models/{name}",
                    "resources": {
                        "requests": {"cpu": "1", "memory": "1Gi"},
                        "limits": {"cpu": "4", "memory": "2Gi"},
                    },
                    "readinessProbe": {
                        "httpGet": {"path": STATUS_PATH.format(name=name), "port": 8080},
                        "periodSeconds": 5,
                    },
                },
            }
        },
    }
