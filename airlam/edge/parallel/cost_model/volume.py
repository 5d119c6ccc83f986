"""Bytes that one rank hands to its collectives in a training step, by kind: closed forms, one function a mode.

Counted is the payload: the size of the tensor that a rank gives to the call (its own, padded part for an all-gather;
the whole of what is reduced or broadcast; what is sent). ``control`` are the few bytes that are no gradient and no
activation. What crosses the wire follows from it and the size of the
group, see :func:`wire_bytes`. A group of one rank calls no collective: zero bytes.

Symbols: ``links`` N of the rank's part of the batch; ``tokens`` T of a link, all of them; ``width`` W of the backbone;
``key_width`` D of the keys (heads times the width of one; fewer heads with grouped queries), the values' is equal;
``layers`` L of the rank; ``parameters`` P, trained ones that lie on the rank. Values are of 4 bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import ceil, prod

BYTES = 4  # of a value in single precision
CONTROL_BYTES = 16  # loss and squared norm of the gradient, summed over all ranks at the end of a step: two float64
SHAPE_BYTES = 16  # links and tokens of a batch, which the stages between first and last do not read: two int64
SUMS = ("all_reduce", "control", "reduce", "reduce_scatter")

Volume = Counter[str]
"""Bytes by kind of collective: all_reduce, all_gather, reduce_scatter, reduce, broadcast, send, control."""


def data_volume(*, parameters: int, ranks: int) -> Volume:
    """Data parallel: the gradients, and the loss.

    Example:
        >>> dict(data_volume(parameters=1000, ranks=2))
        {'all_reduce': 4000, 'control': 16}
    """
    if ranks == 1:
        return Counter()
    return Counter(all_reduce=BYTES * parameters, control=CONTROL_BYTES)


def sharded_volume(
    *,
    groups: Sequence[Sequence[Sequence[int]]],
    ranks: int,
    kept_groups: int = 1,
    frozen: Sequence[Sequence[int]] = (),
) -> Volume:
    """Data parallel with weights, gradients and moments in parts (FSDP2).

    Each parameter is cut along its first axis into equal parts, the last ones padded. A group's parts are gathered
    before its forward pass and again before its backward pass; its gradients are reduced and scattered.

    Args:
        groups: shapes of the trained parameters of each group that is gathered at once (a layer, say).
        kept_groups: how many of them stay gathered between forward and backward (FSDP2 keeps the root's, the first).
        frozen: shapes of the parameters of the first group that are not trained: gathered, never reduced.

    Example:
        >>> dict(sharded_volume(groups=[[(10, 4)], [(6, 4)]], ranks=4, kept_groups=1))
        {'all_gather': 112, 'reduce_scatter': 320, 'control': 16}
    """
    if ranks == 1:
        return Counter()
    own = [_padded(group, ranks) for group in groups]
    still = _padded(frozen, ranks) * (1 if kept_groups else 2)
    return Counter(
        all_gather=sum(own[:kept_groups]) + 2 * sum(own[kept_groups:]) + still,
        reduce_scatter=ranks * sum(own),
        control=CONTROL_BYTES,
    )


def _padded(shapes: Sequence[Sequence[int]], ranks: int) -> int:
    """Bytes of one rank's parts."""
    return sum(BYTES * ceil(shape[0] / ranks) * prod(shape[1:]) for shape in shapes)


def sequence_volume(
    *,
    links: int,
    tokens: Sequence[int],
    key_width: int,
    layers: int,
    parameters: int,
) -> Volume:
    """Sequence parallel: keys and values of every layer, the energies of the links' errors, and the gradients.

    Args:
        tokens: the ranks' shares. An all-gather pads every part to the largest share.

    Example:
        >>> dict(sequence_volume(links=2, tokens=[3, 1], key_width=8, layers=1, parameters=10))
        {'all_gather': 384, 'all_reduce': 560, 'control': 16}
    """
    if len(tokens) == 1:
        return Counter()
    both = 2 * links * key_width * BYTES  # keys and values of one token
    return Counter(
        all_gather=layers * both * max(tokens),
        all_reduce=layers * both * sum(tokens) + BYTES * (parameters + links),
        control=CONTROL_BYTES,
    )


def tensor_volume(*, links: int, tokens: int, width: int, layers: int, ranks: int) -> Volume:
    """Tensor parallel: two sums of activations in every layer forward, two backward.

    Example:
        >>> dict(tensor_volume(links=2, tokens=4, width=8, layers=1, ranks=2))
        {'all_reduce': 1024, 'control': 16}
    """
    if ranks == 1:
        return Counter()
    return Counter(all_reduce=4 * layers * links * tokens * width * BYTES, control=CONTROL_BYTES)


def looped_volume(*, links: int, tokens: int, width: int, loops: int, ranks: int) -> Volume:
    """Looped tensor parallel: as tensor parallel with ``loops`` in place of layers, but every sum goes to the server
    (rank 0) and back from it; so does the embedding's, forward only, since its input needs no gradient.

    Example:
        >>> dict(looped_volume(links=2, tokens=4, width=8, loops=2, ranks=3))
        {'reduce': 2304, 'broadcast': 2304, 'control': 16}
    """
    if ranks == 1:
        return Counter()
    one = links * tokens * width * BYTES
    return Counter(reduce=(4 * loops + 1) * one, broadcast=(4 * loops + 1) * one, control=CONTROL_BYTES)


def pipeline_volume(*, links: int, tokens: int, width: int, stage: int, stages: int) -> Volume:
    """Pipeline: activations to the next stage, their gradients to the one before; all micro-batches together.

    Example:
        >>> [pipeline_volume(links=2, tokens=4, width=8, stage=s, stages=3)["send"] for s in range(3)]
        [256, 512, 256]
    """
    if stages == 1:
        return Counter()
    cuts = (stage > 0) + (stage < stages - 1)
    control = CONTROL_BYTES + SHAPE_BYTES * (stages > 2)
    return Counter(send=cuts * links * tokens * width * BYTES, control=control)


def hybrid_volume(
    *,
    links: int,
    tokens: Sequence[int],
    place: int = 0,
    width: int,
    key_width: int,
    layers: int,
    parameters: int,
    data: int = 1,
    tensor: int = 1,
    stage: int = 0,
    stages: int = 1,
) -> Volume:
    """Two dimensions together: each adds what it sends alone, of this rank's own links, tokens, heads and layers.

    Args:
        links: of this rank's replica. tokens: the shares of the ranks of the sequence dimension, one number where
            tokens are not shared out. place: of this rank among them. key_width: of the heads on this rank.
        layers, parameters: of this rank. data, tensor, stages: ranks of the other dimensions. stage: of this rank.

    Example:
        >>> sizes = dict(links=2, tokens=[4], width=8, key_width=8, layers=1, parameters=10)
        >>> dict(hybrid_volume(**sizes, data=2, tensor=2))
        {'all_reduce': 1064, 'control': 16}
        >>> hybrid_volume(**sizes, tensor=2) == tensor_volume(links=2, tokens=4, width=8, layers=1, ranks=2)
        True
    """
    found: Volume = Counter()
    if len(tokens) > 1:
        found += sequence_volume(links=links, tokens=tokens, key_width=key_width, layers=layers, parameters=0)
    found += tensor_volume(links=links, tokens=tokens[place], width=width, layers=layers, ranks=tensor)
    found += pipeline_volume(links=links, tokens=tokens[place], width=width, stage=stage, stages=stages)
    if data * len(tokens) > 1:  # ranks that share out links and tokens sum their gradients at once
        found += Counter(all_reduce=BYTES * parameters, control=CONTROL_BYTES)
    if found:
        found["control"] = CONTROL_BYTES + SHAPE_BYTES * (stages > 2)
    return found


def wire_bytes(kind: str, payload: float, ranks: int) -> float:
    """Bytes that the busiest rank puts on the wire for a payload, with gloo's algorithms.

    All sums run over a ring, also those of which one rank gets the result, or each a part (measured: a reduce and a
    reduce-scatter take as long as an all-reduce). An all-gather passes every part on. A broadcast is sent as often as
    there are other ranks.

    Example:
        >>> wire_bytes("all_reduce", 1000, 4), wire_bytes("reduce", 1000, 4), wire_bytes("all_gather", 1000, 4)
        (1500.0, 1500.0, 3000)

    Raises:
        ValueError: no such kind.
    """
    if kind in SUMS:
        return 2 * (ranks - 1) / ranks * payload
    if kind in ("all_gather", "broadcast"):
        return (ranks - 1) * payload
    if kind == "send":
        return payload
    raise ValueError(f"no collective {kind!r}")
