// One vector of floats and the functions of its numbers. One instruction computes several of them; the arithmetic of one does
// not depend on the others.

#pragma once

#include <cstdint>
#include <cstring>

#define INLINE static inline __attribute__((always_inline))

namespace {

// By the kind of processor that the compiler compiles for: build.py makes a library for each. LANES floats at once, products
// in tiles of HEIGHT rows and WIDTH vectors, as many as there are registers.
#if defined(__AVX512F__)
constexpr int LANES = 16, HEIGHT = 8;
#elif defined(__AVX2__)
constexpr int LANES = 8, HEIGHT = 6;
#elif defined(__aarch64__)
constexpr int LANES = 4, HEIGHT = 8;
#else
constexpr int LANES = 4, HEIGHT = 6;
#endif
constexpr int WIDTH = 2;

typedef float Float __attribute__((vector_size(LANES * 4)));
typedef int32_t Int __attribute__((vector_size(LANES * 4)));
typedef float Unaligned __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

INLINE Float load(const float* from) {
    return *reinterpret_cast<const Unaligned*>(from);
}

INLINE void store(float* to, Float value) {
    *reinterpret_cast<Unaligned*>(to) = value;
}

// The same, and prefetches what stands `ahead` of it: rows are far apart, and processors do not predict that.
INLINE Float load(const float* from, int64_t ahead) {
    __builtin_prefetch(from + ahead, 0);
    return load(from);
}

INLINE void store(float* to, int64_t ahead, Float value) {
    __builtin_prefetch(to + ahead, 1);
    store(to, value);
}

INLINE Float all(float value) {
    return value - Float{};  // to add zero would be an instruction: -0 + 0 is 0
}

// exp(x) to 2 units in the last place, by the polynomial of Cephes. NaN propagates.
INLINE Float exponential(Float x) {
    x = x < all(-87.0F) ? all(-87.0F) : x;
    x = x > all(88.0F) ? all(88.0F) : x;
    Float power = x * 1.44269504F + 12582912.0F;  // adding 1.5 * 2^23 rounds
    power -= 12582912.0F;
    Float rest = x - power * 0.693359375F;
    rest += power * 2.12194440e-4F;
    Float sum = all(1.9875691500e-4F);
    sum = sum * rest + 1.3981999507e-3F;
    sum = sum * rest + 8.3334519073e-3F;
    sum = sum * rest + 4.1665795894e-2F;
    sum = sum * rest + 1.6666665459e-1F;
    sum = sum * rest + 5.0000001201e-1F;
    sum = sum * (rest * rest) + rest + 1.0F;
    Int bits = (__builtin_convertvector(power, Int) + 127) << 23;
    Float scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return sum * scale;
}

INLINE Float sigmoid(Float x) {
    return 1.0F / (1.0F + exponential(-x));
}

INLINE Float hyperbolic_tangent(Float x) {
    Float size = x < 0.0F ? -x : x;
    Float square = x * x;
    Float sum = all(-5.70498872745e-3F);
    sum = sum * square + 2.06390887954e-2F;
    sum = sum * square - 5.37397155531e-2F;
    sum = sum * square + 1.33314422036e-1F;
    sum = sum * square - 3.33332819422e-1F;
    Float near = sum * square * x + x;
    Float far = 1.0F - 2.0F / (exponential(size + size) + 1.0F);
    far = x < 0.0F ? -far : far;
    return size < all(0.625F) ? near : far;
}

INLINE Float square_root(Float x) {
    Float found;
    for (int lane = 0; lane < LANES; ++lane) found[lane] = __builtin_sqrtf(x[lane]);
    return found;
}

// log(1 + exp(x)) = max(x, 0) + 2 artanh(u / (2 + u)) with u = exp(-|x|).
INLINE Float softplus(Float x) {
    Float u = exponential(x < 0.0F ? x : -x);
    Float s = u / (2.0F + u);
    Float square = s * s;
    Float sum = all(1.0F / 15);
    sum = sum * square + 1.0F / 13;
    sum = sum * square + 1.0F / 11;
    sum = sum * square + 1.0F / 9;
    sum = sum * square + 1.0F / 7;
    sum = sum * square + 1.0F / 5;
    sum = sum * square + 1.0F / 3;
    sum = sum * square + 1.0F;
    return (x < 0.0F ? all(0.0F) : x) + 2.0F * s * sum;
}

}  // namespace
