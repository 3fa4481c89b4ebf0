"""The container image in which this package's flows run."""

IMAGE = "lume-injector:0.1.0"
