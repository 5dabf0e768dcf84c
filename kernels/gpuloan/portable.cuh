// What depends on the target: CUDA (NVRTC) or the C++ compiler that tests these headers. Twin: paths/primitives.py.
//
// Everything else is made of these, of float +, *, /, comparison and of integer operations; / is rounded correctly, as
// -prec-div=true asks (a call of __fdiv_rn would keep a constant quotient from being folded). A product meets a sum only
// through fma (docs/model.md 1.1), so no compiler can contract what is written here.
#pragma once

#ifdef __CUDACC__
#define GPULOAN_FUNCTION __host__ __device__ __forceinline__
#else
#define GPULOAN_FUNCTION static inline
#endif

namespace gpuloan {

// NVRTC has no <cstdint>.
using i32 = int;
using u32 = unsigned int;
using i64 = long long;
using u64 = unsigned long long;

static_assert(sizeof(i32) == 4 && sizeof(i64) == 8 && sizeof(float) == 4 && sizeof(double) == 8, "the widths of the model");

// a*b + c rounded once.
GPULOAN_FUNCTION float fma(float a, float b, float c) {
#ifdef __CUDA_ARCH__
    return __fmaf_rn(a, b, c);
#else
    return __builtin_fmaf(a, b, c);
#endif
}

// The 32 bits of a float as an integer.
GPULOAN_FUNCTION i32 float_bits(float x) {
#ifdef __CUDA_ARCH__
    return __float_as_int(x);
#else
    i32 bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return bits;
#endif
}

// The float of these 32 bits.
GPULOAN_FUNCTION float bits_float(i32 bits) {
#ifdef __CUDA_ARCH__
    return __int_as_float(bits);
#else
    float x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
#endif
}

// |x|.
GPULOAN_FUNCTION float magnitude(float x) { return bits_float(float_bits(x) & 0x7FFFFFFF); }

// The correctly rounded root.
GPULOAN_FUNCTION float square_root(float x) {
#ifdef __CUDA_ARCH__
    return __fsqrt_rn(x);
#else
    return __builtin_sqrtf(x);
#endif
}

// The least integer that is not below x, for |x| < 2^31.
GPULOAN_FUNCTION i32 ceiling(float x) {
#ifdef __CUDA_ARCH__
    return __float2int_ru(x);
#else
    const i32 below = static_cast<i32>(x);
    return below + (x > static_cast<float>(below));
#endif
}

// The 64 bits of a*b.
GPULOAN_FUNCTION u64 wide_product(u32 a, u32 b) {
#ifdef __CUDA_ARCH__
    u64 product;
    asm("mul.wide.u32 %0, %1, %2;" : "=l"(product) : "r"(a), "r"(b));
    return product;
#else
    return static_cast<u64>(a) * b;
#endif
}

// a*b in float64, rounded once, then to the nearest integer, ties to even; for results below 2^63.
GPULOAN_FUNCTION i64 rounded_product(double a, double b) {
#ifdef __CUDA_ARCH__
    return __double2ll_rn(__dmul_rn(a, b));
#else
    return __builtin_llrint(a * b);
#endif
}

// The larger and the smaller as one instruction of a GPU has it: -0 is below +0. `maximum` and `minimum` of
// arithmetic.cuh give b where a equals b, which takes a comparison and a select. The two agree unless
//     greatest: a is +0 and b is -0;    least: a is -0 and b is +0,
// so these stand where that can't be: greatest(x, 0), least(x, 1), a that is a difference. The version for other
// compilers orders the zeros too: what tests see there is what a GPU does.
GPULOAN_FUNCTION float greatest(float a, float b) {
#ifdef __CUDA_ARCH__
    return fmaxf(a, b);
#else
    return a > b || (a == b && float_bits(a) >= 0) ? a : b;
#endif
}

GPULOAN_FUNCTION float least(float a, float b) {
#ifdef __CUDA_ARCH__
    return fminf(a, b);
#else
    return a < b || (a == b && float_bits(a) < 0) ? a : b;
#endif
}

// x held between low, which is not -0, and high, which is not +0: there it is `clip`.
GPULOAN_FUNCTION float held(float x, float low, float high) { return least(greatest(x, low), high); }

}  // namespace gpuloan
