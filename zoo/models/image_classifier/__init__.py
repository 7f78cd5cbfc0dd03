"""A classifier of images."""

from zoo.models.image_classifier.model import ImageClassifier

__all__ = ["ImageClassifier"]
