"""Small models: cheap, local, and able to say how sure they are."""

from typing import TYPE_CHECKING

from langchain_dsplus._imports import lazy

if TYPE_CHECKING:
    from langchain_dsplus.small_models.base import SmallModel
    from langchain_dsplus.small_models.chat import ChatClassifier
    from langchain_dsplus.small_models.fake import FakeSmallModel
    from langchain_dsplus.small_models.generated import GeneratedText
    from langchain_dsplus.small_models.image import ImageClassifier, ImagePreprocess
    from langchain_dsplus.small_models.runnable import as_small_model
    from langchain_dsplus.small_models.sentence import SentenceClassifier
    from langchain_dsplus.small_models.sklearn import SklearnClassifier
    from langchain_dsplus.small_models.text import TorchTextClassifier
    from langchain_dsplus.small_models.transformers import TransformersClassifier

__all__ = [
    "ChatClassifier",
    "FakeSmallModel",
    "GeneratedText",
    "ImageClassifier",
    "ImagePreprocess",
    "SentenceClassifier",
    "SklearnClassifier",
    "SmallModel",
    "TorchTextClassifier",
    "TransformersClassifier",
    "as_small_model",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "base": "SmallModel",
        "chat": "ChatClassifier",
        "fake": "FakeSmallModel",
        "generated": "GeneratedText",
        "image": "ImageClassifier ImagePreprocess",
        "runnable": "as_small_model",
        "sentence": "SentenceClassifier",
        "sklearn": "SklearnClassifier",
        "text": "TorchTextClassifier",
        "transformers": "TransformersClassifier",
    },
)
