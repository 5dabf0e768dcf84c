"""Put a fake GPU in the place of CuPy's, for the processes that benchmarks/device.py starts. Its kernels are the reference."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import SimpleNamespace


def install() -> None:
    from gpuloan_mc.engines import cuda_device, cuda_driver, cuda_setup, cupy_raw

    path = Path(__file__).parents[1] / "engines" / "fake_device.py"
    spec = importlib.util.spec_from_file_location("fake_device", path)
    fake = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fake)
    kernels = []
    true_lay_out = cupy_raw.lay_out

    def lay_out(plan):
        kernels[:] = [fake.ReferenceKernels(plan)]
        return true_lay_out(plan)

    def connect(number):
        n_bytes = int(os.environ.get("CUPY_GPU_MEMORY_LIMIT", 2**30))
        return fake.FakeDevice(number, n_bytes, lambda *arguments: kernels[0](*arguments))

    facts = cuda_driver.DeviceFacts("Fake 9000", (9, 0), 2**30)
    compiler = SimpleNamespace(version=(13, 5), architectures=(75, 90))
    machine = SimpleNamespace(
        driver=cuda_driver.Driver((13, 0), 0, (facts,)),
        cupy=(("cupy-cuda13x", "14.2.0"),),
        compiler=lambda: compiler,
        import_cupy=list,
    )
    cuda_device.connect = connect
    cuda_setup.look = lambda: machine
    cupy_raw.lay_out = lay_out
