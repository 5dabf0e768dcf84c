"""What happens on one path, as functions of scalars: the same code interpreted, compiled for the CPU and, later, for a GPU.

Named and ordered as the CUDA headers: arithmetic, philox, market, obligors, loans, recovery, path. Equation numbers are
those of docs/model.md; `gpuloan_mc/reference/` says the same over arrays and is the meaning.
"""
