"""Models over REST: the contract of TensorFlow Serving, a server that keeps it, and its client."""


def __getattr__(name):
    if name == "Client":
        from keras_bert_app.serving.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
