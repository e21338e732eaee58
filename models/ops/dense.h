// Parts of both kernels of the MM-VAE: standardised inputs, activations, and the product of experts.
//
// An array is (features, columns) and holds one sample in each column. BLOCK columns go through the whole model at once,
// so that all arrays stay in the cache.

#pragma once

#include <cmath>

#include "columns.h"

namespace {

constexpr int64_t BLOCK = 128;  // columns

// models/ops/dense.py has the same numbers.
enum Activation : int64_t { SILU, RELU, TANH, ELU, LEAKY_RELU };
constexpr float LEAK = 0.01F;

// Also stores the derivative if `derivative` is given.
INLINE Float activated(int64_t activation, Float x, Float* derivative = nullptr) {
    if (activation == SILU) {
        const Float opening = sigmoid(x);
        if (derivative) *derivative = opening * (1.0F + x * (1.0F - opening));
        return x * opening;
    }
    if (activation == TANH) {
        const Float y = hyperbolic_tangent(x);
        if (derivative) *derivative = 1.0F - y * y;
        return y;
    }
    if (activation == ELU) {
        const Float y = exponential(x);
        if (derivative) *derivative = x > 0.0F ? all(1.0F) : y;
        return x > 0.0F ? x : y - 1.0F;
    }
    const bool leaks = activation == LEAKY_RELU;
    if (derivative) *derivative = x > 0.0F ? all(1.0F) : all(leaks ? LEAK : 0.0F);
    return x < 0.0F ? (leaks ? LEAK * x : all(0.0F)) : x;
}

// The standardisation of a likelihood: (x - offset) / scale, of log(1 + x) for counts.
struct Standardisation {
    int64_t features, scales;  // D, and how many of them have an offset and a scale of their own: D or 1
    bool log1p;
    const float *offset, *scale;  // (S) each

    int64_t of(int64_t feature) const { return scales == 1 ? 0 : feature; }
};

// Presence of `count` samples as 1 and 0; 0 in padding.
INLINE void read_mask(const uint8_t* from, int64_t count, int64_t columns, float* to) {
    for (int64_t column = 0; column < columns; ++column) to[column] = column < count && from[column] ? 1.0F : 0.0F;
}

// (count, features) to columns; 0 in padding.
INLINE void read(const float* from, int64_t features, int64_t count, int64_t columns, float* to) {
    for (int64_t row = 0; row < features; ++row) std::memset(to + row * columns + count, 0, (columns - count) * 4);
    read_columns(from, features, count, features, columns, to);
}

// Standardised values; 0 where they are absent.
INLINE void read_values(const Standardisation& s, const float* from, const float* mask, int64_t count, int64_t columns,
                        float* to) {
    read(from, s.features, count, columns, to);
    for (int64_t row = 0; row < s.features; ++row) {
        float* const at = to + row * columns;
        if (s.log1p) {
            for (int64_t column = 0; column < count; ++column) at[column] = std::log1p(at[column]);
        }
        const Float offset = all(s.offset[s.of(row)]), scale = all(s.scale[s.of(row)]);
        for (int64_t column = 0; column < columns; column += LANES) {
            store(at + column, load(mask + column) > 0.0F ? (load(at + column) - offset) / scale : all(0.0F));
        }
    }
}

// The product of experts, size = Z columns: sums of precisions, and of means times precisions. The prior N(0, I) has
// precision 1 and mean 0.
INLINE void begin_product(int64_t size, float* weighted, float* precision) {
    for (int64_t at = 0; at < size; at += LANES) store(weighted + at, all(0.0F)), store(precision + at, all(1.0F));
}

// Adds q(z | x_m) = N(mean, spread^2), spread = softplus(unbounded) + FLOOR, where the modality is present. raw: mean and
// unbounded, (2 Z, columns). keep(at, mean, unbounded, spread, precision) may store what a backward pass needs.
template <typename Keep>
INLINE void add_expert(const float* raw, const float* mask, int64_t latent, int64_t columns, float* weighted,
                       float* precision, Keep keep) {
    const int64_t size = latent * columns;
    for (int64_t row = 0; row < latent; ++row) {
        for (int64_t column = 0; column < columns; column += LANES) {
            const int64_t at = row * columns + column;
            const auto present = load(mask + column) > 0.0F;
            const Float mean = load(raw + at), unbounded = load(raw + size + at);
            const Float spread = softplus(unbounded) + FLOOR;
            const Float own = present ? 1.0F / (spread * spread) : all(0.0F);
            store(weighted + at, load(weighted + at) + (present ? mean * own : all(0.0F)));
            store(precision + at, load(precision + at) + own);
            keep(at, mean, unbounded, spread, own);
        }
    }
}

// The sums become the mean and the standard deviation of the joint posterior.
INLINE void end_product(int64_t size, float* weighted, float* precision) {
    for (int64_t at = 0; at < size; at += LANES) {
        store(weighted + at, load(weighted + at) / load(precision + at));
        store(precision + at, 1.0F / square_root(load(precision + at)));
    }
}

}  // namespace
