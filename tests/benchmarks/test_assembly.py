"""Assembly is read as a CPU would run it: basic blocks, the vector loop, the shortest way to it."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

# Two tests for overlap, each of which goes on to the scalar loop; then broadcasts; the vector loop; what is left, scalar.
LOOP = """
	testq	%rdi, %rdi
	jle	.LBB0_6
	cmpq	%rsi, %rax
	setb	%cl
	seta	%dl
	testb	%cl, %dl
	jne	.LBB0_5
	vbroadcastss	%xmm0, %ymm0
	xorl	%eax, %eax
.LBB0_3:
	vmovups	(%rdx,%rax,4), %ymm1
	vfmadd213ps	(%rcx,%rax,4), %ymm0, %ymm1
	vmovups	%ymm1, (%rdx,%rax,4)
	addq	$8, %rax
	cmpq	%rax, %rdi
	jne	.LBB0_3
.LBB0_5:
	vmulss	(%rdx,%rax,4), %xmm0, %xmm1
	incq	%rax
	cmpq	%rax, %rdi
	jne	.LBB0_5
.LBB0_6:
	retq
"""
UNROLLED = """
	testb	%al, %al
	jne	.LBB0_2
	vmulpd	(%rdi), %ymm0, %ymm1
	vmovupd	%ymm1, (%rdi)
	retq
.LBB0_2:
	vmulsd	(%rdi), %xmm0, %xmm1
	retq
"""


@pytest.fixture
def assembly(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import assembly

    return assembly


def lines(text):
    return [line.strip() for line in text.splitlines()]


def test_the_way_to_a_vector_loop_is_counted(assembly):
    found = assembly.entrance(lines(LOOP))
    assert (found.before, found.tests, found.overlaps, found.packed, found.lanes) == (9, 2, 2, 2, 8)


def test_an_unrolled_loop_begins_at_its_first_packed_instruction(assembly):
    found = assembly.entrance(lines(UNROLLED))
    assert (found.before, found.tests, found.packed, found.lanes) == (2, 1, 2, 0)


def test_a_scalar_loop_has_no_vector_loop(assembly):
    scalar = LOOP.replace("%ymm", "%xmm").replace("vfmadd213ps", "vfmadd213ss")
    assert assembly.entrance(lines(scalar)) is None


def test_a_longer_way_with_fewer_blocks_is_not_the_shortest(assembly):
    """A jump over the tests for overlap is the way, where there is one."""
    shorter = LOOP.replace("jle	.LBB0_6", "jle	.LBB0_3")
    assert assembly.entrance(lines(shorter)).before == 2


@pytest.mark.parametrize(
    ("line", "packed"),
    [
        ("vaddps\t%ymm0, %ymm1, %ymm2", True),
        ("vpmuludq\t%ymm0, %ymm1, %ymm2", True),
        ("vmovups\t%zmm1, (%rdx,%rax,4)", True),
        ("vmovups\t%ymm1, 64(%rsp)", False),  # a register that is spilled
        ("vmovups\t(%rdx,%rax,4), %ymm1", False),
        ("vxorps\t%ymm0, %ymm0, %ymm0", False),  # zero
        ("vaddps\t%xmm0, %xmm1, %xmm2", True),  # four paths of a month
        ("vaddss\t%xmm0, %xmm1, %xmm2", False),
        ("vbroadcastss\t%xmm0, %ymm0", False),
    ],
)
def test_packed_instructions_are_told_from_others(assembly, line, packed):
    assert assembly.is_packed(line) == packed


def test_functions_are_told_apart(assembly):
    found = assembly.functions(f"first:\n{UNROLLED}\n.Lend0:\n\t.size\tfirst, 1\nsecond:\n{LOOP}\n")
    assert list(found) == ["first", "second"]
    assert assembly.entrance(found["first"]).lanes == 0
    assert assembly.entrance(found["second"]).lanes == 8
