"""A declared fake of ``tensorrt``: a "plan" is the ONNX graph, executed by onnxruntime on the CPU.

Classes, names and arguments are those that the real packages 10.13 (published stubs) and 11.4
(signatures of the real binding) state. What it shows: that profiles, shapes, addresses, captures
and refusals fit together, and that the right numbers come out. What it cannot show: that TensorRT
takes our graphs, or that anything runs on a GPU.
"""

from __future__ import annotations

import ctypes
import enum
import json
import math
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import ClassVar

import numpy as np
import onnxruntime
import pytest

from tests.inference.fake_cuda import FakeCuda


class TensorIOMode(enum.IntEnum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class DataType(enum.IntEnum):
    FLOAT = 0
    HALF = 1


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class BuilderFlag(enum.IntEnum):
    TF32 = 7


class MemoryPoolType(enum.IntEnum):
    WORKSPACE = 0


class ILogger:
    class Severity(enum.IntEnum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    def __init__(self) -> None:
        pass

    def log(self, severity: ILogger.Severity, msg: str) -> None:
        raise NotImplementedError


class Network:
    def __init__(self, flags: int) -> None:
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        self.graph = b""

    def __len__(self) -> int:
        """Layers, as the real one: an empty network is false."""
        return len(self.graph)


class ParserError:
    def desc(self) -> str:
        return "no importer for Frobnicate"

    def node(self) -> int:
        return 7


class OnnxParser:
    def __init__(self, network: Network, logger: ILogger) -> None:
        self._network = network
        self.num_errors = 0

    def parse(self, model: bytes, path: str | None = None) -> bool:
        if FakeTensorRt.refuses:
            self.num_errors = 1
            return False
        self._network.graph = model
        return True

    def get_error(self, index: int) -> ParserError:
        assert index < self.num_errors
        return ParserError()


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[int]] = {}

    def set_shape(
        self, input: str, min: Sequence[int], opt: Sequence[int], max: Sequence[int]
    ) -> None:
        assert min == opt == max
        self.shapes[input] = list(min)


class TimingCache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data + b"+timed"


class Config:
    def __init__(self) -> None:
        self.flags = {BuilderFlag.TF32}
        self.builder_optimization_level = 3
        self.workspace = 0
        self.profiles: list[Profile] = []
        self.cache: TimingCache | None = None

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.discard(flag)

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        assert pool == MemoryPoolType.WORKSPACE
        self.workspace = pool_size

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> TimingCache:
        return TimingCache(serialized_timing_cache)

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        assert ignore_mismatch is False
        if cache.data.startswith(b"foreign"):
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> TimingCache:
        assert self.cache is not None
        return self.cache


class Builder:
    configs: ClassVar[list[Config]] = []

    def __init__(self, logger: ILogger) -> None:
        assert isinstance(logger, ILogger)

    def create_network(self, flags: int = 0) -> Network:
        return Network(flags)

    def create_builder_config(self) -> Config:
        self.configs.append(Config())
        return self.configs[-1]

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        assert BuilderFlag.TF32 not in config.flags
        profiles = [profile.shapes for profile in config.profiles]
        return json.dumps({"profiles": profiles}).encode() + b"\n" + network.graph


class Context:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._profile: dict[str, list[int]] | None = None

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self._profile = self._engine.profiles[profile_index]
        return True

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        assert self._profile is not None
        self._shapes[name] = tuple(shape)
        return self._profile[name] == list(shape)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return memory in self._engine.cuda.memory

    def infer_shapes(self) -> list[str]:
        return [name for name in self._engine.inputs if name not in self._shapes]

    def execute_async_v3(self, stream_handle: int) -> bool:
        self._engine.cuda.check_device(stream_handle)
        if FakeTensorRt.breaks:
            return False
        self._engine.cuda.put(self._work)
        return True

    def _work(self) -> None:
        inputs = {
            name: np.ctypeslib.as_array(
                (ctypes.c_float * math.prod(shape)).from_address(self._addresses[name])
            ).reshape(shape)
            for name, shape in self._shapes.items()
        }
        names = list(self._engine.outputs)
        for name, x in zip(names, self._engine.session.run(names, inputs), strict=True):
            ctypes.memmove(self._addresses[name], np.ascontiguousarray(x).ctypes.data, x.nbytes)


class Engine:
    def __init__(self, plan: bytes, cuda: FakeCuda) -> None:
        head, _, graph = plan.partition(b"\n")
        self.cuda = cuda
        self.profiles: list[dict[str, list[int]]] = json.loads(head)["profiles"]
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        self.inputs = {item.name: item.shape for item in self.session.get_inputs()}
        self.outputs = {item.name: item.shape for item in self.session.get_outputs()}

    @property
    def num_io_tensors(self) -> int:
        return len(self.inputs) + len(self.outputs)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.profiles)

    def get_tensor_name(self, index: int) -> str:
        names: list[str] = [*self.inputs, *self.outputs]
        return names[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType.FLOAT

    def get_tensor_shape(self, name: str) -> list[int]:
        shape = (self.inputs | self.outputs)[name]
        return [-1, *shape[1:]]

    def create_execution_context(self) -> Context:
        return Context(self)


class FakeTensorRt(ModuleType):
    """The module; a test may set its ``__version__``, and make it refuse or break."""

    refuses: ClassVar[bool] = False
    breaks: ClassVar[bool] = False
    spoiled: ClassVar[bool] = False

    def __init__(self, cuda: FakeCuda) -> None:
        super().__init__("tensorrt")
        self.TensorIOMode = TensorIOMode
        self.DataType = DataType
        self.Dims = tuple
        self.NetworkDefinitionCreationFlag = NetworkDefinitionCreationFlag
        self.BuilderFlag = BuilderFlag
        self.MemoryPoolType = MemoryPoolType
        self.ILogger = ILogger
        self.OnnxParser = OnnxParser
        self.Builder = Builder
        self.__version__ = "11.4.0.106"
        self._cuda = cuda

    def Runtime(self, logger: ILogger) -> FakeRuntime:
        assert isinstance(logger, ILogger)
        return FakeRuntime(self._cuda)


class FakeRuntime:
    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
        return None if FakeTensorRt.spoiled else Engine(serialized_engine, self._cuda)


def install(monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda) -> FakeTensorRt:
    """Put the fake where ``import tensorrt`` finds it, in its good mood."""
    for name in ("refuses", "breaks", "spoiled"):
        monkeypatch.setattr(FakeTensorRt, name, False)
    monkeypatch.setattr(Builder, "configs", [])
    fake = FakeTensorRt(cuda)
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    return fake
