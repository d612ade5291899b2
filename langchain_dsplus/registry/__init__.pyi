from langchain_dsplus.registry.live import LiveRouter as LiveRouter
from langchain_dsplus.registry.records import Gate as Gate
from langchain_dsplus.registry.records import ModelVersion as ModelVersion
from langchain_dsplus.registry.records import RegistryStatus as RegistryStatus
from langchain_dsplus.registry.registry import ModelRegistry as ModelRegistry
from langchain_dsplus.registry.rules import NotPromotedError as NotPromotedError
from langchain_dsplus.registry.state import RegistryError as RegistryError
