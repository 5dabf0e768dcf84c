// Philox4x32-10 and what is drawn from its words (docs/model.md 1.6, 1.7). Twin: paths/philox.py.
#pragma once

#include "arithmetic.cuh"

namespace gpuloan {

// What a draw is for: part of its counter.
constexpr u32 MARKET = 0, SPOT = 1, GENERATION = 2, LAUNCH = 3, FACTOR = 4, MIXING = 5, OBLIGOR = 6, LOAN = 7, RENEWAL = 8;

constexpr u32 LOW32 = 0xFFFFFFFFu, TAIL_BITS = 0x7FFFFFFFu, SIGN_BIT = 0x80000000u;
constexpr u32 MULTIPLIER_0 = 0xD2511F53u, MULTIPLIER_1 = 0xCD9E8D57u;
constexpr u32 WEYL_0 = 0x9E3779B9u, WEYL_1 = 0xBB67AE85u;
constexpr float PER_TAIL = 1.0f / (1ull << 32), HALF_TAIL = 1.0f / (1ull << 33);

struct Words {
    u32 w0, w1, w2, w3;
};

// One round, with the key that its number bumps.
GPULOAN_FUNCTION Words round(u32 c0, u32 c1, u32 c2, u32 c3, u32 k0, u32 k1, u32 number) {
    const u64 a = wide_product(c0, MULTIPLIER_0), b = wide_product(c2, MULTIPLIER_1);
    const u32 key_0 = k0 + number * WEYL_0, key_1 = k1 + number * WEYL_1;
    return {static_cast<u32>(b >> 32) ^ c1 ^ key_0, static_cast<u32>(b), static_cast<u32>(a >> 32) ^ c3 ^ key_1,
            static_cast<u32>(a)};
}

// Four 32-bit words of a counter under a key.
GPULOAN_FUNCTION Words philox(u32 c0, u32 c1, u32 c2, u32 c3, u32 k0, u32 k1) {
    Words c = {c0, c1, c2, c3};
#ifdef __CUDACC__
#pragma unroll
#endif
    for (u32 number = 0; number < 10; ++number) c = round(c.w0, c.w1, c.w2, c.w3, k0, k1, number);
    return c;
}

// The counter of a draw; path below 2^40.
GPULOAN_FUNCTION Words counter(u64 path, u32 purpose, u32 step, u64 entity) {
    const u32 place = static_cast<u32>(path >> 32) | (purpose << 8) | (step << 16);
    return {static_cast<u32>(path), place, static_cast<u32>(entity), static_cast<u32>(entity >> 32)};
}

// The four words of a draw; path below 2^40.
GPULOAN_FUNCTION Words draw(u64 seed, u64 path, u32 purpose, u32 step, u64 entity) {
    const Words c = counter(path, purpose, step, entity);
    return philox(c.w0, c.w1, c.w2, c.w3, static_cast<u32>(seed), static_cast<u32>(seed >> 32));
}

// Where one word is needed: the words of the path's four neighbours, word `path & 3` its own.
GPULOAN_FUNCTION Words draw_four(u64 seed, u64 path, u32 purpose, u32 step, u64 entity) {
    return draw(seed, path >> 2, purpose, step, entity);
}

// One of four words.
GPULOAN_FUNCTION u32 chosen(Words words, i32 place) {
    const u32 low = place & 1 ? words.w1 : words.w0;
    const u32 high = place & 1 ? words.w3 : words.w2;
    return place & 2 ? high : low;
}

// Standard normal of a word, tails kept to 6.3 standard deviations (1.7).
GPULOAN_FUNCTION float normal(u32 w) {
    const float tail = static_cast<float>(static_cast<i32>(w & TAIL_BITS));
    const float n = normal_quantile(fma(tail, PER_TAIL, HALF_TAIL));
    return bits_float(float_bits(n) ^ static_cast<i32>(w & SIGN_BIT));  // n >= +0: the sign is the word's
}

// The order of a word's normal among all words: 0 for the lowest (3.6).
GPULOAN_FUNCTION u32 rank(u32 w) { return w >= SIGN_BIT ? w ^ SIGN_BIT : w ^ LOW32; }

// The 24 bits that are compared with an event's threshold.
GPULOAN_FUNCTION i32 event_word(u32 w) { return static_cast<i32>(w >> 8); }

}  // namespace gpuloan
