"""Which kernels a run launches, and the memory that it asks for."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpuloan_mc.engines import cuda_mapping
from gpuloan_mc.engines.cuda_layout import Layout, lay_out
from gpuloan_mc.engines.cuda_mapping import Device, buffers, bytes_a_path, launches, state_bytes, walk
from gpuloan_mc.planning import build_plan
from gpuloan_mc.portfolio import Portfolio

KERNELS = Path(__file__).parents[2] / "kernels"
H200 = Device(132, 227 * 1024, 228 * 1024, 2048, 8)
A100 = Device(108, 163 * 1024, 164 * 1024)
TURING = Device(68, 64 * 1024, 64 * 1024, 1024)


@pytest.fixture(scope="module")
def layout() -> Layout:
    portfolio = Portfolio.read("neocloud-2024")
    return lay_out(build_plan(portfolio, portfolio.market))


def of_size(layout: Layout, n_loans: int) -> Layout:
    """The layout as if the book had that many GPU loans of two deployments."""
    size = layout.parts["size"] | {"n_loans": np.int32(n_loans), "n_slots": np.int32(2)}
    hot = 24 * n_loans + 2048
    return replace(layout, parts=layout.parts | {"size": size}, hot_bytes=hot)


@pytest.mark.parametrize(
    ("n_loans", "kernel", "threads"),
    [
        (1, "simulate_small_8", 128),
        (128, "simulate_small_8", 128),
        (129, "simulate_small_16", 128),
        (257, "simulate_pair_128", 256),
        (1024, "simulate_pair_128", 256),
        (1025, "simulate_block_256", 256),
        (5120, "simulate_block_512", 512),
        (5121, "simulate_cluster_2", 512),
        (20_000, "simulate_cluster_4", 512),
        (70_000, "simulate_cluster_8", 512),
        (100_000, "simulate_large_512", 512),
    ],
)
def test_the_size_of_the_book_decides(layout, n_loans, kernel, threads):
    chosen = walk(of_size(layout, n_loans), H200)
    assert (chosen.kernel, chosen.threads) == (kernel, threads)


def test_without_clusters_a_block_serves_while_its_memory_does(layout):
    assert walk(of_size(layout, 6000), A100).kernel == "simulate_block_512"
    assert walk(of_size(layout, 20_000), A100).kernel == "simulate_large_512"


@pytest.mark.parametrize("n_loans", [5121, 9000, 20_000, 50_000, 73_728])
def test_the_blocks_of_a_cluster_hold_the_state_of_every_loan(layout, n_loans):
    book = of_size(layout, n_loans)
    blocks = walk(book, H200).blocks
    turn = cuda_mapping.LARGE // 32
    local = [tile // (turn * blocks) * turn + tile % turn for tile in range(-(-n_loans // 32))]
    assert (max(local) + 1) * 32 * 4 * (4 + 2) <= state_bytes(book, blocks) <= H200.shared_bytes_a_block
    keys = {(tile // turn % blocks, place) for tile, place in enumerate(local)}
    assert len(keys) == len(local)  # no two tiles share a place


def test_six_paths_a_multiprocessor_at_1024_loans(layout):
    chosen = walk(of_size(layout, 1024), H200)
    assert chosen.blocks_a_multiprocessor * chosen.teams == 6


def test_a_path_has_a_block_where_two_do_not_fit(layout):
    assert walk(of_size(layout, 1024), TURING).kernel == "simulate_pair_128"
    assert walk(of_size(layout, 1024), replace(TURING, shared_bytes_a_block=48 * 1024)).kernel == "simulate_block_256"


def test_blocks_are_those_of_the_launch_bounds():
    text = (KERNELS / "simulate.cu").read_text().replace("PAIRS)", "3)")
    bounds = re.findall(r"__launch_bounds__\(\d+, (\d+)\) (simulate_(?!plain)\w+)", text)
    assert {name: int(n) for n, name in bounds} == cuda_mapping.BLOCKS


@pytest.mark.parametrize("device", [H200, A100, TURING])
@pytest.mark.parametrize("n_loans", [40, 200, 1000, 3000, 20_000, 60_000])
def test_what_is_launched_fits(layout, device, n_loans):
    book = of_size(layout, n_loans)
    for n_paths in (1, 5, 10_000):
        for launch in launches(book, n_paths, device, prices=True):
            assert launch.shared_bytes <= device.shared_bytes_a_block
            assert 1 <= launch.grid[0] < 2**31
            assert 1 <= launch.grid[1] < 2**16
        chosen, teams = walk(book, device), buffers(book, n_paths, device)["arena"].shape[0]
        (grid, *_) = launches(book, n_paths, device)[-2].grid
        assert grid % chosen.blocks == 0
        assert teams == grid // chosen.blocks * chosen.teams


def test_memory_grows_with_paths_only_by_the_path(layout):
    few, many = (sum(b.n_bytes for b in buffers(layout, n, H200).values()) for n in (200_000, 400_000))
    assert many - few == pytest.approx(200_000 * bytes_a_path(layout, H200), rel=1e-6)
    assert bytes_a_path(layout, H200, prices=True) > bytes_a_path(layout, H200)


def test_a_plain_book_walks_no_months():
    portfolio = Portfolio.read("vasicek-100")
    plain = lay_out(build_plan(portfolio, portfolio.market))
    assert [x.kernel for x in launches(plain, 1000, H200)] == [
        "draw_ahead", "simulate_plain", "close_loans", "close_paths",
    ]  # fmt: skip
    assert buffers(plain, 1000, H200)["arena"].n_bytes == 0
    # with prices they are walked all the same, and look their regime up
    assert len(plain.parts["recovery"]["renewal"]) == plain.size["n_regimes"]


def test_prices_are_written_only_when_asked_for(layout):
    names: Any = list(buffers(layout, 10, H200))
    kind = cuda_mapping.run_type(names)
    for prices in (False, True):
        run = cuda_mapping.run_struct(layout, 1, 2, 3, dict.fromkeys(names, 64), prices=prices)
        record = np.frombuffer(run, kind)[0]
        assert bool(record["prices"]) == prices
        assert (record["seed"], record["first_path"], record["n_paths"], record["walks"]) == (1, 2, 3, 1)
        assert record["keys"][:4].tolist() == [1, 0, 1 + 0x9E3779B9, 0xBB67AE85]
