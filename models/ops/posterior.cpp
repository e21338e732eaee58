// The posterior of a trained MM-VAE with a product of experts: what models/ops/posterior.py calls.
//
// B samples, Z latent features, M modalities of D values, counts or categories each; encoders are fully connected. A
// sample is a column, and a block of columns goes through the whole encoder at once: all of it stays in the cache.

#include <cmath>

#include "columns.h"

namespace {

constexpr int64_t BLOCK = 128;  // columns
enum Kind : int64_t { VALUES, COUNTS, CATEGORIES, VECTORS };  // categories as one-hot vectors, or with vectors of their own

struct Modality {
    int64_t kind, features, scales;  // D or the number of categories; how many values have a scale of their own: D or 1
    int64_t activation, layers;
    const int64_t* widths;  // of the input, the hidden layers and the output
    const void* values;  // (B, D) floats, (B) categories, or null
    const uint8_t* given;  // (B)
    const float *offset, *scale, *table;  // (S) each; the first layer's weight (out, categories), or vectors (categories, out)

    bool looks_up() const { return kind == CATEGORIES || kind == VECTORS; }
    // Layers whose weights are packed: the first of one-hot categories is looked up.
    int64_t first() const { return kind == CATEGORIES ? 1 : 0; }
    int64_t widest() const { return *std::max_element(widths + first(), widths + layers + 1); }
};

struct Model {
    int64_t latent;
    std::vector<Modality> modalities;

    // plan: Z, M, of every modality kind, D, S, activation, layers and layers + 1 widths.
    // in: of every modality values, given, offset, scale, table.
    Model(const int64_t* plan, const void* const* in) : latent(plan[0]), modalities(plan[1]) {
        const int64_t* next = plan + 2;
        for (Modality& m : modalities) {
            m = {next[0], next[1], next[2], next[3], next[4], next + 5};
            next += m.layers + 6;
            if (!in) continue;
            m.values = in[0], m.given = static_cast<const uint8_t*>(in[1]);
            m.offset = static_cast<const float*>(in[2]), m.scale = static_cast<const float*>(in[3]);
            m.table = static_cast<const float*>(in[4]);
            in += 5;
        }
    }
    int64_t widest() const {
        int64_t width = 2 * latent;
        for (const Modality& m : modalities) width = std::max(width, m.widest());
        return padded(width, ROWS);
    }
};

// Biases stand in front of their weights; of a layer that is looked up there is the bias alone.
int64_t bias_size(const Modality& m, int64_t layer) { return padded(m.widths[layer + 1], ROWS); }
int64_t weight_size(const Modality& m, int64_t layer) {
    return layer < m.first() ? 0 : padded(m.widths[layer + 1], HEIGHT) * m.widths[layer];
}

INLINE Float activated(int64_t activation, Float x) {
    if (activation == SILU) return x * sigmoid(x);
    if (activation == RELU) return x < 0.0F ? all(0.0F) : x;
    return hyperbolic_tangent(x);
}

void activate(int64_t activation, int64_t size, float* values) {
    for (int64_t at = 0; at < size; at += LANES) store(values + at, activated(activation, load(values + at)));
}

// Standardised values, zeros where they are absent.
void read_values(const Modality& m, int64_t first, int64_t count, int64_t columns, const float* mask, float* to) {
    for (int64_t row = 0; row < m.features; ++row) std::memset(to + row * columns + count, 0, (columns - count) * 4);
    read_columns(static_cast<const float*>(m.values) + first * m.features, m.features, count, m.features, columns, to);
    for (int64_t row = 0; row < m.features; ++row) {
        float* const at = to + row * columns;
        if (m.kind == COUNTS) {
            for (int64_t column = 0; column < count; ++column) at[column] = std::log1p(at[column]);
        }
        const int64_t own = m.scales == 1 ? 0 : row;
        const Float offset = all(m.offset[own]), scale = all(m.scale[own]);
        for (int64_t column = 0; column < columns; column += LANES) {
            store(at + column, load(mask + column) > 0.0F ? (load(at + column) - offset) / scale : all(0.0F));
        }
    }
}

// What the table has for every category, plus `bias`.
void look_up(const Modality& m, int64_t first, int64_t count, int64_t columns, const float* mask, const float* bias,
             float* to) {
    const int64_t* const categories = static_cast<const int64_t*>(m.values) + first;
    const int64_t width = m.widths[m.first()];
    const int64_t of_row = bias ? m.features : 1, of_category = bias ? 1 : width;
    for (int64_t row = 0; row < width; ++row) {
        float* const at = to + row * columns;
        std::memset(at, 0, columns * 4);
        for (int64_t column = 0; column < count; ++column) {
            if (mask[column] > 0.0F) at[column] = m.table[row * of_row + categories[column] * of_category];
        }
        const Float shift = all(bias ? bias[row] : 0.0F);
        for (int64_t column = 0; column < columns; column += LANES) store(at + column, load(at + column) + shift);
    }
}

// mean, deviation: (B, Z).
void posterior(const Model& model, const float* packed, int64_t first, int64_t count, float* one, float* other,
               float* mask, float* weighted, float* mean, float* deviation) {
    const int64_t Z = model.latent, columns = padded(count, COLUMNS), size = Z * columns;
    float* const total = weighted + size;
    for (int64_t at = 0; at < size; at += LANES) store(weighted + at, all(0.0F)), store(total + at, all(1.0F));
    for (const Modality& m : model.modalities) {
        if (m.values) {
            for (int64_t column = 0; column < columns; ++column) {
                mask[column] = column < count && m.given[first + column] ? 1.0F : 0.0F;
            }
            if (m.kind == VECTORS) look_up(m, first, count, columns, mask, nullptr, one);
            if (!m.looks_up()) read_values(m, first, count, columns, mask, one);
        }
        for (int64_t layer = 0; layer < m.layers; ++layer) {
            const float* const bias = packed;
            packed += bias_size(m, layer);
            const Tiles weight{packed, padded(m.widths[layer + 1], HEIGHT), m.widths[layer]};
            packed += weight_size(m, layer);
            if (!m.values) continue;
            if (layer < m.first()) look_up(m, first, count, columns, mask, bias, other);
            else multiply(weight, one, columns, bias, nullptr, other);
            if (layer + 1 < m.layers) activate(m.activation, m.widths[layer + 1] * columns, other);
            std::swap(one, other);
        }
        if (!m.values) continue;
        for (int64_t row = 0; row < Z; ++row) {
            for (int64_t column = 0; column < columns; column += LANES) {
                const int64_t at = row * columns + column;
                const auto present = load(mask + column) > 0.0F;
                const Float spread = softplus(load(one + size + at)) + FLOOR;
                const Float precision = present ? 1.0F / (spread * spread) : all(0.0F);
                store(weighted + at, load(weighted + at) + (present ? load(one + at) * precision : all(0.0F)));
                store(total + at, load(total + at) + precision);
            }
        }
    }
    for (int64_t at = 0; at < size; at += LANES) {
        store(weighted + at, load(weighted + at) / load(total + at));
        store(total + at, 1.0F / square_root(load(total + at)));
    }
    write_columns(weighted, columns, count, Z, Z, mean + first * Z);
    write_columns(total, columns, count, Z, Z, deviation + first * Z);
}

}  // namespace

extern "C" {

// How many numbers a model's packed weights are.
void sensorium_posterior_size(const int64_t* plan, int64_t* size) {
    *size = 0;
    for (const Modality& m : Model(plan, nullptr).modalities) {
        for (int64_t layer = 0; layer < m.layers; ++layer) *size += bias_size(m, layer) + weight_size(m, layer);
    }
}

// weights: of every layer of every modality weight (out, in) and bias (out). packed: zeros to begin with.
void sensorium_posterior_pack(const int64_t* plan, const float* const* weights, float* packed) {
    for (const Modality& m : Model(plan, nullptr).modalities) {
        for (int64_t layer = 0; layer < m.layers; ++layer, weights += 2) {
            const int64_t in = m.widths[layer], out = m.widths[layer + 1];
            std::memcpy(packed, weights[1], out * 4);
            packed += bias_size(m, layer);
            if (layer >= m.first()) pack_into(weights[0], out, in, in, 1, 0, packed);
            packed += weight_size(m, layer);
        }
    }
}

// out: mean and standard deviation, (B, Z) each.
void sensorium_posterior(int64_t samples, const int64_t* plan, const float* packed, const void* const* in, float* const* out) {
    const Model model(plan, in);
    const int64_t columns = std::min(padded(samples, COLUMNS), BLOCK), widest = model.widest();
    const Array one(widest * columns), other(widest * columns), mask(columns), joint(2 * model.latent * columns);
    for (int64_t first = 0; first < samples; first += BLOCK) {
        posterior(model, packed, first, std::min(BLOCK, samples - first), one.get(), other.get(), mask.get(), joint.get(),
                  out[0], out[1]);
    }
}

}  // extern "C"
