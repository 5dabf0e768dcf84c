"""Other packages side by side: the same one-factor book, PD, LGD, EAD and correlation, each beside the exact answer.

    python benchmarks/peers.py            makes an environment with the pinned packages, runs all, writes results/
    python benchmarks/peers.py --quick    100 loans and 10,000 paths; writes nothing

Each run has a process of its own, held to MEMORY_LIMIT of address space. A peer is called as its documentation calls
it; where the call needs more memory than there is, that is the result, and a second row calls it in batches.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import measure

# As cases.pool has them; the peers' environment has no gpuloan_mc, and so no cases.
PD, LGD, CORRELATION, EAD, DOF = 0.01, 0.45, 0.15, 1e6, 4.0
LEVEL = 0.999
SIZES, PATHS, BATCH = (100, 1000, 10_000), 100_000, 10_000
MEMORY_LIMIT = 8 * 2**30
TIME_LIMIT = 180  # seconds a child may take
ENOUGH = 30  # seconds after which a batched or repeated run stops
PINS = ("numpy==2.4.6", "scipy==1.17.1")
SEED = 7

Losses = Any  # (n_paths,) dollars


@dataclass(frozen=True, slots=True)
class Peer:
    """A package on PyPI and what it offers for a portfolio's loss."""

    package: str
    pin: str
    what: str


PACKAGES = (
    Peer("creditriskengine", "creditriskengine==0.31.0",
         "`portfolio.copula.simulate_single_factor`, one-factor Gaussian; it has no t copula"),
    Peer("merton", "merton==1.0.2",
         "`Portfolio(...).simulate`, Gaussian or t copula over a correlation matrix and its Cholesky factor"),
    Peer("proteusllp-actuarial-library", "proteusllp-actuarial-library==0.3.1",
         "no portfolio-loss function; its Gaussian and t copulas over a correlation matrix (`copulas`) draw the uniforms "
         "that are compared with PD, or its distributions draw the factor and the residuals, as one would build it there"),
)  # fmt: skip
NOT_RUN = (
    Peer("Oasis gulmc", "", "not attempted: this book was not put into the binary input files (items, coverages, "
         "footprint, vulnerability, correlations) that it reads"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Job:
    """One run: a program of PROGRAMS on a book of `loans`. batch: paths a call; None: all in one."""

    name: str
    program: str
    loans: int
    paths: int
    copula: str = "gaussian"
    batch: int | None = None
    options: tuple[tuple[str, Any], ...] = ()


# --- programs, in the child -------------------------------------------------------------------------------------------


def numpy_arrays(job: Job, paths: int, seed: int, method: str = "normals", threads: int = 1) -> Losses:
    """Chunks of (paths, loans) float32: a latent normal a loan, or a uniform against the path's conditional PD."""
    import numpy as np
    from scipy import special

    a, b = math.sqrt(CORRELATION), math.sqrt(1 - CORRELATION)
    chunk_size = max(16, 2**19 // job.loans)
    sizes = [min(chunk_size, paths - first) for first in range(0, paths, chunk_size)]

    def chunk(sequence: Any, size: int) -> Losses:
        rng = np.random.Generator(np.random.SFC64(sequence))
        limit = np.full((size, 1), special.ndtri(PD), np.float32)
        if job.copula == "t":
            limit[:, 0] = special.stdtrit(DOF, PD) * np.sqrt(rng.chisquare(DOF, size) / DOF)
        barrier = (limit - np.float32(a) * rng.standard_normal((size, 1), np.float32)) / np.float32(b)
        if method == "uniforms":
            hits = rng.random((size, job.loans), np.float32) < special.ndtr(barrier)
        else:
            hits = rng.standard_normal((size, job.loans), np.float32) < barrier
        return np.count_nonzero(hits, axis=1) * (LGD * EAD)

    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(chunk, np.random.SeedSequence(seed).spawn(len(sizes)), sizes))
    return np.concatenate(parts)


def _vectors(job: Job) -> tuple[Any, Any, Any]:
    import numpy as np

    return np.full(job.loans, PD), np.full(job.loans, LGD), np.full(job.loans, EAD)


def creditriskengine(job: Job, paths: int, seed: int, antithetic: bool) -> Losses:
    """creditriskengine's one-factor simulation."""
    from creditriskengine.portfolio.copula import simulate_single_factor

    return simulate_single_factor(*_vectors(job), CORRELATION, n_simulations=paths, seed=seed, antithetic=antithetic)


def merton(job: Job, paths: int, seed: int, antithetic: bool) -> Losses:
    """merton's portfolio simulation."""
    from merton.portfolio.portfolio import Portfolio

    pds, lgds, eads = _vectors(job)
    book = Portfolio(pds, exposures=eads, lgd=lgds, correlation=CORRELATION, copula=job.copula, df=DOF)
    return book.simulate(paths, antithetic=antithetic, seed=seed).losses


def proteus_copula(job: Job, paths: int, seed: int) -> Losses:
    """A loss made of the uniforms of proteus' copulas."""
    import numpy as np
    from pal import copulas, set_random_seed

    set_random_seed(seed)
    matrix = np.full((job.loans, job.loans), CORRELATION)
    np.fill_diagonal(matrix, 1)
    copula = copulas.StudentsTCopula(matrix, DOF) if job.copula == "t" else copulas.GaussianCopula(matrix)
    return sum(((u < PD) * (LGD * EAD) for u in copula.generate(paths)), start=0.0).values


def proteus_factor(job: Job, paths: int, seed: int) -> Losses:
    """A loss made of proteus' stochastic scalars: one for the factor, one a loan."""
    from pal import distributions, set_random_seed
    from scipy import special

    set_random_seed(seed)
    normal = distributions.Normal(0, 1)
    factor, limit = normal.generate(paths) * math.sqrt(CORRELATION), float(special.ndtri(PD))
    own = math.sqrt(1 - CORRELATION)
    loss = 0.0
    for _ in range(job.loans):
        loss = loss + (factor + normal.generate(paths) * own < limit) * (LGD * EAD)
    return loss.values


def ours(job: Job, paths: int, seed: int, engine: str, threads: int | None, grouped: bool) -> Losses:
    """An engine of this project; months of default come with it."""
    return _our_result(job, paths, seed, engine, threads, grouped).losses / 100


def _our_result(job: Job, paths: int, seed: int, engine: str, threads: int | None, grouped: bool) -> Any:
    import cases

    book = cases.pool(job.loans, grouped=grouped, dof=DOF if job.copula == "t" else None)
    return measure.simulation(book, engine, threads, paths, seed)


PROGRAMS: dict[str, Callable[..., Losses]] = {
    f.__name__: f for f in (numpy_arrays, creditriskengine, merton, proteus_copula, proteus_factor, ours)
}


def run(job: Job) -> dict[str, Any]:
    """Seconds, memory and figures of a job. Batched runs stop after ENOUGH seconds and say how many paths they made.

    Our own engines are timed without reading the book and planning, as `Result.seconds` has it.
    """
    import numpy as np

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    options = dict(job.options)

    def call(paths: int, seed: int) -> tuple[Losses, float]:
        begin = time.perf_counter()
        if job.program == "ours":
            result = _our_result(job, paths, seed, **options)
            return result.losses / 100, result.seconds
        return PROGRAMS[job.program](job, paths, seed, **options), time.perf_counter() - begin

    call(min(100, job.paths), SEED)  # imports, compiles
    begin = time.perf_counter()
    if job.batch is None:
        runs = [call(job.paths, SEED)]
        while len(runs) < 5 and time.perf_counter() - begin < ENOUGH / 2:
            runs.append(call(job.paths, SEED))
        losses, seconds = runs[0][0], [s for _, s in runs]
    else:
        parts = []
        for first in range(0, job.paths, job.batch):
            parts.append(call(job.batch, SEED + 1 + first))
            if time.perf_counter() - begin > ENOUGH:
                break
        losses, seconds = np.concatenate([part for part, _ in parts]), [sum(s for _, s in parts)]
    return summary(job, np.asarray(losses, dtype=np.float64), seconds)


def summary(job: Job, losses: Losses, seconds: list[float]) -> dict[str, Any]:
    """Figures as shares of the book, estimated in one way for all: lower quantile, mean of the worst 1 - LEVEL."""
    import numpy as np

    share = np.sort(losses) / (job.loans * EAD)
    n, middle = len(share), statistics.median(seconds)
    rank = math.ceil(round(LEVEL * n, 6))
    tail = share[rank:].sum() + share[rank - 1] * (rank - LEVEL * n)
    return {
        "paths": n,
        "seconds": [round(s, 4) for s in seconds],
        "median_seconds": middle,
        "loan_draws_per_second": n * job.loans / middle,
        "peak_memory": measure.peak_memory(),
        "el": float(share.mean()),
        "el_se": float(share.std(ddof=1) / math.sqrt(n)),
        "var": float(share[rank - 1]),
        "es": float(tail / ((1 - LEVEL) * n)),
    }


def exact(loans: int, copula: str) -> dict[str, float]:
    """EL, VaR and ES of the exact mixture distribution, shares of the book."""
    from gpuloan_mc import closed_form

    loading = math.sqrt(CORRELATION)
    gaussian = copula == "gaussian"
    mixture = closed_form.one_factor_mixture if gaussian else closed_form.t_mixture
    pmf = mixture(loans, PD, loading, *(() if gaussian else (DOF,)))
    unit = LGD / loans
    return {
        "el": unit * closed_form.distribution_mean(pmf),
        "var": unit * closed_form.distribution_quantile(pmf, LEVEL),
        "es": unit * closed_form.distribution_expected_shortfall(pmf, LEVEL),
    }


# --- in the parent ----------------------------------------------------------------------------------------------------


def jobs(loans: int, paths: int, copula: str) -> Iterator[Job]:
    """Our engines, the array program and each package, in one call and in batches."""
    cores = measure.cores()
    for engine in ("numpy", "numba"):
        if measure.is_there(engine):
            threads = cores if engine == "numba" else None
            for grouped in (True, False):
                options = {"engine": engine, "threads": threads, "grouped": grouped}
                name = f"gpuloan-mc, {engine}" + ("" if grouped else ", not grouped")
                batch = None if engine == "numba" else 1000  # the reference is slow: it stops when enough has passed
                yield Job(name, "ours", loans, paths, copula, batch, tuple(options.items()))
    for method in ("normals", "uniforms"):
        options = {"method": method, "threads": cores}
        yield Job(f"NumPy arrays, {method}, {cores} threads", "numpy_arrays", loans, paths, copula, None,
                  tuple(options.items()))  # fmt: skip
    programs = [("merton", {"antithetic": False}), ("merton", {"antithetic": True}), ("proteus_copula", {})]
    if copula == "gaussian":
        programs += [("creditriskengine", {"antithetic": False}), ("creditriskengine", {"antithetic": True})]
        programs += [("proteus_factor", {})]
    for program, options in programs:
        name = program.replace("_", ", ") + (", antithetic" if options.get("antithetic") else "")
        yield Job(name, program, loans, paths, copula, None, tuple(options.items()))
        if not options.get("antithetic") and paths > BATCH:
            batched = f"{name}, calls of {BATCH:,} paths"
            yield Job(batched, program, loans, paths, copula, BATCH, tuple(options.items()))


def environment(folder: Path) -> tuple[str, dict[str, str]]:
    """Python of a virtual environment with the packages, and for each whether it could be installed."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.is_file():
        venv.create(folder, with_pip=True)
    outcome = {}
    for peer in PACKAGES:
        command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *PINS, peer.pin]
        done = subprocess.run(command, capture_output=True, text=True)
        outcome[peer.package] = "installed" if done.returncode == 0 else "could not be installed"
    return str(python), outcome


def package_of(program: str) -> str | None:
    """The package behind a program."""
    return next((p.package for p in PACKAGES if program.split("_")[0] in p.package), None)


def measured(job: Job, python: str, installed: dict[str, str]) -> dict[str, Any]:
    """A job's figures, or why there are none."""
    about = {"name": job.name, "program": job.program, "ours": job.program == "ours"}
    package = package_of(job.program)
    if package and installed[package] != "installed":
        return about | {"failed": installed[package]}
    here = Path(__file__)
    interpreter = sys.executable if job.program == "ours" else python
    answer = measure.child(
        "run", asdict(job), script=here, python=interpreter, timeout=TIME_LIMIT, package=job.program == "ours"
    )
    if answer.get("failed") == "out of memory":
        answer["failed"] = f"out of memory ({MEMORY_LIMIT / 2**30:.0f} GiB)"
    print(f"  {job.copula:9} {job.loans:6} {job.name:45} {_said(answer)}", flush=True)
    return about | answer


def _said(answer: dict[str, Any]) -> str:
    if "failed" in answer:
        return str(answer["failed"])
    return f"{answer['median_seconds']:8.3g} s  {answer['loan_draws_per_second']:.3g} loan-draws/s  EL {answer['el']:.5f}"


def main(arguments: list[str] | None = None) -> int:
    """Run the peers and write the report."""
    import readme

    import gpuloan_mc

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 loans, 10,000 paths; writes nothing without --out")
    parser.add_argument("--environment", type=Path, default=Path(tempfile.gettempdir()) / "gpuloan-mc-peers")
    parser.add_argument("--loans", type=int, action="append", help="sizes; default 100, 1000 and 10000")
    parser.add_argument("--copula", action="append", choices=["gaussian", "t"])
    parser.add_argument("--note", default="")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    sizes, paths = options.loans or (SIZES[:1] if options.quick else SIZES), BATCH if options.quick else PATHS
    python, installed = environment(options.environment)
    report: dict[str, Any] = {
        "kind": "peers",
        "version": gpuloan_mc.__version__,
        "quick": options.quick,
        "note": options.note,
        "machine": measure.machine(),
        "packages": measure.versions() | {p.package: p.pin.split("==")[1] for p in PACKAGES},
        "load_before": measure.load(),
        "method": method(paths),
        "peers": [{"name": p.package, "what": f"{p.what} ({installed[p.package]})"} for p in PACKAGES]
        + [{"name": p.package, "what": p.what} for p in NOT_RUN],
        "copulas": {},
    }
    for copula in options.copula or ("gaussian", "t"):
        report["copulas"][copula] = [
            {
                "loans": loans,
                "exact": exact(loans, copula),
                "peers": [measured(job, python, installed) for job in jobs(loans, paths, copula)],
            }
            for loans in sizes
        ]
    report["load_after"] = measure.load()
    print()
    print("\n".join(readme.peer_tables(report)))
    if not options.quick and options.out is None:
        name = f"peers-{measure.slug(report['machine'])}-{gpuloan_mc.__version__}.json"
        options.out = measure.HERE / "results" / name
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=1) + "\n")
        if options.out.parent == measure.HERE / "results":
            readme.write(options.out.parent, measure.HERE / "README.md")
    return 0


def method(paths: int) -> list[str]:
    """What the tables need to be understood."""
    return [
        f"Every loan: PD {PD:g}, LGD {LGD:g}, EAD ${EAD:,.0f}, asset correlation {CORRELATION:g}; t copula: "
        f"{DOF:g} degrees of freedom. {paths:,} paths.",
        "EL, VaR and ES are percent of the book, all estimated in one way from the losses that a program returns: the "
        "lower quantile, and the mean of the worst 0.1 %. EL has its standard error; under antithetic sampling it "
        "is not the true one.",
        f"A process may use {MEMORY_LIMIT / 2**30:.0f} GiB of addresses and {TIME_LIMIT} s. Runs in batches stop after "
        f"{ENOUGH} s; their paths say how far they came. Times leave out imports and compiling.",
        "gpuloan-mc also finds the month of each default (12 months); the others decide one period.",
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        given = json.loads(sys.argv[2])
        print(json.dumps(run(Job(**given | {"options": tuple(map(tuple, given["options"]))}))))
    else:
        sys.exit(main())
