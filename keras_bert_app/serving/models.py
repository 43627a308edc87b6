"""Which versions of which models are served: found, loaded, swapped without a gap, and let go."""

import dataclasses
import logging
import threading
import time
from pathlib import Path

from keras_bert_app.serving.errors import ServingError
from keras_bert_app.serving.servable import Servable

log = logging.getLogger(__name__)

SHOWN_AFTER_END = 16  # versions that are let go and still are in the status


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A model to be served.

    Args:
        name: in the path of a request.
        base_path: folder with a folder for each version, named by its number.
        policy: `("latest", n)`, `("all",)` or `("specific", (3, 5))`.
        labels: dict from a label to its version.
    """

    name: str
    base_path: Path
    policy: tuple = ("latest", 1)
    labels: dict = dataclasses.field(default_factory=dict, hash=False)

    def versions(self):
        """dict from the numbers of the versions that shall be served to their folders.

        Raises:
            OSError: `base_path` cannot be read.
        """
        found = {}
        for path in sorted(self.base_path.iterdir()):
            # "00000123" is 123; what is no number is something else, or is not ready.
            if path.name.isascii() and path.name.isdigit() and path.is_dir():
                found[int(path.name)] = path
        kind, *rest = self.policy
        if kind == "latest":
            return {version: found[version] for version in sorted(found)[-rest[0] :]}
        if kind == "specific":
            return {version: found[version] for version in rest[0] if version in found}
        return found


@dataclasses.dataclass
class Version:
    """A version and how it is."""

    state: str = "START"
    error: ServingError | None = None
    servable: Servable | None = None
    failures: int = 0
    next_try: float = 0.0
    users: int = 0  # requests that are under way


class Models:
    """The models of a server.

    Args:
        load: function of a folder, which returns a `Servable`.
        max_num_load_retries: how often a version that cannot be loaded is tried again.
        load_retry_interval: seconds between tries.
        labels_for_unavailable: True if a label may name a version that is not loaded.
    """

    def __init__(self, load, max_num_load_retries=5, load_retry_interval=60.0, labels_for_unavailable=False):
        self.load = load
        self.max_num_load_retries = max_num_load_retries
        self.load_retry_interval = load_retry_interval
        self.labels_for_unavailable = labels_for_unavailable
        self.configs = {}
        self.versions = {}  # of each model: dict of `Version`s
        self.lock = threading.RLock()
        self.looking = threading.Lock()

    def configure(self, configs):
        """Replaces the set of models; `look` loads them."""
        with self.lock:
            self.configs = {config.name: config for config in configs}

    def look(self):
        """Loads what is new in the folders and lets go what is not to be served any more.

        A new version is there before the old one goes; one that cannot be loaded changes nothing.
        """
        with self.looking:
            for name in list(self.versions.keys() | self.configs.keys()):
                self._look_at(name)

    def _look_at(self, name):
        config = self.configs.get(name)
        try:
            aspired = {} if config is None else config.versions()
        except OSError as error:
            log.error("model %s: %s cannot be read: %s", name, config.base_path, error.strerror or error)
            return
        with self.lock:
            known = self.versions.setdefault(name, {})
        for number in sorted(aspired, reverse=True):  # the newest first: it is what most ask for
            self._load(name, number, aspired[number])
        with self.lock:
            old = [number for number in known if number not in aspired and known[number].servable]
            loaded = any(number in aspired and known[number].servable for number in known)
        # No aspired version, or none that works: what there is goes on, unless the model is given up.
        if config is None or (loaded and all(self._settled(known, number) for number in aspired)):
            for number in old:
                self._unload(name, number)

    def fall_back(self):
        """For a model without a version that can be loaded, the next older one that can."""
        for name, config in self.configs.items():
            if config.policy[0] != "latest":
                continue
            older = dataclasses.replace(config, policy=("all",)).versions()
            for number in sorted(older, reverse=True):
                if self._available(name):
                    break
                self._load(name, number, older[number])

    def _settled(self, known, number):
        """True if a version is loaded, or was refused."""
        version = known.get(number)
        return version is not None and (version.servable is not None or version.state == "END")

    def _load(self, name, number, folder):
        with self.lock:
            version = self.versions[name].get(number)
            if version is None or (version.state == "END" and version.error is None):
                version = self.versions[name][number] = Version()
            if version.servable or version.next_try > time.monotonic():
                return
            version.state = "LOADING"
        start = time.monotonic()
        try:
            servable = self.load(folder)
        except Exception as error:
            if not isinstance(error, ServingError):
                log.exception("model %s version %d", name, number)
                error = ServingError(f"{folder} cannot be loaded: {error}", "INTERNAL")
            with self.lock:
                version.error, version.state = error, "END"
                version.failures += 1
                again = version.failures <= self.max_num_load_retries
                version.next_try = start + self.load_retry_interval if again else float("inf")
            log.error("model %s version %d was refused: %s", name, number, version.error.message)
            return
        with self.lock:
            version.servable, version.error, version.state = servable, None, "AVAILABLE"
        log.info("model %s version %d loaded in %.1f s", name, number, time.monotonic() - start)

    def _unload(self, name, number):
        """Lets a version go as soon as no request uses it."""
        with self.lock:
            version = self.versions[name][number]
            version.state = "UNLOADING"
        while version.users:
            time.sleep(0.01)
        with self.lock:
            servable, version.servable, version.state = version.servable, None, "END"
            ended = sorted(n for n, v in self.versions[name].items() if v.state == "END" and not v.error)
            for n in ended[:-SHOWN_AFTER_END]:
                del self.versions[name][n]
        servable.close()
        log.info("model %s version %d let go", name, number)

    def use(self, name, number=None, label=None):
        """Takes hold of a version for a request; give it back with `done`.

        Args:
            name: of the model.
            number: of the version; None for the newest.
            label: of the version, in the place of its number.

        Returns:
            `(number, version)`.

        Raises:
            ServingError: there is no such version, code NOT_FOUND; no such label, INVALID_ARGUMENT.
        """
        with self.lock:
            if label is not None:
                config = self.configs.get(name)
                number = None if config is None else config.labels.get(label)
                available = self._available(name)
                if number is None or (number not in available and not self.labels_for_unavailable):
                    raise ServingError(f"Unrecognized servable version label: {label}")
            available = self._available(name)
            if number is None and available:
                number = max(available)
            if number not in available:
                asked = f"Latest({name})" if number is None else f"Specific({name}, {number})"
                raise ServingError(f"Servable not found for request: {asked}", "NOT_FOUND")
            version = available[number]
            version.users += 1
            return number, version

    def done(self, version):
        """Gives back what `use` returned."""
        with self.lock:
            version.users -= 1

    def _available(self, name):
        versions = self.versions.get(name, {})
        return {number: version for number, version in versions.items() if version.state == "AVAILABLE"}

    def status(self, name, number=None):
        """`(number, state, error or None)` of each version, the newest first.

        Raises:
            ServingError: there is none, code NOT_FOUND.
        """
        with self.lock:
            versions = self.versions.get(name, {})
            if number is not None and number not in versions:
                raise ServingError(f"Could not find version {number} of model {name}", "NOT_FOUND")
            if not versions:
                raise ServingError(f"Could not find any versions of model {name}", "NOT_FOUND")
            numbers = sorted(versions, reverse=True) if number is None else [number]
            return [(number, versions[number].state, versions[number].error) for number in numbers]

    @property
    def ready(self):
        """True if each model has a version that can be asked."""
        with self.lock:
            return bool(self.configs) and all(self._available(name) for name in self.configs)
