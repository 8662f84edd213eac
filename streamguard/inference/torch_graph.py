"""An ONNX graph of a bundle as PyTorch operations: the very graph, node by node, types as written.

So torch runs what onnxruntime and TensorRT run, in fp32 or in the mixed precision of an fp16 graph,
and no second definition of a network can drift. Only the operators that our bundles use are here;
another one is an error that names it. Parameters are prepared once; constant parts are folded.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamguard.errors import MissingExtraError

if TYPE_CHECKING:
    from torch import Tensor

    Step = Callable[..., "Tensor | tuple[Tensor, ...]"]

EXTRA = "torch"
_GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2)}
"""Where torch's gates stand in ONNX's order: input, output, forget, cell; update, reset, hidden."""


class UnknownOperatorError(ValueError):
    """The graph has an operator, or a use of one, that is not translated."""


@dataclass(frozen=True, slots=True)
class _Node:
    step: Step
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    last: tuple[str, ...]
    """Values that nobody needs afterwards: their memory is free for the next node."""


class TorchGraph:
    """Callable: tensors by name in, tensors by name out. Stateless; integers stay on the host.

    ``channels_last``: convolutions in the layout that the matrix units of a GPU read. Raises
    MissingExtraError, UnknownOperatorError.
    """

    def __init__(self, model: bytes, device: str = "cpu", *, channels_last: bool = False) -> None:
        try:
            import onnx
            import torch
        except ImportError as err:
            raise MissingExtraError("running ONNX graphs in PyTorch", EXTRA, str(err)) from err
        self._torch = torch
        self._device = device
        self._channels_last = channels_last
        graph = onnx.load_model_from_string(model).graph
        self._constants: dict[str, Tensor] = {
            item.name: self._place(torch.from_numpy(onnx.numpy_helper.to_array(item).copy()))
            for item in graph.initializer
        }
        self.inputs = tuple(value.name for value in graph.input)
        self.outputs = tuple(value.name for value in graph.output)
        self._nodes = self._prepare([_Proto.of(node) for node in graph.node])

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run on tensors of the graph's device; gradients are not kept."""
        with self._torch.inference_mode():
            values: dict[str, Tensor] = {**self._constants, **inputs}
            for node in self._nodes:
                arguments = [values[name] if name else None for name in node.inputs]
                out = node.step(*arguments)
                values.update(zip(node.outputs, out if isinstance(out, tuple) else (out,)))  # noqa: B905  # trailing outputs may be left out
                for name in node.last:
                    del values[name]
            return {name: values[name] for name in self.outputs}

    def _place(self, tensor: Tensor) -> Tensor:
        """Numbers to the device; sizes and axes stay where reading them costs no wait."""
        return tensor.to(self._device) if tensor.is_floating_point() else tensor

    def _prepare(self, protos: Sequence[_Proto]) -> tuple[_Node, ...]:
        """Steps in order; what depends on nothing but constants becomes one now."""
        rest: list[tuple[_Proto, Step]] = []
        for proto in protos:
            step = self._step(proto)
            names = [name for name in proto.inputs if name]
            if names and all(name in self._constants for name in names):
                arguments = [self._constants[n] if n else None for n in proto.inputs]
                with self._torch.inference_mode():
                    out = step(*arguments)
                parts = out if isinstance(out, tuple) else (out,)
                self._constants.update(zip(proto.outputs, parts, strict=True))
            else:
                rest.append((proto, step))
        users: dict[str, int] = {}
        for number, (proto, _) in enumerate(rest):
            users.update(dict.fromkeys((*proto.inputs, *proto.outputs), number))
        kept = {"", *self._constants, *self.outputs}
        nodes = []
        for number, (proto, step) in enumerate(rest):
            touched = dict.fromkeys((*proto.inputs, *proto.outputs))
            last = tuple(n for n in touched if n not in kept and users[n] == number)
            nodes.append(_Node(step, proto.inputs, proto.outputs, last))
        return tuple(nodes)

    def _step(self, proto: _Proto) -> Step:
        unary = getattr(self._torch, _UNARY.get(proto.op, ""), None)
        if unary is not None:
            return unary  # type: ignore[no-any-return]  # found by name
        make = getattr(self, f"_{proto.op.lower()}", None)
        if make is None:
            raise UnknownOperatorError(f"{proto.op} ({proto.name}) is not translated to torch")
        return make(proto)  # type: ignore[no-any-return]  # found by name

    # Elementwise, in two arguments.

    def _add(self, proto: _Proto) -> Step:
        return lambda a, b: a + b

    def _sub(self, proto: _Proto) -> Step:
        return lambda a, b: a - b

    def _mul(self, proto: _Proto) -> Step:
        return lambda a, b: a * b

    def _div(self, proto: _Proto) -> Step:
        return lambda a, b: a / b if a.is_floating_point() else a // b

    def _pow(self, proto: _Proto) -> Step:
        return lambda a, b: a**b

    def _clip(self, proto: _Proto) -> Step:
        return lambda x, low=None, high=None: x.clamp(low, high)

    def _cast(self, proto: _Proto) -> Step:
        torch = self._torch
        kinds = {1: torch.float32, 6: torch.int32, 7: torch.int64, 10: torch.float16}
        to = proto.attributes["to"]
        if to not in kinds:
            raise UnknownOperatorError(f"Cast ({proto.name}) to ONNX type {to}")
        return lambda x: x.to(kinds[to])

    # Shapes.

    def _shape(self, proto: _Proto) -> Step:
        start, end = proto.attributes.get("start", 0), proto.attributes.get("end")
        return lambda x: self._torch.tensor(list(x.shape[start:end]), dtype=self._torch.int64)

    def _reshape(self, proto: _Proto) -> Step:
        keep_zero = proto.attributes.get("allowzero", 0)

        def reshape(x: Tensor, shape: Tensor) -> Tensor:
            sizes = shape.tolist()
            if not keep_zero:
                sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
            return x.reshape(sizes)

        return reshape

    def _expand(self, proto: _Proto) -> Step:
        return lambda x, shape: x.expand(self._torch.broadcast_shapes(x.shape, shape.tolist()))

    def _transpose(self, proto: _Proto) -> Step:
        return lambda x: x.permute(proto.attributes["perm"])

    def _unsqueeze(self, proto: _Proto) -> Step:
        def unsqueeze(x: Tensor, axes: Tensor) -> Tensor:
            rank = x.dim() + axes.numel()
            for axis in sorted(axis % rank for axis in axes.flatten().tolist()):
                x = x.unsqueeze(axis)
            return x

        return unsqueeze

    def _concat(self, proto: _Proto) -> Step:
        return lambda *parts: self._torch.cat(parts, dim=proto.attributes["axis"])

    def _split(self, proto: _Proto) -> Step:
        axis = proto.attributes.get("axis", 0)

        def split(x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
            each = -(-x.shape[axis] // len(proto.outputs)) if sizes is None else sizes.tolist()
            parts: tuple[Tensor, ...] = self._torch.split(x, each, dim=axis)
            return parts

        return split

    def _slice(self, proto: _Proto) -> Step:
        def cut(
            x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None,
            steps: Tensor | None = None,
        ) -> Tensor:  # fmt: skip
            count = starts.numel()
            where = range(count) if axes is None else axes.tolist()
            by = [1] * count if steps is None else steps.tolist()
            at = [slice(None)] * x.dim()
            backwards = []
            for axis, start, end, step in zip(
                where, starts.tolist(), ends.tolist(), by, strict=True
            ):
                if step > 0:
                    at[axis] = slice(start, end, step)
                    continue
                # torch has no negative steps: the same rows forwards, then turned round.
                rows = range(*slice(start, end, step).indices(x.shape[axis]))
                at[axis] = slice(rows[-1], rows[0] + 1, -step) if rows else slice(0)
                backwards.append(axis)
            return x[tuple(at)].flip(backwards) if backwards else x[tuple(at)]

        return cut

    def _gather(self, proto: _Proto) -> Step:
        axis = proto.attributes.get("axis", 0)
        # Indices that a captured GPU graph reads must lie on the GPU before it is captured.
        where = self._constants.get(proto.inputs[1])
        placed = None if where is None else where.to(self._device)

        def gather(x: Tensor, index: Tensor) -> Tensor:
            if index.dim() == 0:
                return x.select(axis, int(index))
            at = placed if placed is not None and x.is_floating_point() else index
            picked = x.index_select(axis, at.flatten())
            return picked.reshape(*x.shape[:axis], *index.shape, *x.shape[axis % x.dim() + 1 :])

        return gather

    def _pad(self, proto: _Proto) -> Step:
        mode = proto.attributes.get("mode", b"constant").decode()

        def pad(x: Tensor, pads: Tensor, value: Tensor | None = None, *axes: Tensor) -> Tensor:
            begin, end = pads.reshape(2, -1).tolist()
            if axes or value is not None or mode not in ("constant", "reflect"):
                raise UnknownOperatorError(f"Pad ({proto.name}): mode {mode}")
            flat = _Pads(tuple(begin), tuple(end)).flat
            while flat[-2:] == [0, 0]:  # torch reflects the last axes only
                del flat[-2:]
            out: Tensor = self._torch.nn.functional.pad(x, flat, mode=mode)
            return out

        return pad

    # Reductions.

    def _reducesum(self, proto: _Proto) -> Step:
        return self._reduce(proto, self._torch.sum)

    def _reducemean(self, proto: _Proto) -> Step:
        return self._reduce(proto, self._torch.mean)

    def _reducemax(self, proto: _Proto) -> Step:
        return self._reduce(proto, self._torch.amax)

    def _reducemin(self, proto: _Proto) -> Step:
        return self._reduce(proto, self._torch.amin)

    def _reduce(self, proto: _Proto, function: Callable[..., Tensor]) -> Step:
        keep = bool(proto.attributes.get("keepdims", 1))
        fixed = proto.attributes.get("axes")

        def reduce(x: Tensor, axes: Tensor | None = None) -> Tensor:
            over = fixed if axes is None else axes.tolist()
            return function(x, dim=over or list(range(x.dim())), keepdim=keep)

        return reduce

    # Where the arithmetic is.

    def _matmul(self, proto: _Proto) -> Step:
        return self._torch.matmul

    def _gemm(self, proto: _Proto) -> Step:
        given = proto.attributes
        alpha, beta = given.get("alpha", 1.0), given.get("beta", 1.0)

        def gemm(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
            a = a.t() if given.get("transA") else a
            b = b.t() if given.get("transB") else b
            product: Tensor = a @ b
            return alpha * product if c is None else c.addmm(a, b, beta=beta, alpha=alpha)

        return gemm

    def _conv(self, proto: _Proto) -> Step:
        functional = self._torch.nn.functional
        given = proto.attributes

        def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
            rank = weight.dim() - 2
            pads = proto.pads(rank)
            shape = {
                "stride": list(given.get("strides", [1] * rank)),
                "dilation": list(given.get("dilations", [1] * rank)),
                "padding": pads.even,
            }
            if pads.uneven:
                x = functional.pad(x, pads.flat)
            groups = given.get("group", 1)
            out: Tensor
            if rank == 2:
                out = functional.conv2d(self._layout(x), weight, bias, groups=groups, **shape)
            elif not self._channels_last:
                out = functional.conv1d(x, weight, bias, groups=groups, **shape)
            else:
                # One row high: only two-dimensional convolutions know the layout.
                flat = {key: [int(key != "padding"), *value] for key, value in shape.items()}
                wide, kernel = self._layout(x.unsqueeze(2)), weight.unsqueeze(2)
                out = functional.conv2d(wide, kernel, bias, groups=groups, **flat).squeeze(2)
            return out

        return convolve

    def _layout(self, x: Tensor) -> Tensor:
        if not self._channels_last:
            return x
        return x.contiguous(memory_format=self._torch.channels_last)

    def _maxpool(self, proto: _Proto) -> Step:
        given, pads = proto.attributes, proto.pads(2)
        if len(given["kernel_shape"]) != 2 or pads.uneven:
            raise UnknownOperatorError(f"MaxPool ({proto.name}): {given}")
        return lambda x: self._torch.nn.functional.max_pool2d(
            x,
            given["kernel_shape"],
            stride=given.get("strides", [1, 1]),
            padding=pads.even,
            dilation=given.get("dilations", [1, 1]),
            ceil_mode=bool(given.get("ceil_mode", 0)),
        )

    def _batchnormalization(self, proto: _Proto) -> Step:
        epsilon = proto.attributes.get("epsilon", 1e-5)
        return lambda x, scale, bias, mean, variance: self._torch.nn.functional.batch_norm(
            x, mean, variance, scale, bias, training=False, eps=epsilon
        )

    def _lstm(self, proto: _Proto) -> Step:
        module = self._recurrent(proto)

        def lstm(x: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
            start = None if rest[4] is None else (rest[4], rest[5])
            out, (hidden, cell) = module(x, start)
            return _by_direction(out, len(hidden)), hidden, cell

        return lstm

    def _gru(self, proto: _Proto) -> Step:
        if not proto.attributes.get("linear_before_reset", 0):
            raise UnknownOperatorError(f"GRU ({proto.name}) that resets before its product")
        module = self._recurrent(proto)

        def gru(x: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
            out, hidden = module(x, rest[4] if len(rest) > 4 else None)
            return _by_direction(out, len(hidden)), hidden

        return gru

    def _recurrent(self, proto: _Proto) -> Callable[..., Any]:
        """Forward or both ways, sequence first, with constant weights, all lengths equal."""
        torch, given = self._torch, proto.attributes
        way = given.get("direction", b"forward")
        names = (*proto.inputs, *[""] * 8)
        weights = [self._constants[name] for name in names[1:4] if name in self._constants]
        odd = way == b"reverse" or given.get("layout", 0) or "activations" in given
        if odd or len(weights) < 3 or names[4] or names[7]:
            raise UnknownOperatorError(f"{proto.op} ({proto.name}): {dict(given)}")
        kernel, recurrence, bias = weights
        size, gates = given["hidden_size"], list(_GATES[proto.op])
        make = torch.nn.LSTM if proto.op == "LSTM" else torch.nn.GRU
        module: Any = make(
            kernel.shape[2], size, bidirectional=way == b"bidirectional",
            device=kernel.device, dtype=kernel.dtype,
        )  # fmt: skip
        state: dict[str, Tensor] = {}
        for number, suffix in zip(range(len(kernel)), ("", "_reverse"), strict=False):
            blocks = {
                "weight_ih": kernel[number],
                "weight_hh": recurrence[number],
                "bias_ih": bias[number, : len(gates) * size],
                "bias_hh": bias[number, len(gates) * size :],
            }
            for name, block in blocks.items():
                by_gate = block.reshape(len(gates), size, *block.shape[1:])[gates]
                state[f"{name}_l0{suffix}"] = by_gate.reshape(block.shape)
        module.load_state_dict(state)
        module.flatten_parameters()
        module.eval().requires_grad_(False)
        return module  # type: ignore[no-any-return]  # an LSTM or a GRU


def _by_direction(out: Tensor, directions: int) -> Tensor:
    """torch's ``[steps, batch, directions x size]`` as ONNX wants it, directions second."""
    steps, batch, _ = out.shape
    return out.reshape(steps, batch, directions, -1).permute(0, 2, 1, 3)


_UNARY = {
    "Abs": "abs",
    "Exp": "exp",
    "Identity": "clone",
    "Log": "log",
    "Neg": "neg",
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Sqrt": "sqrt",
    "Tanh": "tanh",
}


@dataclass(frozen=True, slots=True)
class _Pads:
    begin: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def uneven(self) -> bool:
        return self.begin != self.end

    @property
    def even(self) -> list[int]:
        """For an operator that pads both sides alike; nothing where it was done before."""
        return [0] * len(self.begin) if self.uneven else list(self.begin)

    @property
    def flat(self) -> list[int]:
        """As torch's pad wants them: last axis first."""
        pairs = reversed(list(zip(self.begin, self.end, strict=True)))
        return list(itertools.chain.from_iterable(pairs))


@dataclass(frozen=True, slots=True)
class _Proto:
    """What a node says, without protobuf."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    @classmethod
    def of(cls, node: Any) -> _Proto:
        import onnx

        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        return cls(node.op_type, node.name, tuple(node.input), tuple(node.output), attributes)

    def pads(self, rank: int) -> _Pads:
        if self.attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
            raise UnknownOperatorError(f"{self.op} ({self.name}) with auto_pad")
        values = tuple(self.attributes.get("pads", [0] * 2 * rank))
        return _Pads(values[:rank], values[rank:])
