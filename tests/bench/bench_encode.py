"""How fast encoders are beside the published code, and what bounds them: ``make bench-encode``.

Patches of the CMU section. On the processor: Macenko one by one and batched, and EXAONEPath end to end, both as its
card runs it and under ``no_grad``, beside the product; rounds alternate, medians; the numbers of both sides are
compared in the same run. Then what reduced precision and OpenVINO give. On a GPU, if there is one: ViT-B and ViT-S in
bf16, and Macenko. Weights are drawn.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.encoders.exaonepath import MODEL
from models.encoders.stain.macenko import Macenko
from models.encoders.vit.network import VisionTransformer
from models.encoders.vit.shape import VitShape
from models.imaging.stain import BETA, PUBLISHED, optical_densities
from tests.bench import reduced
from tests.reference import exaonepath, macenko
from tests.services.slides import SAMPLE_CACHE
from worker.demo.sample import fetch_sample, read_sample

SIDE = 224
ROUNDS = 5
BATCH = 16
STAINED = 64
GFLOP = {"vit_b": 35.1, "vit_s": 9.2}
"""Of a forward pass on 197 tokens, a multiplication and an addition being two."""
SHAPES = {"vit_b": VitShape(768, 12, 12, 3072, 16), "vit_s": VitShape(384, 12, 6, 1536, 16)}

Work = Callable[[], object]


def tissue() -> NDArray[np.uint8]:
    """Return patches of the section of which at least a tenth is tissue."""
    pixels, _ = read_sample(fetch_sample(SAMPLE_CACHE))
    height, width = pixels.shape[:2]
    cut = np.stack(
        [
            pixels[y : y + SIDE, x : x + SIDE]
            for y in range(0, height - SIDE, SIDE // 2)
            for x in range(0, width - SIDE, SIDE // 2)
        ]
    )
    return cut[(optical_densities()[cut].min(-1) >= BETA).mean((1, 2)) >= 0.1]


def alternate(works: Mapping[str, Work], rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median seconds of each, run in turn; on a GPU until it is done."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:  # the first warms up
                taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(each) for name, each in taken.items()}


def matmul_gflops(device: str, dtype: torch.dtype, size: int) -> float:
    """Return what a large product of matrices reaches."""
    one = torch.randn((size, size), device=device, dtype=dtype)
    return 2 * size**3 / alternate({"matmul": lambda: one @ one})["matmul"] / 1e9


def stain_figures(patches: NDArray[np.uint8]) -> dict[str, float]:
    """Compare Macenko one by one with batched, on the processor."""
    normaliser, batch = Macenko(PUBLISHED), torch.from_numpy(patches)
    found, expected = normaliser(batch)[0], torch.stack([macenko.normalise(patch)[0] for patch in patches])
    seconds = alternate(
        {
            "one by one": lambda: [macenko.normalise(patch) for patch in patches],
            "batched": lambda: normaliser(batch),
        }
    )
    return {
        "macenko_ratio": seconds["one by one"] / seconds["batched"],
        "macenko_per_s": len(patches) / seconds["batched"],
        "macenko_reference_per_s": len(patches) / seconds["one by one"],
        "macenko_difference": float((found - expected).abs().max()),
    }


def published(state: exaonepath.State, patches: NDArray[np.uint8]) -> torch.Tensor:
    """Embed as the model card does: stains one by one, then the network."""
    return exaonepath.embed(state, torch.stack([exaonepath.preprocess(patch)[0] for patch in patches]))


def exaonepath_figures(patches: NDArray[np.uint8]) -> dict[str, float]:
    """Compare the published snippet with the product end to end, and say where the product's time goes."""
    state = exaonepath.checkpoint(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "EXAONEPath.ckpt"
        torch.save({"state_dict": state}, path)
        options = {"stain_target": "published-default"}
        encoder = MODEL.load(path, options, "cpu")
        network, half = MODEL.network(path), MODEL.load(path, {**options, "precision": "bf16"}, "cpu")
        other = MODEL.load(path, {**options, "runtime": "openvino"}, "cpu")
    with_gradients = {name: value.requires_grad_() for name, value in exaonepath.checkpoint(0).items()}
    images, normaliser, batch = torch.randn(8, 3, SIDE, SIDE), Macenko(PUBLISHED), torch.from_numpy(patches)

    def plain() -> torch.Tensor:
        with torch.no_grad():
            return published(state, patches)

    def alone() -> None:
        with torch.inference_mode():
            for _ in range(len(patches) // len(images)):
                network(images)

    def difference(matrix: NDArray[np.float32]) -> float:
        return float(np.abs(matrix - expected).max() / np.abs(expected).max())

    found, expected, halved = encoder.encode(patches).matrix, plain().numpy(), half.encode(patches).matrix
    seconds = alternate(
        {
            "card": lambda: published(with_gradients, patches),
            "no_grad": plain,
            "product": lambda: encoder.encode(patches),
            "openvino": lambda: other.encode(patches),
            "network": alone,
            "stains": lambda: normaliser(batch),
            "bf16": lambda: half.encode(patches),
        },
    )
    cosine = (halved * found).sum(1) / np.linalg.norm(halved, axis=1) / np.linalg.norm(found, axis=1)
    rate, peak = len(patches) / seconds["network"] * GFLOP["vit_b"], matmul_gflops("cpu", torch.float32, 1536)
    return {
        "exaonepath_ratio": seconds["card"] / seconds["product"],
        "exaonepath_ratio_to_no_grad": seconds["no_grad"] / seconds["product"],
        "exaonepath_openvino_ratio": seconds["card"] / seconds["openvino"],
        "exaonepath_openvino_ratio_to_no_grad": seconds["no_grad"] / seconds["openvino"],
        "exaonepath_difference": difference(found),
        "exaonepath_openvino_difference": difference(other.encode(patches).matrix),
        "exaonepath_per_s": len(patches) / seconds["product"],
        "exaonepath_bf16_per_s": len(patches) / seconds["bf16"],
        "bf16_cosine": float(cosine.min()),
        "network_share": seconds["network"] / seconds["product"],
        "stain_share": seconds["stains"] / seconds["product"],
        "network_gflops": rate,
        "matmul_gflops": peak,
        "network_of_matmul": rate / peak,
    }


@torch.inference_mode()
def cuda_figures(patches: NDArray[np.uint8]) -> dict[str, Any]:
    """Measure ViT-B, ViT-S and Macenko on the GPU."""
    peak = matmul_gflops("cuda", torch.bfloat16, 8192)
    figures: dict[str, Any] = {"device": torch.cuda.get_device_name(), "cuda_bf16_matmul_gflops": peak}
    images = torch.randn(256, 3, SIDE, SIDE, device="cuda", dtype=torch.bfloat16)
    for name, shape in SHAPES.items():
        network = VisionTransformer(shape).eval().to("cuda", torch.bfloat16)
        seconds = alternate({name: lambda network=network: [network(images) for _ in range(10)]})[name]  # type: ignore[misc]
        figures[f"cuda_{name}_per_s"] = 10 * len(images) / seconds
        figures[f"cuda_{name}_of_matmul"] = 10 * len(images) / seconds * GFLOP[name] / peak
    normaliser, batch = Macenko(PUBLISHED), torch.from_numpy(np.resize(patches, (256, *patches.shape[1:]))).cuda()
    seconds = alternate({"stains": lambda: [normaliser(batch) for _ in range(10)]})["stains"]
    figures["cuda_macenko_per_s"] = 10 * len(batch) / seconds
    return figures


def main() -> None:
    """Measure, show, and end with one line of JSON."""
    patches = tissue()
    figures: dict[str, Any] = {"threads": torch.get_num_threads()}
    figures |= stain_figures(patches[:STAINED]) | exaonepath_figures(patches[:BATCH])
    if torch.cuda.is_available():
        figures |= cuda_figures(patches)
    for name, value in figures.items():
        print(f"{name:38} {value:.4g}" if isinstance(value, float) else f"{name:38} {value}")
    figures["processor"] = reduced.measure()
    for network, ways in figures["processor"].items():
        print(network)
        for way, found in ways.items():
            print(f"  {way:16} {found['patches_s']:6.1f} patches/s, cosine {found['cosine']:.6f}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
