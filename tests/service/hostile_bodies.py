"""Request bodies that take much more work than their bytes suggest, for JSON routes and for `infer`."""

import gzip
import json
from collections.abc import Iterator

import numpy as np

DEEP = 100_000


def shapes(size: int) -> Iterator[tuple[str, bytes]]:
    """JSON bodies of at most `size` bytes, by the name of the part that is repeated."""
    yield "unknown keys", _object(f'"key{n:07}":0' for n in range(size // 16))
    yield "one key many times", _object('"model":0' for _ in range(size // 11))
    yield "a long key", b'{"' + b"k" * (size - 8) + b'":0}'
    yield "a long string", b'{"name":"' + b"x" * (size - 12) + b'"}'
    yield "a string of escapes", b'{"name":"' + b"\\u00e9" * ((size - 12) // 6) + b'"}'
    yield "a huge integer", b'{"name":' + b"9" * (size - 10) + b"}"
    yield "a deep list", b'{"inputs":' + b"[" * min(DEEP, size // 3) + b"]" * min(DEEP, size // 3) + b"}"
    yield "deep objects", b'{"a":' * (size // 6)
    yield "nothing but brackets", b"[" * size
    yield "cut short", b'{"inputs":{"audio":[' + b"[1,2,3]," * ((size - 30) // 8)
    yield "blanks", b" " * (size - 2) + b"{}"
    for name, item in ITEMS.items():
        many = b",".join([item] * ((size - 60) // (len(item) + 1)))
        yield f"a list of {name}", b'{"dataset":{"name":"d"},"model":"m","tags":[' + many + b"]}"
        yield f"a top-level list of {name}", b"[" + many + b"]"


def inputs(size: int) -> Iterator[tuple[str, bytes]]:
    """Bodies of the operations of a model with modalities audio (3 numbers) and word (categories)."""
    for name, item in ITEMS.items():
        many = b",".join([item] * ((size - 40) // (len(item) + 1)))
        yield f"a column of {name}", b'{"inputs":{"audio":[' + many + b"]}}"
        yield f"a row of {name}", b'{"inputs":{"audio":[[' + many + b"]]}}"
        yield f"targets of {name}", b'{"inputs":{"word":[1]},"targets":[' + many + b"]}"
        yield f"a seed of {name}", b'{"inputs":{"word":[1]},"seed":[' + many + b"]}"
        yield f"a state of {name}", b'{"inputs":{"word":[1]},"state":[' + many + b"]}"
    yield "unknown modalities", b'{"inputs":' + _object(f'"key{n:07}":[1]' for n in range(size // 20)) + b"}"
    yield "one modality many times", b'{"inputs":' + _object('"word":[1]' for _ in range(size // 12)) + b"}"
    yield "a long modality", b'{"inputs":{"' + b"k" * (size - 30) + b'":[1]}}'
    yield "a long state", b'{"inputs":{"word":[1]},"state":"' + b"A" * (size - 40) + b'"}'
    row = b"[0.12345678901234567,0.12345678901234567,0.12345678901234567]"
    rows = min(4096, (size - 40) // (len(row) + 1))
    yield "one bad row at the end", b'{"inputs":{"audio":[' + b",".join([row] * (rows - 1)) + b",[1,2]]}}"
    yield "rows that are all bad", b'{"inputs":{"audio":[' + b",".join([b'["",1,2]'] * min(4096, size // 12)) + b"]}}"


def tensors(size: int) -> Iterator[tuple[str, bytes, dict[str, str]]]:
    """Bodies of `infer`, with their headers."""
    for name, body in shapes(size):
        yield f"infer: {name}", body, {}
        yield f"infer: {name}, as gzip", gzip.compress(body, 1), {"Content-Encoding": "gzip"}
    for name, item in ITEMS.items():
        many = b",".join([item] * ((size - 100) // (len(item) + 1)))
        head = b'{"inputs":[{"name":"audio","datatype":"FP32","shape":[1,3],"data":['
        yield f"infer: data of {name}", head + many + b"]}]}", {}
        yield f"infer: data of {name}, as gzip", gzip.compress(head + many + b"]}]}", 1), {"Content-Encoding": "gzip"}
        yield f"infer: inputs of {name}", b'{"inputs":[' + many + b"]}", {}
        yield f"infer: outputs of {name}", b'{"inputs":[],"outputs":[' + many + b"]}", {}
    yield (
        "infer: parameters",
        b'{"inputs":[],"parameters":' + _object(f'"k{n:07}":0' for n in range(size // 16)) + b"}",
        {},
    )
    yield (
        "infer: many outputs",
        b'{"inputs":[],"outputs":[' + b",".join([b'{"name":"latent_mean"}'] * min(100_000, size // 30)) + b"]}",
        {},
    )
    count = min(4096, size // 12)
    for name, values in (("zeros", np.zeros), ("ones", np.ones)):
        yield (f"infer: binary {name}", *_binary("FP32", [count, 3], values((count, 3), "<f4").tobytes()))
    nan = np.full((count, 3), np.nan, "<f4").tobytes()
    yield ("infer: binary NaN", *_binary("FP32", [count, 3], nan))
    yield ("infer: a binary rest", *_binary("FP32", [1, 3], bytes(size - 200)))


ITEMS = {
    "empty lists": b"[]",
    "small lists": b"[1]",
    "lists of lists": b"[[[1]]]",
    "empty objects": b"{}",
    "objects": b'{"a":1}',
    "nulls": b"null",
    "zeros": b"0",
    "numbers": b"0.12345678901234567",
    "huge integers": b"9" * 400,
    "infinite numbers": b"1e308",
    "empty strings": b'""',
    "strings": b'"ab"',
    "booleans": b"true",
}


def _object(pairs: Iterator[str]) -> bytes:
    return ("{" + ",".join(pairs) + "}").encode()


def _binary(datatype: str, shape: list[int], raw: bytes) -> tuple[bytes, dict[str, str]]:
    tensor = {"name": "audio", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + raw, {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
